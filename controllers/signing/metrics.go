package signing

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are told of certificates, whichever way pods get them. The first two have the
// names that Open Service Mesh gave them.
type Metrics struct {
	issued          prometheus.Counter
	took            prometheus.Histogram
	denied, waiting *prometheus.CounterVec
}

// NewMetrics returns Metrics; a nil registerer keeps them to itself.
//
//nolint:promlinter // Open Service Mesh's names, that dashboards ask for
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	byReason := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"reason"})
	}
	m := &Metrics{
		issued: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "osm_cert_issued_count", Help: "Certificates issued to workloads.",
		}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "osm_cert_issued_time", Help: "Seconds that issuing a certificate to a workload took.",
			Buckets: []float64{.001, .01, .1, .25, .5, 1, 2.5, 5, 10, 20, 40, 90},
		}),
		denied:  byReason("osm_cert_denied_count", "Requests for certificates that were denied for ever, by reason."),
		waiting: byReason("osm_cert_waiting_count", "Times that a request for a certificate was looked at and left waiting, by reason."),
	}
	if registerer == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.issued, m.took, m.denied, m.waiting} {
		errs = append(errs, registerer.Register(c))
	}
	return m, errors.Join(errs...)
}

// Issued counts a certificate, and how long it took.
func (m *Metrics) Issued(took time.Duration) {
	m.issued.Inc()
	m.took.Observe(took.Seconds())
}

// Denied counts a request that was denied for ever.
func (m *Metrics) Denied(reason string) { m.denied.WithLabelValues(reason).Inc() }

// Waiting counts a request that was looked at and left waiting.
func (m *Metrics) Waiting(reason string) { m.waiting.WithLabelValues(reason).Inc() }
