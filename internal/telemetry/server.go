package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health are the questions of the kubelet. Ready says what is missing.
type Health struct {
	Ready func() error
}

// Handler serves health, metrics and versions, under Open Service Mesh's paths.
// versions are what /version and /smi/version answer.
func Handler(health Health, metrics prometheus.Gatherer, version, smi any) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health/alive", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /health/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := health.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusOK)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /version", answer(version))
	mux.HandleFunc("GET /smi/version", answer(smi))
	return mux
}

func answer(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { WriteJSON(w, v) }
}

// WriteJSON answers with a value.
func WriteJSON(w http.ResponseWriter, v any) {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(raw, '\n'))
}

// Page is a debug page: its path below /debug/ and what it shows.
type Page struct {
	Path string
	Show func(r *http.Request) (any, error)
}

// Debug is a server of debug pages that can be switched on and off while the process
// runs. Nothing secret may be on its pages, since it asks nobody who they are.
type Debug struct {
	handler http.Handler
	port    int

	mu sync.Mutex
	// Protected by mu; nil while it is off.
	server *http.Server
}

// NewDebug returns a server that is off.
func NewDebug(port int, pages ...Page) *Debug {
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
			WriteJSON(w, v)
		})
	}
	mux.HandleFunc("GET /debug", answer(index))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return &Debug{handler: mux, port: port}
}

// Switch switches the server on or off.
func (d *Debug) Switch(ctx context.Context, on bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if on == (d.server != nil) {
		return nil
	}
	if !on {
		server := d.server
		d.server = nil
		return server.Close()
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(d.port))
	if err != nil {
		return fmt.Errorf("opening the debug server: %w", err)
	}
	d.server = newServer(d.handler)
	go func(s *http.Server) { _ = s.Serve(listener) }(d.server)
	return nil
}

// Serve serves a handler until ctx is done.
func Serve(ctx context.Context, address string, handler http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", address, err)
	}
	server := newServer(handler)
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s: %w", address, err)
	}
	return nil
}

func newServer(handler http.Handler) *http.Server {
	return &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
}
