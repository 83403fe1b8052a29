package policy

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// inbound returns the ports that a class serves, in the order of their numbers.
// Where two Services of a pod disagree about what is spoken on a port, the first by
// name is believed.
func (c *Compiler) inbound(class *mesh.Class) []ir.InboundPort {
	ports := map[uint16]ir.InboundPort{}
	routes, grants := []ir.InboundRoute(nil), c.targets.to[class.ServiceAccount]
	if c.model.Settings.Permissive {
		routes = []ir.InboundRoute{{Name: "permissive", Allow: ir.Principals{Any: true}}}
	} else {
		routes = inboundRoutes(grants)
	}
	for _, key := range class.Services {
		service := c.model.Services[key]
		if service == nil {
			continue
		}
		for _, port := range service.Ports {
			number := port.TargetPort
			if port.TargetPortName != "" {
				number = class.NamedPorts[port.TargetPortName]
			}
			if _, taken := ports[number]; taken || number == 0 {
				continue
			}
			p := ir.InboundPort{
				Port: number, Protocol: protocol(port.Protocol),
				Service: ir.ServicePort{Namespace: key.Namespace, Name: key.Name, Port: port.Number},
				Allow:   c.mayConnect(grants, number),
			}
			if p.Protocol == ir.HTTP {
				p.Routes = routes
			}
			ports[number] = p
		}
	}
	out := make([]ir.InboundPort, 0, len(ports))
	for _, number := range slices.Sorted(maps.Keys(ports)) {
		out = append(out, ports[number])
	}
	return out
}

// mayConnect says who may connect to a port: in enforced mode the sources of targets
// that are not limited to other ports.
func (c *Compiler) mayConnect(grants []grant, port uint16) ir.Principals {
	if c.model.Settings.Permissive {
		return ir.Principals{Any: true}
	}
	var out ir.Principals
	for _, g := range grants {
		if g.ports == nil || slices.Contains(g.ports, port) {
			out.ServiceAccounts = append(out.ServiceAccounts, g.sources...)
		}
	}
	slices.SortFunc(out.ServiceAccounts, identity.Compare)
	out.ServiceAccounts = slices.Compact(out.ServiceAccounts)
	return out
}

// inboundRoutes returns one route for each kind of request that is granted. Equal
// kinds have their sources merged; where kinds may overlap, a request that the first
// matches is also open to those whom the others let.
func inboundRoutes(grants []grant) []ir.InboundRoute {
	byMatch := map[string]*ir.InboundRoute{}
	for _, g := range grants {
		for _, m := range g.matches {
			key := matchKey(m.match)
			r := byMatch[key]
			if r == nil {
				r = &ir.InboundRoute{Name: m.name, Match: m.match}
				byMatch[key] = r
			}
			r.Name = min(r.Name, m.name)
			r.Allow.ServiceAccounts = append(r.Allow.ServiceAccounts, g.sources...)
		}
	}
	out := make([]ir.InboundRoute, 0, len(byMatch))
	for _, key := range slices.Sorted(maps.Keys(byMatch)) {
		r := byMatch[key]
		slices.SortFunc(r.Allow.ServiceAccounts, identity.Compare)
		r.Allow.ServiceAccounts = slices.Compact(r.Allow.ServiceAccounts)
		out = append(out, *r)
	}
	for i := range out {
		for j := range out {
			if i != j && !within(out[j].Allow, out[i].Allow) && mayOverlap(out[i].Match, out[j].Match) {
				out[i].Also = append(out[i].Also, ir.Grant{Match: out[j].Match, Allow: out[j].Allow})
			}
		}
	}
	return out
}

// matchKey is the same for the same kind of request.
func matchKey(m ir.HTTPMatch) string {
	raw, err := json.Marshal(m)
	if err != nil {
		return ""
	}
	return string(raw)
}

// within reports whether everyone that a means is meant by b.
func within(a, b ir.Principals) bool {
	if b.Any {
		return true
	}
	return !a.Any && !slices.ContainsFunc(a.ServiceAccounts, func(s identity.ServiceAccount) bool {
		return !slices.Contains(b.ServiceAccounts, s)
	})
}

// mayOverlap reports whether one request can match both; it says yes unless that is
// plainly impossible, since a yes too much costs little and a no too much refuses.
func mayOverlap(a, b ir.HTTPMatch) bool {
	if len(a.Methods) > 0 && len(b.Methods) > 0 && !slices.ContainsFunc(a.Methods, func(m string) bool { return slices.Contains(b.Methods, m) }) {
		return false
	}
	return !literal(a.Path) || !literal(b.Path) || a.Path.Value == b.Path.Value
}

// literal reports whether a path matches one string only.
func literal(p ir.PathMatch) bool {
	return p.Kind == ir.MatchExact || p.Kind == ir.MatchRegex && regexp.QuoteMeta(p.Value) == p.Value && !strings.Contains(p.Value, `\`)
}
