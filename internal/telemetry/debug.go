package telemetry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"sync"
)

// Page is a debug page: its path below /debug/, and what it shows.
type Page struct {
	Path string
	Show func(r *http.Request) (any, error)
}

// Debug is a server of debug pages that can be switched on and off while the process
// runs. It asks nobody who they are, so that nothing secret may be on its pages.
type Debug struct {
	// Read-only after NewDebug.
	handler http.Handler
	address string

	mu sync.Mutex
	// Protected by mu; nil while it is off.
	server *http.Server
	done   chan struct{}
}

// NewDebug returns a server that is off.
func NewDebug(address string, pages ...Page) *Debug {
	mux := http.NewServeMux()
	index := []string{"/debug/pprof/"}
	for _, p := range pages {
		index = append(index, "/debug/"+p.Path)
		mux.HandleFunc("GET /debug/"+p.Path, func(w http.ResponseWriter, r *http.Request) {
			v, err := p.Show(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusNotFound)
				return
			}
			writeJSON(w, v)
		})
	}
	slices.Sort(index)
	mux.HandleFunc("GET /debug", answer(index))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return &Debug{handler: mux, address: address}
}

// Switch switches the server on or off. Off, it closes what is open, and returns when
// it has ended.
func (d *Debug) Switch(ctx context.Context, on bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if on == (d.server != nil) {
		return nil
	}
	if !on {
		err := d.server.Close()
		<-d.done
		d.server, d.done = nil, nil
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.address)
	if err != nil {
		return fmt.Errorf("opening the debug server: %w", err)
	}
	server, done := newServer(d.handler), make(chan struct{})
	d.server, d.done = server, done
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	return nil
}
