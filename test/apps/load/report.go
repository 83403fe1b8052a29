package load

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Report is what was counted: since the start, or since the last reset.
type Report struct {
	Protocol string `json:"protocol"`
	Target   string `json:"target"`
	// Seconds is the time that the report covers.
	Seconds float64 `json:"seconds"`
	// Sent counts requests that have ended in any way; for streams, messages.
	Sent int64 `json:"sent"`
	// Succeeded counts those with an answer of 2xx or OK.
	Succeeded int64 `json:"succeeded"`
	// Missed counts requests that were due while all workers were busy.
	Missed int64 `json:"missed"`
	// Retried counts requests that the HTTP client has sent again by itself, because the
	// connection that it had kept was closed before an answer began.
	Retried int64 `json:"retried"`
	// Connections counts connections that were opened.
	Connections int64 `json:"connections"`
	// Status counts answers by their status: "200", or a gRPC code such as "OK", or "ok"
	// for TCP and WebSocket.
	Status map[string]int64 `json:"status"`
	// Errors counts requests without an answer by the kind of error; see classify.
	Errors map[string]int64 `json:"errors"`
	// Identities counts successful answers by who gave them.
	Identities map[string]int64 `json:"identities"`
	// LastError is the text of the last error of each kind.
	LastError map[string]string `json:"lastError,omitempty"`
	// Last is the last answer, where the options ask for it.
	Last *Answer `json:"last,omitempty"`
	// Latency is that of answers, whatever their status.
	Latency Latency `json:"latency"`
}

// Failed counts requests that got no answer or one that is not a success.
func (r Report) Failed() int64 { return r.Sent - r.Succeeded }

// Total adds up what was counted.
func Total(counted map[string]int64) int64 {
	var all int64
	for _, n := range counted {
		all += n
	}
	return all
}

// Words are what was counted, in the order of its names, such as "200 x 12"; what was
// counted 0 times is left out.
func Words(counted map[string]int64) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(counted)) {
		if n := counted[name]; n > 0 {
			out = append(out, fmt.Sprintf("%s x %d", cmp.Or(name, "somebody"), n))
		}
	}
	return out
}

// Answer is one answer in full.
type Answer struct {
	Status  string      `json:"status"`
	Headers http.Header `json:"headers,omitempty"`
	Body    string      `json:"body,omitempty"`
}

// Latency holds quantiles in milliseconds, to within five per cent.
type Latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

// recorder counts results. It is safe for concurrent use.
type recorder struct {
	mu     sync.Mutex
	report Report    // protected by mu; its maps are never nil
	since  time.Time // protected by mu
	times  histogram // protected by mu
}

// newRecorder returns a recorder that has counted nothing yet.
func newRecorder(protocol, target string) *recorder {
	r := &recorder{}
	r.report.Protocol, r.report.Target = protocol, target
	r.clearLocked()
	return r
}

// clearLocked forgets what was counted.
func (r *recorder) clearLocked() {
	r.report = Report{
		Protocol: r.report.Protocol, Target: r.report.Target,
		Status: map[string]int64{}, Errors: map[string]int64{}, Identities: map[string]int64{}, LastError: map[string]string{},
	}
	r.since = time.Now()
	r.times = histogram{}
}

// snapshot returns what was counted, and forgets it where reset is set.
func (r *recorder) snapshot(reset bool) Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.report
	out.Seconds = time.Since(r.since).Seconds()
	out.Status, out.Errors = maps.Clone(out.Status), maps.Clone(out.Errors)
	out.Identities, out.LastError = maps.Clone(out.Identities), maps.Clone(out.LastError)
	out.Latency = r.times.latency()
	if reset {
		r.clearLocked()
	}
	return out
}

// answered counts an answer.
func (r *recorder) answered(a result, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Sent++
	r.report.Status[a.status]++
	r.times.add(took)
	if a.success {
		r.report.Succeeded++
		r.report.Identities[a.identity]++
	}
	if a.retried {
		r.report.Retried++
	}
	if a.full != nil {
		r.report.Last = a.full
	}
}

// failed counts a request without an answer.
func (r *recorder) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kind := classify(err)
	r.report.Sent++
	r.report.Errors[kind]++
	r.report.LastError[kind] = err.Error()
}

// missed counts a request that nobody had time to send.
func (r *recorder) missed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Missed++
}

// connected counts a new connection.
func (r *recorder) connected() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Connections++
}

// histogram counts durations in buckets that grow by five per cent, so that a run of
// any length needs little memory.
type histogram struct {
	buckets map[int]int64
	count   int64
	sum     time.Duration
	max     time.Duration
}

// growth is the ratio between the bounds of neighbouring buckets.
const growth = 1.05

// add counts one duration.
func (h *histogram) add(d time.Duration) {
	if h.buckets == nil {
		h.buckets = map[int]int64{}
	}
	micros := max(float64(d.Microseconds()), 1)
	h.buckets[int(math.Ceil(math.Log(micros)/math.Log(growth)))]++
	h.count++
	h.sum += d
	h.max = max(h.max, d)
}

// latency returns the quantiles.
func (h *histogram) latency() Latency {
	if h.count == 0 {
		return Latency{}
	}
	return Latency{
		Mean: millis(h.sum) / float64(h.count),
		P50:  h.quantile(0.5), P90: h.quantile(0.9), P99: h.quantile(0.99),
		Max: millis(h.max),
	}
}

// quantile returns the bound, in milliseconds, that this part of the durations is under.
func (h *histogram) quantile(q float64) float64 {
	wanted := int64(math.Ceil(q * float64(h.count)))
	var seen int64
	for bucket, last := 0, lastBucket(h.buckets); bucket <= last; bucket++ {
		if seen += h.buckets[bucket]; seen >= wanted {
			return min(math.Pow(growth, float64(bucket))/1000, millis(h.max))
		}
	}
	return millis(h.max)
}

// lastBucket is the highest one that holds something.
func lastBucket(buckets map[int]int64) int {
	last := 0
	for b := range maps.Keys(buckets) {
		last = max(last, b)
	}
	return last
}

// millis is a duration in milliseconds.
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
