package policy

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// Compiler compiles one Model. It is not safe for concurrent use.
//
// What proxies share is compiled once: callers that see the same of a service hold the
// same pointers. Values that are the same as those of the Compiler before keep its
// pointers, *ir.Proxy included, as long as each Compiler is asked for all classes.
type Compiler struct {
	model   *mesh.Model
	shared  *ir.Shared
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
	gateways  map[mesh.Key]struct{}
	ingresses []*ingressObject

	// services are the Services that can be called, in order; headless says that one
	// of them is headless, so that it matters where a caller is.
	services []mesh.Key
	headless bool
	// selecting are the Services that select pods of a ServiceAccount.
	selecting map[identity.ServiceAccount][]mesh.Key

	// now is what was compiled already, before what the Compiler before had compiled.
	now, before memory
}

// New prepares a Compiler for a Model. trustBundle are the roots that peers are
// verified with, as PEM. previous, which may be nil, is the Compiler of the Model
// before; it must not be used any more.
func New(m *mesh.Model, trustBundle []byte, previous *Compiler) *Compiler {
	c := &Compiler{
		model: m,
		now:   newMemory(),
	}
	if previous != nil {
		c.before = previous.now
	}
	c.shared = keep(c.now.shared, c.before.shared, struct{}{}, sharedOf(m.Settings, trustBundle))
	c.index()
	c.compileGroups()
	c.compileTCPRoutes()
	c.compileTargets()
	c.compileSplits()
	c.compileRetries()
	c.compileSettings()
	c.compileEgresses()
	c.compileIngress()
	return c
}

// index finds the Services that can be called, and by whose pods. An ExternalName has
// neither addresses nor endpoints: a call to it is a call to the host that it names.
func (c *Compiler) index() {
	c.selecting = map[identity.ServiceAccount][]mesh.Key{}
	for _, key := range slices.SortedFunc(maps.Keys(c.model.Services), mesh.CompareKeys) {
		s := c.model.Services[key]
		if !callable(s) {
			continue
		}
		c.services = append(c.services, key)
		c.headless = c.headless || s.Headless
		for _, account := range c.model.ServiceAccounts[key] {
			c.selecting[account] = append(c.selecting[account], key)
		}
	}
}

// callable reports whether there is something of a Service to connect to.
func callable(s *mesh.Service) bool {
	return s != nil && s.ExternalName == "" && (s.Headless || len(s.ClusterIPs) > 0)
}

func sharedOf(s mesh.Settings, trustBundle []byte) *ir.Shared {
	out := &ir.Shared{TrustDomain: s.TrustDomain, TrustBundle: trustBundle, TLS: ir.TLS(s.TLS)}
	if a := s.ExternalAuthorization; a != nil {
		out.ExternalAuthorization = new(ir.ExternalAuthorization(*a))
	}
	if t := s.Tracing; t != nil {
		out.Tracing = new(ir.Tracing(*t))
	}
	return out
}

// Proxy returns what the proxies of a class of the Model must do.
func (c *Compiler) Proxy(class *mesh.Class) *ir.Proxy {
	if known := c.now.proxies[class.ID]; known != nil {
		return known
	}
	return keep(c.now.proxies, c.before.proxies, class.ID, &ir.Proxy{
		Class:       class.ID,
		Identity:    identity.ID{TrustDomain: c.model.Settings.TrustDomain, ServiceAccount: class.ServiceAccount},
		Inbound:     c.inbound(class),
		Outbound:    c.outbound(class),
		Egress:      c.egress[class.ServiceAccount],
		Passthrough: c.model.Settings.Egress,
		Metrics:     class.Metrics,
		Shared:      c.shared,
	})
}

// Report returns what is to be said of each policy object, sorted by kind and key.
func (c *Compiler) Report() []ObjectReport {
	out := slices.Concat(c.reports, c.ingressReports(), c.settingReports(), c.portConflicts())
	slices.SortFunc(out, func(a, b ObjectReport) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), mesh.CompareKeys(a.Key, b.Key))
	})
	return out
}
