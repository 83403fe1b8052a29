package translate

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	dfpclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	dfpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	dfpfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	httpstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// egressStats is what requests and connections to outside the mesh are counted as:
// those to a host that no Egress lists are http.egress.no_route.
const egressStats = "egress"

// egress adds the ways out of the mesh, a listener for each port, which takes what no
// service of the mesh takes on it. The ways are its filter chains: Envoy looks for the
// address first, then for the server name, then for what is spoken, and so does the
// representation.
//
//	outbound-egress/port
//	  |- [range] HTTP, by host     -> host:port, by DNS; with a range the address called
//	  |- [range] TLS, server name  -> port, the address called
//	  |- [range] bytes             -> port, the address called
//	  '- anything else             -> passed on, or reset and logged as egress_denied
//
// Where headless services have the port, their listener takes it, and hands on what it
// does not know to the same chains, in passthrough-relay.
func (t *Translator) egress(p *ir.Proxy, headless map[uint16][]*ir.Destination, out *resource.Set) error {
	var errs []error
	var relayed []*ir.EgressPort
	for _, e := range p.Egress {
		key := egressKey{first: e, passthrough: p.Passthrough, relayed: listens(headless[e.Port])}
		if key.relayed {
			relayed = append(relayed, e)
		}
		errs = append(errs, t.egressPiece(key, []*ir.EgressPort{e}, out, func(m *maker, made *piece) {
			if !key.relayed {
				made.resources = append(made.resources, m.resource(t.parts.egressListener(m, e, p.Passthrough), name.Egress(e.Port)))
			}
			for i := range e.Ways {
				t.parts.egressUpstreams(m, e.Port, &e.Ways[i], made)
			}
		}))
	}
	if len(relayed) > 0 {
		key := egressKey{first: relayed[0], passthrough: p.Passthrough, relay: true}
		errs = append(errs, t.egressPiece(key, relayed, out, func(m *maker, made *piece) {
			made.resources = append(made.resources, m.resource(t.parts.egressRelay(m, relayed, p.Passthrough), name.PassthroughRelay))
		}))
	}
	return errors.Join(errs...)
}

// egressKey names what is made of ports outside the mesh: of one port, for a listener
// of its own or not, or the relay of several, which begin with the first.
type egressKey struct {
	first                       *ir.EgressPort
	passthrough, relayed, relay bool
}

// egressPiece is what was made of some ports.
type egressPiece struct {
	ports []*ir.EgressPort
	made  *piece
}

// egressPiece adds what was made of ports, and makes it the first time.
func (t *Translator) egressPiece(key egressKey, ports []*ir.EgressPort, out *resource.Set, fill func(*maker, *piece)) error {
	for _, known := range t.egresses[key] {
		if slices.Equal(known.ports, ports) {
			known.made.addTo(out)
			return nil
		}
	}
	m, made := &maker{}, &piece{}
	fill(m, made)
	if m.err != nil {
		return fmt.Errorf("making the way out of the mesh by port %d: %w", key.first.Port, m.err)
	}
	t.egresses[key] = append(t.egresses[key], egressPiece{ports, made})
	made.addTo(out)
	return nil
}

// unknown is the chain of what nothing is known of.
func (p *parts) unknown(m *maker, passthrough bool) *listenerv3.FilterChain {
	cluster, log := name.BlockedCluster, p.deniedLog
	if passthrough {
		cluster, log = name.PassthroughCluster, p.connectionLog
	}
	proxy := toCluster(p.tcpProxy(cluster), cluster)
	proxy.AccessLog = log
	return &listenerv3.FilterChain{Name: cluster, Filters: []*listenerv3.Filter{m.tcpChainFilter(proxy)}}
}

// egressListener takes all connections to a port that nothing else takes.
func (p *parts) egressListener(m *maker, e *ir.EgressPort, passthrough bool) *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name:                name.Egress(e.Port),
		StatPrefix:          outboundStats,
		Address:             socketAddress("0.0.0.0", e.Port),
		AdditionalAddresses: []*listenerv3.AdditionalAddress{{Address: socketAddress("::", e.Port)}},
		BindToPort:          wrapperspb.Bool(false),
		TrafficDirection:    corev3.TrafficDirection_OUTBOUND,
		FilterChains:        p.egressChains(m, e),
		DefaultFilterChain:  p.unknown(m, passthrough),
	}
	inspect(m, l, passthrough, e)
	return l
}

// egressRelay takes what headless services of these ports do not know.
func (p *parts) egressRelay(m *maker, ports []*ir.EgressPort, passthrough bool) *listenerv3.Listener {
	l := internalListener(m, name.PassthroughRelay, &proxyprotocolv3.ProxyProtocol{})
	l.FilterChains, l.DefaultFilterChain = nil, p.unknown(m, passthrough)
	for _, e := range ports {
		for _, chain := range p.egressChains(m, e) {
			chain.FilterChainMatch.DestinationPort = wrapperspb.UInt32(uint32(e.Port))
			l.FilterChains = append(l.FilterChains, chain)
		}
	}
	inspect(m, l, passthrough, ports...)
	return l
}

// inspect has a listener look at what is said first, if it has to. Where the server may
// speak first, a client that waits for it loses a moment.
func inspect(m *maker, l *listenerv3.Listener, passthrough bool, ports ...*ir.EgressPort) {
	has := func(is func(ir.EgressWay) bool) bool {
		return slices.ContainsFunc(ports, func(e *ir.EgressPort) bool { return slices.ContainsFunc(e.Ways, is) })
	}
	tls := has(func(w ir.EgressWay) bool { return w.Kind == ir.EgressTLS })
	http := has(func(w ir.EgressWay) bool { return w.Kind == ir.EgressHTTP })
	if tls {
		l.ListenerFilters = append(l.ListenerFilters, m.listenerFilter("envoy.filters.listener.tls_inspector", &tlsinspectorv3.TlsInspector{}))
	}
	if http {
		l.ListenerFilters = append(l.ListenerFilters, m.listenerFilter("envoy.filters.listener.http_inspector", &httpinspectorv3.HttpInspector{}))
	}
	if !tls && !http {
		return
	}
	wait := handshakeTimeout
	if passthrough || has(func(w ir.EgressWay) bool { return w.ServerFirst }) {
		wait = sniff
	}
	l.ListenerFiltersTimeout = durationpb.New(wait)
	l.ContinueOnListenerFiltersTimeout = true
}

// egressChains are the ways of a port. Clients of TLS offer protocols too, "http/1.1" among
// them: HTTP is what is not TLS. Bytes to the same addresses are told by that as well, since
// Envoy does not go back to a chain that says less.
func (p *parts) egressChains(m *maker, e *ir.EgressPort) []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	for i := range e.Ways {
		way := &e.Ways[i]
		chain := &listenerv3.FilterChain{
			Name:             fmt.Sprintf("egress/%d/%d", e.Port, i),
			FilterChainMatch: &listenerv3.FilterChainMatch{PrefixRanges: prefixRanges(way.Ranges)},
		}
		out = append(out, chain)
		switch way.Kind {
		case ir.EgressHTTP:
			chain.FilterChainMatch.TransportProtocol = "raw_buffer"
			chain.FilterChainMatch.ApplicationProtocols = []string{"http/1.0", "http/1.1", "h2c"}
			chain.Filters = []*listenerv3.Filter{m.httpChainFilter(p.egressManager(m, e.Port, way))}
		case ir.EgressTLS:
			chain.FilterChainMatch.TransportProtocol = "tls"
			chain.FilterChainMatch.ServerNames = way.ServerNames
			chain.Filters = []*listenerv3.Filter{p.egressBytes(m, e.Port, way)}
		case ir.EgressBytes:
			chain.Filters = []*listenerv3.Filter{p.egressBytes(m, e.Port, way)}
			if slices.ContainsFunc(e.Ways, func(w ir.EgressWay) bool { return w.Kind == ir.EgressHTTP && meet(w.Ranges, way.Ranges) }) {
				inClear := proto.CloneOf(chain)
				inClear.Name += "/clear"
				inClear.FilterChainMatch.TransportProtocol = "raw_buffer"
				out = append(out, inClear)
			}
		default:
			m.fail(fmt.Errorf("there is no way out of the mesh by %q", way.Kind))
		}
	}
	return out
}

// meet reports whether some addresses are told by the same range in both; none is any.
func meet(a, b []netip.Prefix) bool {
	return len(a) == 0 && len(b) == 0 || slices.ContainsFunc(a, func(r netip.Prefix) bool { return slices.Contains(b, r) })
}

// egressBytes passes bytes to the address that the application has called.
func (p *parts) egressBytes(m *maker, port uint16, way *ir.EgressWay) *listenerv3.Filter {
	proxy := toCluster(p.tcpProxy(egressStats), portCluster(port, way.Upstream))
	proxy.IdleTimeout = durationpb.New(way.Upstream.Silence)
	return m.tcpChainFilter(proxy)
}

func prefixRanges(ranges []netip.Prefix) []*corev3.CidrRange {
	var out []*corev3.CidrRange
	for _, r := range ranges {
		out = append(out, &corev3.CidrRange{AddressPrefix: r.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(r.Bits()))})
	}
	return out
}

// egressManager finds the address of a host that was not known before by DNS, on the
// port that the connection was made to whatever port the request names.
func (p *parts) egressManager(m *maker, port uint16, way *ir.EgressWay) *hcmv3.HttpConnectionManager {
	var filters []*hcmv3.HttpFilter
	if slices.ContainsFunc(way.Hosts, func(h ir.EgressHost) bool { return foundByHost(way, h) }) {
		filters = append(filters,
			m.httpFilter("envoy.filters.http.set_filter_state", &httpstatev3.Config{OnRequestHeaders: []*filterstatev3.FilterStateValue{{
				Key: &filterstatev3.FilterStateValue_ObjectKey{ObjectKey: "envoy.upstream.dynamic_port"},
				Value: &filterstatev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
					Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: text(fmt.Sprint(port))},
				}},
			}}}),
			m.httpFilter("envoy.filters.http.dynamic_forward_proxy", &dfpfilterv3.FilterConfig{
				ImplementationSpecifier:         &dfpfilterv3.FilterConfig_DnsCacheConfig{DnsCacheConfig: dnsCache()},
				AllowDynamicHostFromFilterState: true,
			}))
	}
	config := p.connectionManager(egressStats, egressRoute(port, way), filters...)
	if slices.ContainsFunc(way.Hosts, func(h ir.EgressHost) bool { return limitsPaths(h.Routes) }) {
		config.MergeSlashes = true
		config.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD
	}
	return config
}

func limitsPaths(routes []ir.HTTPRoute) bool {
	return slices.ContainsFunc(routes, func(r ir.HTTPRoute) bool { return r.Match.Path.Kind != ir.MatchAny })
}

func egressRoute(port uint16, way *ir.EgressWay) string {
	var ranges []string
	for _, r := range way.Ranges {
		ranges = append(ranges, r.String())
	}
	return name.EgressRoute(port, ranges...)
}

// foundByHost reports whether the address of a host is looked for when it is called.
func foundByHost(way *ir.EgressWay, h ir.EgressHost) bool {
	return len(way.Ranges) == 0 && strings.HasPrefix(h.Host, "*")
}

// egressUpstreams adds the routes and the clusters of a way.
func (p *parts) egressUpstreams(m *maker, port uint16, way *ir.EgressWay, made *piece) {
	add := func(c *clusterv3.Cluster) {
		if slices.ContainsFunc(made.resources, func(r *resource.Resource) bool {
			return r.TypeURL == resource.ClusterType && r.Name == c.GetName()
		}) {
			return
		}
		made.resources = append(made.resources, m.resource(c, c.GetName()))
	}
	if way.Kind != ir.EgressHTTP {
		add(p.portCluster(m, port, way.Upstream))
		return
	}
	n := egressRoute(port, way)
	table := routeConfiguration(n)
	// The port of a host counts: a request is for the port that it came to.
	table.IgnorePortInHostMatching = false
	for _, h := range way.Hosts {
		var c *clusterv3.Cluster
		switch {
		case len(way.Ranges) > 0:
			c = p.portCluster(m, port, h.Upstream)
		case foundByHost(way, h):
			c = p.hostCluster(m, h.Upstream)
		default:
			c = dnsCluster(variant(name.EgressHost(h.Host, port), h.Upstream), h.Host, port)
			p.bound(m, c, h.Upstream)
		}
		add(c)
		table.VirtualHosts = append(table.VirtualHosts, m.egressHost(port, h, c.GetName()))
	}
	made.resources = append(made.resources, m.resource(table, n))
}

// egressHost answers for a host, with the port and without.
func (m *maker) egressHost(port uint16, h ir.EgressHost, cluster string) *routev3.VirtualHost {
	out := &routev3.VirtualHost{Name: name.EgressHost(h.Host, port), Domains: []string{h.Host}}
	if h.Host != "*" {
		out.Domains = append(out.Domains, name.EgressHost(h.Host, port))
	}
	for i := range h.Routes {
		r := h.Routes[i]
		match := m.match(r.Match)
		if h.Host == "*" {
			// Any host, and yet no other port.
			match.Headers = append(match.Headers, &routev3.HeaderMatcher{
				Name: ":authority",
				HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
					StringMatch: matchingRegex(fmt.Sprintf(`(?:[^:\[\]]+|\[[^\[\]]*\])(?::%d)?`, port)),
				},
			})
		}
		out.Routes = append(out.Routes, &routev3.Route{
			Name: r.Name, Match: match,
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}, Timeout: durationpb.New(h.Upstream.Request),
			}},
		})
	}
	return out
}

func variant(n string, u ir.EgressUpstream) string {
	if u.Name == "" {
		return n
	}
	return name.ClusterVariant(n, u.Name)
}

func portCluster(port uint16, u ir.EgressUpstream) string { return variant(name.EgressPort(port), u) }

// portCluster connects to where the application did.
func (p *parts) portCluster(m *maker, port uint16, u ir.EgressUpstream) *clusterv3.Cluster {
	c := passthroughCluster()
	c.Name = portCluster(port, u)
	p.bound(m, c, u)
	return c
}

// hostCluster connects to hosts by the names in requests.
func (p *parts) hostCluster(m *maker, u ir.EgressUpstream) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:     variant(name.EgressByHost, u),
		LbPolicy: clusterv3.Cluster_CLUSTER_PROVIDED,
		ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.dynamic_forward_proxy",
			// Nothing is encrypted here, so that no certificate is checked.
			TypedConfig: m.pack(&dfpclusterv3.ClusterConfig{
				AllowInsecureClusterOptions:    true,
				ClusterImplementationSpecifier: &dfpclusterv3.ClusterConfig_DnsCacheConfig{DnsCacheConfig: dnsCache()},
			}),
		}},
	}
	p.bound(m, c, u)
	return c
}

// dnsCache is the same for all that share it, as Envoy wants it.
func dnsCache() *dfpv3.DnsCacheConfig {
	return &dfpv3.DnsCacheConfig{Name: egressStats, DnsLookupFamily: clusterv3.Cluster_V4_PREFERRED, MaxHosts: wrapperspb.UInt32(1024)}
}

func (p *parts) bound(m *maker, c *clusterv3.Cluster, u ir.EgressUpstream) {
	c.ConnectTimeout = durationpb.New(cmp.Or(u.ConnectTimeout, connectTimeout))
	c.CircuitBreakers = circuitBreakers(u.Limits)
	c.OutlierDetection = outliers(u.Outliers)
	if u.Balance != nil && c.GetLbPolicy() != clusterv3.Cluster_CLUSTER_PROVIDED {
		c.LoadBalancingPolicy = m.balance(u.Balance)
	}
	c.TypedExtensionProtocolOptions = p.httpOptions(m, u.Upstream)
	c.UpstreamConnectionOptions = &clusterv3.UpstreamConnectionOptions{TcpKeepalive: tcpKeepalive()}
}
