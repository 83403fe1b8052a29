package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// viewKey is all that decides what a caller sees of the mesh. In enforced mode it
// names the caller; in permissive mode no more of it than matters.
type viewKey struct {
	caller     identity.ServiceAccount
	namespace  string
	zone, node string
}

// view is what a caller sees of the mesh.
type view struct {
	namespace  string
	zone, node string
	// services are those that it may call, sorted.
	services []mesh.Key
	// reach says what it may reach of a Service.
	reach func(mesh.Key) reach
	// retries are its own, by the Service called.
	retries map[mesh.Key]*retry
}

// reach is what a caller may reach of a Service.
type reach struct {
	// ok says that it may reach any of it.
	ok bool
	// peers are the ServiceAccounts that it may reach, sorted.
	peers []identity.ServiceAccount
	// limit is the peers as an ir.EndpointSet names them; empty if they are all.
	limit string
}

// all is the whole of a Service.
func (c *Compiler) all(service mesh.Key) reach {
	return reach{ok: true, peers: c.model.ServiceAccounts[service]}
}

// outbound returns the destinations of a class, sorted by service and port.
func (c *Compiler) outbound(class *mesh.Class) []*ir.Destination {
	caller := class.ServiceAccount
	key := viewKey{caller: caller, namespace: caller.Namespace}
	compile := c.enforcedView
	if c.model.Settings.Permissive {
		key, compile = c.permissiveKey(caller), c.permissiveView
	}
	key.zone, key.node = class.Zone, class.Node
	if known, ok := c.now.views[key]; ok {
		return known
	}
	v := compile(key)
	var out []*ir.Destination
	for _, service := range v.services {
		s := c.model.Services[service]
		for i := range s.Ports {
			out = append(out, c.destination(v, s, s.Ports[i]))
		}
	}
	if old := c.before.views[key]; slices.Equal(old, out) {
		out = old
	}
	c.now.views[key] = out
	return out
}

// destinationKey is all that a Destination depends on, besides the Model.
type destinationKey struct {
	service mesh.Key
	port    uint16
	// reach is what may be reached of the service, and of the back ends of its split.
	reach string
	// same says that the caller is in the namespace of a headless service.
	same       bool
	zone, node string
	retry      mesh.Key
}

// destination returns one port of a Service as a caller sees it. Callers that see the
// same hold the same.
func (c *Compiler) destination(v *view, s *mesh.Service, p mesh.ServicePort) *ir.Destination {
	split, http := c.splitOf(s, p), protocol(p.Protocol) == ir.HTTP
	key := destinationKey{service: s.Key, port: p.Number, reach: c.reachOf(v, s, split)}
	key.zone, key.node = c.localityOf(v, s, split)
	if http {
		key.same = s.Headless && v.namespace == s.Namespace
		key.retry = v.retries[s.Key].key()
	}
	if known := c.now.destinations[key]; known != nil {
		return known
	}
	d := &ir.Destination{
		Service:     ir.ServicePort{Namespace: s.Namespace, Name: s.Name, Port: p.Number},
		Addresses:   s.ClusterIPs,
		Headless:    s.Headless,
		Protocol:    protocol(p.Protocol),
		ServerFirst: p.Protocol == mesh.TCPServerFirst,
	}
	if s.Headless {
		d.Dialled = p.PodPorts
		if len(d.Dialled) == 0 {
			d.Dialled = []uint16{targetNumber(p)}
		}
	}
	switch {
	case http:
		d.Routes = c.httpRoutes(v, s, p, split)
	case split != nil:
		d.Backends = c.shares(v, split, s, p)
	default:
		d.Backends = c.own(v, s, p)
	}
	if !http && !s.Headless {
		d.Idle = c.boundsOf(s.Key).silence
	}
	if http && s.Headless {
		d.Hosts = headlessHosts(s.Key, key.same, split == nil)
	}
	return keep(c.now.destinations, c.before.destinations, key, d)
}

// splitOf returns the split that is for a port of a Service, if there is one. Where
// only some requests are split, connections are not; and connections to a pod of a
// headless Service are for that pod.
func (c *Compiler) splitOf(s *mesh.Service, p mesh.ServicePort) *split {
	split := c.splits.byRoot[s.Key]
	switch {
	case split == nil:
		return nil
	case protocol(p.Protocol) != ir.HTTP && (split.limited || s.Headless):
		return nil
	case split.limited && len(split.matches) == 0:
		return nil
	default:
		return split
	}
}

// reachOf names what a caller may reach of a Service and of the back ends of its split.
func (c *Compiler) reachOf(v *view, s *mesh.Service, split *split) string {
	own := v.reach(s.Key)
	if split == nil || c.model.Settings.Permissive {
		return own.limit
	}
	var b strings.Builder
	for _, r := range append([]reach{own}, c.reachOfBackends(v, split)...) {
		if !r.ok {
			b.WriteByte('-')
		}
		b.WriteString(r.limit)
		b.WriteByte(';')
	}
	return b.String()
}

// localityOf returns where the caller is, if it matters to a Service or to a back end
// of its split.
func (c *Compiler) localityOf(v *view, s *mesh.Service, split *split) (zone, node string) {
	if !s.Headless {
		zone, node = locality(v, s)
	}
	if split != nil {
		for _, b := range split.backends {
			z, n := locality(v, c.model.Services[b.service])
			zone, node = cmp.Or(zone, z), cmp.Or(node, n)
		}
	}
	return zone, node
}

// locality returns where the caller is, if a Service wants to be called from near.
func locality(v *view, s *mesh.Service) (zone, node string) {
	if s == nil {
		return "", ""
	}
	if s.ByZone() {
		zone = v.zone
	}
	if s.ByNode() {
		node = v.node
	}
	return zone, node
}

// httpRoutes returns where requests to a port go: where its split sends them, and the
// rest to the Service's own endpoints. A headless Service always has a rest: requests
// by the name or the address of a pod go to that pod.
func (c *Compiler) httpRoutes(v *view, s *mesh.Service, p mesh.ServicePort, split *split) []ir.HTTPRoute {
	try, timeouts := v.retries[s.Key].ir(), ir.Timeouts{Request: c.boundsOf(s.Key).request}
	own := ir.HTTPRoute{Name: s.Key.String(), Backends: c.own(v, s, p), Retry: try, Timeouts: timeouts}
	if split == nil {
		return []ir.HTTPRoute{own}
	}
	shared := ir.HTTPRoute{Name: split.name, Backends: c.shares(v, split, s, p), Retry: try, Timeouts: timeouts}
	var routes []ir.HTTPRoute
	for _, m := range split.matches {
		shared.Match = m.match
		routes = append(routes, shared)
	}
	if !split.limited {
		routes = append(routes, shared)
	}
	if split.limited || s.Headless {
		routes = append(routes, own)
	}
	return routes
}

// own are the endpoints of the Service itself.
func (c *Compiler) own(v *view, s *mesh.Service, p mesh.ServicePort) []ir.WeightedBackend {
	r := v.reach(s.Key)
	if !r.ok {
		return []ir.WeightedBackend{{Weight: 1, Unresolved: true}}
	}
	return []ir.WeightedBackend{{Weight: 1, Cluster: c.cluster(v, r, clusterKey{
		service: s.Key, port: p.Number, protocol: protocol(p.Protocol), dialled: s.Headless,
	})}}
}

// clusterKey is all that a Cluster depends on, besides the Model.
type clusterKey struct {
	service  mesh.Key
	port     uint16
	protocol ir.Protocol
	// dialled says that the endpoint is the one that the client has dialled.
	dialled    bool
	limit      string
	zone, node string
}

// cluster returns the endpoints of a port of a Service, as far as they may be reached.
// In enforced mode nothing but the mesh is, and never in clear.
func (c *Compiler) cluster(v *view, r reach, key clusterKey) *ir.Cluster {
	s := c.model.Services[key.service]
	key.limit = r.limit
	if !key.dialled {
		key.zone, key.node = locality(v, s)
	}
	if known := c.now.clusters[key]; known != nil {
		return known
	}
	p, _ := s.Port(key.port)
	enforced := !c.model.Settings.Permissive
	return keep(c.now.clusters, c.before.clusters, key, &ir.Cluster{
		Name: clusterName(s, p, key),
		Endpoints: []ir.EndpointSet{{
			Service:         ir.ServicePort{Namespace: s.Namespace, Name: s.Name, Port: p.Number},
			ServiceAccounts: r.limit,
			MeshedOnly:      enforced,
			Zone:            key.zone,
			Node:            key.node,
		}},
		SNI:                 s.Name + "." + s.Namespace + "." + clusterHosts,
		Peers:               r.peers,
		Plaintext:           !enforced,
		OriginalDestination: key.dialled,
		Protocol:            key.protocol,
		Upstream:            c.boundsOf(key.service).Upstream,
	})
}

func (c *Compiler) boundsOf(service mesh.Key) limits {
	if s := c.upstreams[service]; s != nil {
		return s.bounds
	}
	return limits{}
}

// clusterName names a cluster as Open Service Mesh did, by the pods' port. Where that
// is not enough, the name tells more: if a lesser port of the Service leads to the same
// port, and if a back end of a split is called otherwise than for itself.
func clusterName(s *mesh.Service, p mesh.ServicePort, key clusterKey) string {
	target := targetNumber(p)
	n := name.Cluster(s.Namespace, s.Name, target)
	for _, other := range s.Ports {
		if other.Number != p.Number && targetNumber(other) == target {
			n = name.SecondCluster(s.Namespace, s.Name, target, p.Number)
			break
		}
		if other.Number == p.Number {
			break
		}
	}
	if key.protocol != protocol(p.Protocol) {
		n = name.ClusterVariant(n, string(key.protocol))
	}
	if s.Headless && !key.dialled {
		n = name.ClusterVariant(n, "balanced")
	}
	return n
}

// targetNumber is the pods' port as far as the Service tells: a named one may differ
// from pod to pod.
func targetNumber(p mesh.ServicePort) uint16 { return cmp.Or(p.TargetPort, p.Number) }

func protocol(p mesh.Protocol) ir.Protocol {
	if p == mesh.HTTP {
		return ir.HTTP
	}
	return ir.TCP
}
