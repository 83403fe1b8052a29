package policy

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// access is what of a Service a caller may reach.
type access struct {
	// ok says that it may reach any of it.
	ok bool
	// accounts are those that it may reach, sorted.
	accounts []identity.ServiceAccount
	// filter is the accounts as ir.EndpointSet writes them, where they are not all of
	// the Service's; empty is no limit.
	filter string
}

// access says what of a Service an account may reach: everything in permissive mode,
// else pods whose ServiceAccount a TrafficTarget opens for it.
func (c *Compiler) access(caller identity.ServiceAccount, service mesh.Key) access {
	all := c.model.ServiceAccounts[service]
	if c.model.Settings.Permissive {
		return access{ok: true, accounts: all}
	}
	open := c.targets.from[caller]
	a := access{}
	for _, account := range all {
		if open[account] {
			a.accounts = append(a.accounts, account)
		}
	}
	a.ok = len(a.accounts) > 0
	if len(a.accounts) < len(all) {
		names := make([]string, 0, len(a.accounts))
		for _, account := range a.accounts {
			names = append(names, account.String())
		}
		a.filter = strings.Join(names, ",")
	}
	return a
}

// outbound returns the destinations of a class, sorted by service and port.
func (c *Compiler) outbound(class *mesh.Class) []*ir.Destination {
	var out []*ir.Destination
	for _, key := range c.serviceKeys() {
		service := c.model.Services[key]
		if service.ExternalName != "" || len(service.ClusterIPs) == 0 && !service.Headless {
			continue
		}
		a := c.access(class.ServiceAccount, key)
		if !a.ok && !c.splitReachable(class.ServiceAccount, key) {
			continue
		}
		for _, port := range service.Ports {
			out = append(out, c.destination(class.ServiceAccount, service, port, a))
		}
	}
	return out
}

func (c *Compiler) serviceKeys() []mesh.Key {
	return slices.SortedFunc(maps.Keys(c.model.Services), mesh.CompareKeys)
}

// destination returns a port of a Service as a caller sees it; callers that see the
// same share it.
func (c *Compiler) destination(caller identity.ServiceAccount, service *mesh.Service, port mesh.ServicePort, a access) *ir.Destination {
	key := destinationKey{service: service.Key, port: port.Number, allowed: c.view(caller, service, a), headless: service.Headless}
	if service.Headless && caller.Namespace == service.Namespace {
		key.from = caller.Namespace
	}
	if d, ok := c.destinations[key]; ok {
		return d
	}
	d := c.makeDestination(caller, service, port, a)
	if c.previous != nil {
		if old := c.previous.destinations[key]; old != nil && reflect.DeepEqual(old, d) {
			d = old
		}
	}
	c.destinations[key] = d
	return d
}

// view names all that a destination depends on of what the caller may reach: the
// Service, and the back ends of its split.
func (c *Compiler) view(caller identity.ServiceAccount, service *mesh.Service, a access) string {
	s := c.splits[service.Key]
	if s == nil || c.model.Settings.Permissive {
		return a.filter
	}
	parts := []string{a.filter}
	for _, b := range s.backends {
		back := c.access(caller, b.service)
		if !back.ok {
			parts = append(parts, "!"+b.service.String())
			continue
		}
		parts = append(parts, b.service.String()+"="+back.filter)
	}
	return strings.Join(parts, ";")
}

func (c *Compiler) makeDestination(caller identity.ServiceAccount, service *mesh.Service, port mesh.ServicePort, a access) *ir.Destination {
	d := &ir.Destination{
		Service:     ir.ServicePort{Namespace: service.Namespace, Name: service.Name, Port: port.Number},
		Addresses:   service.ClusterIPs,
		Headless:    service.Headless,
		Protocol:    protocol(port.Protocol),
		ServerFirst: port.Protocol == mesh.TCPServerFirst,
	}
	if service.Headless && d.Protocol == ir.HTTP {
		d.Hosts = hosts(service.Key, caller.Namespace == service.Namespace)
	}
	var own []ir.WeightedBackend
	if a.ok {
		own = []ir.WeightedBackend{{Cluster: c.cluster(service, port, a), Weight: 1}}
	}
	routes, backends := c.applySplit(caller, service.Key, port, own)
	if d.Protocol == ir.HTTP {
		d.Routes = routes
	} else {
		d.Backends = backends
	}
	return d
}

func protocol(p mesh.Protocol) ir.Protocol {
	if p == mesh.HTTP {
		return ir.HTTP
	}
	return ir.TCP
}

// hosts are the names that HTTP clients call a headless Service by, and its pods; the
// short one only from its own namespace.
func hosts(service mesh.Key, same bool) []string {
	long := service.Name + "." + service.Namespace
	var out []string
	for _, suffix := range []string{"", ".svc", ".svc.cluster", ".svc.cluster.local"} {
		out = append(out, long+suffix, "*."+long+suffix)
	}
	if same {
		out = append(out, service.Name, "*."+service.Name)
	}
	return out
}

// cluster returns the endpoints of a port of a Service that a caller may reach.
func (c *Compiler) cluster(service *mesh.Service, port mesh.ServicePort, a access) *ir.Cluster {
	key := clusterKey{service: service.Key, port: port.Number, allowed: a.filter}
	if known, ok := c.clusters[key]; ok {
		return known
	}
	enforced := !c.model.Settings.Permissive
	out := &ir.Cluster{
		Name: clusterName(service, port),
		Endpoints: []ir.EndpointSet{{
			Service:         ir.ServicePort{Namespace: service.Namespace, Name: service.Name, Port: port.Number},
			ServiceAccounts: a.filter,
			MeshedOnly:      enforced,
		}},
		SNI:                 service.Name + "." + service.Namespace + ".svc.cluster.local",
		Peers:               a.accounts,
		Plaintext:           !enforced,
		OriginalDestination: service.Headless,
		Protocol:            protocol(port.Protocol),
	}
	if c.previous != nil {
		if old := c.previous.clusters[key]; old != nil && reflect.DeepEqual(old, out) {
			out = old
		}
	}
	c.clusters[key] = out
	return out
}

// clusterName names a cluster by the pods' port, as Open Service Mesh did; where two
// ports of a Service lead to the same port, the second is told by its own number.
func clusterName(service *mesh.Service, port mesh.ServicePort) string {
	target := targetNumber(port)
	n := name.Cluster(service.Namespace, service.Name, target)
	for _, other := range service.Ports {
		if other.Number == port.Number {
			return n
		}
		if targetNumber(other) == target {
			return name.SecondCluster(service.Namespace, service.Name, target, port.Number)
		}
	}
	return n
}

// targetNumber is the pods' port as far as the Service tells: a named one may differ
// from pod to pod.
func targetNumber(port mesh.ServicePort) uint16 {
	if port.TargetPort != 0 {
		return port.TargetPort
	}
	return port.Number
}
