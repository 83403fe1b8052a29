package translate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	headertometadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	setfilterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	upstreamproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	rawbufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// destinationTLV is the type of the field of the PROXY protocol that carries the
// address a connection was made to, of the range that is left to applications.
const destinationTLV = 0xE0

// destinationHeader carries the same through the filters of one request; it is
// overwritten before it is read and never leaves the proxy.
const destinationHeader = "x-osm-original-destination"

// sniff is how long a connection to a port with headless HTTP services may be silent
// before it is taken for something else than HTTP: a client that waits for the server
// to speak loses that time.
const sniff = 100 * time.Millisecond

// portKey names the headless services of a port, as one kind of proxy sees them.
type portKey struct {
	port        uint16
	passthrough bool
}

// portPiece is what was made of some destinations on one port.
type portPiece struct {
	destinations []*ir.Destination
	made         *piece
}

// headless adds what the proxy does with connections to endpoints of headless
// services. Nothing but the address tells those of a port apart, and addresses come and
// go with pods; so one listener takes the whole port, and the load balancer looks the
// address up among the endpoints. An address that no endpoint has is passed on where
// unknown destinations are, or where an Egress is for the port, and refused where they
// are not.
//
//	outbound-headless/port
//	  |- HTTP, by host  -> ns/service|port, the endpoint with that address, or 503
//	  |- HTTP, any host -> headless|port ---.
//	  '- bytes          -> headless-relay --'-> the endpoint with that address, or else
//	                                            passthrough-relay -> passthrough-outbound
//
// A load balancer reads the address from metadata, which HTTP has filters to write; for
// bytes the relay, a listener within the proxy, writes it on receipt.
func (t *Translator) headless(ports map[uint16][]*ir.Destination, outside map[uint16]*ir.EgressPort, passthrough bool, out *resource.Set) error {
	if len(ports) == 0 {
		return nil
	}
	t.parts.relay.addTo(out)
	if passthrough {
		t.parts.passthrough.addTo(out)
	}
	var errs []error
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		made, err := t.headlessPort(portKey{port, passthrough || outside[port] != nil}, ports[port])
		if err != nil {
			errs = append(errs, fmt.Errorf("making the way to headless services on port %d: %w", port, err))
			continue
		}
		made.addTo(out)
	}
	return errors.Join(errs...)
}

func (t *Translator) headlessPort(key portKey, destinations []*ir.Destination) (*piece, error) {
	for _, known := range t.ports[key] {
		if slices.Equal(known.destinations, destinations) {
			return known.made, nil
		}
	}
	m := &maker{}
	made := &piece{}
	if !listens(destinations) {
		return made, nil
	}
	all := everyEndpoint(key, destinations)
	cluster, err := t.makeCluster(all)
	if err != nil {
		return nil, err
	}
	made.include(cluster)
	n := name.Headless(key.port)
	http := slices.DeleteFunc(slices.Clone(destinations), func(d *ir.Destination) bool { return d.Protocol != ir.HTTP })
	made.resources = append(made.resources, m.resource(t.parts.headlessListener(m, key.port, http), n))
	if len(http) > 0 {
		made.resources = append(made.resources, m.resource(m.headlessTable(n, all.Name, http), n))
	}
	for _, d := range http {
		for c := range clustersOf(d) {
			one, err := t.cluster(c)
			if err != nil {
				m.fail(err)
				continue
			}
			made.include(one)
		}
	}
	if m.err != nil {
		return nil, m.err
	}
	t.ports[key] = append(t.ports[key], portPiece{slices.Clone(destinations), made})
	return made, nil
}

// listens reports whether the headless services of a port are listened for: not where
// none of them is HTTP, whose hosts are answered for, nor has anything that may be called.
func listens(destinations []*ir.Destination) bool {
	return slices.ContainsFunc(destinations, func(d *ir.Destination) bool {
		for range clustersOf(d) {
			return true
		}
		return d.Protocol == ir.HTTP
	})
}

// everyEndpoint is the cluster of all endpoints of the headless services on a port.
func everyEndpoint(key portKey, destinations []*ir.Destination) *ir.Cluster {
	all := &ir.Cluster{Name: name.HeadlessCluster(key.port), OriginalDestination: true, Protocol: ir.HTTP}
	peers := map[identity.ServiceAccount]struct{}{}
	sets := map[ir.EndpointSet]struct{}{}
	for _, d := range destinations {
		for c := range clustersOf(d) {
			if !c.OriginalDestination {
				continue
			}
			for _, s := range c.Endpoints {
				// One of these clusters may allow clear text, another may not.
				s.MeshedOnly = s.MeshedOnly || !c.Plaintext
				s.Passthrough = key.passthrough
				sets[s] = struct{}{}
			}
			for _, p := range c.Peers {
				peers[p] = struct{}{}
			}
			all.Plaintext = all.Plaintext || c.Plaintext
			if d.Protocol != ir.HTTP {
				// Requests have clusters of their own; one way of asking holds for all bytes.
				all.HealthCheck = oftener(all.HealthCheck, c.HealthCheck)
			}
			all.SNI = cmp.Or(all.SNI, c.SNI)
		}
	}
	if len(sets) == 0 {
		// No address is one of theirs; their hosts may still lead to back ends of a split.
		d := destinations[0].Service
		sets[ir.EndpointSet{Service: d, ServiceAccounts: nobody, MeshedOnly: true, Passthrough: key.passthrough}] = struct{}{}
	}
	all.Peers = slices.SortedFunc(maps.Keys(peers), identity.Compare)
	all.Endpoints = slices.SortedFunc(maps.Keys(sets), func(a, b ir.EndpointSet) int {
		return strings.Compare(resource.EndpointsName([]ir.EndpointSet{a}), resource.EndpointsName([]ir.EndpointSet{b}))
	})
	return all
}

// headlessListener takes all connections to a port. Only where HTTP is among them
// does it look at what is said first.
func (p *parts) headlessListener(m *maker, port uint16, http []*ir.Destination) *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name:                name.Headless(port),
		StatPrefix:          outboundStats,
		Address:             socketAddress("0.0.0.0", port),
		AdditionalAddresses: []*listenerv3.AdditionalAddress{{Address: socketAddress("::", port)}},
		BindToPort:          wrapperspb.Bool(false),
		TrafficDirection:    corev3.TrafficDirection_OUTBOUND,
		DefaultFilterChain:  &listenerv3.FilterChain{Name: "bytes", Filters: []*listenerv3.Filter{m.tcpChainFilter(p.toRelay())}},
	}
	if len(http) == 0 {
		return l
	}
	l.ListenerFilters = []*listenerv3.ListenerFilter{m.listenerFilter("envoy.filters.listener.http_inspector", &httpinspectorv3.HttpInspector{})}
	l.ListenerFiltersTimeout = durationpb.New(sniff)
	l.ContinueOnListenerFiltersTimeout = true
	l.FilterChains = []*listenerv3.FilterChain{{
		Name:             "http",
		FilterChainMatch: &listenerv3.FilterChainMatch{ApplicationProtocols: []string{"http/1.0", "http/1.1", "h2c"}},
		Filters: []*listenerv3.Filter{m.httpChainFilter(
			p.callManager(name.Headless(port), p.headlessFilters(m, mostAttempts(http))...),
		)},
	}}
	return l
}

// headlessTable routes by host; what has no host of a service is told apart by address
// alone.
func (m *maker) headlessTable(n, everyEndpoint string, http []*ir.Destination) *routev3.RouteConfiguration {
	table := routeConfiguration(n)
	taken := map[string]bool{"*": true}
	for _, d := range http {
		if host := m.virtualHost(d, taken); host != nil {
			table.VirtualHosts = append(table.VirtualHosts, host)
		}
	}
	table.VirtualHosts = append(table.VirtualHosts, &routev3.VirtualHost{
		Name:    everyEndpoint,
		Domains: []string{"*"},
		Routes: []*routev3.Route{{
			Name:  everyEndpoint,
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: everyEndpoint},
				Timeout:          durationpb.New(0),
			}},
		}},
	})
	return table
}

// mostAttempts is how often a request may be sent.
func mostAttempts(destinations []*ir.Destination) uint32 {
	most := uint32(1)
	for _, d := range destinations {
		for i := range d.Routes {
			if r := d.Routes[i].Retry; r != nil {
				most = max(most, r.Attempts+1)
			}
		}
	}
	return most
}

// makeHeadlessFilters makes the filter that moves the address a connection was made
// to where the load balancer looks for it.
func (p *parts) makeHeadlessFilters(m *maker) {
	p.toMetadata = m.httpFilter("envoy.filters.http.header_to_metadata", &headertometadatav3.Config{
		RequestRules: []*headertometadatav3.Config_Rule{{
			Header:          destinationHeader,
			OnHeaderPresent: &headertometadatav3.Config_KeyValuePair{MetadataNamespace: name.BalancerMetadata, Key: name.DestinationKey},
			Remove:          true,
		}},
	})
}

// headlessFilters tell the load balancer where a request's connection was made to,
// once for each time that the request may be sent.
func (p *parts) headlessFilters(m *maker, attempts uint32) []*hcmv3.HttpFilter {
	const most = 32
	address := strings.TrimSuffix(strings.Repeat("%DOWNSTREAM_LOCAL_ADDRESS%,", int(min(attempts, most))), ",")
	toHeader := m.httpFilter("envoy.filters.http.header_mutation", &headermutationv3.HeaderMutation{
		Mutations: &headermutationv3.Mutations{RequestMutations: []*mutationv3.HeaderMutation{{
			Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
				Header:       &corev3.HeaderValue{Key: destinationHeader, Value: address},
				AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			}},
		}}},
	})
	return []*hcmv3.HttpFilter{toHeader, p.toMetadata}
}

// toRelay sends bytes to the relay, with the address they were meant for.
func (p *parts) toRelay() *tcpproxyv3.TcpProxy {
	proxy := toCluster(p.tcpProxy(outboundStats), name.HeadlessRelay)
	// The relay writes the log: it knows the endpoint.
	proxy.AccessLog = nil
	proxy.ProxyProtocolTlvs = []*corev3.TlvEntry{{
		Type: destinationTLV,
		FormatString: &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: text("%DOWNSTREAM_LOCAL_ADDRESS%")},
		},
	}}
	return proxy
}

// makeRelays makes the listeners within the proxy: one that finds the endpoint, and
// one that finds the way to an address that no endpoint has.
func (p *parts) makeRelays(m *maker) {
	p.relay.resources = append(p.relay.resources,
		m.resource(p.headlessRelay(m), name.HeadlessRelay),
		m.resource(relayCluster(m), name.HeadlessRelay))
	passing := m.tcpChainFilter(toCluster(p.tcpProxy(name.PassthroughCluster), name.PassthroughCluster))
	p.passthrough.resources = append(p.passthrough.resources, m.resource(internalListener(
		m, name.PassthroughRelay, &proxyprotocolv3.ProxyProtocol{}, passing,
	), name.PassthroughRelay))
}

// headlessRelay picks the cluster by the port, which the connection brought with it.
func (p *parts) headlessRelay(m *maker) *listenerv3.Listener {
	receive := &proxyprotocolv3.ProxyProtocol{Rules: []*proxyprotocolv3.ProxyProtocol_Rule{{
		TlvType:      destinationTLV,
		OnTlvPresent: &proxyprotocolv3.ProxyProtocol_KeyValuePair{MetadataNamespace: name.BalancerMetadata, Key: name.DestinationKey},
	}}}
	choose := m.networkFilter("envoy.filters.network.set_filter_state", &setfilterstatev3.Config{
		OnNewConnection: []*filterstatev3.FilterStateValue{{
			Key: &filterstatev3.FilterStateValue_ObjectKey{ObjectKey: "envoy.tcp_proxy.cluster"},
			Value: &filterstatev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: text(name.HeadlessClusters + "%DOWNSTREAM_LOCAL_PORT%")},
			}},
		}},
	})
	send := m.tcpChainFilter(toCluster(p.tcpProxy(outboundStats), name.BlockedCluster))
	return internalListener(m, name.HeadlessRelay, receive, choose, send)
}

func internalListener(m *maker, n string, receive *proxyprotocolv3.ProxyProtocol, filters ...*listenerv3.Filter) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:              n,
		StatPrefix:        outboundStats,
		ListenerSpecifier: &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		TrafficDirection:  corev3.TrafficDirection_OUTBOUND,
		ListenerFilters:   []*listenerv3.ListenerFilter{m.listenerFilter("envoy.filters.listener.proxy_protocol", receive)},
		FilterChains:      []*listenerv3.FilterChain{{Filters: filters}},
	}
}

// proxyProtocol tells a listener within the proxy who connected to where, and more
// than that of these types.
func proxyProtocol(m *maker, types ...uint32) *corev3.TransportSocket {
	config := &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_V2}
	if len(types) > 0 {
		config.PassThroughTlvs = &corev3.ProxyProtocolPassThroughTLVs{
			MatchType: corev3.ProxyProtocolPassThroughTLVs_INCLUDE, TlvType: types,
		}
	}
	return m.transportSocket("envoy.transport_sockets.upstream_proxy_protocol", &upstreamproxyv3.ProxyProtocolUpstreamTransport{
		Config:          config,
		TransportSocket: m.transportSocket("envoy.transport_sockets.raw_buffer", &rawbufferv3.RawBuffer{}),
	})
}

func text(format string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: format}}
}
