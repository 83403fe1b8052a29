package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

const kindHTTPRouteGroup = "HTTPRouteGroup"

// routeGroup is an HTTPRouteGroup that was read.
type routeGroup struct {
	object *mesh.Object[specsv1alpha4.HTTPRouteGroupSpec]
	// usable are the matches that could be read, in the order of the object.
	usable []*routeMatch
	// named are the matches by name; nil for one that could not be read. Of two with
	// one name the last counts, as in Open Service Mesh.
	named   map[string]*routeMatch
	remarks remarks
	report  ObjectReport
}

// routeMatch is a match that could be read.
type routeMatch struct {
	// name is unique in the mesh.
	name  string
	match ir.HTTPMatch
	// id is the same for the same match.
	id string
	// path is what the match says of paths.
	path pattern
}

// compileGroups reads all HTTPRouteGroups, but those that were read before.
func (c *Compiler) compileGroups() {
	c.groups = make(map[mesh.Key]*routeGroup, len(c.model.Policies.HTTPRouteGroups))
	c.now.groups = c.groups
	for _, key := range slices.SortedFunc(maps.Keys(c.model.Policies.HTTPRouteGroups), mesh.CompareKeys) {
		o := c.model.Policies.HTTPRouteGroups[key]
		group := c.before.groups[key]
		if group == nil || group.object != o {
			group = compileGroup(o)
		}
		c.groups[key] = group
		c.reports = append(c.reports, group.report)
	}
}

func compileGroup(o *mesh.Object[specsv1alpha4.HTTPRouteGroupSpec]) *routeGroup {
	g := &routeGroup{object: o, named: map[string]*routeMatch{}}
	used := map[string]int{}
	for i := range o.Spec.Matches {
		m := &o.Spec.Matches[i]
		made, err := compileMatch(m)
		if _, twice := g.named[m.Name]; twice {
			g.remarks.partly(ReasonInvalidMatch, "", "there are two matches %s: a rule that names it means the last", m.Name)
		}
		g.named[m.Name] = made
		if err != nil {
			g.remarks.partly(ReasonInvalidMatch, codeRouteNotAdded, "match %s allows nothing: %v", m.Name, err)
			continue
		}
		made.name = o.Key.String() + "/" + m.Name
		if n := used[m.Name]; n > 0 {
			made.name = fmt.Sprintf("%s#%d", made.name, n+1)
		}
		used[m.Name]++
		g.usable = append(g.usable, made)
	}
	switch {
	case len(o.Spec.Matches) == 0:
		g.remarks.ignored(ReasonNoMatches, codeGroupEmpty, "there are no matches: it allows nothing")
	case len(g.usable) == 0:
		g.remarks.ignored(ReasonNoMatches, codeGroupEmpty, "no match can be read: it allows nothing")
	}
	g.report = g.remarks.report(kindHTTPRouteGroup, o.Key, o.UID, o.Generation)
	return g
}

// choose returns the matches with these names, or all where no name is given, and the
// names that there are not.
func (g *routeGroup) choose(names []string) (chosen []*routeMatch, unknown []string) {
	if len(names) == 0 {
		return g.usable, nil
	}
	for _, n := range names {
		m, ok := g.named[n]
		switch {
		case !ok:
			unknown = append(unknown, n)
		case m != nil:
			chosen = append(chosen, m)
		}
	}
	return chosen, unknown
}

// compileMatch reads one match. All that it sets must hold, and it is written in one
// form, so that equal ones can be told.
func compileMatch(m *specsv1alpha4.HTTPMatch) (*routeMatch, error) {
	out := &routeMatch{path: pattern{kind: ir.MatchAny}}
	if m.PathRegex != "" {
		p, err := readRegex(m.PathRegex)
		if err != nil {
			return nil, fmt.Errorf("its path cannot be matched: %w", err)
		}
		out.path = p
		out.match.Path = ir.PathMatch{Kind: p.kind, Value: p.value}
		if p.kind == ir.MatchPrefix && p.value == "" {
			out.match.Path = ir.PathMatch{}
		}
	}
	var err error
	if out.match.Methods, err = compileMethods(m.Methods); err != nil {
		return nil, err
	}
	if out.match.Headers, err = compileHeaders(m.Headers); err != nil {
		return nil, err
	}
	id, err := json.Marshal(out.match)
	if err != nil {
		return nil, fmt.Errorf("it cannot be written down: %w", err)
	}
	out.id = string(id)
	return out, nil
}

// compileMethods returns the methods, sorted; none is any.
func compileMethods(methods []string) ([]string, error) {
	if len(methods) == 0 || slices.Contains(methods, "*") {
		return nil, nil
	}
	for _, m := range methods {
		if !token(m) {
			return nil, fmt.Errorf("%.64q is no method", m)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(methods))), nil
}

// compileHeaders returns what must hold of headers, sorted. The name host stands for
// the authority, with its port if the client has sent one.
func compileHeaders(headers []map[string]string) ([]ir.ValueMatch, error) {
	var out []ir.ValueMatch
	for _, all := range headers {
		for _, name := range slices.Sorted(maps.Keys(all)) {
			header, err := headerName(name)
			if err != nil {
				return nil, err
			}
			if all[name] == "" {
				return nil, fmt.Errorf("header %s is compared with an empty expression", name)
			}
			p, err := readRegex(all[name])
			if err != nil {
				return nil, fmt.Errorf("its header %s cannot be matched: %w", name, err)
			}
			if p.kind == ir.MatchPrefix {
				p.kind, p.value = ir.MatchRegex, all[name]
			}
			out = append(out, ir.ValueMatch{Name: header, Kind: p.kind, Value: p.value})
		}
	}
	slices.SortFunc(out, compareValues)
	return slices.Compact(out), nil
}

func compareValues(a, b ir.ValueMatch) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Value, b.Value))
}

func headerName(name string) (string, error) {
	lower := strings.ToLower(name)
	switch lower {
	case "host", ":authority":
		return ":authority", nil
	case ":path", ":method", ":scheme":
		return lower, nil
	}
	if !token(lower) {
		return "", fmt.Errorf("%.64q is no name of a header", name)
	}
	return lower, nil
}

// token reports whether a string is a token of HTTP, as methods and names of headers are.
// Source: https://www.rfc-editor.org/rfc/rfc9110#name-tokens
func token(s string) bool {
	const others = "!#$%&'*+-.^_`|~"
	for _, r := range s {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune(others, r):
		default:
			return false
		}
	}
	return s != ""
}

// compareMatches puts what is told more exactly first: where only the first of several
// matches counts, that is what is meant.
func compareMatches(a, b *routeMatch) int {
	return cmp.Or(
		-cmp.Compare(exactness(a), exactness(b)),
		-cmp.Compare(len(a.path.literal), len(b.path.literal)),
		-cmp.Compare(len(a.match.Headers), len(b.match.Headers)),
		-cmp.Compare(min(1, len(a.match.Methods)), min(1, len(b.match.Methods))),
		strings.Compare(a.id, b.id),
		strings.Compare(a.name, b.name),
	)
}

func exactness(m *routeMatch) int {
	switch m.match.Path.Kind {
	case ir.MatchExact:
		return 2
	case ir.MatchAny:
		return 0
	case ir.MatchRegex, ir.MatchPrefix, ir.MatchPathPrefix:
		return 1
	default:
		return 1
	}
}

// mayOverlap reports whether one request can match both. It says no only where that is
// plain: a yes too much costs a little, a no too much would refuse somebody.
func mayOverlap(a, b *routeMatch) bool {
	return methodsMeet(a.match.Methods, b.match.Methods) && headersMeet(a.match.Headers, b.match.Headers) && pathsMeet(a.path, b.path)
}

func methodsMeet(a, b []string) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(m string) bool { return slices.Contains(b, m) })
}

// headersMeet is false if one header would have to have two values.
func headersMeet(a, b []ir.ValueMatch) bool {
	for _, h := range a {
		other := func(g ir.ValueMatch) bool {
			return g.Name == h.Name && g.Kind == ir.MatchExact && h.Kind == ir.MatchExact && g.Value != h.Value
		}
		if slices.ContainsFunc(b, other) {
			return false
		}
	}
	return true
}

// pathsMeet is false if paths would have to begin in two ways.
func pathsMeet(a, b pattern) bool {
	switch {
	case a.whole && b.whole:
		return a.literal == b.literal
	case a.whole:
		return strings.HasPrefix(a.literal, b.literal)
	case b.whole:
		return strings.HasPrefix(b.literal, a.literal)
	default:
		return strings.HasPrefix(a.literal, b.literal) || strings.HasPrefix(b.literal, a.literal)
	}
}
