package policy_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/policy"
)

// request is what a client asks for.
type request struct {
	method, path, authority string
	// x is the value of the header x; empty is none.
	x string
}

func requests() []request {
	var out []request
	for _, method := range []string{"GET", "POST"} {
		for _, path := range []string{"/", "/a", "/b", "/A", "/a/b", "/a/c", "/a/c/b", "/ab"} {
			for _, x := range []string{"", "1", "2", "12"} {
				for _, authority := range []string{"h", "other"} {
					out = append(out, request{method, path, authority, x})
				}
			}
		}
	}
	return out
}

// reading is what TrafficTargets mean, read as plainly as they can be: it is compared
// with what the compiler makes of them.
type reading struct{ m *mesh.Model }

// mayConnect says whether any target lets the caller connect.
func (r reading) mayConnect(caller, destination identity.ServiceAccount, port uint16) bool {
	for _, t := range r.m.Policies.TrafficTargets {
		if r.applies(t, caller, destination) && r.covers(t, port) {
			return true
		}
	}
	return false
}

// maySend says whether any target lets the caller send a request, once connected.
func (r reading) maySend(caller, destination identity.ServiceAccount, q request) bool {
	for _, t := range r.m.Policies.TrafficTargets {
		if r.applies(t, caller, destination) && slices.ContainsFunc(r.matches(t), func(m specsv1alpha4.HTTPMatch) bool { return holds(m, q) }) {
			return true
		}
	}
	return false
}

// known says whether any target speaks of such a request to the destination.
func (r reading) known(destination identity.ServiceAccount, q request) bool {
	for _, t := range r.m.Policies.TrafficTargets {
		if r.valid(t, destination) && slices.ContainsFunc(r.matches(t), func(m specsv1alpha4.HTTPMatch) bool { return holds(m, q) }) {
			return true
		}
	}
	return false
}

func (r reading) valid(t *mesh.Object[accessv1alpha3.TrafficTargetSpec], destination identity.ServiceAccount) bool {
	d := t.Spec.Destination
	if d.Kind != "ServiceAccount" || d.Namespace != t.Namespace || d.Namespace != destination.Namespace || d.Name != destination.Name {
		return false
	}
	other := func(rule accessv1alpha3.TrafficTargetRule) bool {
		return rule.Kind != "HTTPRouteGroup" && rule.Kind != "TCPRoute"
	}
	return len(t.Spec.Rules) > 0 && !slices.ContainsFunc(t.Spec.Rules, other)
}

func (r reading) applies(t *mesh.Object[accessv1alpha3.TrafficTargetSpec], caller, destination identity.ServiceAccount) bool {
	return r.valid(t, destination) && slices.ContainsFunc(t.Spec.Sources, func(s accessv1alpha3.IdentityBindingSubject) bool {
		return s.Kind == "ServiceAccount" && s.Namespace != "" && s.Namespace == caller.Namespace && s.Name == caller.Name
	})
}

func (r reading) covers(t *mesh.Object[accessv1alpha3.TrafficTargetSpec], port uint16) bool {
	var ports []int
	for _, rule := range t.Spec.Rules {
		if rule.Kind != "TCPRoute" {
			continue
		}
		route := r.m.Policies.TCPRoutes[mesh.Key{Namespace: t.Namespace, Name: rule.Name}]
		if route == nil {
			return false
		}
		ports = append(ports, route.Spec.Matches.Ports...)
	}
	return len(ports) == 0 || slices.Contains(ports, int(port))
}

func (r reading) matches(t *mesh.Object[accessv1alpha3.TrafficTargetSpec]) []specsv1alpha4.HTTPMatch {
	var out []specsv1alpha4.HTTPMatch
	for _, rule := range t.Spec.Rules {
		group := r.m.Policies.HTTPRouteGroups[mesh.Key{Namespace: t.Namespace, Name: rule.Name}]
		if rule.Kind != "HTTPRouteGroup" || group == nil {
			continue
		}
		if len(rule.Matches) == 0 {
			out = append(out, group.Spec.Matches...)
			continue
		}
		last := map[string]specsv1alpha4.HTTPMatch{}
		for _, m := range group.Spec.Matches {
			last[m.Name] = m
		}
		for _, name := range rule.Matches {
			if m, ok := last[name]; ok {
				out = append(out, m)
			}
		}
	}
	return out
}

// holds says whether a match can be read at all, and a request is of its kind.
func holds(m specsv1alpha4.HTTPMatch, q request) bool {
	ok := m.PathRegex == "" || whole(m.PathRegex, q.path)
	anyMethod := len(m.Methods) == 0 || slices.Contains(m.Methods, "*")
	if !anyMethod {
		ok = ok && slices.Contains(m.Methods, q.method) && !slices.Contains(m.Methods, "no method")
	}
	for _, headers := range m.Headers {
		for name, value := range headers {
			if name == "host" {
				ok = whole(value, q.authority) && ok
				continue
			}
			ok = whole(value, q.x) && q.x != "" && ok
		}
	}
	return ok
}

// expressions remembers what was compiled: the same few are asked about all the time.
var expressions sync.Map

func whole(expression, value string) bool {
	known, ok := expressions.Load(expression)
	if !ok {
		re, err := regexp.Compile("^(?:" + expression + ")$")
		if err != nil || expression == "" {
			re = regexp.MustCompile(`[^\s\S]`) // matches nothing
		}
		known, _ = expressions.LoadOrStore(expression, re)
	}
	re, ok := known.(*regexp.Regexp)
	return ok && re.MatchString(value)
}

// verdict is how a request ends.
type verdict string

const (
	refused verdict = "refused"
	unknown verdict = "404"
	denied  verdict = "403"
	served  verdict = "served"
)

func (r reading) of(caller, destination identity.ServiceAccount, port ir.InboundPort, q request) verdict {
	switch {
	case r.m.Settings.Permissive:
		return served
	case port.Protocol != ir.HTTP && r.mayConnect(caller, destination, port.Port):
		return served
	case port.Protocol != ir.HTTP:
		return refused
	case !r.known(destination, q):
		return unknown
	case r.mayConnect(caller, destination, port.Port) && r.maySend(caller, destination, q):
		return served
	default:
		return denied
	}
}

// proxied is how a request ends at a proxy that takes the first route that matches.
func proxied(caller identity.ServiceAccount, port ir.InboundPort, q request) verdict {
	if port.Protocol != ir.HTTP {
		if meant(port.Allow, caller) {
			return served
		}
		return refused
	}
	for _, route := range port.Routes {
		if !matches(route.Match, q) {
			continue
		}
		also := func(g ir.Grant) bool { return matches(g.Match, q) && meant(g.Allow, caller) }
		if meant(port.Allow, caller) && (meant(route.Allow, caller) || slices.ContainsFunc(route.Also, also)) {
			return served
		}
		return denied
	}
	return unknown
}

func meant(p ir.Principals, caller identity.ServiceAccount) bool {
	return p.Any || slices.Contains(p.ServiceAccounts, caller)
}

func matches(m ir.HTTPMatch, q request) bool {
	if len(m.Methods) > 0 && !slices.Contains(m.Methods, q.method) || !compares(m.Path.Kind, m.Path.Value, q.path) {
		return false
	}
	for _, h := range m.Headers {
		value, there := q.x, q.x != ""
		if h.Name == ":authority" {
			value, there = q.authority, true
		}
		if !there || !compares(h.Kind, h.Value, value) {
			return false
		}
	}
	return true
}

func compares(kind ir.MatchKind, want, got string) bool {
	switch kind {
	case ir.MatchAny:
		return true
	case ir.MatchExact:
		return want == got
	case ir.MatchPrefix:
		return strings.HasPrefix(got, want)
	case ir.MatchRegex:
		return whole(want, got)
	case ir.MatchPathPrefix:
		return got == want || strings.HasPrefix(got, want+"/")
	default:
		return false
	}
}

// permissions lists every kind of access that every caller has to every class.
func permissions(m *mesh.Model, callers []identity.ServiceAccount) map[string]bool {
	out := map[string]bool{}
	c := policy.New(m, bundle(), nil)
	for _, id := range slices.Sorted(maps.Keys(m.Classes)) {
		p := c.Proxy(m.Classes[id])
		for _, d := range p.Outbound {
			out["call "+id+" "+d.Service.Namespace+"/"+d.Service.Name] = true
		}
		for _, port := range p.Inbound {
			for _, caller := range callers {
				for _, q := range requests() {
					if proxied(caller, port, q) == served {
						out[strings.Join([]string{"send", caller.String(), id, string(rune(port.Port)), q.method, q.path, q.authority, q.x}, " ")] = true
					}
				}
			}
		}
	}
	return out
}
