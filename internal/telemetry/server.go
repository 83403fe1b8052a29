package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Site is what a control plane tells about itself over HTTP.
type Site struct {
	// Ready says what is missing before the process can serve; that it is alive does
	// not depend on anything.
	Ready func() error
	// Gatherer has the metrics.
	Gatherer prometheus.Gatherer
	// Metrics count the answers; nil counts nothing.
	Metrics *Metrics
	// Version and SMI are what /version and /smi/version answer.
	Version, SMI any
}

// Handler serves health, metrics and versions, under Open Service Mesh's paths.
func (s Site) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, h := range map[string]http.Handler{
		"/health/alive": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		"/health/ready": http.HandlerFunc(s.ready),
		"/metrics":      promhttp.HandlerFor(s.Gatherer, promhttp.HandlerOpts{}),
		"/version":      answer(s.Version),
		"/smi/version":  answer(s.SMI),
	} {
		mux.Handle("GET "+path, s.Metrics.counted(path, h))
	}
	return mux
}

func (s Site) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.Ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func answer(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, v) }
}

func writeJSON(w http.ResponseWriter, v any) {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(raw, '\n'))
}

// Serve serves a handler on a listener until ctx is done.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := newServer(handler)
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s: %w", listener.Addr(), err)
	}
	return nil
}

func newServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
}
