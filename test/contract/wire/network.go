package wire

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/openservicemesh/osm-operator/test/contract/reading"
)

// Network is pods, some of which have a proxy.
type Network struct {
	pods map[netip.Addr]*Pod
}

// Pod is a pod: its proxy, nil if it has none, and the URI in its certificate.
type Pod struct {
	Proxy *Proxy
	URI   string
}

// NewNetwork returns the network of these pods, by their addresses.
func NewNetwork(pods map[netip.Addr]*Pod) *Network { return &Network{pods} }

// connection is what is connected to an address, and what is said on it.
type connection struct {
	from    *Pod
	source  netip.Addr
	address netip.Addr
	port    uint16
	tls     *hello
	// request is what is said innermost, if that is HTTP.
	request *reading.Request
}

// hello is what a client of TLS says, and how it says who it is: by a certificate with one
// name. accepts are the names that it takes of a server; none is any.
type hello struct {
	serverName  string
	protocols   []string
	certificate string
	accepts     []string
	// within is what is said inside, if that is TLS again.
	within *hello
}

// Ends says where a call of an application ends.
func (n *Network) Ends(c reading.Call) (reading.Shares, error) {
	from := n.pods[c.From.Address]
	conn := &connection{from: from, source: c.From.Address, address: c.Address, port: c.Port}
	switch c.Speaks {
	case reading.HTTP:
		conn.request = &c.Request
	case reading.TLS:
		conn.request = &c.Request
		conn.tls = &hello{serverName: c.ServerName, protocols: []string{"h2", "http/1.1"}}
	default:
	}
	l := from.Proxy.listenerFor(c.Address, c.Port)
	if l == nil {
		return reading.Shares{reading.Refused: 1}, nil
	}
	return n.listen(from.Proxy, l, conn)
}

// Enters says how the call of a gateway ends, whose requests are within TLS if it speaks
// that.
func (n *Network) Enters(g reading.Gateway) (reading.Shares, error) {
	conn := &connection{source: g.Source, address: g.To.Address, port: g.Port}
	if g.Speaks != reading.Bytes {
		conn.request = &g.Request
	}
	if g.Speaks == reading.TLS {
		conn.tls = &hello{serverName: g.ServerName, protocols: []string{"h2", "http/1.1"}, certificate: g.Certificate}
	}
	return n.arrive(conn)
}

// listenerFor returns the listener that a connection is handed to: that of its address, that
// of its port, or the one that all arrive at.
func (p *Proxy) listenerFor(address netip.Addr, port uint16) *listenerv3.Listener {
	if p.listeners["outbound-listener"] == nil {
		return nil
	}
	for _, a := range []netip.Addr{address, netip.IPv4Unspecified()} {
		for _, l := range p.listeners {
			if l.GetBindToPort().GetValue() || l.GetBindToPort() == nil {
				continue
			}
			if isAddress(l.GetAddress(), a, port) {
				return l
			}
			for _, more := range l.GetAdditionalAddresses() {
				if isAddress(more.GetAddress(), a, port) {
					return l
				}
			}
		}
	}
	return p.listeners["outbound-listener"]
}

// listen hands a connection to a listener.
func (n *Network) listen(p *Proxy, l *listenerv3.Listener, c *connection) (reading.Shares, error) {
	s, err := inspected(l, c)
	if err != nil {
		return nil, err
	}
	chain, err := chainFor(l, s)
	if err != nil {
		return nil, err
	}
	if chain == nil {
		return reading.Shares{reading.Reset: 1}, nil
	}
	peer := &peer{source: c.source}
	if chain.GetTransportSocket() != nil {
		if c.tls == nil {
			return reading.Shares{reading.Reset: 1}, nil
		}
		ok, err := n.handshake(chain, c)
		if !ok || err != nil {
			return reading.Shares{reading.Reset: 1}, err
		}
		peer.certificate = c.tls.certificate
		inside := *c
		inside.tls = c.tls.within
		c = &inside
	}
	return n.filter(p, chain, c, peer)
}

// handshake reports whether client and server take each other's certificates.
func (n *Network) handshake(chain *listenerv3.FilterChain, c *connection) (bool, error) {
	ctx, err := unpack[tlsv3.DownstreamTlsContext](chain.GetTransportSocket().GetTypedConfig())
	if err != nil {
		return false, err
	}
	server := n.pods[c.address]
	if len(c.tls.accepts) > 0 && !slices.Contains(c.tls.accepts, server.URI) {
		return false, nil
	}
	if !ctx.GetRequireClientCertificate().GetValue() && ctx.GetCommonTlsContext().GetCombinedValidationContext() == nil {
		return true, nil
	}
	if c.tls.certificate == "" {
		return false, nil
	}
	names := ctx.GetCommonTlsContext().GetCombinedValidationContext().GetDefaultValidationContext().GetMatchTypedSubjectAltNames()
	if len(names) == 0 {
		return true, nil
	}
	return slices.ContainsFunc(names, func(m *tlsv3.SubjectAltNameMatcher) bool {
		return m.GetSanType() == tlsv3.SubjectAltNameMatcher_URI && strings.HasPrefix(c.tls.certificate, "spiffe://") && matchString(m.GetMatcher(), c.tls.certificate)
	}), nil
}

// filter is what the network filters of a chain do.
func (n *Network) filter(p *Proxy, chain *listenerv3.FilterChain, c *connection, from *peer) (reading.Shares, error) {
	cluster := ""
	for _, f := range chain.GetFilters() {
		switch f.GetName() {
		case "envoy.filters.network.rbac":
			if ok, err := admits(f, from); err != nil || !ok {
				return reading.Shares{reading.Reset: 1}, err
			}
		case "envoy.filters.network.set_filter_state":
			// The relay of headless services: its only use.
			cluster = fmt.Sprintf("headless|%d", c.port)
		case "envoy.filters.network.local_ratelimit", "envoy.filters.network.ratelimit":
		case "envoy.filters.network.tcp_proxy":
			proxy, err := unpack[tcpproxyv3.TcpProxy](f.GetTypedConfig())
			if err != nil {
				return nil, err
			}
			return n.pass(p, proxy, cluster, c)
		case "envoy.filters.network.http_connection_manager":
			manager, err := unpack[hcmv3.HttpConnectionManager](f.GetTypedConfig())
			if err != nil {
				return nil, err
			}
			return n.manage(p, manager, c, from)
		default:
			return nil, fmt.Errorf("chain %s has the filter %s, of which nothing is known", chain.GetName(), f.GetName())
		}
	}
	return nil, fmt.Errorf("chain %s ends nowhere", chain.GetName())
}

// admits asks the authorization of a connection.
func admits(f *listenerv3.Filter, from *peer) (bool, error) {
	rules, err := unpack[networkrbacv3.RBAC](f.GetTypedConfig())
	if err != nil {
		return false, err
	}
	return allows(rules.GetRules(), from, nil)
}

// pass passes bytes to clusters by weight.
func (n *Network) pass(p *Proxy, proxy *tcpproxyv3.TcpProxy, instead string, c *connection) (reading.Shares, error) {
	if instead != "" {
		return n.send(p, instead, c, reading.Reset)
	}
	if proxy.GetCluster() != "" {
		return n.send(p, proxy.GetCluster(), c, reading.Reset)
	}
	var all []weighted
	for _, w := range proxy.GetWeightedClusters().GetClusters() {
		all = append(all, weighted{w.GetName(), float64(w.GetWeight())})
	}
	return n.share(p, all, c, reading.Reset)
}

// weighted is a cluster with its weight among others.
type weighted struct {
	cluster string
	weight  float64
}

// share sends what is said to clusters by weight.
func (n *Network) share(p *Proxy, all []weighted, c *connection, otherwise string) (reading.Shares, error) {
	out, total := reading.Shares{}, 0.0
	for _, w := range all {
		total += w.weight
	}
	for _, w := range all {
		ends, err := n.send(p, w.cluster, c, otherwise)
		if err != nil {
			return nil, err
		}
		out.Add(ends, w.weight/total)
	}
	return out, nil
}

// send sends what is said to a cluster; where nobody takes it, it ends otherwise: a request
// is answered by the proxy, bytes are reset.
func (n *Network) send(p *Proxy, name string, c *connection, otherwise string) (reading.Shares, error) {
	ends, err := n.sendByType(p, name, c, otherwise)
	if err != nil || ends[reading.Reset] == 0 || otherwise == reading.Reset {
		return ends, err
	}
	ends[otherwise] += ends[reading.Reset]
	delete(ends, reading.Reset)
	return ends, nil
}

func (n *Network) sendByType(p *Proxy, name string, c *connection, otherwise string) (reading.Shares, error) {
	cluster := p.clusters[name]
	if cluster == nil {
		return nil, fmt.Errorf("there is no cluster %s", name)
	}
	switch cluster.GetClusterDiscoveryType().(type) {
	case *clusterv3.Cluster_ClusterType:
		host, _, _ := strings.Cut(strings.ToLower(c.request.Host), ":")
		return reading.Shares{fmt.Sprintf("%s%s:%d", reading.ByHost, host, c.port): 1}, nil
	default:
	}
	switch cluster.GetType() {
	case clusterv3.Cluster_ORIGINAL_DST:
		return n.leave(c, c.address, c.port)
	case clusterv3.Cluster_STRICT_DNS, clusterv3.Cluster_LOGICAL_DNS:
		at := cluster.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress()
		return reading.Shares{fmt.Sprintf("%s%s:%d", reading.ByHost, at.GetAddress(), at.GetPortValue()): 1}, nil
	case clusterv3.Cluster_STATIC:
		return n.sendTo(p, cluster, endpointsOf(cluster.GetLoadAssignment()), c, otherwise)
	case clusterv3.Cluster_EDS:
		assignment := p.assignments[cluster.GetEdsClusterConfig().GetServiceName()]
		if assignment == nil {
			return nil, fmt.Errorf("there are no endpoints %s", cluster.GetEdsClusterConfig().GetServiceName())
		}
		all, err := chosen(cluster, endpointsOf(assignment), c)
		if err != nil {
			return nil, err
		}
		return n.sendTo(p, cluster, all, c, otherwise)
	default:
		return nil, fmt.Errorf("cluster %s is of a type of which nothing is known", name)
	}
}

func endpointsOf(a *endpointv3.ClusterLoadAssignment) []*endpointv3.LbEndpoint {
	var out []*endpointv3.LbEndpoint
	for _, locality := range a.GetEndpoints() {
		out = append(out, locality.GetLbEndpoints()...)
	}
	return out
}

// leave connects to an address outside of what the proxy knows, as the application did.
func (n *Network) leave(c *connection, address netip.Addr, port uint16) (reading.Shares, error) {
	if pod := n.pods[address]; pod != nil && pod.Proxy != nil {
		out := *c
		out.address, out.port, out.from = address, port, nil
		return n.arrive(&out)
	}
	return reading.Shares{fmt.Sprintf("%s%s:%d", reading.Passed, address, port): 1}, nil
}

// arrive is a connection that arrives at a pod: redirected to its proxy if it has one.
func (n *Network) arrive(c *connection) (reading.Shares, error) {
	pod := n.pods[c.address]
	if pod == nil || pod.Proxy == nil {
		return reading.Shares{served(c.address, c.port): 1}, nil
	}
	l := pod.Proxy.listeners["inbound-listener"]
	if l == nil {
		return reading.Shares{reading.Reset: 1}, nil
	}
	return n.listen(pod.Proxy, l, c)
}

func served(address netip.Addr, port uint16) string {
	return fmt.Sprintf("%s%s:%d", reading.Served, address, port)
}
