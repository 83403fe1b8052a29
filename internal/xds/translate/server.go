package translate

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authorizationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// makeServers makes the clusters of servers that proxies talk to on their own account.
func (p *parts) makeServers(m *maker) {
	if t := p.shared.Tracing; t != nil {
		c := dnsCluster(name.TracingCluster, t.Address, t.Port)
		if t.OpenTelemetry {
			c = m.grpcCluster(name.TracingCluster, t.Address, t.Port)
		}
		p.always.resources = append(p.always.resources, m.resource(c, name.TracingCluster))
	}
	if a := p.shared.ExternalAuthorization; a != nil {
		c := m.grpcCluster(name.AuthorizationCluster, a.Address, a.Port)
		p.inbound.resources = append(p.inbound.resources, m.resource(c, name.AuthorizationCluster))
	}
}

// dnsCluster does not hold back the proxy's start until a name resolves. A server that
// has no address is one that never answers.
func dnsCluster(n, host string, port uint16) *clusterv3.Cluster {
	if host == "" || port == 0 {
		return staticCluster(n)
	}
	c := staticCluster(n, socketAddress(host, port))
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
	c.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
	c.WaitForWarmOnInit = wrapperspb.Bool(false)
	return c
}

// authorizationFilter asks the server about each request, with the beginning of its body.
func (p *parts) authorizationFilter(m *maker) *hcmv3.HttpFilter {
	a := p.shared.ExternalAuthorization
	return m.httpFilter("envoy.filters.http.ext_authz", &authorizationv3.ExtAuthz{
		TransportApiVersion: corev3.ApiVersion_V3,
		StatPrefix:          a.StatPrefix,
		FailureModeAllow:    a.FailureModeAllow,
		WithRequestBody:     &authorizationv3.BufferSettings{MaxRequestBytes: 8192, AllowPartialMessage: true},
		Services: &authorizationv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{
			Timeout: duration(a.Timeout),
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: name.AuthorizationCluster,
			}},
		}},
	})
}

// metricsListener serves the proxy's metrics, and nothing else of its admin interface.
func (p *parts) metricsListener(m *maker) *listenerv3.Listener {
	const path = "/stats/prometheus"
	config := &hcmv3.HttpConnectionManager{
		StatPrefix: "prometheus",
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name: name.PrometheusListener,
			VirtualHosts: []*routev3.VirtualHost{{
				Name: name.PrometheusListener, Domains: []string{"*"},
				// Text that is not compressed, which is what can be renamed.
				RequestHeadersToRemove: []string{"accept", "accept-encoding"},
				Routes: []*routev3.Route{{
					Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: path}},
					Action: &routev3.Route_Route{Route: &routev3.RouteAction{
						ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: name.MetricsCluster},
						Timeout:          durationpb.New(30 * time.Second),
					}},
				}},
			}},
		}},
		HttpFilters: []*hcmv3.HttpFilter{renamingFilter(m), p.router},
	}
	return &listenerv3.Listener{
		Name:                name.PrometheusListener,
		StatPrefix:          "prometheus",
		Address:             socketAddress("0.0.0.0", metricsPort),
		AdditionalAddresses: []*listenerv3.AdditionalAddress{{Address: socketAddress("::", metricsPort)}},
		TrafficDirection:    corev3.TrafficDirection_INBOUND,
		FilterChains:        []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{m.httpChainFilter(config)}}},
	}
}
