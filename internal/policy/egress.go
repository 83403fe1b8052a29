package policy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

const (
	kindEgress = "Egress"

	// Groups of references, which hold the version as well.
	groupOfRoutes   = "specs.smi-spec.io/v1alpha4"
	groupOfPolicies = "policy.openservicemesh.io/v1alpha1"
)

// mostEgress bounds the hosts of an Egress times its ranges, on all of its ports: each
// of them is something that every proxy of its sources holds.
const mostEgress = 4096

// egressObject is an Egress that is read.
type egressObject struct {
	*mesh.Object[policyv1alpha1.EgressSpec]
	remarks remarks
	sources []identity.ServiceAccount
	ranges  []netip.Prefix
	// matches are what of HTTP may be sent; any limits none.
	matches  []*routeMatch
	limited  bool
	upstream ir.EgressUpstream
	// yields are the older objects that something was left to.
	yields map[mesh.Key]bool
}

// egressPlace is what is told apart outside the mesh. The zero range is any address,
// the empty name any server.
type egressPlace struct {
	port   uint16
	kind   ir.EgressKind
	within netip.Prefix
	name   string
}

// egressRule is how a place is called. Of two objects for one place the older is
// followed; that they say the same is no conflict.
type egressRule struct {
	from        *egressObject
	matches     string
	upstream    string
	serverFirst bool
}

func (r egressRule) says(other egressRule) bool {
	return r.matches == other.matches && r.upstream == other.upstream && r.serverFirst == other.serverFirst
}

// egressPortKey names what a ServiceAccount may call on a port.
type egressPortKey struct {
	source identity.ServiceAccount
	port   uint16
}

// compileEgresses reads all Egresses, the older first.
func (c *Compiler) compileEgresses() {
	c.egress = map[identity.ServiceAccount][]*ir.EgressPort{}
	older := mesh.Older[policyv1alpha1.EgressSpec, policyv1alpha1.EgressSpec]
	places := map[identity.ServiceAccount]map[egressPlace]egressRule{}
	var all []*egressObject
	for _, o := range slices.SortedFunc(maps.Values(c.model.Policies.Egresses), older) {
		e := &egressObject{Object: o, yields: map[mesh.Key]bool{}}
		all = append(all, e)
		c.readEgress(e)
		if len(e.remarks.fatal) > 0 {
			continue
		}
		e.claim(places)
	}
	for source, at := range places {
		c.egress[source] = c.egressPorts(source, at)
	}
	for _, e := range all {
		c.reports = append(c.reports, e.remarks.report(kindEgress, e.Key, e.UID, e.Generation))
	}
}

// readEgress reads all but the ports. What cannot be read is left out, unless leaving
// it out would allow more.
func (c *Compiler) readEgress(e *egressObject) {
	r := &e.remarks
	if !c.model.Settings.EgressPolicy {
		r.ignored(ReasonNoEffect, "", "featureFlags.enableEgressPolicy is off in the MeshConfig")
		return
	}
	e.readSources()
	e.readRanges()
	c.readEgressMatches(e)
}

func (e *egressObject) readSources() {
	r := &e.remarks
	for _, s := range e.Spec.Sources {
		if s.Kind != kindServiceAccount || s.Name == "" || s.Namespace == "" {
			r.partly(ReasonInvalidSource, "", "source %s %s/%s is nobody: it must be a ServiceAccount with name and namespace", s.Kind, s.Namespace, s.Name)
			continue
		}
		e.sources = append(e.sources, identity.ServiceAccount{Namespace: s.Namespace, Name: s.Name})
	}
	if len(e.sources) == 0 {
		r.ignored(ReasonInvalidSource, "", "no source is anybody: nobody may call")
	}
}

func (e *egressObject) readRanges() {
	r := &e.remarks
	for _, word := range e.Spec.IPAddresses {
		p, ok := parseRange(word)
		if !ok {
			r.partly(ReasonInvalidRange, codeEgressRange, "%.64q is no range of addresses in CIDR form: it is left out", word)
			continue
		}
		e.ranges = append(e.ranges, p)
	}
	switch {
	case len(e.Spec.IPAddresses) == 0:
		e.ranges = []netip.Prefix{{}}
	case len(e.ranges) == 0:
		r.ignored(ReasonInvalidRange, codeEgressRange, "no range of addresses can be read")
	}
}

func (c *Compiler) readEgressMatches(e *egressObject) {
	r := &e.remarks
	settings := 0
	for _, m := range e.Spec.Matches {
		switch {
		case is(m.APIGroup, groupOfRoutes) && m.Kind == kindHTTPRouteGroup:
			c.limitEgress(e, m.Name)
		case is(m.APIGroup, groupOfPolicies) && m.Kind == kindUpstreamTrafficSetting:
			settings++
			if settings == 1 {
				c.boundEgress(e, m.Name)
				continue
			}
			r.partly(ReasonConflict, codeEgressMatch, "it names more than one UpstreamTrafficSetting: %s is left out", m.Name)
		default:
			r.ignored(ReasonUnsupportedKind, codeEgressMatch, "matches names the %s %s, which is neither an HTTPRouteGroup of specs.smi-spec.io/v1alpha4 nor an UpstreamTrafficSetting of policy.openservicemesh.io/v1alpha1", m.Kind, m.Name)
		}
	}
}

// is compares the group of a reference, which holds the version too.
func is(group *string, want string) bool { return group != nil && *group == want }

// limitEgress lets the matches of a group be sent, all of them.
func (c *Compiler) limitEgress(e *egressObject, group string) {
	e.limited = true
	g := c.groups[mesh.Key{Namespace: e.Namespace, Name: group}]
	if g == nil {
		e.remarks.missing(ReasonRouteNotFound, codeEgressGroupNotFound, "HTTPRouteGroup %s does not exist: no request is allowed by it", group)
		return
	}
	e.matches = append(e.matches, g.usable...)
}

// boundEgress bounds what is under way. Without the bounds nothing may be called.
func (c *Compiler) boundEgress(e *egressObject, setting string) {
	key := mesh.Key{Namespace: e.Namespace, Name: setting}
	u := c.settings[key]
	if u == nil {
		e.remarks.missing(ReasonSettingNotFound, "", "UpstreamTrafficSetting %s does not exist", setting)
		e.remarks.ignored(ReasonSettingNotFound, "", "UpstreamTrafficSetting %s does not exist: without it nothing may be called", setting)
		return
	}
	u.egress = true
	if u.bounds != (limits{}) {
		e.upstream = ir.EgressUpstream{Name: key.String(), Request: u.bounds.request, Silence: u.bounds.silence, Upstream: u.bounds.Upstream}
		e.upstream.HealthCheck = nil // nobody there would answer
	}
}

// claim takes the places of an object that no older one has taken.
func (e *egressObject) claim(places map[identity.ServiceAccount]map[egressPlace]egressRule) {
	slices.SortStableFunc(e.matches, compareMatches)
	e.matches = slices.CompactFunc(e.matches, func(a, b *routeMatch) bool { return a.id == b.id })
	rule := egressRule{from: e, upstream: e.upstream.Name}
	for _, at := range e.places() {
		rule.serverFirst = at.serverFirst
		rule.matches = ""
		if at.kind == ir.EgressHTTP && e.limited {
			rule.matches = "limited"
			for _, m := range e.matches {
				rule.matches += "\n" + m.id
			}
		}
		for _, source := range e.sources {
			if places[source] == nil {
				places[source] = map[egressPlace]egressRule{}
			}
			first, taken := places[source][at.egressPlace]
			if !taken {
				places[source][at.egressPlace] = rule
				continue
			}
			if first.from != e && !first.says(rule) {
				e.yield(first.from, at.egressPlace)
			}
		}
	}
}

// yield tells both objects of a conflict, once.
func (e *egressObject) yield(first *egressObject, at egressPlace) {
	if e.yields[first.Key] {
		return
	}
	e.yields[first.Key] = true
	e.remarks.partly(ReasonConflict, codeEgressConflict, "Egress %s says otherwise of %s, and is older: it is followed there", first.Key, at)
	first.remarks.partly(ReasonConflict, codeEgressConflict, "Egress %s says otherwise of %s, and is younger: this one is followed there", e.Key, at)
}

func (p egressPlace) String() string {
	where := cmp.Or(p.name, "any host")
	if p.within.IsValid() {
		where += " in " + p.within.String()
	}
	return fmt.Sprintf("port %d (%s, %s)", p.port, p.kind, where)
}

// placeFound is a place of an object.
type placeFound struct {
	egressPlace
	serverFirst bool
}

// places are all that an object is for.
func (e *egressObject) places() []placeFound {
	var out []placeFound
	names := map[ir.EgressKind][]string{ir.EgressBytes: {""}}
	for _, p := range e.Spec.Ports {
		kind, serverFirst, ok := egressKind(p.Protocol)
		switch {
		case !ok:
			e.remarks.partly(ReasonInvalid, "", "port %d: %.64q is none of http, https, tcp and tcp-server-first: it is left out", p.Number, p.Protocol)
			continue
		case p.Number < 1 || p.Number > 65535:
			e.remarks.partly(ReasonInvalidPort, "", "%d is no port: it is left out", p.Number)
			continue
		case reserved(uint16(p.Number)):
			e.remarks.partly(ReasonReservedPort, "", "port %d is the sidecar's own: it is left out", p.Number)
			continue
		}
		if names[kind] == nil {
			names[kind] = e.names(kind)
		}
		if len(out)+len(names[kind])*len(e.ranges) > mostEgress {
			e.remarks.ignored(ReasonInvalid, "", "its ports, hosts and ranges make more than %d places", mostEgress)
			return nil
		}
		for _, within := range e.ranges {
			for _, n := range names[kind] {
				out = append(out, placeFound{egressPlace{uint16(p.Number), kind, within, n}, serverFirst})
			}
		}
	}
	return out
}

func egressKind(protocol string) (kind ir.EgressKind, serverFirst, ok bool) {
	switch strings.ToLower(protocol) {
	case "http":
		return ir.EgressHTTP, false, true
	case "https":
		return ir.EgressTLS, false, true
	case "tcp":
		return ir.EgressBytes, false, true
	case "tcp-server-first":
		return ir.EgressBytes, true, true
	default:
		return "", false, false
	}
}

// names are the hosts, or server names, of an object. For TLS none is any.
func (e *egressObject) names(kind ir.EgressKind) []string {
	out := []string{}
	for _, word := range e.Spec.Hosts {
		n := strings.TrimSuffix(strings.ToLower(word), ".")
		if !validHost(n) {
			e.remarks.partly(ReasonInvalidHost, "", "%.64q is no host: it is left out", word)
			continue
		}
		if kind == ir.EgressTLS && n == "*" {
			n = ""
		}
		out = append(out, n)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	switch {
	case kind == ir.EgressTLS && len(e.Spec.Hosts) == 0:
		return []string{""}
	case len(out) == 0:
		e.remarks.partly(ReasonInvalidHost, "", "%s needs hosts, of which there are none: nothing may be called by it", kind)
	}
	return out
}

// egressPorts puts the places of a source together: what is alike in several ranges
// becomes one way.
func (c *Compiler) egressPorts(source identity.ServiceAccount, at map[egressPlace]egressRule) []*ir.EgressPort {
	byPort := map[uint16][]egressPlace{}
	for p := range at {
		byPort[p.port] = append(byPort[p.port], p)
	}
	var out []*ir.EgressPort
	for _, number := range slices.Sorted(maps.Keys(byPort)) {
		places := byPort[number]
		slices.SortFunc(places, comparePlaces)
		port := &ir.EgressPort{Port: number, Ways: egressWays(places, at)}
		out = append(out, keep(c.now.egress, c.before.egress, egressPortKey{source, number}, port))
	}
	return out
}

func comparePlaces(a, b egressPlace) int {
	return cmp.Or(
		strings.Compare(string(a.kind), string(b.kind)),
		comparePrefixes(a.within, b.within),
		strings.Compare(a.name, b.name),
	)
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// egressWays gathers the names of each range that are called alike, then the ranges
// with the same names. Hosts of HTTP are together whatever is said of each, since a
// request tells its host only after the way was chosen.
func egressWays(places []egressPlace, at map[egressPlace]egressRule) []ir.EgressWay {
	type group struct {
		kind     ir.EgressKind
		within   netip.Prefix
		upstream string
		first    bool
		anyName  bool
	}
	var order []group
	members := map[group][]egressPlace{}
	for _, p := range places {
		g := group{kind: p.kind, within: p.within}
		if p.kind != ir.EgressHTTP {
			g.upstream, g.first, g.anyName = at[p].upstream, at[p].serverFirst, p.name == ""
		}
		if members[g] == nil {
			order = append(order, g)
		}
		members[g] = append(members[g], p)
	}
	var out []ir.EgressWay
	known := map[string]int{}
	for _, g := range order {
		way := ir.EgressWay{Kind: g.kind, ServerFirst: g.first}
		var alike strings.Builder
		fmt.Fprintf(&alike, "%q %q %t %t %t", g.kind, g.upstream, g.first, g.anyName, g.within.IsValid())
		for _, p := range members[g] {
			rule := at[p]
			fmt.Fprintf(&alike, " %q %q %q", p.name, rule.matches, rule.upstream)
			switch {
			case g.kind == ir.EgressHTTP:
				way.Hosts = append(way.Hosts, ir.EgressHost{Host: p.name, Routes: rule.from.routes(), Upstream: rule.from.upstream})
				continue
			case p.name != "":
				way.ServerNames = append(way.ServerNames, p.name)
			}
			way.Upstream = rule.from.upstream
		}
		i, ok := known[alike.String()]
		if !ok {
			i = len(out)
			known[alike.String()] = i
			out = append(out, way)
		}
		if g.within.IsValid() {
			out[i].Ranges = append(out[i].Ranges, g.within)
		}
	}
	return out
}

// routes are the requests that may be sent to the hosts of an object.
func (e *egressObject) routes() []ir.HTTPRoute {
	if !e.limited {
		return []ir.HTTPRoute{{Name: e.Key.String()}}
	}
	out := []ir.HTTPRoute{}
	for _, m := range e.matches {
		out = append(out, ir.HTTPRoute{Name: m.name, Match: m.match})
	}
	return out
}
