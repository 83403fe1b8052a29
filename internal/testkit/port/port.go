// Package port gives tests numbers of ports that nobody listens on, for servers that
// are told where to listen. They are below those that the kernel gives to connections by
// itself, so that none of these takes one between its choice and its use.
package port

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// The range of numbers: each process begins at a place of its own.
const (
	lowest  = 20_000
	highest = 32_000
	step    = 251
)

var given atomic.Uint32 //nolint:gochecknoglobals // no number is given twice in a process

// claims is a file in which each number that was given is locked by the process that has it,
// for as long as that runs: other processes look for free ports at the same time.
var claims = sync.OnceValues(func() (*os.File, error) { //nolint:gochecknoglobals // one for the process: locks end when any of its files is closed
	return os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("osm-test-ports-%d", os.Getuid())), os.O_CREATE|os.O_RDWR, 0o600)
})

// claim reports whether a number is this process's from now on.
func claim(number uint16) (bool, error) {
	file, err := claims()
	if err != nil {
		return false, err
	}
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: int64(number), Len: 1}
	err = syscall.FcntlFlock(file.Fd(), syscall.F_SETLK, &lock)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return false, nil
	}
	return err == nil, err
}

// Free returns the number of a port of 127.0.0.1 that is free, and that no other test was
// given, of this process or of another that runs.
func Free(tb testing.TB) uint16 {
	tb.Helper()
	const all = highest - lowest
	begin := uint32(os.Getpid()) * step
	for range all {
		number := uint16(lowest + (begin+given.Add(1))%all)
		mine, err := claim(number)
		if err != nil {
			tb.Fatalf("claiming port %d: %v", number, err)
		}
		if !mine {
			continue
		}
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
