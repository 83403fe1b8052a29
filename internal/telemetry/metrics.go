package telemetry

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of a control plane that its other parts keep no account of, under
// the names that Open Service Mesh gave them. They are safe for concurrent use.
type Metrics struct {
	events, admissions, codes, failures, audits *prometheus.CounterVec
	broadcasts, classes                         prometheus.Counter
	namespaces                                  prometheus.Gauge
	features, lastEvent                         *prometheus.GaugeVec
	responses                                   *prometheus.CounterVec
	responseTime                                *prometheus.HistogramVec
}

// Build says what a process was built from, as Open Service Mesh's controller did.
type Build struct {
	Version   string `json:"version"`
	GitCommit string `json:"commit,omitempty"`
	BuildDate string `json:"date,omitempty"`
}

// Gauges are asked when metrics are read.
type Gauges struct {
	// Queued returns how many events of the cluster are not worked in yet.
	Queued func() int
	// Away returns for how long the API server has not answered.
	Away func() time.Duration
}

// NewMetrics registers the metrics.
//
//nolint:promlinter // Open Service Mesh's names, that dashboards ask for
func NewMetrics(r prometheus.Registerer, build Build, gauges Gauges) (*Metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		events:     counter("osm_k8s_api_event_count", "Events from the API server, by kind and what happened, and by namespace.", "type", "namespace"),
		admissions: counter("osm_admission_webhook_response_total", "Answers of the webhooks, by kind of object and whether it was let in.", "kind", "success"),
		codes:      counter("osm_error_err_code_count", "Faults found in policies, by code.", "err_code"),
		failures:   counter("osm_config_failed_count", "Configurations that could not be made, so that the last good one stays.", "what"),
		audits:     counter("osm_proxy_classes_audited_total", "Classes of proxies that were made from nothing, and whether they are sent the same (true) or were not (false).", "same"),
		broadcasts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "osm_proxy_broadcast_event_count", Help: "Changes of the mesh that were worked into configuration.",
		}),
		classes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "osm_proxy_classes_compiled_total", Help: "Classes of proxies that were compiled, since something that they depend on had changed.",
		}),
		namespaces: prometheus.NewGauge(prometheus.GaugeOpts{Name: "osm_resource_namespace_count", Help: "Namespaces of the mesh."}),
		features:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "osm_feature_flag_enabled", Help: "Features that are switched on (1) or off (0)."}, []string{"feature_flag"}),
		lastEvent: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "osm_k8s_api_last_event_timestamp_seconds", Help: "When the last event of the API server came, by kind, in seconds since 1970.",
		}, []string{"type"}),
		responses: counter("osm_http_response_total", "Answers of the HTTP server.", "code", "method", "path"),
		responseTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "osm_http_response_duration", Help: "Seconds that answers of the HTTP server took.", Buckets: prometheus.DefBuckets,
		}, []string{"code", "method", "path"}),
	}
	version := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "osm_version_info", Help: "What this process was built from."}, []string{"version", "build_date", "git_commit"})
	version.WithLabelValues(build.Version, build.BuildDate, build.GitCommit).Set(1)
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	waiting := gauge("osm_events_queued", "Events from the API server that are not worked in yet.", func() float64 { return float64(gauges.Queued()) })
	away := gauge("osm_k8s_api_unreachable_seconds", "For how long the API server has not answered; 0 while it does.", func() float64 { return gauges.Away().Seconds() })
	var errs []error
	for _, c := range []prometheus.Collector{
		m.events, m.admissions, m.codes, m.failures, m.audits, m.broadcasts, m.classes, m.namespaces, m.features, m.lastEvent, m.responses, m.responseTime, version, waiting, away,
	} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// Event counts an event of the cluster, which came now.
func (m *Metrics) Event(kind, what, namespace string) {
	m.lastEvent.WithLabelValues(kind).SetToCurrentTime()
	m.events.WithLabelValues(kind+"-"+what, namespace).Inc()
}

// Admission counts an answer of a webhook.
func (m *Metrics) Admission(kind string, success bool) {
	m.admissions.WithLabelValues(kind, strconv.FormatBool(success)).Inc()
}

// Code counts a fault by its code.
func (m *Metrics) Code(code string) { m.codes.WithLabelValues(code).Inc() }

// Failed counts what could not be made.
func (m *Metrics) Failed(what string) { m.failures.WithLabelValues(what).Inc() }

// Worked counts a change of the mesh, which has this many namespaces now.
func (m *Metrics) Worked(namespaces int) {
	m.broadcasts.Inc()
	m.namespaces.Set(float64(namespaces))
}

// Recompiled counts the classes of proxies that were compiled for a change.
func (m *Metrics) Recompiled(classes int) { m.classes.Add(float64(classes)) }

// Audited counts a class of proxies that was made from nothing to be compared with what
// it is sent.
func (m *Metrics) Audited(same bool) { m.audits.WithLabelValues(strconv.FormatBool(same)).Inc() }

// Feature tells whether a feature is on.
func (m *Metrics) Feature(name string, on bool) {
	value := 0.0
	if on {
		value = 1
	}
	m.features.WithLabelValues(name).Set(value)
}

// counted keeps account of the answers of a handler. path names it; what clients ask
// for does not, or they could make as many series as they like.
func (m *Metrics) counted(path string, h http.Handler) http.Handler {
	if m == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		recorder := &recorder{ResponseWriter: w, code: http.StatusOK}
		h.ServeHTTP(recorder, r)
		code := strconv.Itoa(recorder.code)
		m.responses.WithLabelValues(code, r.Method, path).Inc()
		m.responseTime.WithLabelValues(code, r.Method, path).Observe(time.Since(started).Seconds())
	})
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach what is recorded.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
