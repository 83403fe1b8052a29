package wire

import (
	"fmt"
	"net/netip"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	overridev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/override_host/v3"
	subsetv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/subset/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/openservicemesh/osm-operator/test/contract/reading"
)

// chosen are the endpoints that a load balancer may choose for a connection.
func chosen(cluster *clusterv3.Cluster, all []*endpointv3.LbEndpoint, c *connection) ([]*endpointv3.LbEndpoint, error) {
	policies := cluster.GetLoadBalancingPolicy().GetPolicies()
	if len(policies) != 1 {
		return nil, fmt.Errorf("cluster %s has %d ways of balancing", cluster.GetName(), len(policies))
	}
	one := policies[0].GetTypedExtensionConfig()
	switch one.GetName() {
	case "envoy.load_balancing_policies.least_request", "envoy.load_balancing_policies.round_robin", "envoy.load_balancing_policies.ring_hash":
		return all, nil
	case "envoy.load_balancing_policies.override_host":
	default:
		return nil, fmt.Errorf("cluster %s balances by %s, of which nothing is known", cluster.GetName(), one.GetName())
	}
	for _, e := range all {
		if isAddress(e.GetEndpoint().GetAddress(), c.address, c.port) {
			return []*endpointv3.LbEndpoint{e}, nil
		}
	}
	override, err := unpack[overridev3.OverrideHost](one.GetTypedConfig())
	if err != nil {
		return nil, err
	}
	subset, err := unpack[subsetv3.Subset](override.GetFallbackPolicy().GetPolicies()[0].GetTypedExtensionConfig().GetTypedConfig())
	if err != nil {
		return nil, err
	}
	if subset.GetFallbackPolicy() == subsetv3.Subset_NO_FALLBACK {
		return nil, nil
	}
	return slices.DeleteFunc(slices.Clone(all), func(e *endpointv3.LbEndpoint) bool {
		return !has(e, "envoy.lb", subset.GetDefaultSubset())
	}), nil
}

// has reports whether an endpoint says of itself all that is wanted.
func has(e *endpointv3.LbEndpoint, namespace string, want *structpb.Struct) bool {
	got := e.GetMetadata().GetFilterMetadata()[namespace].GetFields()
	for k, v := range want.GetFields() {
		if got[k].GetStringValue() != v.GetStringValue() {
			return false
		}
	}
	return true
}

// sendTo calls each of the endpoints by the transport that is for it.
func (n *Network) sendTo(p *Proxy, cluster *clusterv3.Cluster, all []*endpointv3.LbEndpoint, c *connection, otherwise string) (reading.Shares, error) {
	if len(all) == 0 {
		return reading.Shares{otherwise: 1}, nil
	}
	out := reading.Shares{}
	for _, e := range all {
		ends, err := n.sendToOne(p, cluster, e, c)
		if err != nil {
			return nil, err
		}
		out.Add(ends, 1/float64(len(all)))
	}
	return out, nil
}

func (n *Network) sendToOne(p *Proxy, cluster *clusterv3.Cluster, e *endpointv3.LbEndpoint, c *connection) (reading.Shares, error) {
	address := e.GetEndpoint().GetAddress()
	if inner := address.GetEnvoyInternalAddress().GetServerListenerName(); inner != "" {
		l := p.listeners[inner]
		if l == nil {
			return nil, fmt.Errorf("there is no listener %s", inner)
		}
		return n.listen(p, l, c)
	}
	at, err := netip.ParseAddr(address.GetSocketAddress().GetAddress())
	if err != nil {
		return nil, fmt.Errorf("reading the address of an endpoint of %s: %w", cluster.GetName(), err)
	}
	port := uint16(address.GetSocketAddress().GetPortValue())
	if at.IsLoopback() {
		// The application behind the proxy that the connection has arrived at.
		return reading.Shares{served(c.address, port): 1}, nil
	}
	next := *c
	next.address, next.port = at, port
	socket := transportOf(cluster, e)
	if socket.GetName() != "envoy.transport_sockets.tls" {
		return n.arrive(&next)
	}
	ctx, err := unpack[tlsv3.UpstreamTlsContext](socket.GetTypedConfig())
	if err != nil {
		return nil, err
	}
	next.tls = &hello{serverName: ctx.GetSni(), certificate: c.from.URI, within: c.tls}
	for _, m := range ctx.GetCommonTlsContext().GetCombinedValidationContext().GetDefaultValidationContext().GetMatchTypedSubjectAltNames() {
		next.tls.accepts = append(next.tls.accepts, m.GetMatcher().GetExact())
	}
	if len(next.tls.accepts) == 0 {
		return nil, fmt.Errorf("cluster %s takes any certificate", cluster.GetName())
	}
	return n.arrive(&next)
}

// transportOf is the first transport whose match the endpoint says of itself.
func transportOf(cluster *clusterv3.Cluster, e *endpointv3.LbEndpoint) *corev3.TransportSocket {
	for _, m := range cluster.GetTransportSocketMatches() {
		if has(e, "envoy.transport_socket_match", m.GetMatch()) {
			return m.GetTransportSocket()
		}
	}
	return cluster.GetTransportSocket()
}
