package translate

import (
	"fmt"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	healthcheckv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// What sidecars ask one another, on the port of the application that it is about:
//
//	caller --mTLS, ALPN osm-health--> health/port: is the cluster of the application healthy?
//	                                     '- a connection to the application's port, in turn
//
// The protocol of TLS tells it from what applications say, so that it needs no permission,
// takes nothing from limits, is in no metrics of requests, and works for bytes as well.
const (
	healthProtocol = "osm-health"
	healthPath     = "/healthz/osm"
	healthStats    = "health"
)

// Times of asking that nobody sets: what is not healthy is asked more often, to be back
// soon.
const (
	healthRecovery = 2 * time.Second
	healthJitter   = 10 // percent
	// healthConnect is how long the application may take to accept a connection.
	healthConnect = time.Second
)

// healthChecks asks the endpoints of a cluster.
func healthChecks(c *ir.Cluster) []*corev3.HealthCheck {
	h := c.HealthCheck
	// Where addresses that no endpoint has are passed on, so would be those of an endpoint
	// that is not called: in clear.
	if h == nil || passesThrough(c) {
		return nil
	}
	return []*corev3.HealthCheck{{
		Timeout:               durationpb.New(h.Timeout),
		Interval:              durationpb.New(h.Interval),
		IntervalJitterPercent: healthJitter,
		UnhealthyInterval:     durationpb.New(min(h.Interval, healthRecovery)),
		// By themselves proxies ask once a minute until something is called.
		NoTrafficInterval:        durationpb.New(min(h.Interval, healthRecovery)),
		NoTrafficHealthyInterval: durationpb.New(h.Interval),
		UnhealthyThreshold:       wrapperspb.UInt32(h.Unhealthy),
		HealthyThreshold:         wrapperspb.UInt32(h.Healthy),
		TlsOptions:               &corev3.HealthCheck_TlsOptions{AlpnProtocols: []string{healthProtocol}},
		HealthChecker: &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{
			Host: c.SNI, Path: healthPath, CodecClientType: typev3.CodecClientType_HTTP1,
		}},
	}}
}

// watchApplication looks whether the application listens. Requests go there even if it
// does not seem to: there is no other.
func watchApplication(c *clusterv3.Cluster, every time.Duration) {
	if every <= 0 {
		return
	}
	c.HealthChecks = []*corev3.HealthCheck{{
		Timeout:            durationpb.New(healthConnect),
		Interval:           durationpb.New(every),
		NoTrafficInterval:  durationpb.New(every),
		UnhealthyInterval:  durationpb.New(min(every, healthRecovery)),
		UnhealthyThreshold: wrapperspb.UInt32(1),
		HealthyThreshold:   wrapperspb.UInt32(1),
		// A connection that stays open would tell nothing of the next one.
		ReuseConnection: wrapperspb.Bool(false),
		HealthChecker:   &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}},
	}}
}

// healthChains answer any workload of the mesh whether the application listens on a port,
// and nothing else. They are there whether it is looked or not, when it is said to listen: a
// caller may be told to ask before its callees are told that they are asked.
func (p *parts) healthChains(m *maker, port ir.InboundPort) []*listenerv3.FilterChain {
	// Server names are looked at before the protocol: all that other chains have must be
	// here too.
	var own []string
	for _, s := range port.Apart {
		if ownChain(port, s) && !slices.Contains(own, s.ServerName) {
			own = append(own, s.ServerName)
		}
	}
	names := meshNames(port)
	if len(names) > 0 {
		return []*listenerv3.FilterChain{p.healthChain(m, port, "", append(names, own...))}
	}
	out := []*listenerv3.FilterChain{p.healthChain(m, port, "", nil)}
	if len(own) > 0 {
		out = append(out, p.healthChain(m, port, "/named", own))
	}
	return out
}

func (p *parts) healthChain(m *maker, port ir.InboundPort, end string, names []string) *listenerv3.FilterChain {
	return &listenerv3.FilterChain{
		Name: fmt.Sprintf("health/%d%s", port.Port, end),
		FilterChainMatch: &listenerv3.FilterChainMatch{
			DestinationPort: wrapperspb.UInt32(uint32(port.Port)), TransportProtocol: "tls", ServerNames: names,
			ApplicationProtocols: []string{healthProtocol},
		},
		TransportSocketConnectTimeout: durationpb.New(handshakeTimeout),
		TransportSocket:               p.downstreamTLS(m, p.names(ir.Principals{Any: true}), healthProtocol),
		Filters:                       []*listenerv3.Filter{m.httpChainFilter(p.healthManager(m, port))},
	}
}

// healthManager passes nothing to the application.
func (p *parts) healthManager(m *maker, port ir.InboundPort) *hcmv3.HttpConnectionManager {
	local := name.LocalCluster(port.Service.Namespace, port.Service.Name, port.Port)
	config := &hcmv3.HttpConnectionManager{
		StatPrefix: healthStats,
		CodecType:  hcmv3.HttpConnectionManager_HTTP1,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name: healthStats, VirtualHosts: []*routev3.VirtualHost{{Name: healthStats, Domains: []string{"*"}, Routes: []*routev3.Route{{
				Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: respond(404, ""),
			}}}},
		}},
		HttpFilters: []*hcmv3.HttpFilter{
			m.httpFilter("envoy.filters.http.health_check", &healthcheckv3.HealthCheck{
				PassThroughMode:              wrapperspb.Bool(false),
				ClusterMinHealthyPercentages: map[string]*typev3.Percent{local: {Value: 100}},
				Headers: []*routev3.HeaderMatcher{{
					Name: ":path", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: exact(healthPath)},
				}},
			}),
			p.router,
		},
		RequestHeadersTimeout: durationpb.New(handshakeTimeout),
	}
	limitAge(config)
	return config
}

// oftener is of two ways of asking the one that asks more often.
func oftener(a, b *ir.HealthCheck) *ir.HealthCheck {
	if a == nil || (b != nil && b.Interval < a.Interval) {
		return b
	}
	return a
}
