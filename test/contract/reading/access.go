package reading

import (
	"regexp"
	"slices"
	"strings"

	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
)

// account is a ServiceAccount.
type account struct{ namespace, name string }

func (p *Pod) account() account { return account{p.Namespace, p.Account} }

// targetsFor are the TrafficTargets for a ServiceAccount that count: the destination is a
// ServiceAccount of the object's own namespace, there are rules, and no rule is of another
// kind than HTTPRouteGroup or TCPRoute.
func (m *Mesh) targetsFor(destination account) []*accessv1alpha3.TrafficTarget {
	var out []*accessv1alpha3.TrafficTarget
	for i := range m.TrafficTargets {
		t := &m.TrafficTargets[i]
		d := t.Spec.Destination
		ours := d.Kind == "ServiceAccount" && d.Namespace == t.Namespace && destination == account{d.Namespace, d.Name}
		other := func(r accessv1alpha3.TrafficTargetRule) bool {
			return r.Kind != "HTTPRouteGroup" && r.Kind != "TCPRoute"
		}
		if ours && len(t.Spec.Rules) > 0 && !slices.ContainsFunc(t.Spec.Rules, other) {
			out = append(out, t)
		}
	}
	return out
}

// names reports whether a ServiceAccount is a source of a target. A source without
// namespace is nobody, and so is one of another kind; no sources at all are nobody.
func names(t *accessv1alpha3.TrafficTarget, source account) bool {
	return slices.ContainsFunc(t.Spec.Sources, func(s accessv1alpha3.IdentityBindingSubject) bool {
		return s.Kind == "ServiceAccount" && s.Namespace != "" && source == account{s.Namespace, s.Name}
	})
}

// mayCall reports whether any target names source and destination.
func (m *Mesh) mayCall(source, destination account) bool {
	return slices.ContainsFunc(m.targetsFor(destination), func(t *accessv1alpha3.TrafficTarget) bool { return names(t, source) })
}

// mayConnect reports whether the port, which is the pod's, is in the TCPRoutes of a target
// that names both. No TCPRoute, or only ones without ports, is any port; a missing one
// drops the target.
func (m *Mesh) mayConnect(source, destination account, port uint16) bool {
	for _, t := range m.targetsFor(destination) {
		if !names(t, source) {
			continue
		}
		var ports []int
		missing := false
		for _, rule := range t.Spec.Rules {
			if rule.Kind != "TCPRoute" {
				continue
			}
			i := slices.IndexFunc(m.TCPRoutes, func(r specsv1alpha4.TCPRoute) bool {
				return r.Namespace == t.Namespace && r.Name == rule.Name
			})
			if i < 0 {
				missing = true
				continue
			}
			ports = append(ports, m.TCPRoutes[i].Spec.Matches.Ports...)
		}
		if !missing && (len(ports) == 0 || slices.Contains(ports, int(port))) {
			return true
		}
	}
	return false
}

// mayRequest reports whether any target lets the source send the request; known whether
// any speaks of such requests at all, whoever its sources are.
func (m *Mesh) mayRequest(source, destination account, r Request) (may, known bool) {
	for _, t := range m.targetsFor(destination) {
		for _, rule := range t.Spec.Rules {
			if rule.Kind == "HTTPRouteGroup" && m.groupHolds(t.Namespace, rule.Name, rule.Matches, r) {
				known = true
				may = may || names(t, source)
			}
		}
	}
	return may, known
}

// groupHolds reports whether a request is of a kind that a group has: of those with these
// names, or of all if no names are given. Names and groups that do not exist are skipped.
func (m *Mesh) groupHolds(namespace, name string, only []string, r Request) bool {
	for i := range m.HTTPRouteGroups {
		g := &m.HTTPRouteGroups[i]
		if g.Namespace != namespace || g.Name != name {
			continue
		}
		for j := range g.Spec.Matches {
			match := &g.Spec.Matches[j]
			if (len(only) == 0 || slices.Contains(only, match.Name)) && holds(match, r) {
				return true
			}
		}
	}
	return false
}

// holds reports whether a request is of the kind of a match. All expressions must match
// the whole value, the path without the query; several headers must all match; "host" is
// the authority as it was sent. One that cannot be read matches nothing.
func holds(match *specsv1alpha4.HTTPMatch, r Request) bool {
	path, _, _ := strings.Cut(r.Path, "?")
	ok := match.PathRegex == "" || whole(match.PathRegex, path)
	if len(match.Methods) > 0 && !slices.Contains(match.Methods, "*") {
		ok = ok && slices.Contains(match.Methods, r.Method)
	}
	for _, all := range match.Headers {
		for name, expression := range all {
			value, there := r.Headers[strings.ToLower(name)]
			if strings.EqualFold(name, "host") {
				value, there = r.Host, true
			}
			ok = ok && there && expression != "" && whole(expression, value)
		}
	}
	return ok
}

func whole(expression, value string) bool {
	re, err := regexp.Compile(`\A(?:` + expression + `)\z`)
	return err == nil && re.MatchString(value)
}

// admitted says how a call ends at a pod with a sidecar that a client of the mesh has
// reached: at once if it serves no such port, and else as TrafficTargets say.
func (m *Mesh) admitted(c Call, source account, pod *Pod, port uint16) string {
	served, http := m.serves(pod, port)
	if !served {
		return Reset
	}
	end := Served + at(pod.Address, port)
	if !http {
		if m.Permissive || m.mayConnect(source, pod.account(), port) {
			return end
		}
		return Reset
	}
	if c.Speaks != HTTP {
		return NotHTTP
	}
	if m.Permissive {
		return end
	}
	may, known := m.mayRequest(source, pod.account(), c.Request)
	switch {
	case !known:
		return Missing
	case may && m.mayConnect(source, pod.account(), port):
		return end
	default:
		return Denied
	}
}

// serves reports whether a Service leads to a port of a pod, and whether it is one of
// HTTP: where Services disagree, the first by name is believed.
func (m *Mesh) serves(pod *Pod, port uint16) (served, http bool) {
	first := ""
	for i := range m.Services {
		s := &m.Services[i]
		if !s.selects(pod) || served && s.Name > first {
			continue
		}
		for j := range s.Ports {
			if s.Ports[j].of(pod) == port {
				served, http, first = true, s.Ports[j].HTTP, s.Name
				break
			}
		}
	}
	return served, http
}
