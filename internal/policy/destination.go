package policy

import (
	"cmp"
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
	viewKey
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
	// limit is the ServiceAccounts that it may reach as an ir.EndpointSet names them;
	// empty if they are all.
	limit string
}

// write writes down what may be reached of some Services, to be a part of a key.
func write(all []reach) string {
	words := make([]string, len(all))
	for i, r := range all {
		if words[i] = "no"; r.ok {
			words[i] = "yes " + r.limit
		}
	}
	return strings.Join(words, ";")
}

// written is what was written down.
func written(s string) []reach {
	var out []reach
	for word := range strings.SplitSeq(s, ";") {
		limit, ok := strings.CutPrefix(word, "yes ")
		if !ok {
			limit = ""
		}
		out = append(out, reach{ok: ok, limit: limit})
	}
	return out
}

// outbound returns the destinations of a class, sorted by service and port.
func (c *classes) outbound(class *mesh.Class) []*ir.Destination {
	caller := class.ServiceAccount
	key := viewKey{caller: caller, namespace: caller.Namespace}
	if c.mode.Get().permissive {
		key = c.permissiveKey(caller)
	}
	key.zone, key.node = class.Zone, class.Node
	return c.views.Get(key)
}

// view returns the destinations of those callers that see the same.
func (c *classes) view(key viewKey) []*ir.Destination {
	compile := c.enforcedView
	if c.mode.Get().permissive {
		compile = c.permissiveView
	}
	v := compile(key)
	var out []*ir.Destination
	for _, service := range v.services {
		s := c.services.Get(service)
		for i := range s.Ports {
			out = append(out, c.destinations.Get(c.destinationKey(v, s, s.Ports[i])))
		}
	}
	return out
}

// destinationKey is all of a caller that a Destination depends on.
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

// destinationKey reduces a caller to what matters for one port of a Service, so that
// callers that see the same hold the same.
func (c *classes) destinationKey(v *view, s *mesh.Service, p mesh.ServicePort) destinationKey {
	split := c.splitOf(s, p)
	reached := []reach{v.reach(s.Key)}
	if split != nil {
		for _, b := range split.backends {
			reached = append(reached, v.reach(b.service))
		}
	}
	key := destinationKey{service: s.Key, port: p.Number, reach: write(reached)}
	key.zone, key.node = c.localityOf(v, s, split)
	if protocol(p.Protocol) == ir.HTTP {
		key.same = s.Headless && v.namespace == s.Namespace
		key.retry = v.retries[s.Key].key()
	}
	return key
}

// caller is as much of a caller as matters for one port of a Service.
type caller struct {
	zone, node string
	// reach is what it may reach of the Service and of the back ends of its split.
	reach map[mesh.Key]reach
	retry *ir.Retry
}

// destination returns one port of a Service as callers see it.
func (c *classes) destination(key destinationKey) *ir.Destination {
	s := c.services.Get(key.service)
	if s == nil {
		return nil // nobody may ask
	}
	p, _ := s.Port(key.port)
	split := c.splitOf(s, p)
	v := &caller{zone: key.zone, node: key.node, retry: c.retryOf.Get(key.retry), reach: map[mesh.Key]reach{}}
	reached := written(key.reach)
	v.reach[s.Key] = reached[0]
	if split != nil {
		for i, b := range split.backends[:min(len(split.backends), len(reached)-1)] {
			v.reach[b.service] = reached[i+1]
		}
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
	case d.Protocol == ir.HTTP:
		d.Routes = c.httpRoutes(v, s, p, split)
	case split != nil:
		d.Backends = c.shares(v, split, s, p)
	default:
		d.Backends = c.own(v, s, p)
	}
	if d.Protocol != ir.HTTP && !s.Headless {
		d.Idle = c.upstream(s.Key).bounds.silence
	}
	if d.Protocol == ir.HTTP && s.Headless {
		d.Hosts = headlessHosts(s.Key, key.same, split == nil)
	}
	return d
}

// splitOf returns the split that is for a port of a Service, if there is one. Where
// only some requests are split, connections are not; and connections to a pod of a
// headless Service are for that pod.
func (c *classes) splitOf(s *mesh.Service, p mesh.ServicePort) *split {
	split := c.splits.Get(s.Key)
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

// localityOf returns where the caller is, if it matters to a Service or to a back end
// of its split.
func (c *classes) localityOf(v *view, s *mesh.Service, split *split) (zone, node string) {
	if !s.Headless {
		zone, node = locality(v.zone, v.node, s)
	}
	if split != nil {
		for _, b := range split.backends {
			z, n := locality(v.zone, v.node, c.services.Get(b.service))
			zone, node = cmp.Or(zone, z), cmp.Or(node, n)
		}
	}
	return zone, node
}

// locality returns where the caller is, if a Service wants to be called from near.
func locality(zone, node string, s *mesh.Service) (near, here string) {
	if s != nil && s.ByZone() {
		near = zone
	}
	if s != nil && s.ByNode() {
		here = node
	}
	return near, here
}

// httpRoutes returns where requests to a port go: where its split sends them, and the
// rest to the Service's own endpoints. A headless Service always has a rest: requests
// by the name or the address of a pod go to that pod.
func (c *classes) httpRoutes(v *caller, s *mesh.Service, p mesh.ServicePort, split *split) []ir.HTTPRoute {
	timeouts := ir.Timeouts{Request: c.upstream(s.Key).bounds.request}
	own := ir.HTTPRoute{Name: s.Key.String(), Backends: c.own(v, s, p), Retry: v.retry, Timeouts: timeouts}
	if split == nil {
		return []ir.HTTPRoute{own}
	}
	shared := ir.HTTPRoute{Name: split.name, Backends: c.shares(v, split, s, p), Retry: v.retry, Timeouts: timeouts}
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
func (c *classes) own(v *caller, s *mesh.Service, p mesh.ServicePort) []ir.WeightedBackend {
	r := v.reach[s.Key]
	if !r.ok {
		return []ir.WeightedBackend{{Weight: 1, Unresolved: true}}
	}
	return []ir.WeightedBackend{{Weight: 1, Cluster: c.cluster(v, r, clusterKey{
		service: s.Key, port: p.Number, protocol: protocol(p.Protocol), dialled: s.Headless,
	})}}
}

// clusterKey is all of a caller that a Cluster depends on, and what it is for.
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
func (c *classes) cluster(v *caller, r reach, key clusterKey) *ir.Cluster {
	key.limit = r.limit
	if !key.dialled {
		key.zone, key.node = locality(v.zone, v.node, c.services.Get(key.service))
	}
	return c.clusters.Get(key)
}

// endpoints makes a cluster. In enforced mode nothing but the mesh is reached, and never
// in clear.
func (c *classes) endpoints(key clusterKey) *ir.Cluster {
	s := c.services.Get(key.service)
	if s == nil {
		return nil // nobody may ask
	}
	p, _ := s.Port(key.port)
	enforced := !c.mode.Get().permissive
	upstream := c.upstream(key.service).bounds.Upstream
	upstream.HealthCheck = c.healthCheck(key.service)
	return &ir.Cluster{
		Name: clusterName(s, p, key),
		Endpoints: []ir.EndpointSet{{
			Service:         ir.ServicePort{Namespace: s.Namespace, Name: s.Name, Port: p.Number},
			ServiceAccounts: key.limit,
			MeshedOnly:      enforced,
			Zone:            key.zone,
			Node:            key.node,
		}},
		SNI:                 s.Name + "." + s.Namespace + "." + clusterHosts,
		Peers:               c.peers(key.service, key.limit),
		Plaintext:           !enforced,
		OriginalDestination: key.dialled,
		Protocol:            key.protocol,
		Upstream:            upstream,
	}
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
