// Package port gives tests numbers of ports that nobody listens on, for servers that
// are told where to listen. They are below those that the kernel gives to connections by
// itself, so that none of these takes one between its choice and its use.
package port

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

// The range of numbers: each process begins at a place of its own.
const (
	lowest  = 20_000
	highest = 32_000
	step    = 251
)

var given atomic.Uint32 //nolint:gochecknoglobals // no number is given twice in a process

// Free returns the number of a port of 127.0.0.1 that is free, and that no other test of
// the process was given.
func Free(tb testing.TB) uint16 {
	tb.Helper()
	const all = highest - lowest
	begin := uint32(os.Getpid()) * step
	for range all {
		number := uint16(lowest + (begin+given.Add(1))%all)
		l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(int(number)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			tb.Fatal(err)
		}
		return number
	}
	tb.Fatalf("no port from %d to %d is free", lowest, highest)
	return 0
}
