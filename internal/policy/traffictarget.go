package policy

import (
	"maps"
	"slices"

	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

const kindServiceAccount = "ServiceAccount"

// targets is who may call whom, of all TrafficTargets that are followed.
type targets struct {
	// grants are what is granted to call a ServiceAccount, in the order of the objects.
	grants map[identity.ServiceAccount][]*grant
	// destinations are those that a source may call.
	destinations map[identity.ServiceAccount]map[identity.ServiceAccount]struct{}
}

// grant is what one TrafficTarget allows.
type grant struct {
	// sources are sorted; none is nobody.
	sources []identity.ServiceAccount
	// connect says that they may connect at all: to ports, or if limited is not set to
	// any port.
	connect, limited bool
	ports            []uint16
	// matches are the requests that they may send on top, once for each time that a
	// rule names them.
	matches []*routeMatch
}

// covers reports whether the grant allows connections to a port of the pods.
func (g *grant) covers(port uint16) bool {
	return g.connect && (!g.limited || slices.Contains(g.ports, port))
}

// target is a TrafficTarget that was read.
type target struct {
	// grant is what it allows; nil if it is not followed.
	grant       *grant
	destination identity.ServiceAccount
	report      ObjectReport
}

// compileTargets reads all TrafficTargets, but those that were read before and name
// nothing that is another since.
func (c *Compiler) compileTargets() {
	n := len(c.model.Policies.TrafficTargets)
	c.targets = &targets{
		grants:       make(map[identity.ServiceAccount][]*grant, n),
		destinations: make(map[identity.ServiceAccount]map[identity.ServiceAccount]struct{}, n),
	}
	read := c.readTargets()
	for _, key := range slices.SortedFunc(maps.Keys(c.model.Policies.TrafficTargets), mesh.CompareKeys) {
		t := read(key)
		c.reports = append(c.reports, t.report)
		if t.grant == nil {
			continue
		}
		c.targets.grants[t.destination] = append(c.targets.grants[t.destination], t.grant)
		for _, s := range t.grant.sources {
			if c.targets.destinations[s] == nil {
				c.targets.destinations[s] = map[identity.ServiceAccount]struct{}{}
			}
			c.targets.destinations[s][t.destination] = struct{}{}
		}
	}
}

// target reads a TrafficTarget, and follows what it names.
func (c *classes) target(key mesh.Key) *target {
	o := c.objects.Get(key)
	if o == nil {
		return nil // nobody may ask
	}
	var r remarks
	checkDestination(o, &r)
	checkRules(o, &r)
	t, g := &target{}, &grant{sources: sourcesOf(o, &r)}
	if len(r.fatal) == 0 {
		c.followRules(o, g, &r)
		t.grant = g
		t.destination = identity.ServiceAccount{Namespace: o.Spec.Destination.Namespace, Name: o.Spec.Destination.Name}
		c.noteAbsent(o, &r)
	}
	t.report = r.report("TrafficTarget", key, o.UID, o.Generation)
	return t
}

func checkDestination(o *mesh.Object[accessv1alpha3.TrafficTargetSpec], r *remarks) {
	d := o.Spec.Destination
	switch {
	case d.Kind != kindServiceAccount:
		r.ignored(ReasonUnsupportedKind, codeDestinationNotAccount, "the destination is a %s, but must be a ServiceAccount", d.Kind)
	case d.Namespace == "":
		r.ignored(ReasonInvalid, "", "the destination has no namespace, but must have that of this object, %s", o.Namespace)
	case d.Namespace != o.Namespace:
		r.ignored(ReasonInvalid, "", "the destination is in namespace %s, but must be in that of this object, %s", d.Namespace, o.Namespace)
	case d.Name == "":
		r.ignored(ReasonInvalid, "", "the destination has no name")
	}
}

// checkRules ignores the whole object for one rule that cannot be followed: who wrote
// it did not mean the rest to be all.
func checkRules(o *mesh.Object[accessv1alpha3.TrafficTargetSpec], r *remarks) {
	if len(o.Spec.Rules) == 0 {
		r.ignored(ReasonInvalid, "", "there are no rules")
	}
	for _, rule := range o.Spec.Rules {
		switch rule.Kind {
		case kindHTTPRouteGroup, kindTCPRoute:
		case "UDPRoute":
			r.ignored(ReasonUnsupportedKind, "", "rule %s is a UDPRoute: UDP is not captured by the mesh, and a TrafficTarget with such a rule allows nothing", rule.Name)
		default:
			r.ignored(ReasonUnsupportedKind, "", "rule %s is a %s, but must be an HTTPRouteGroup or a TCPRoute", rule.Name, rule.Kind)
		}
	}
}

// sourcesOf returns the sources that are somebody, sorted.
func sourcesOf(o *mesh.Object[accessv1alpha3.TrafficTargetSpec], r *remarks) []identity.ServiceAccount {
	var out []identity.ServiceAccount
	for _, s := range o.Spec.Sources {
		switch {
		case s.Kind != kindServiceAccount:
			r.partly(ReasonInvalidSource, codeSourceNotAccount, "source %s is a %s, but must be a ServiceAccount: it is nobody", s.Name, s.Kind)
		case s.Namespace == "":
			r.partly(ReasonInvalidSource, "", "source %s has no namespace: it is nobody", s.Name)
		case s.Name == "":
			r.partly(ReasonInvalidSource, "", "a source has no name: it is nobody")
		default:
			out = append(out, identity.ServiceAccount{Namespace: s.Namespace, Name: s.Name})
		}
	}
	if len(out) == 0 {
		r.partly(ReasonInvalidSource, "", "no source is anybody: nobody is allowed")
	}
	slices.SortFunc(out, identity.Compare)
	return slices.Compact(out)
}

// followRules puts what the rules name into a grant. Without the TCPRoute that would
// say to which ports connections may be made, none may be made to any.
func (c *classes) followRules(o *mesh.Object[accessv1alpha3.TrafficTargetSpec], g *grant, r *remarks) {
	g.connect = true
	for _, rule := range o.Spec.Rules {
		key := mesh.Key{Namespace: o.Namespace, Name: rule.Name}
		if rule.Kind == kindHTTPRouteGroup {
			c.followGroup(key, rule.Matches, g, r)
			continue
		}
		route := c.tcpRoutes.Get(key)
		if route == nil {
			r.missing(ReasonRouteNotFound, "", "TCPRoute %s does not exist: no connection is allowed", rule.Name)
			g.connect = false
			continue
		}
		g.limited = g.limited || route.listed
		g.ports = append(g.ports, route.ports...)
	}
}

func (c *classes) followGroup(key mesh.Key, names []string, g *grant, r *remarks) {
	group := c.groups.Get(key)
	if group == nil {
		r.missing(ReasonRouteNotFound, codeGroupNotFound, "HTTPRouteGroup %s does not exist: no request is allowed by it", key.Name)
		return
	}
	if len(group.usable) == 0 {
		r.missing(ReasonRouteNotFound, codeGroupEmpty, "HTTPRouteGroup %s has no match that can be used: no request is allowed by it", key.Name)
	}
	chosen, unknown := group.choose(names)
	for _, n := range unknown {
		r.missing(ReasonRouteNotFound, codeRouteNotAdded, "HTTPRouteGroup %s has no match %s", key.Name, n)
	}
	g.matches = append(g.matches, chosen...)
}

// noteAbsent tells of ServiceAccounts that no pod runs as; of those in namespaces
// outside the mesh nothing is known.
func (c *classes) noteAbsent(o *mesh.Object[accessv1alpha3.TrafficTargetSpec], r *remarks) {
	for _, s := range slices.Concat([]accessv1alpha3.IdentityBindingSubject{o.Spec.Destination}, o.Spec.Sources) {
		account := identity.ServiceAccount{Namespace: s.Namespace, Name: s.Name}
		if s.Kind != kindServiceAccount || s.Name == "" || c.namespaces.Get(s.Namespace) == nil {
			continue
		}
		if !c.running.Get(account) {
			r.missing(ReasonNoPods, "", "no pod runs as ServiceAccount %s", account)
		}
	}
}
