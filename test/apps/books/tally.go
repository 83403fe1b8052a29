package books

import (
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Headers of the answers that tell which store has answered, and how many books it has
// sold.
const (
	IdentityHeader    = "Identity"
	BooksBoughtHeader = "Booksbought"
)

// Counters is what an application has counted: what GET /counters of its admin port
// answers.
type Counters struct {
	// App is the name of the application.
	App string `json:"app"`
	// Identity tells instances of the application apart.
	Identity string `json:"identity"`
	// Served counts the requests that it has answered, as "GET /books-bought 200".
	Served map[string]int64 `json:"served,omitempty"`
	// Calls counts the requests that it has made, by status code, or "error" where there
	// was no answer.
	Calls map[string]int64 `json:"calls,omitempty"`
	// Identities counts the answers that it has got, by their Identity header.
	Identities map[string]int64 `json:"identities,omitempty"`
	// Callers counts the requests that it has answered, by the SPIFFE id that the proxy
	// has verified; "none" where there was none.
	Callers map[string]int64 `json:"callers,omitempty"`
	// Books counts what the application is about: bought, sold, restocked, stored.
	Books map[string]int64 `json:"books,omitempty"`
	// LastError is the last error of a call.
	LastError string `json:"lastError,omitempty"`
}

// Tally counts for one application. It is safe for concurrent use.
type Tally struct {
	mu       sync.Mutex
	counters Counters // protected by mu
}

// NewTally returns a tally that has counted nothing yet.
func NewTally(app, identity string) *Tally {
	t := &Tally{counters: Counters{App: app, Identity: identity}}
	t.Reset()
	return t
}

// Reset forgets all that was counted.
func (t *Tally) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counters = Counters{
		App: t.counters.App, Identity: t.counters.Identity,
		Served: map[string]int64{}, Calls: map[string]int64{}, Identities: map[string]int64{},
		Callers: map[string]int64{}, Books: map[string]int64{},
	}
}

// Counters returns a copy of what was counted.
func (t *Tally) Counters() Counters {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counters
	c.Served, c.Calls, c.Identities = maps.Clone(c.Served), maps.Clone(c.Calls), maps.Clone(c.Identities)
	c.Callers, c.Books = maps.Clone(c.Callers), maps.Clone(c.Books)
	return c
}

// update changes the counters.
func (t *Tally) update(f func(*Counters)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.counters)
}

// addBooks adds to one of the book counters and returns the sum.
func (t *Tally) addBooks(kind string, n int64) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counters.Books[kind] += n
	return t.counters.Books[kind]
}

// AdminHandler answers GET /counters, POST /reset and GET /healthz.
func (t *Tally) AdminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /counters", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, t.Counters())
	})
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		before := t.Counters()
		t.Reset()
		writeJSON(w, before)
	})
	return mux
}

// writeJSON answers with a value as JSON.
func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// statusRecorder remembers the status of an answer.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers the status and sends it.
func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// counted wraps a handler so that what it serves is counted, probes left out, and so
// that every answer says who has given it.
func (t *Tally) counted(next http.Handler) http.Handler {
	identity := t.Counters().Identity
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(IdentityHeader, identity)
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		if isProbe(r.URL.Path) {
			return
		}
		key := r.Method + " " + r.URL.Path + " " + strconv.Itoa(rec.status)
		caller := callerOf(r)
		t.update(func(c *Counters) {
			c.Served[key]++
			c.Callers[caller]++
		})
	})
}

// isProbe says whether a path is one that only the kubelet asks for.
func isProbe(path string) bool {
	return path == "/liveness" || path == "/readiness" || path == "/startup"
}

// callerOf returns the SPIFFE id that the proxy of this pod has verified and reports in
// the header of the client's certificate.
func callerOf(r *http.Request) string {
	for _, element := range strings.FieldsFunc(r.Header.Get("X-Forwarded-Client-Cert"), func(c rune) bool { return c == ';' || c == ',' }) {
		if id, ok := strings.CutPrefix(element, "URI="); ok {
			return id
		}
	}
	return "none"
}

// handleProbes adds the paths of the kubelet's probes.
func handleProbes(mux *http.ServeMux) {
	ok := func(http.ResponseWriter, *http.Request) {}
	mux.HandleFunc("GET /liveness", ok)
	mux.HandleFunc("GET /readiness", ok)
	mux.HandleFunc("GET /startup", ok)
}
