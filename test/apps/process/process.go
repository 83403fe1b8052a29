// Package process runs the listeners of a test application. Listeners come in; it
// serves them until the context is done, then lets open requests finish. It knows
// nothing of what is served, and reads neither flags nor environment.
package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Grace is how long open requests get to finish.
const Grace = 20 * time.Second

// Listener is one port of an application.
type Listener struct {
	// Addr is what to listen on, such as ":14001".
	Addr string
	// Serve answers connections until the listener is closed.
	Serve func(net.Listener) error
	// Shutdown stops accepting and returns when the open requests are done or the
	// context is.
	Shutdown func(context.Context) error
}

// HTTP returns a listener that serves HTTP/1.1 and HTTP/2, both in clear.
func HTTP(addr string, handler http.Handler) Listener {
	s := server(handler)
	return Listener{Addr: addr, Serve: s.Serve, Shutdown: s.Shutdown}
}

// HTTPS returns a listener that serves HTTP/1.1 and HTTP/2 over TLS with a certificate
// that it has made itself.
func HTTPS(addr string, handler http.Handler) (Listener, error) {
	config, err := selfSigned()
	if err != nil {
		return Listener{}, err
	}
	s := server(handler)
	s.TLSConfig = config
	serve := func(l net.Listener) error { return s.ServeTLS(l, "", "") }
	return Listener{Addr: addr, Serve: serve, Shutdown: s.Shutdown}, nil
}

// server returns a server for both versions of HTTP.
func server(handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, Protocols: protocols}
}

// Run serves the listeners until ctx is done, then shuts them down. It returns the
// first error that is not about being closed.
func Run(ctx context.Context, listeners ...Listener) error {
	open := make([]net.Listener, 0, len(listeners))
	for _, l := range listeners {
		var config net.ListenConfig
		lis, err := config.Listen(ctx, "tcp", l.Addr)
		if err != nil {
			for _, o := range open {
				o.Close()
			}
			return fmt.Errorf("listening on %s: %w", l.Addr, err)
		}
		open = append(open, lis)
	}
	ended := make(chan error, len(listeners))
	for i, l := range listeners {
		go func() { ended <- l.Serve(open[i]) }()
	}
	var first error
	running := len(listeners)
	select {
	case <-ctx.Done():
	case first = <-ended:
		running--
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), Grace)
	defer cancel()
	errs := []error{ignoreClosed(first)}
	for _, l := range listeners {
		errs = append(errs, l.Shutdown(grace))
	}
	for range running {
		errs = append(errs, ignoreClosed(<-ended))
	}
	return errors.Join(errs...)
}

// ignoreClosed returns nil for what a server says after it was shut down.
func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// ExitAtOnce ends the process the moment it is told to terminate, open requests or not,
// as applications do that know nothing of signals. Without a handler the first process
// of a container would ignore the signal.
func ExitAtOnce() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	go func() {
		<-told
		os.Exit(0)
	}()
}
