package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	rawbufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
)

// servicePort is the port of all services: the case that a listener per port is best at.
const servicePort = 80

// shape is a way to lay out what a sidecar does with outbound connections.
type shape struct {
	name string
	// empty says that the mesh has no services.
	empty bool
	// eager has Envoy make all statistics at once.
	eager bool
	// deferred has Envoy make what a worker thread knows of a cluster when the thread first uses it.
	deferred bool
	// onDemand has Envoy ask for the clusters of services when they are first called.
	onDemand bool
	// apply changes the translator's resources, which are in shape (a), into this one.
	apply func(*config)
}

func shapes() []shape {
	same := func(*config) {}
	return []shape{
		{name: "no services", empty: true, apply: same},
		{name: "clusters and endpoints only", apply: (*config).clustersOnly},
		{name: "(a) a listener per address and port", apply: same},
		{name: "(b) a listener per port", apply: (*config).perPort},
		{name: "(c) a filter chain per address and port", apply: (*config).chains},
		{name: "(d) one listener, one table of hosts", apply: (*config).oneTable},
		{name: "(a) with the routes in the listener", apply: (*config).inlineRoutes},
		{name: "(a) for TCP services", apply: (*config).tcp},
		{name: "(a) without access log", apply: (*config).withoutAccessLog},
		{name: "(a) statistics per listener", apply: (*config).ownStatistics},
		{name: "(a) all statistics made at once", eager: true, apply: same},
		{name: "(a) statistics per listener, all made at once", eager: true, apply: (*config).ownStatistics},
		{name: "(a) clusters on demand", onDemand: true, apply: (*config).clustersOnDemand},
		{name: "(a) clusters made by threads when used", deferred: true, apply: same},
		{name: "(a) clusters without TLS, made by threads when used", deferred: true, apply: (*config).withoutTLS},
		{name: "(a) clusters without TLS", apply: (*config).withoutTLS},
	}
}

// config is what one sidecar is given, unpacked.
type config struct {
	listeners map[string]*listenerv3.Listener
	routes    map[string]*routev3.RouteConfiguration
	clusters  map[string]*clusterv3.Cluster
	secrets   map[string]*tlsv3.Secret
	endpoints map[string]*endpointv3.ClusterLoadAssignment
}

// mesh makes the resources of a mesh of HTTP services, with the project's translator.
type mesh struct {
	translator *translate.Translator
	shared     *ir.Shared
	services   []*ir.Destination
	// document says where the workload's certificate is.
	document string
	// ports are where the services that are called can be reached.
	ports []int
}

func newMesh(roots []byte, document string) *mesh {
	return &mesh{translator: translate.New(), document: document, shared: &ir.Shared{
		TrustDomain: "cluster.local", TrustBundle: roots,
		TLS: ir.TLS{MinVersion: "TLSv1_3", MaxVersion: "TLSv1_3", Curves: []string{"X25519MLKEM768", "X25519", "P-256"}},
	}}
}

// grow adds services until there are count.
func (m *mesh) grow(count int) {
	for i := len(m.services); i < count; i++ {
		s := ir.ServicePort{Namespace: fmt.Sprintf("team-%d", i%20), Name: fmt.Sprintf("service-%d", i), Port: servicePort}
		account := identity.ServiceAccount{Namespace: s.Namespace, Name: s.Name}
		cluster := &ir.Cluster{
			Name: name.Cluster(s.Namespace, s.Name, 8080), Endpoints: []ir.EndpointSet{{Service: s}}, Protocol: ir.HTTP,
			SNI: s.Name + "." + s.Namespace + ".svc.cluster.local", Peers: []identity.ServiceAccount{account},
		}
		m.services = append(m.services, &ir.Destination{
			Service: s, Protocol: ir.HTTP,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
			Routes:    []ir.HTTPRoute{{Name: s.Name, Backends: []ir.WeightedBackend{{Cluster: cluster, Weight: 100}}}},
		})
	}
}

// config returns the resources in shape (a).
func (m *mesh) config() (*config, error) {
	set, err := m.translator.Proxy(&ir.Proxy{
		Class: "bench", Outbound: m.services, Passthrough: true, Shared: m.shared,
		Identity: identity.ID{TrustDomain: m.shared.TrustDomain, ServiceAccount: identity.ServiceAccount{Namespace: "bench", Name: "bench"}},
	})
	if err != nil {
		return nil, err
	}
	c := &config{endpoints: map[string]*endpointv3.ClusterLoadAssignment{}}
	if c.listeners, err = unpack[listenerv3.Listener](set, resource.ListenerType); err != nil {
		return nil, err
	}
	if c.routes, err = unpack[routev3.RouteConfiguration](set, resource.RouteType); err != nil {
		return nil, err
	}
	if c.clusters, err = unpack[clusterv3.Cluster](set, resource.ClusterType); err != nil {
		return nil, err
	}
	if c.secrets, err = unpack[tlsv3.Secret](set, resource.SecretType); err != nil {
		return nil, err
	}
	for assignment := range set.References() {
		c.endpoints[assignment] = twoPods(assignment)
	}
	err = c.eachTLS(func(t *tlsv3.UpstreamTlsContext) {
		for _, s := range t.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
			s.GetSdsConfig().GetPathConfigSource().Path = m.document
		}
	})
	return c, err
}

func unpack[T any, M interface {
	*T
	proto.Message
}](set *resource.Set, typeURL string) (map[string]*T, error) {
	out := map[string]*T{}
	for n, r := range set.All(typeURL) {
		msg := M(new(T))
		if err := proto.Unmarshal(r.Body, msg); err != nil {
			return nil, fmt.Errorf("unpacking %s: %w", n, err)
		}
		out[n] = msg
	}
	return out, nil
}

// twoPods is the load assignment of a service with two replicas, which refuse connections.
func twoPods(assignment string) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: assignment, Endpoints: []*endpointv3.LocalityLbEndpoints{{}}}
	for i := range 2 {
		out.Endpoints[0].LbEndpoints = append(out.Endpoints[0].LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(fmt.Sprintf("10.244.0.%d", i+1), 8080)}},
		})
	}
	return out
}

func address(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

// eachTLS changes how clusters speak TLS.
func (c *config) eachTLS(change func(*tlsv3.UpstreamTlsContext)) error {
	for _, cluster := range c.clusters {
		socket := cluster.GetTransportSocket()
		var t tlsv3.UpstreamTlsContext
		if !socket.GetTypedConfig().MessageIs(&t) {
			continue
		}
		if err := socket.GetTypedConfig().UnmarshalTo(&t); err != nil {
			return err
		}
		change(&t)
		socket.ConfigType = &corev3.TransportSocket_TypedConfig{TypedConfig: pack(&t)}
	}
	return nil
}

// pack cannot fail: what is packed was unpacked before.
func pack(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(err)
	}
	return a
}

// services returns the names of the services' listeners, in order.
func (c *config) services() []string {
	var out []string
	for n := range c.listeners {
		if strings.HasPrefix(n, "outbound/") {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// eachManager changes the HTTP connection managers of the services' listeners.
func (c *config) eachManager(change func(listener string, m *hcmv3.HttpConnectionManager)) {
	for _, n := range c.services() {
		filter := c.listeners[n].GetFilterChains()[0].GetFilters()[0]
		var m hcmv3.HttpConnectionManager
		if err := filter.GetTypedConfig().UnmarshalTo(&m); err != nil {
			panic(err)
		}
		change(n, &m)
		filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(&m)}
	}
}

// takeManager removes the services' listeners, and returns the filter of one of them
// with a table of all their hosts.
func (c *config) takeManager(table string) []*listenerv3.Filter {
	merged := &routev3.RouteConfiguration{}
	var filters []*listenerv3.Filter
	c.eachManager(func(_ string, m *hcmv3.HttpConnectionManager) { m.GetRds().RouteConfigName = table })
	for _, n := range c.services() {
		parts := strings.Split(n, "/") // outbound/namespace/service/port
		service, host := parts[2]+"."+parts[1], c.routes[n].GetVirtualHosts()[0]
		host.Domains = []string{parts[2] + "-" + parts[1], service, service + ".svc", service + ".svc.cluster", service + ".svc.cluster.local"}
		if merged.GetName() == "" {
			merged = proto.CloneOf(c.routes[n])
			merged.Name, merged.VirtualHosts = table, nil
			filters = c.listeners[n].GetFilterChains()[0].GetFilters()
		}
		merged.VirtualHosts = append(merged.VirtualHosts, host)
		delete(c.routes, n)
		delete(c.listeners, n)
	}
	c.routes[table] = merged
	return filters
}

// called is how many services are called once everything is in place, when shapes are
// measured in use.
const called = 5

// reach lets the first services be called at ports of 127.0.0.1, without redirection.
func (c *config) reach(ports []int) {
	for i, port := range ports {
		n := fmt.Sprintf("outbound/team-%d/service-%d/%d", i%20, i, servicePort)
		if c.listeners[n] == nil {
			return
		}
		c.listeners[n].Address = address("127.0.0.1", uint32(port))
		c.listeners[n].BindToPort = wrapperspb.Bool(true)
	}
}

func (c *config) clustersOnly() {
	for _, n := range c.services() {
		delete(c.listeners, n)
		delete(c.routes, n)
	}
}

// perPort is one listener for any address on a port.
func (c *config) perPort() {
	const table = "outbound-port"
	c.listeners[table] = &listenerv3.Listener{
		Name: table, StatPrefix: "outbound", Address: address("0.0.0.0", servicePort), BindToPort: wrapperspb.Bool(false),
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		FilterChains:     []*listenerv3.FilterChain{{Filters: c.takeManager(table)}},
	}
}

// chains is one listener with a chain for each service.
func (c *config) chains() {
	all := c.listeners[name.OutboundListener]
	for _, n := range c.services() {
		chain := c.listeners[n].GetFilterChains()[0]
		chain.Name = n
		chain.FilterChainMatch = &listenerv3.FilterChainMatch{
			DestinationPort: wrapperspb.UInt32(servicePort),
			PrefixRanges: []*corev3.CidrRange{{
				AddressPrefix: c.listeners[n].GetAddress().GetSocketAddress().GetAddress(), PrefixLen: wrapperspb.UInt32(32),
			}},
		}
		all.FilterChains = append(all.FilterChains, chain)
		delete(c.listeners, n)
	}
}

// oneTable is one listener with a table of all hosts.
func (c *config) oneTable() {
	c.listeners[name.OutboundListener].DefaultFilterChain = &listenerv3.FilterChain{Filters: c.takeManager("outbound")}
}

// inlineRoutes puts the tables into the listeners, where a change of routes drains them.
func (c *config) inlineRoutes() {
	c.eachManager(func(n string, m *hcmv3.HttpConnectionManager) {
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: c.routes[n]}
	})
	clear(c.routes)
}

// tcp passes bytes: what is left is what a listener costs.
func (c *config) tcp() {
	for _, n := range c.services() {
		cluster := c.routes[n].GetVirtualHosts()[0].GetRoutes()[0].GetRoute().GetCluster()
		c.listeners[n].GetFilterChains()[0].GetFilters()[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(&tcpproxyv3.TcpProxy{
			StatPrefix: "outbound", ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster},
		})}
	}
	clear(c.routes)
}

func (c *config) withoutAccessLog() {
	c.eachManager(func(_ string, m *hcmv3.HttpConnectionManager) { m.AccessLog = nil })
}

func (c *config) ownStatistics() {
	c.eachManager(func(n string, m *hcmv3.HttpConnectionManager) { m.StatPrefix = n })
	for _, n := range c.services() {
		c.listeners[n].StatPrefix = ""
	}
}

// clustersOnDemand has a request wait for its cluster where Envoy does not know it yet.
func (c *config) clustersOnDemand() {
	filter := &hcmv3.HttpFilter{Name: "envoy.filters.http.on_demand", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&ondemandv3.OnDemand{
		Odcds: &ondemandv3.OnDemandCds{Timeout: durationpb.New(5 * time.Second), Source: &corev3.ConfigSource{
			ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}, ResourceApiVersion: corev3.ApiVersion_V3,
		}},
	})}}
	c.eachManager(func(_ string, m *hcmv3.HttpConnectionManager) {
		m.HttpFilters = append([]*hcmv3.HttpFilter{filter}, m.GetHttpFilters()...)
	})
}

func (c *config) withoutTLS() {
	for _, cluster := range c.clusters {
		if cluster.GetTransportSocket() != nil {
			cluster.TransportSocket = &corev3.TransportSocket{
				Name:       "envoy.transport_sockets.raw_buffer",
				ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(&rawbufferv3.RawBuffer{})},
			}
		}
	}
}

// resources packs everything for sending.
func (c *config) resources() (resources, error) {
	out := resources{}
	for n, m := range c.listeners {
		if err := out.add(m, n); err != nil {
			return nil, err
		}
	}
	for n, m := range c.routes {
		if err := out.add(m, n); err != nil {
			return nil, err
		}
	}
	for n, m := range c.clusters {
		if err := out.add(m, n); err != nil {
			return nil, err
		}
	}
	for n, m := range c.secrets {
		if err := out.add(m, n); err != nil {
			return nil, err
		}
	}
	for n, m := range c.endpoints {
		if err := out.add(m, n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// resources are packed resources by type URL, then name.
type resources map[string]map[string]*resource.Resource

func (r resources) add(m proto.Message, n string) error {
	packed, err := resource.New(m, n)
	if err != nil {
		return err
	}
	if r[packed.TypeURL] == nil {
		r[packed.TypeURL] = map[string]*resource.Resource{}
	}
	r[packed.TypeURL][n] = packed
	return nil
}
