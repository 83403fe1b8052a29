package translate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// Names of the HTTP filters that routes have settings for.
const (
	rbacFilter      = "envoy.filters.http.rbac"
	rateLimitFilter = "envoy.filters.http.local_ratelimit"
)

// handshakeTimeout bounds how long a connection may take to say what it is, and to
// shake hands.
const handshakeTimeout = 10 * time.Second

// inboundSet is what was made of the ports of a class.
type inboundSet struct {
	ports   []ir.InboundPort
	metrics bool
	made    *resource.Set
}

// own returns what a proxy does for its own pod. It is made again only if a class has
// other ports than before: not every value that is the same is looked for, only the one.
func (t *Translator) own(p *ir.Proxy) (*resource.Set, error) {
	known, ok := t.inbounds[p.Class]
	alike := len(known.ports) == len(p.Inbound) && (len(p.Inbound) == 0 || &known.ports[0] == &p.Inbound[0])
	if ok && alike && known.metrics == p.Metrics {
		return known.made, nil
	}
	made := resource.NewSet()
	if err := t.inbound(p, made); err != nil {
		return nil, err
	}
	t.inbounds[p.Class] = inboundSet{p.Inbound, p.Metrics, made}
	return made, nil
}

// inbound adds what the proxy does with connections that others make to the pod: for
// each port that is served, a chain that speaks mTLS and nothing else. Who may
// request what is in the routes, so that a change acts on the next request of every
// connection, old ones too.
func (t *Translator) inbound(p *ir.Proxy, out *resource.Set) error {
	t.parts.always.addTo(out)
	if p.Metrics {
		t.parts.metrics.addTo(out)
	}
	if len(p.Inbound) == 0 {
		return nil
	}
	m := &maker{}
	t.parts.inbound.addTo(out)
	listener := t.parts.inboundListener(m)
	for _, port := range p.Inbound {
		listener.FilterChains = append(listener.FilterChains, t.parts.inboundChains(m, port)...)
		listener.FilterChains = append(listener.FilterChains, t.parts.healthChains(m, port)...)
		for i := range port.Ingress {
			listener.FilterChains = append(listener.FilterChains, t.parts.ingressChain(m, port, &port.Ingress[i]))
			n := name.IngressRoute(port.Port, port.Ingress[i].TLS != nil)
			out.Add(m.resource(t.parts.ingressTable(m, port, &port.Ingress[i], n), n))
		}
		local := name.LocalCluster(port.Service.Namespace, port.Service.Name, port.Port)
		out.Add(m.resource(t.parts.localCluster(port, local), local))
		m.rateServers(port, out)
		if port.Protocol == ir.HTTP {
			n := name.InboundRoute(port.Port)
			out.Add(m.resource(t.parts.inboundTable(m, port, n), n))
		}
	}
	out.Add(m.resource(listener, name.InboundListener))
	if m.err != nil {
		return fmt.Errorf("making the inbound listener: %w", m.err)
	}
	return nil
}

func (p *parts) inboundListener(m *maker) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:                name.InboundListener,
		StatPrefix:          inboundStats,
		Address:             socketAddress("0.0.0.0", inboundPort),
		AdditionalAddresses: []*listenerv3.AdditionalAddress{{Address: socketAddress("::", inboundPort)}},
		ListenerFilters: []*listenerv3.ListenerFilter{
			p.originalDst,
			m.listenerFilter("envoy.filters.listener.tls_inspector", &tlsinspectorv3.TlsInspector{}),
		},
		ListenerFiltersTimeout: durationpb.New(handshakeTimeout),
		TrafficDirection:       corev3.TrafficDirection_INBOUND,
		TcpKeepalive:           tcpKeepalive(),
		AccessLog:              p.refusalLog,
	}
}

// inboundChains take mTLS connections to one port: those that ask for a service whose
// connections are bounded otherwise by a chain of their own.
func (p *parts) inboundChains(m *maker, port ir.InboundPort) []*listenerv3.FilterChain {
	out := []*listenerv3.FilterChain{p.inboundChain(m, port, "", port.Bounds)}
	for _, s := range port.Apart {
		if ownChain(port, s) {
			out = append(out, p.inboundChain(m, port, s.ServerName, s.Bounds))
		}
	}
	return out
}

// ownChain reports whether connections that ask for a service of a port are bounded
// otherwise than those that ask for another.
func ownChain(port ir.InboundPort, s ir.InboundService) bool {
	bounded := func(b ir.InboundBounds) bool { return b.Connections != nil || b.GlobalConnections != nil }
	return s.ServerName != "" && (bounded(s.Bounds) || bounded(port.Bounds))
}

// inboundChain takes mTLS connections to one port. Its name changes with the set of
// those who may use the port at all: Envoy then ends what came in by the old chain
// within its drain time, so that nobody keeps a stream or a connection who may not
// open it any more.
func (p *parts) inboundChain(m *maker, port ir.InboundPort, server string, bounds ir.InboundBounds) *listenerv3.FilterChain {
	who := port.Allow
	if port.Protocol == ir.HTTP {
		who = anyRoute(port)
	}
	chain := &listenerv3.FilterChain{
		Name: fmt.Sprintf("inbound/%d/%s", port.Port, fingerprint(who)),
		FilterChainMatch: &listenerv3.FilterChainMatch{
			DestinationPort: wrapperspb.UInt32(uint32(port.Port)), TransportProtocol: "tls", ServerNames: meshNames(port),
		},
		TransportSocketConnectTimeout: durationpb.New(handshakeTimeout),
		Filters:                       append(m.connectionLimit(bounds.Connections), m.globalConnections(bounds.GlobalConnections)...),
	}
	if server != "" {
		chain.Name += "/" + server
		chain.FilterChainMatch.ServerNames = []string{server}
	}
	if port.Protocol == ir.HTTP {
		// A request by anyone else in the mesh is answered, with 403 or 404.
		chain.TransportSocket = p.downstreamTLS(m, p.names(ir.Principals{Any: true}), "h2", "http/1.1")
		chain.Filters = append(chain.Filters, m.httpChainFilter(p.inboundManager(m, port)))
		return chain
	}
	// Names are checked in the handshake already: a filter would wait for the client's
	// first bytes, while the server may have spoken.
	chain.TransportSocket = p.downstreamTLS(m, p.names(who))
	local := name.LocalCluster(port.Service.Namespace, port.Service.Name, port.Port)
	proxy := toCluster(p.tcpProxy(inboundStats), local)
	proxy.MaxDownstreamConnectionDuration = durationpb.New(tcpAge)
	proxy.MaxDownstreamConnectionDurationJitterPercentage = &typev3.Percent{Value: ageJitter}
	chain.Filters = append(chain.Filters,
		m.networkFilter("envoy.filters.network.rbac", &networkrbacv3.RBAC{StatPrefix: inboundStats + ".", Rules: p.allow("", who)}),
		m.tcpChainFilter(proxy))
	return chain
}

// anyRoute are those who may send at least one kind of request.
func anyRoute(port ir.InboundPort) ir.Principals {
	var all []ir.Principals
	for _, r := range port.Routes {
		all = append(all, r.Allow)
		for _, g := range r.Also {
			all = append(all, g.Allow)
		}
	}
	return both(either(all), port.Allow)
}

// inboundManager trusts nothing that a client says of itself: the certificate's name
// is put in place of any that came along, and the path is brought into the one form
// that routes are compared with, and that the application gets.
func (p *parts) inboundManager(m *maker, port ir.InboundPort) *hcmv3.HttpConnectionManager {
	config := p.inboundManagerOf(name.InboundRoute(port.Port))
	limit := slices.IndexFunc(config.GetHttpFilters(), func(f *hcmv3.HttpFilter) bool { return f.GetName() == rateLimitFilter })
	config.HttpFilters = slices.Insert(config.GetHttpFilters(), limit+1, m.globalRequests(port)...)
	return config
}

func (p *parts) inboundManagerOf(route string) *hcmv3.HttpConnectionManager {
	config := p.connectionManager(inboundStats, route, slices.Clone(p.inboundFilters)...)
	limitAge(config)
	config.MergeSlashes = true
	config.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD
	config.RequestHeadersTimeout = durationpb.New(time.Minute)
	config.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
	config.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Uri: true}
	return config
}

// makeInboundFilters makes the filters of inbound requests. Authorization refuses what
// a route does not allow; rate limits come before the external authorization, which
// they protect.
func (p *parts) makeInboundFilters(m *maker) {
	p.open = m.pack(&rbacv3.RBACPerRoute{})
	p.inboundFilters = []*hcmv3.HttpFilter{
		m.httpFilter(rbacFilter, &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_ALLOW}}),
		m.httpFilter(rateLimitFilter, &ratelimitv3.LocalRateLimit{StatPrefix: inboundStats}),
	}
	if p.shared.ExternalAuthorization != nil {
		p.inboundFilters = append(p.inboundFilters, p.authorizationFilter(m))
	}
}

// inboundTable says who may send which requests. What matches none of the routes is
// answered 404, whoever asks.
func (p *parts) inboundTable(m *maker, port ir.InboundPort, n string) *routev3.RouteConfiguration {
	table := routeConfiguration(n)
	table.VirtualHosts = []*routev3.VirtualHost{p.inboundHost(m, port, n, port.Bounds.Requests, port.Routes)}
	m.countAs(table.GetVirtualHosts()[0], 0, port.Bounds.GlobalRequests, port.Routes)
	table.VirtualHosts[0].Domains = []string{"*"}
	taken := map[string]bool{}
	for i, s := range port.Apart {
		if !boundsRequests(port.Bounds, port.Routes) && !boundsRequests(s.Bounds, s.Routes) {
			continue
		}
		host := p.inboundHost(m, port, fmt.Sprintf("%s/%d", n, i), s.Bounds.Requests, s.Routes)
		m.countAs(host, i+1, s.Bounds.GlobalRequests, s.Routes)
		if host.Domains = free(s.Hosts, taken); len(host.GetDomains()) > 0 {
			table.VirtualHosts = append(table.VirtualHosts, host)
		}
	}
	return table
}

// inboundHost answers for some hosts.
func (p *parts) inboundHost(m *maker, port ir.InboundPort, n string, limit *ir.LocalRateLimit, routes []ir.InboundRoute) *routev3.VirtualHost {
	local := name.LocalCluster(port.Service.Namespace, port.Service.Name, port.Port)
	host := &routev3.VirtualHost{Name: n}
	if limit != nil {
		host.TypedPerFilterConfig = map[string]*anypb.Any{rateLimitFilter: m.rateLimit(limit)}
	}
	if comparesPaths(routes) {
		host.Routes = append(host.Routes, p.ambiguous())
	}
	for i := range routes {
		host.Routes = append(host.Routes, p.inboundRoute(m, &routes[i], port.Allow, local))
	}
	host.Routes = append(host.Routes, p.answer("not-found", 404, &routev3.RouteMatch{
		PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"},
	}))
	if limit == nil {
		return host
	}
	// What the proxy answers by itself takes nothing from those who may ask.
	for _, r := range host.GetRoutes() {
		if r.GetDirectResponse() != nil {
			r.TypedPerFilterConfig[rateLimitFilter] = m.pack(&routev3.FilterConfig{Disabled: true})
		}
	}
	return host
}

func boundsRequests(b ir.InboundBounds, routes []ir.InboundRoute) bool {
	return b.Requests != nil || b.GlobalRequests != nil || slices.ContainsFunc(routes, func(r ir.InboundRoute) bool { return r.RateLimit != nil })
}

// free are the hosts that are not taken yet: one host twice would make the proxy refuse
// the whole table.
func free(hosts []string, taken map[string]bool) []string {
	var out []string
	for _, h := range hosts {
		if h = strings.ToLower(h); !taken[h] && h != "*" {
			taken[h] = true
			out = append(out, h)
		}
	}
	return out
}

// inboundRoute allows a kind of request to those who are meant, and to others what
// else they may of it.
func (p *parts) inboundRoute(m *maker, r *ir.InboundRoute, port ir.Principals, local string) *routev3.Route {
	rules := p.allow(r.Name, both(r.Allow, port))
	for i, also := range grouped(r.Also) {
		var permitted []*rbacconfigv3.Permission
		for _, match := range also.matches {
			permitted = append(permitted, m.requests(match))
		}
		p.grant(rules, fmt.Sprintf("also %d", i), both(also.allow, port), permitted...)
	}
	perFilter := map[string]*anypb.Any{rbacFilter: m.pack(&rbacv3.RBACPerRoute{Rbac: &rbacv3.RBAC{Rules: rules}})}
	if r.RateLimit != nil {
		perFilter[rateLimitFilter] = m.rateLimit(r.RateLimit)
	}
	return &routev3.Route{
		Name:  r.Name,
		Match: m.match(r.Match),
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: local},
			Timeout:          durationpb.New(max(0, r.Timeout)),
		}},
		TypedPerFilterConfig: perFilter,
	}
}

// group is who may send any of several kinds of requests.
type group struct {
	allow   ir.Principals
	matches []ir.HTTPMatch
}

// grouped puts together what neighbours allow to the same, so that they are named once.
func grouped(grants []ir.Grant) []group {
	var out []group
	for _, g := range grants {
		if last := len(out) - 1; last >= 0 && equal(out[last].allow, g.Allow) {
			out[last].matches = append(out[last].matches, g.Match)
			continue
		}
		out = append(out, group{allow: g.Allow, matches: []ir.HTTPMatch{g.Match}})
	}
	return out
}

// comparesPaths reports whether it matters how a path is read.
func comparesPaths(routes []ir.InboundRoute) bool {
	compared := func(path ir.PathMatch) bool {
		return path.Kind != ir.MatchAny && (path.Kind != ir.MatchRegex || path.Value != ".*")
	}
	return slices.ContainsFunc(routes, func(r ir.InboundRoute) bool {
		return compared(r.Match.Path) || slices.ContainsFunc(r.Also, func(also ir.Grant) bool { return compared(also.Match.Path) })
	})
}

// ambiguous refuses paths with "..;" or ".;" in them: some application servers cut
// what follows the semicolon and then go up, to where no route was asked about.
func (p *parts) ambiguous() *routev3.Route {
	return p.answer("ambiguous-path", 400, &routev3.RouteMatch{
		PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: matchingRegex(`.*/(?:\.|%2[eE]){1,2}(?:;|%3[bB]).*`).GetSafeRegex()},
	})
}

// answer is a route that the proxy answers by itself, whoever asks.
func (p *parts) answer(n string, status uint32, match *routev3.RouteMatch) *routev3.Route {
	return &routev3.Route{
		Name: n, Match: match, Action: respond(status, ""),
		TypedPerFilterConfig: map[string]*anypb.Any{rbacFilter: p.open},
	}
}
