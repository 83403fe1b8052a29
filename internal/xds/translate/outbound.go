package translate

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

const (
	outboundPort = 15001
	inboundPort  = 15003
	metricsPort  = 15010
)

// outboundKey tells most proxies apart that do not do the same with connections that
// their applications make.
type outboundKey struct {
	passthrough  bool
	first        *ir.Destination
	firstPort    *ir.EgressPort
	many, egress int
}

// outboundSet is what was made of all that proxies may call.
type outboundSet struct {
	destinations []*ir.Destination
	ports        []*ir.EgressPort
	made         *resource.Set
}

// common returns what a proxy does with connections that the application makes. Where
// everything may be called, that is the same for all proxies, and the larger part by far.
func (t *Translator) common(p *ir.Proxy) (*resource.Set, error) {
	key := outboundKey{passthrough: p.Passthrough, many: len(p.Outbound), egress: len(p.Egress)}
	if key.many > 0 {
		key.first = p.Outbound[0]
	}
	if key.egress > 0 {
		key.firstPort = p.Egress[0]
	}
	for _, known := range t.outbounds[key] {
		if slices.Equal(known.destinations, p.Outbound) && slices.Equal(known.ports, p.Egress) {
			return known.made, nil
		}
	}
	made := resource.NewSet()
	if err := t.outbound(p, made); err != nil {
		return nil, err
	}
	t.outbounds[key] = append(t.outbounds[key], outboundSet{p.Outbound, p.Egress, made})
	return made, nil
}

// outbound adds what the proxy does with connections that the application makes.
//
// All of them arrive at one listener, which hands each to the listener of the
// address that it was made to. Every destination has one of its own, so that a
// service that comes or goes touches nothing else:
//
//	application -> outbound-listener :15001
//	                 |- VIP:port of a service   -> outbound/ns/service/port
//	                 |- any address, pods' port of a headless service -> outbound-headless/port
//	                 |- any address, port of an Egress -> outbound-egress/port
//	                 '- anything else           -> passed on, or reset
func (t *Translator) outbound(p *ir.Proxy, out *resource.Set) error {
	if !p.Passthrough && len(p.Outbound) == 0 && len(p.Egress) == 0 {
		return nil
	}
	t.parts.outbound.addTo(out)
	if p.Passthrough {
		t.parts.passing.addTo(out)
	} else {
		t.parts.blocked.addTo(out)
	}
	var errs []error
	headless := map[uint16][]*ir.Destination{}
	for _, d := range p.Outbound {
		if d.Headless {
			for _, port := range d.Dialled {
				headless[port] = append(headless[port], d)
			}
			continue
		}
		made, err := t.destination(d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		made.addTo(out)
	}
	outside := map[uint16]*ir.EgressPort{}
	for _, e := range p.Egress {
		outside[e.Port] = e
	}
	errs = append(errs, t.headless(headless, outside, p.Passthrough, out), t.egress(p, headless, out))
	return errors.Join(errs...)
}

// destination returns the listener, the route and the clusters of a service's port.
func (t *Translator) destination(d *ir.Destination) (*piece, error) {
	if made, ok := t.destinations[d]; ok {
		return made, nil
	}
	if len(d.Addresses) == 0 {
		return &piece{}, nil
	}
	m := &maker{}
	n := name.Outbound(d.Service.Namespace, d.Service.Name, d.Service.Port)
	made := &piece{}
	var filter *listenerv3.Filter
	if d.Protocol == ir.HTTP {
		filter = m.httpChainFilter(t.parts.callManager(n))
		made.resources = append(made.resources, m.resource(m.routeTable(n, d), n))
	} else {
		filter = m.tcpChainFilter(t.parts.shareConnections(d))
	}
	made.resources = append(made.resources, m.resource(serviceListener(n, d, filter), n))
	for c := range clustersOf(d) {
		cluster, err := t.cluster(c)
		if err != nil {
			m.fail(err)
			continue
		}
		made.include(cluster)
	}
	if m.err != nil {
		return nil, fmt.Errorf("making the way to %s/%s port %d: %w", d.Service.Namespace, d.Service.Name, d.Service.Port, m.err)
	}
	t.destinations[d] = made
	return made, nil
}

// serviceListener takes what was made to the service's addresses. It is bound to
// nothing: connections are handed to it.
func serviceListener(n string, d *ir.Destination, filter *listenerv3.Filter) *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name:             n,
		StatPrefix:       outboundStats,
		BindToPort:       wrapperspb.Bool(false),
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		FilterChains:     []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{filter}}},
	}
	for i, a := range d.Addresses {
		at := socketAddress(a.Unmap().String(), d.Service.Port)
		if i == 0 {
			l.Address = at
			continue
		}
		l.AdditionalAddresses = append(l.AdditionalAddresses, &listenerv3.AdditionalAddress{Address: at})
	}
	return l
}

// makeEdges makes the listener that all outbound connections arrive at, in its two
// forms: one that passes unknown destinations on, and one that resets them.
func (p *parts) makeEdges(m *maker) {
	blocked := m.resource(staticCluster(name.BlockedCluster), name.BlockedCluster)
	p.outbound.resources = append(p.outbound.resources, blocked)
	p.passing.resources = append(p.passing.resources,
		m.resource(p.catchAll(m, name.PassthroughCluster), name.OutboundListener),
		m.resource(passthroughCluster(), name.PassthroughCluster))
	p.blocked.resources = append(p.blocked.resources, m.resource(p.catchAll(m, name.BlockedCluster), name.OutboundListener))
	p.metrics.resources = append(p.metrics.resources, m.resource(p.metricsListener(m), name.PrometheusListener))
	p.makeRelays(m)
}

// catchAll is bound to the port that outbound connections are turned to. What was made
// to that very port would come back to itself for ever, and is reset.
func (p *parts) catchAll(m *maker, cluster string) *listenerv3.Listener {
	loop := m.tcpChainFilter(toCluster(p.tcpProxy(outboundStats), name.BlockedCluster))
	return &listenerv3.Listener{
		Name:                name.OutboundListener,
		StatPrefix:          outboundStats,
		Address:             socketAddress("0.0.0.0", outboundPort),
		AdditionalAddresses: []*listenerv3.AdditionalAddress{{Address: socketAddress("::", outboundPort)}},
		UseOriginalDst:      wrapperspb.Bool(true),
		ListenerFilters:     []*listenerv3.ListenerFilter{p.originalDst},
		TrafficDirection:    corev3.TrafficDirection_OUTBOUND,
		TcpKeepalive:        tcpKeepalive(),
		FilterChains: []*listenerv3.FilterChain{{
			Name:             "loop",
			FilterChainMatch: &listenerv3.FilterChainMatch{DestinationPort: wrapperspb.UInt32(outboundPort)},
			Filters:          []*listenerv3.Filter{loop},
		}},
		DefaultFilterChain: p.unknown(m, cluster == name.PassthroughCluster),
	}
}

// shareConnections passes connections to back ends by their weights. The share of a
// back end that does not exist is reset, as is all if there is none.
func (p *parts) shareConnections(d *ir.Destination) *tcpproxyv3.TcpProxy {
	proxy := p.tcpProxy(outboundStats)
	proxy.IdleTimeout = durationpb.New(d.Idle)
	proxy.HashPolicy = hashConnections(d)
	var shares []*tcpproxyv3.TcpProxy_WeightedCluster_ClusterWeight
	for _, b := range scaled(d.Backends) {
		cluster := name.BlockedCluster
		if !b.Unresolved && b.Cluster != nil {
			cluster = b.Cluster.Name
		}
		shares = append(shares, &tcpproxyv3.TcpProxy_WeightedCluster_ClusterWeight{Name: cluster, Weight: b.Weight})
	}
	switch len(shares) {
	case 0:
		return toCluster(proxy, name.BlockedCluster)
	case 1:
		return toCluster(proxy, shares[0].GetName())
	default:
		proxy.ClusterSpecifier = &tcpproxyv3.TcpProxy_WeightedClusters{
			WeightedClusters: &tcpproxyv3.TcpProxy_WeightedCluster{Clusters: shares},
		}
		return proxy
	}
}

// hashConnections tells a load balancer that asks for it who calls.
func hashConnections(d *ir.Destination) []*typev3.HashPolicy {
	hashed := func(b ir.WeightedBackend) bool {
		return b.Cluster != nil && b.Cluster.Balance != nil && b.Cluster.Balance.Kind == ir.HashSource
	}
	if !slices.ContainsFunc(d.Backends, hashed) {
		return nil
	}
	return []*typev3.HashPolicy{{PolicySpecifier: &typev3.HashPolicy_SourceIp_{SourceIp: &typev3.HashPolicy_SourceIp{}}}}
}

// scaled returns the back ends that get something, with weights whose sum Envoy can
// hold.
func scaled(backends []ir.WeightedBackend) []ir.WeightedBackend {
	const most = 1<<32 - 1
	out := slices.DeleteFunc(slices.Clone(backends), func(b ir.WeightedBackend) bool { return b.Weight == 0 })
	total := sum(out)
	if total <= most {
		return out
	}
	for i := range out {
		out[i].Weight = max(1, uint32(uint64(out[i].Weight)*(most-uint64(len(out)))/total))
	}
	return out
}

func sum(backends []ir.WeightedBackend) uint64 {
	var total uint64
	for _, b := range backends {
		total += uint64(b.Weight)
	}
	return total
}

// clustersOf yields the clusters that a destination refers to, some more than once.
func clustersOf(d *ir.Destination) iter.Seq[*ir.Cluster] {
	return func(yield func(*ir.Cluster) bool) {
		for _, b := range d.Backends {
			if b.Cluster != nil && !yield(b.Cluster) {
				return
			}
		}
		for i := range d.Routes {
			if !yieldRoute(&d.Routes[i], yield) {
				return
			}
		}
	}
}

func yieldRoute(r *ir.HTTPRoute, yield func(*ir.Cluster) bool) bool {
	mirrors := r.Filters.Mirrors
	for _, b := range r.Backends {
		if b.Cluster != nil && !yield(b.Cluster) {
			return false
		}
		mirrors = append(slices.Clip(mirrors), b.Filters.Mirrors...)
	}
	for _, c := range mirrors {
		if c.Cluster != nil && !yield(c.Cluster) {
			return false
		}
	}
	return true
}
