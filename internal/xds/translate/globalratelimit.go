package translate

import (
	"cmp"
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	ratelimitconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	globalratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkglobalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ratelimit/v3"
	networkinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// rateServers adds the clusters of all servers that a port asks about rates.
func (m *maker) rateServers(port ir.InboundPort, out *resource.Set) {
	all := []ir.InboundBounds{port.Bounds}
	for _, s := range port.Apart {
		all = append(all, s.Bounds)
	}
	for _, b := range all {
		for _, g := range []*ir.GlobalRateLimit{b.GlobalConnections, b.GlobalRequests} {
			if g != nil {
				c := m.grpcCluster(name.RateLimit(g.Address, g.Port), g.Address, g.Port)
				out.Add(m.resource(c, c.GetName()))
			}
		}
	}
}

// grpcCluster is a server that speaks gRPC in clear.
func (m *maker) grpcCluster(n, host string, port uint16) *clusterv3.Cluster {
	c := dnsCluster(n, host, port)
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptions: m.pack(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: http2()},
		}},
	})}
	return c
}

func askRate(g *ir.GlobalRateLimit) *ratelimitconfigv3.RateLimitServiceConfig {
	return &ratelimitconfigv3.RateLimitServiceConfig{
		TransportApiVersion: corev3.ApiVersion_V3,
		GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
			ClusterName: name.RateLimit(g.Address, g.Port),
		}}},
	}
}

func rateTimeout(g *ir.GlobalRateLimit) *durationpb.Duration {
	return durationpb.New(cmp.Or(g.Timeout, 20*time.Millisecond))
}

// globalConnections asks about each connection, before anything is said on it.
func (m *maker) globalConnections(g *ir.GlobalRateLimit) []*listenerv3.Filter {
	if g == nil {
		return nil
	}
	config := &networkglobalv3.RateLimit{
		StatPrefix: inboundStats, Domain: g.Domain, Timeout: rateTimeout(g), FailureModeDeny: !g.FailOpen, RateLimitService: askRate(g),
	}
	for _, d := range g.Descriptors {
		one := &ratelimitcommonv3.RateLimitDescriptor{}
		for _, e := range d {
			if e.Kind != ir.RateGeneric {
				m.fail(fmt.Errorf("a connection cannot count as %q", e.Kind))
			}
			one.Entries = append(one.Entries, &ratelimitcommonv3.RateLimitDescriptor_Entry{Key: e.Key, Value: e.Value})
		}
		config.Descriptors = append(config.Descriptors, one)
	}
	return []*listenerv3.Filter{m.networkFilter("envoy.filters.network.ratelimit", config)}
}

// globalFilter is the name of the filter that asks one server. Several services behind a
// port may ask several, or one in several ways.
func globalFilter(i int) string { return fmt.Sprintf("envoy.filters.http.ratelimit/%d", i) }

// globalRequests are the filters of a port that ask about requests: those of the port
// first, then those of services apart. Each acts where a route names it.
func (m *maker) globalRequests(port ir.InboundPort) []*hcmv3.HttpFilter {
	all := []*ir.GlobalRateLimit{port.Bounds.GlobalRequests}
	for _, s := range port.Apart {
		all = append(all, s.Bounds.GlobalRequests)
	}
	var out []*hcmv3.HttpFilter
	for i, g := range all {
		if g == nil {
			continue
		}
		config := &globalratelimitv3.RateLimit{
			Domain: g.Domain, Timeout: rateTimeout(g), FailureModeDeny: !g.FailOpen, RateLimitService: askRate(g), StatPrefix: inboundStats,
		}
		if g.Headers {
			config.EnableXRatelimitHeaders = globalratelimitv3.RateLimit_DRAFT_VERSION_03
		}
		if status := cmp.Or(g.Status, 429); status != 429 {
			config.RateLimitedStatus = &typev3.HttpStatus{Code: typev3.StatusCode(status)}
		}
		filter := m.httpFilter(globalFilter(i), config)
		filter.Disabled = true
		out = append(out, filter)
	}
	return out
}

// countAs has the filter of one service ask about the requests of its routes.
func (m *maker) countAs(host *routev3.VirtualHost, i int, g *ir.GlobalRateLimit, routes []ir.InboundRoute) {
	if g == nil {
		return
	}
	byName := map[string][]ir.RateDescriptor{}
	for _, r := range routes {
		byName[r.Name] = r.Descriptors
	}
	for _, r := range host.GetRoutes() {
		descriptors := byName[r.GetName()]
		if len(descriptors) == 0 {
			descriptors = g.Descriptors
		}
		if r.GetRoute() == nil || len(descriptors) == 0 {
			continue
		}
		r.TypedPerFilterConfig[globalFilter(i)] = m.descriptors(descriptors)
	}
}

func (m *maker) descriptors(all []ir.RateDescriptor) *anypb.Any {
	out := &globalratelimitv3.RateLimitPerRoute{}
	for _, d := range all {
		one := &routev3.RateLimit{}
		for _, e := range d {
			one.Actions = append(one.Actions, m.action(e))
		}
		out.RateLimits = append(out.RateLimits, one)
	}
	return m.pack(out)
}

func (m *maker) action(e ir.RateEntry) *routev3.RateLimit_Action {
	switch e.Kind {
	case ir.RateGeneric:
		return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_GenericKey_{
			GenericKey: &routev3.RateLimit_Action_GenericKey{DescriptorKey: e.Key, DescriptorValue: e.Value},
		}}
	case ir.RateAddress:
		// Not what x-forwarded-for says, which is the caller's own word.
		return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_Extension{
			Extension: m.extension(e.Key, &networkinputsv3.DirectSourceIPInput{}),
		}}
	case ir.RateHeader:
		return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_RequestHeaders_{
			RequestHeaders: &routev3.RateLimit_Action_RequestHeaders{HeaderName: e.Header, DescriptorKey: e.Key},
		}}
	case ir.RateMatch:
		match := &routev3.RateLimit_Action_HeaderValueMatch{DescriptorKey: e.Key, DescriptorValue: e.Value, ExpectMatch: wrapperspb.Bool(!e.Otherwise)}
		for _, h := range e.Headers {
			match.Headers = append(match.Headers, m.matchHeader(h))
		}
		return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_HeaderValueMatch_{HeaderValueMatch: match}}
	default:
		m.fail(fmt.Errorf("a request cannot count as %q", e.Kind))
		return nil
	}
}
