package policy

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// Compiler compiles one Model. It is not safe for concurrent use.
//
//	inputs ── policies are read and resolved, all of them ──> tables ── classes ──> ir.Proxy
//	   '- the same as before: nothing is done       an entry that is the same as before,
//	                                                and a class that has read no other
//	                                                entry, stays what it was
//
// What proxies share is compiled once: callers that see the same of a service hold the
// same pointers. Values that are the same as those of the Compiler before keep its
// pointers, *ir.Proxy included.
type Compiler struct {
	model   inputs
	reports []ObjectReport

	// Policies, read and resolved.
	groups    map[mesh.Key]*routeGroup
	tcpRoutes map[mesh.Key]*tcpRoute
	targets   *targets
	splits    *splits
	retries   map[identity.ServiceAccount]map[mesh.Key]*retry
	// settings are by their own keys, upstreams those that are followed, by Service.
	settings  map[mesh.Key]*setting
	upstreams map[mesh.Key]*setting
	egress    map[identity.ServiceAccount][]*ir.EgressPort
	ingress   map[ingressKey]*ingressBackend
	ingresses []*ingressObject

	// now is what was read already, before what the Compiler before had read.
	now, before memory
	// classes are what proxies must do, made of all of the above.
	classes *classes
}

// New prepares a Compiler for a Model. trustBundle are the roots that peers are
// verified with, as PEM. previous, which may be nil, is the Compiler of the Model
// before; it must not be used any more, unless it is returned since nothing that it has
// read differs.
func New(m *mesh.Model, trustBundle []byte, previous *Compiler) *Compiler {
	c := &Compiler{model: inputsOf(m, trustBundle), now: newMemory()}
	if previous == nil {
		c.classes = newClasses()
	} else {
		if previous.model.same(c.model) {
			return previous
		}
		c.before, c.classes = previous.now, previous.classes
	}
	p := m.Policies
	c.reports = make([]ObjectReport, 0, len(p.HTTPRouteGroups)+len(p.TCPRoutes)+len(p.TrafficTargets)+len(p.TrafficSplits)+len(p.Retries)+len(p.Egresses))
	c.compileGroups()
	c.compileTCPRoutes()
	c.compileTargets()
	c.compileSplits()
	c.compileRetries()
	c.compileSettings()
	c.compileEgresses()
	c.compileIngress()
	c.publish()
	c.checkSettings()
	return c
}

// callable reports whether there is something of a Service to connect to.
func callable(s *mesh.Service) bool {
	return s != nil && s.ExternalName == "" && (s.Headless || len(s.ClusterIPs) > 0)
}

func sharedOf(s mesh.Settings, trustBundle []byte) *ir.Shared {
	out := &ir.Shared{TrustDomain: s.TrustDomain, TrustBundle: trustBundle, TLS: ir.TLS(s.TLS), RequestMetrics: s.RequestMetrics}
	if a := s.ExternalAuthorization; a != nil {
		out.ExternalAuthorization = new(ir.ExternalAuthorization(*a))
	}
	if t := s.Tracing; t != nil {
		out.Tracing = new(ir.Tracing(*t))
	}
	return out
}

// Proxy returns what the proxies of a class of the Model must do.
func (c *Compiler) Proxy(class *mesh.Class) *ir.Proxy { return c.classes.proxies.Get(class.ID) }

// Affected returns the IDs of the classes whose proxies may have to do something else
// than when they were last asked for; all others have to do the same.
func (c *Compiler) Affected() iter.Seq[string] { return c.classes.proxies.Suspects() }

// Compiled returns how many classes were compiled by this Compiler and by those before.
func (c *Compiler) Compiled() int { return c.classes.proxies.Made() }

// Report returns what is to be said of each policy object, sorted by kind and key.
func (c *Compiler) Report() []ObjectReport {
	out := slices.Concat(c.reports, c.ingressReports(), c.settingReports(), c.portConflicts())
	slices.SortFunc(out, func(a, b ObjectReport) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), mesh.CompareKeys(a.Key, b.Key))
	})
	return out
}
