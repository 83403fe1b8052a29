package policy

import (
	"fmt"
	"maps"
	"slices"

	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// targets is who may call whom, of all TrafficTargets.
type targets struct {
	// to are the grants for each destination, from the reading of all targets in order.
	to map[identity.ServiceAccount][]grant
	// from are the destinations that each source may call.
	from map[identity.ServiceAccount]map[identity.ServiceAccount]bool
}

// grant is one TrafficTarget for one destination.
type grant struct {
	name    string
	sources []identity.ServiceAccount
	// ports limit the grant to target ports; nil is any.
	ports []uint16
	// matches are the kinds of requests that the HTTPRouteGroups allow.
	matches []namedMatch
}

type namedMatch struct {
	name  string
	match ir.HTTPMatch
}

// compileTargets reads all TrafficTargets and the routes that they name, in the order
// of their keys.
func (c *Compiler) compileTargets() *targets {
	out := &targets{to: map[identity.ServiceAccount][]grant{}, from: map[identity.ServiceAccount]map[identity.ServiceAccount]bool{}}
	for _, key := range slices.SortedFunc(maps.Keys(c.model.Policies.TrafficTargets), mesh.CompareKeys) {
		object := c.model.Policies.TrafficTargets[key]
		g, destination, r := c.compileTarget(object)
		c.reports = append(c.reports, r.report("TrafficTarget", key, object.UID, object.Generation))
		if g == nil || len(g.sources) == 0 {
			continue
		}
		out.to[destination] = append(out.to[destination], *g)
		for _, source := range g.sources {
			if out.from[source] == nil {
				out.from[source] = map[identity.ServiceAccount]bool{}
			}
			out.from[source][destination] = true
		}
	}
	return out
}

// compileTarget returns the grant of a TrafficTarget; nil if it grants nothing.
func (c *Compiler) compileTarget(o *mesh.Object[accessv1alpha3.TrafficTargetSpec]) (*grant, identity.ServiceAccount, *remarks) {
	r := &remarks{}
	d := o.Spec.Destination
	destination := identity.ServiceAccount{Namespace: d.Namespace, Name: d.Name}
	switch {
	case d.Kind != "ServiceAccount":
		r.invalid = append(r.invalid, fmt.Sprintf("the destination is a %s, but must be a ServiceAccount", d.Kind))
	case d.Namespace != o.Namespace:
		r.invalid = append(r.invalid, fmt.Sprintf("the destination's namespace is %q, but must be %q, that of the TrafficTarget", d.Namespace, o.Namespace))
	case len(o.Spec.Rules) == 0:
		r.invalid = append(r.invalid, "there are no rules")
	}
	for _, rule := range o.Spec.Rules {
		switch rule.Kind {
		case "HTTPRouteGroup", "TCPRoute":
		case "UDPRoute":
			r.noEffect = append(r.noEffect, "UDP is not captured by the mesh, so that the UDPRoute "+rule.Name+" has no effect")
		default:
			r.invalid = append(r.invalid, "a rule of kind "+rule.Kind+" means nothing")
		}
	}
	g := &grant{name: o.Key.String(), sources: sourcesOf(o, r)}
	if len(r.invalid) > 0 {
		return nil, destination, r
	}
	c.noteAbsent(destination, r)
	if !c.compileRules(o, g, r) {
		return nil, destination, r
	}
	return g, destination, r
}

// noteAbsent tells of a destination that no pod runs as.
func (c *Compiler) noteAbsent(destination identity.ServiceAccount, r *remarks) {
	for _, w := range c.model.Workloads {
		if w.ServiceAccount == destination {
			return
		}
	}
	r.missing = append(r.missing, "no pod runs as ServiceAccount "+destination.String())
}

func sourcesOf(o *mesh.Object[accessv1alpha3.TrafficTargetSpec], r *remarks) []identity.ServiceAccount {
	var out []identity.ServiceAccount
	for _, s := range o.Spec.Sources {
		switch {
		case s.Kind != "ServiceAccount":
			r.invalid = append(r.invalid, fmt.Sprintf("a source is a %s, but must be a ServiceAccount", s.Kind))
		case s.Namespace == "":
			r.noEffect = append(r.noEffect, "the source "+s.Name+" has no namespace and so is nobody")
		default:
			out = append(out, identity.ServiceAccount{Namespace: s.Namespace, Name: s.Name})
		}
	}
	slices.SortFunc(out, identity.Compare)
	return slices.Compact(out)
}

// compileRules puts routes and ports into a grant. It returns false if a TCPRoute is
// missing: the ports that it would limit the grant to are not known, so that nothing
// is granted.
func (c *Compiler) compileRules(o *mesh.Object[accessv1alpha3.TrafficTargetSpec], g *grant, r *remarks) bool {
	anyPort, limited := false, false
	for _, rule := range o.Spec.Rules {
		key := mesh.Key{Namespace: o.Namespace, Name: rule.Name}
		switch rule.Kind {
		case "HTTPRouteGroup":
			group := c.groups[key]
			if group == nil {
				r.missing = append(r.missing, "HTTPRouteGroup "+rule.Name+" does not exist")
				continue
			}
			matches, missing := group.choose(rule.Matches)
			for _, name := range missing {
				r.missing = append(r.missing, fmt.Sprintf("HTTPRouteGroup %s has no match %s", rule.Name, name))
			}
			g.matches = append(g.matches, matches...)
		case "TCPRoute":
			route := c.model.Policies.TCPRoutes[key]
			if route == nil {
				r.missing = append(r.missing, "TCPRoute "+rule.Name+" does not exist, so that nothing is allowed")
				return false
			}
			limited = true
			anyPort = anyPort || len(route.Spec.Matches.Ports) == 0
			for _, p := range route.Spec.Matches.Ports {
				if p > 0 && p <= 65535 {
					g.ports = append(g.ports, uint16(p))
				}
			}
		}
	}
	if anyPort {
		g.ports = nil
	} else if limited && g.ports == nil {
		r.invalid = append(r.invalid, "the TCPRoutes name no port that there is")
		return false
	}
	return true
}

// group is an HTTPRouteGroup that was read.
type group struct {
	matches map[string]namedMatch
	order   []string
}

// choose returns the matches of these names, or all if there are none.
func (g *group) choose(names []string) (out []namedMatch, missing []string) {
	if len(names) == 0 {
		names = g.order
	}
	for _, n := range names {
		m, ok := g.matches[n]
		if !ok {
			missing = append(missing, n)
			continue
		}
		out = append(out, m)
	}
	return out, missing
}

// compileGroups reads all HTTPRouteGroups. A match that cannot be read is left out.
func (c *Compiler) compileGroups() map[mesh.Key]*group {
	out := map[mesh.Key]*group{}
	for _, key := range slices.SortedFunc(maps.Keys(c.model.Policies.HTTPRouteGroups), mesh.CompareKeys) {
		object := c.model.Policies.HTTPRouteGroups[key]
		g, r := compileGroup(object)
		out[key] = g
		c.reports = append(c.reports, r.report("HTTPRouteGroup", key, object.UID, object.Generation))
	}
	return out
}

func compileGroup(o *mesh.Object[specsv1alpha4.HTTPRouteGroupSpec]) (*group, *remarks) {
	g, r := &group{matches: map[string]namedMatch{}}, &remarks{}
	if len(o.Spec.Matches) == 0 {
		r.invalid = append(r.invalid, "there are no matches")
	}
	for _, m := range o.Spec.Matches {
		match, err := httpMatch(m)
		if err != nil {
			r.invalid = append(r.invalid, fmt.Sprintf("match %s is left out: %v", m.Name, err))
			continue
		}
		if _, twice := g.matches[m.Name]; twice {
			r.invalid = append(r.invalid, "match "+m.Name+" is there twice: the first counts")
			continue
		}
		g.matches[m.Name] = namedMatch{name: o.Key.String() + "/" + m.Name, match: match}
		g.order = append(g.order, m.Name)
	}
	return g, r
}
