package echo

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// IdentityHeader is the header of every answer that tells which server gave it.
const IdentityHeader = "Identity"

// maxBody is how much of a request's body comes back.
const maxBody = 64 << 10

// Request is what the HTTP server has seen of a request: its answer, as JSON.
type Request struct {
	Identity   string      `json:"identity"`
	Method     string      `json:"method"`
	Host       string      `json:"host"`
	Path       string      `json:"path"`
	Query      string      `json:"query,omitempty"`
	Proto      string      `json:"proto"`
	Headers    http.Header `json:"headers"`
	Body       string      `json:"body,omitempty"`
	RemoteAddr string      `json:"remoteAddr"`
	TLS        bool        `json:"tls,omitempty"`
}

// HTTP answers HTTP requests:
//
//	/healthz                      200, or 503 after POST /healthz?ok=false
//	/delay/DURATION               waits, then echoes
//	/status/CODE                  echoes with this status
//	/stream?chunks=N&interval=D   N lines, one after each interval
//	anything else                 echoes
type HTTP struct {
	identity string
	sick     atomic.Bool
}

// NewHTTP returns an HTTP echo server of this name.
func NewHTTP(identity string) *HTTP { return &HTTP{identity: identity} }

// Handler serves it.
func (s *HTTP) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("POST /healthz", s.setHealth)
	mux.HandleFunc("/delay/{duration}", s.delay)
	mux.HandleFunc("/status/{code}", s.status)
	mux.HandleFunc("/stream", s.stream)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.echo(w, r, http.StatusOK) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(IdentityHeader, s.identity)
		mux.ServeHTTP(w, r)
	})
}

// health answers probes.
func (s *HTTP) health(w http.ResponseWriter, _ *http.Request) {
	code := http.StatusOK
	if s.sick.Load() {
		code = http.StatusServiceUnavailable
	}
	w.WriteHeader(code)
}

// setHealth says what probes will hear from now on.
func (s *HTTP) setHealth(w http.ResponseWriter, r *http.Request) {
	ok, err := strconv.ParseBool(r.URL.Query().Get("ok"))
	if err != nil {
		http.Error(w, "say ok=true or ok=false", http.StatusBadRequest)
		return
	}
	s.sick.Store(!ok)
}

// delay waits for the duration in the path.
func (s *HTTP) delay(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.PathValue("duration"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(d):
		s.echo(w, r, http.StatusOK)
	case <-r.Context().Done():
	}
}

// status answers with the status in the path.
func (s *HTTP) status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		http.Error(w, "a status is a number from 200 to 599", http.StatusBadRequest)
		return
	}
	s.echo(w, r, code)
}

// stream sends line after line.
func (s *HTTP) stream(w http.ResponseWriter, r *http.Request) {
	chunks, interval := 10, 100*time.Millisecond
	if v := r.URL.Query().Get("chunks"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			http.Error(w, "chunks is a number", http.StatusBadRequest)
			return
		}
		chunks = n
	}
	if v := r.URL.Query().Get("interval"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			http.Error(w, "interval is a duration, such as 100ms", http.StatusBadRequest)
			return
		}
		interval = d
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	out := http.NewResponseController(w)
	for n := 1; n <= chunks; n++ {
		if _, err := fmt.Fprintf(w, "%d %s\n", n, s.identity); err != nil || out.Flush() != nil {
			return
		}
		if n == chunks {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
	}
}

// echo answers with the request.
func (s *HTTP) echo(w http.ResponseWriter, r *http.Request, code int) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := json.Marshal(Request{
		Identity: s.identity, Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery,
		Proto: r.Proto, Headers: r.Header, Body: string(body), RemoteAddr: r.RemoteAddr, TLS: r.TLS != nil,
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if code != http.StatusNoContent && code != http.StatusNotModified {
		_, _ = w.Write(answer) // an error can only mean that the caller is gone
	}
}
