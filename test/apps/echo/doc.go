// Package echo is a set of servers that answer with what they were asked: over HTTP,
// gRPC, WebSocket and raw TCP. Tests of the mesh call them to see what arrives.
//
// A name comes in; handlers go out. The package reads neither flags nor environment and
// opens no listener.
package echo
