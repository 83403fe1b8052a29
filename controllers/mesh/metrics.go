package mesh

import "github.com/prometheus/client_golang/prometheus"

// Metrics count what the operator puts back.
type Metrics struct {
	repaired *prometheus.CounterVec
}

// NewMetrics registers the Metrics.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{repaired: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "osm_reconciliation_total", Help: "Objects of the mesh that somebody changed or deleted and that were put back, by kind.",
	}, []string{"kind"})}
	return m, registerer.Register(m.repaired)
}

// Repaired counts an object that was put back.
func (m *Metrics) Repaired(kind string) { m.repaired.WithLabelValues(kind).Inc() }
