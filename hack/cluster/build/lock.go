package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Lock takes the file's lock, waiting for as long as ctx allows and saying so, and
// returns what releases it. The kernel releases it too when the process ends.
func Lock(ctx context.Context, file string, out io.Writer) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	said := false
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", file, err), f.Close())
		}
		if !said {
			fmt.Fprintf(out, "another command holds %s: waiting for it\n", filepath.Base(file))
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for another command that holds %s: %w", file, ctx.Err()), f.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
