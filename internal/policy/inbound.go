package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// What the routes of one ServiceAccount are bounded by, since each of them may have to
// know of all that come later.
const (
	mostRoutes = 2048
	mostGrants = 1024
	// mostNames bounds the names of callers in all routes together, each of which repeats
	// those who may take it.
	mostNames = 1 << 16
)

// inbound returns the ports that a class serves, in the order of their numbers. Where
// Services disagree about what is spoken on a port, the first by name is believed.
func (c *classes) inbound(id string) []ir.InboundPort {
	class := c.all.Get(id)
	if class == nil {
		return nil // nobody may ask
	}
	ports, gates := map[uint16]ir.InboundPort{}, map[uint16][]*gateway{}
	services := map[uint16][]mesh.Key{}
	permissive, routes := c.mode.Get().permissive, c.routes.Get(class.ServiceAccount)
	eachPort(class, c.services.Get, func(s *mesh.Service, p mesh.ServicePort, target uint16) {
		if !slices.Contains(services[target], s.Key) {
			services[target] = append(services[target], s.Key)
		}
		if b := c.ingress.Get(ingressKey{s.Key, target}); b != nil && !slices.Contains(gates[target], b) {
			gates[target] = append(gates[target], b)
		}
		if _, taken := ports[target]; taken || reserved(target) {
			return
		}
		port := ir.InboundPort{
			Port: target, Protocol: protocol(p.Protocol),
			Service: ir.ServicePort{Namespace: s.Namespace, Name: s.Name, Port: p.Number},
			Allow:   anyone(),
		}
		if !permissive {
			port.Allow = c.mayConnect(class.ServiceAccount, target)
		}
		ports[target] = port
	})
	out := make([]ir.InboundPort, 0, len(ports))
	for _, number := range slices.Sorted(maps.Keys(ports)) {
		port := ports[number]
		c.bound(&port, services[number], routes)
		port.Watched = c.watched(services[number])
		port.Ingress = gateways(gates[number])
		out = append(out, port)
	}
	return out
}

// eachPort calls f for each port of the Services of a class, with the port of its pods
// that it leads to. A name that the pods have no port for leads nowhere.
func eachPort(class *mesh.Class, services func(mesh.Key) *mesh.Service, f func(s *mesh.Service, p mesh.ServicePort, target uint16)) {
	for _, key := range class.Services {
		s := services(key)
		if s == nil {
			continue
		}
		for _, p := range s.Ports {
			target := p.TargetPort
			if p.TargetPortName != "" {
				target = class.NamedPorts[p.TargetPortName]
			}
			if target != 0 {
				f(s, p, target)
			}
		}
	}
}

// reserved reports whether a port of the pod is the sidecar's own. Served like one of
// the application's, it would open the sidecar's administration to the mesh, or lead
// back to where it came from.
func reserved(port uint16) bool {
	const admin, outbound, inbound, metrics = 15000, 15001, 15003, 15010
	return port == admin || port == outbound || port == inbound || port == metrics
}

// mayConnect says who may connect to a port of a ServiceAccount's pods in enforced mode.
func (c *classes) mayConnect(account identity.ServiceAccount, port uint16) ir.Principals {
	var out []identity.ServiceAccount
	for _, g := range c.grants.Get(account) {
		if g.covers(port) {
			out = append(out, g.sources...)
		}
	}
	return principals(out)
}

func principals(accounts []identity.ServiceAccount) ir.Principals {
	slices.SortFunc(accounts, identity.Compare)
	return ir.Principals{ServiceAccounts: slices.Compact(accounts)}
}

// inboundRoutes says who may send which requests to a ServiceAccount's pods, on all of
// their ports alike.
func (c *classes) inboundRoutes(account identity.ServiceAccount) *routeTable {
	if c.mode.Get().permissive {
		return &routeTable{routes: permissiveRoutes(), whole: true}
	}
	table := &routeTable{permissions: mergeMatches(c.grants.Get(account))}
	table.routes, table.whole = addUp(account, table.permissions)
	return table
}

// routeTable is what permissions were made into.
type routeTable struct {
	permissions []*permission
	routes      []ir.InboundRoute
	// whole says that there is one route, for all requests.
	whole bool
}

// permission is one kind of request, and who may send it.
type permission struct {
	*routeMatch
	name    string
	allowed ir.Principals
}

// mergeMatches gives equal matches one permission, and puts the more exact ones first.
func mergeMatches(grants []*grant) []*permission {
	byID := map[string]*permission{}
	from := map[*permission][]int{}
	for i, g := range grants {
		for _, m := range g.matches {
			p := byID[m.id]
			if p == nil {
				p = &permission{routeMatch: m, name: m.name}
				byID[m.id] = p
			}
			p.name = min(p.name, m.name)
			from[p] = append(from[p], i)
		}
	}
	out := slices.SortedFunc(maps.Values(byID), func(a, b *permission) int {
		return compareMatches(a.routeMatch, b.routeMatch)
	})
	sources := sourcesOnce(grants)
	for _, p := range out {
		p.allowed = sources(from[p])
	}
	return out
}

// sourcesOnce returns who is allowed by some of the grants. All that are allowed by the same
// share one list: matches and sources are up to ten thousands each, and must not multiply.
func sourcesOnce(grants []*grant) func([]int) ir.Principals {
	known := map[string]ir.Principals{}
	return func(of []int) ir.Principals {
		of = slices.Compact(of)
		if len(of) == 1 {
			return ir.Principals{ServiceAccounts: grants[of[0]].sources}
		}
		id := fmt.Sprint(of)
		who, ok := known[id]
		if !ok {
			var all []identity.ServiceAccount
			for _, i := range of {
				all = append(all, grants[i].sources...)
			}
			who = principals(all)
			known[id] = who
		}
		return who
	}
}

// addUp makes routes of permissions. A proxy takes the first route that matches, so
// that each must also let those who may send the request by a later one. Too many
// become one, the whole.
func addUp(account identity.ServiceAccount, permissions []*permission) (routes []ir.InboundRoute, whole bool) {
	if len(permissions) > mostRoutes {
		return []ir.InboundRoute{anyOf(account, permissions)}, true
	}
	out := make([]ir.InboundRoute, 0, len(permissions))
	grants, names := 0, 0
	for i, p := range permissions {
		r := ir.InboundRoute{Name: p.name, Match: p.match, Allow: p.allowed}
		names += len(p.allowed.ServiceAccounts)
		for _, later := range permissions[i+1:] {
			if !subset(later.allowed, p.allowed) && mayOverlap(p.routeMatch, later.routeMatch) {
				r.Also = append(r.Also, ir.Grant{Match: later.match, Allow: later.allowed})
				names += len(later.allowed.ServiceAccounts)
			}
		}
		if grants += len(r.Also); grants > mostGrants || names > mostNames {
			return []ir.InboundRoute{anyOf(account, permissions)}, true
		}
		out = append(out, r)
	}
	return out, false
}

// anyOf is one route that asks about all permissions. It allows the same as routes of
// their own would, and is as long as the permissions are many, not as their square; but
// what none of them matches is answered 403 in place of 404.
func anyOf(account identity.ServiceAccount, permissions []*permission) ir.InboundRoute {
	r := ir.InboundRoute{Name: account.String()}
	for _, p := range permissions {
		r.Also = append(r.Also, ir.Grant{Match: p.match, Allow: p.allowed})
	}
	return r
}

// subset reports whether all whom a means are meant by b; both are sorted.
func subset(a, b ir.Principals) bool {
	if one(a.ServiceAccounts, b.ServiceAccounts) {
		return true
	}
	for _, account := range a.ServiceAccounts {
		if _, found := slices.BinarySearchFunc(b.ServiceAccounts, account, identity.Compare); !found {
			return false
		}
	}
	return true
}

// one reports whether two lists are the same in memory.
func one(a, b []identity.ServiceAccount) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
