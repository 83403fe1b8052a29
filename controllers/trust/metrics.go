package trust

import (
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What certificates are for, as metrics name it.
const (
	certificateRoot    = "root"
	certificateIssuer  = "issuer"
	certificateServing = "serving"
	certificateGateway = "ingress-gateway"
	certificateClient  = "client"
)

// held tells one certificate of a mesh from the others.
type held struct{ certificate, revision string }

// Expiry tells when the certificates that the operator keeps end. It is safe for
// concurrent use; the zero value tells of none.
type Expiry struct {
	mu sync.Mutex
	// Protected by mu.
	meshes map[string]map[held]time.Time
}

var _ prometheus.Collector = (*Expiry)(nil)

// set replaces what is told of a mesh, but for its gateway; nothing forgets all of it.
func (e *Expiry) set(mesh string, ends map[held]time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(ends) == 0 {
		delete(e.meshes, mesh)
		return
	}
	if e.meshes == nil {
		e.meshes = map[string]map[held]time.Time{}
	}
	next := maps.Clone(ends)
	if end, ok := e.meshes[mesh][held{certificate: certificateGateway}]; ok {
		next[held{certificate: certificateGateway}] = end
	}
	e.meshes[mesh] = next
}

// setGateway tells when the certificate of a mesh's ingress gateway ends, after set; none
// forgets it.
func (e *Expiry) setGateway(mesh string, c *pair) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.meshes[mesh], held{certificate: certificateGateway})
	if c != nil && e.meshes[mesh] != nil {
		e.meshes[mesh][held{certificate: certificateGateway}] = c.certificate.NotAfter
	}
}

func (*Expiry) desc() *prometheus.Desc {
	return prometheus.NewDesc("osm_certificate_expiry_timestamp_seconds",
		"When a certificate ends that the operator keeps, in seconds since 1970.", []string{"mesh", "certificate", "revision"}, nil)
}

// Describe implements prometheus.Collector.
func (e *Expiry) Describe(out chan<- *prometheus.Desc) { out <- e.desc() }

// Collect implements prometheus.Collector.
func (e *Expiry) Collect(out chan<- prometheus.Metric) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for mesh, ends := range e.meshes {
		for h, end := range ends {
			out <- prometheus.MustNewConstMetric(e.desc(), prometheus.GaugeValue, float64(end.Unix()), mesh, h.certificate, h.revision)
		}
	}
}
