// Package echopb is the wire format of the gRPC echo server, generated from
// echo.proto. It holds no behaviour.
package echopb
