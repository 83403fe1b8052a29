package policy

import (
	"reflect"
	"slices"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// Compiler compiles one Model. What proxies share is compiled once and has one
// pointer; it is not safe for concurrent use.
type Compiler struct {
	model    *mesh.Model
	shared   *ir.Shared
	groups   map[mesh.Key]*group
	targets  *targets
	splits   map[mesh.Key]*split
	reports  []ObjectReport

	// What was compiled, to be shared among classes and with the next Compiler.
	destinations map[destinationKey]*ir.Destination
	clusters     map[clusterKey]*ir.Cluster
	previous     *Compiler
}

// destinationKey is all that a Destination depends on besides the Model: for enforced
// mode the accounts that a caller may reach, for headless HTTP the caller's namespace.
type destinationKey struct {
	service  mesh.Key
	port     uint16
	allowed  string
	from     string
	headless bool
}

// clusterKey is all that a Cluster depends on besides the Model.
type clusterKey struct {
	service mesh.Key
	port    uint16
	allowed string
}

// New prepares a Compiler for a Model. Values that are the same as those of the
// previous Compiler, which may be nil, keep its pointers. trustBundle are the roots
// that peers are verified with, as PEM.
func New(m *mesh.Model, trustBundle []byte, previous *Compiler) *Compiler {
	c := &Compiler{
		model: m, destinations: map[destinationKey]*ir.Destination{}, clusters: map[clusterKey]*ir.Cluster{},
		splits: map[mesh.Key]*split{}, previous: previous,
	}
	c.shared = keep(sharedOf(m.Settings, trustBundle), previous, func(p *Compiler) *ir.Shared { return p.shared })
	c.groups = c.compileGroups()
	c.targets = c.compileTargets()
	c.compileSplits()
	if previous != nil {
		previous.previous = nil // a chain of all that ever was is not kept
	}
	return c
}

func sharedOf(s mesh.Settings, trustBundle []byte) *ir.Shared {
	out := &ir.Shared{
		TrustDomain: s.TrustDomain, TrustBundle: trustBundle,
		TLS: ir.TLS{MinVersion: s.TLS.MinVersion, MaxVersion: s.TLS.MaxVersion, CipherSuites: s.TLS.CipherSuites, Curves: s.TLS.Curves},
	}
	if a := s.ExternalAuthorization; a != nil {
		out.ExternalAuthorization = new(ir.ExternalAuthorization(*a))
	}
	if t := s.Tracing; t != nil {
		out.Tracing = new(ir.Tracing(*t))
	}
	return out
}

// keep returns the value of the previous Compiler if it is the same.
func keep[T any](now *T, previous *Compiler, before func(*Compiler) *T) *T {
	if previous != nil {
		if old := before(previous); old != nil && reflect.DeepEqual(old, now) {
			return old
		}
	}
	return now
}

// Proxy returns what the proxies of a class must do.
func (c *Compiler) Proxy(class *mesh.Class) *ir.Proxy {
	return &ir.Proxy{
		Class:       class.ID,
		Identity:    identity.ID{TrustDomain: c.model.Settings.TrustDomain, ServiceAccount: class.ServiceAccount},
		Inbound:     c.inbound(class),
		Outbound:    c.outbound(class),
		Passthrough: c.model.Settings.Egress,
		Metrics:     class.Metrics,
		Shared:      c.shared,
	}
}

// Report returns what is to be said of each policy object, sorted.
func (c *Compiler) Report() []ObjectReport {
	slices.SortFunc(c.reports, compareReports)
	return c.reports
}
