package signing

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are told of certificates. The first two have the names that Open Service Mesh
// gave them.
type metrics struct {
	issued          prometheus.Counter
	took            prometheus.Histogram
	denied, waiting *prometheus.CounterVec
}

//nolint:promlinter // Open Service Mesh's names, that dashboards ask for
func newMetrics() *metrics {
	byReason := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"reason"})
	}
	return &metrics{
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
}

// register does nothing without a registerer.
func (m *metrics) register(registerer prometheus.Registerer) error {
	if registerer == nil {
		return nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.issued, m.took, m.denied, m.waiting} {
		errs = append(errs, registerer.Register(c))
	}
	return errors.Join(errs...)
}
