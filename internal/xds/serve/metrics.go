package serve

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics keep the names that Open Service Mesh gave them. Its labels proxy_uuid and
// identity are left out: each pod that ever connected would be a series for ever.
type metrics struct {
	connected           prometheus.Gauge
	reconnects, foreign prometheus.Counter
	tooMany, unwelcome  prometheus.Counter
	of                  [kinds]kindMetrics
}

// kindMetrics are those of one type.
type kindMetrics struct {
	requests, sent, unsent, nacks prometheus.Counter
	acked, nacked                 prometheus.Observer
	last                          prometheus.Gauge
}

// answered notes how long a change took from its arrival until the proxy's answer.
func (m *kindMetrics) answered(ok bool, took time.Duration) {
	if !ok {
		m.nacks.Inc()
		m.nacked.Observe(took.Seconds())
		return
	}
	m.acked.Observe(took.Seconds())
}

//nolint:promlinter // Open Service Mesh's names, that dashboards ask for
func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	byType := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"type"})
	}
	one := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	var (
		requests = byType("osm_proxy_xds_request_count", "Requests that proxies sent, by type of resource.")
		sent     = byType("osm_proxy_response_send_success_count", "Responses sent to proxies, by type of resource.")
		unsent   = byType("osm_proxy_response_send_error_count", "Responses that could not be sent to proxies, by type of resource.")
		nacks    = byType("osm_proxy_nack_count", "Responses that proxies rejected, by type of resource.")
		took     = prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "osm_proxy_config_update_time", Help: "Seconds from a change until a proxy acknowledged or rejected it, by type of resource.",
			Buckets: []float64{.001, .01, .1, .25, .5, 1, 2.5, 5, 10, 20, 40, 90},
		}, []string{"resource_type", "success"})
	)
	last := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "osm_proxy_last_response_timestamp_seconds", Help: "When the last response was handed to the network, by type of resource, in seconds since 1970.",
	}, []string{"type"})
	m := &metrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "osm_proxy_connect_count", Help: "Proxies that are connected.",
		}),
		reconnects: one("osm_proxy_reconnect_count", "Proxies that connected with configuration from an earlier connection."),
		tooMany:    one("osm_proxy_max_connections_rejected", "Proxies that were turned away because too many are connected."),
		unwelcome:  one("osm_proxy_refused_count", "Proxies that were turned away because of who they are."),
		foreign:    requests.WithLabelValues("other"),
	}
	for k := range kind(kinds) {
		m.of[k] = kindMetrics{
			requests: requests.WithLabelValues(k.String()), sent: sent.WithLabelValues(k.String()),
			unsent: unsent.WithLabelValues(k.String()), nacks: nacks.WithLabelValues(k.String()),
			acked: took.WithLabelValues(k.String(), "true"), nacked: took.WithLabelValues(k.String(), "false"),
			last: last.WithLabelValues(k.String()),
		}
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.connected, m.reconnects, m.tooMany, m.unwelcome, requests, sent, unsent, nacks, took, last} {
		errs = append(errs, registerer.Register(c))
	}
	return m, errors.Join(errs...)
}
