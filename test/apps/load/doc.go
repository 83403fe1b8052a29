// Package load calls a server at a steady rate and counts what comes back: by status,
// by kind of error, by the server that answered, with quantiles of the latency.
//
// Options come in; a Report goes out, at any time while it runs and at the end. The
// package serves the report over HTTP to tests, but opens no listener itself. It judges
// nothing: what counts as good is for the test to say.
package load
