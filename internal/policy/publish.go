package policy

import (
	"maps"
	"slices"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// readTargets returns what reads TrafficTargets, those that were not read before.
func (c *Compiler) readTargets() func(mesh.Key) *target {
	to := c.classes
	to.graph.Advance()
	to.objects.Replace(c.model.Policies.TrafficTargets)
	to.groups.Replace(c.groups)
	to.tcpRoutes.Replace(c.tcpRoutes)
	to.namespaces.Replace(c.model.Namespaces)
	to.running.Replace(c.model.Running)
	to.targets.Keep(maps.Keys(c.model.Policies.TrafficTargets))
	return to.targets.Get
}

// publish hands classes what there is now, and what policies say.
func (c *Compiler) publish() {
	m, to := c.model, c.classes
	to.graph.Advance()
	to.all.Replace(m.Classes)
	to.shared.Set(sharedOf(m.Settings, m.TrustBundle))
	to.mode.Set(mode{trustDomain: m.Settings.TrustDomain, permissive: m.Settings.Permissive, passthrough: m.Settings.Egress, healthChecks: m.Settings.HealthChecks})
	to.services.Replace(m.Services)
	to.accounts.Replace(m.ServiceAccounts)
	if !same(c.before.services, m.Services) || !same(c.before.accounts, m.ServiceAccounts) {
		c.index()
	}
	to.grants.Replace(c.targets.grants)
	to.reachable.Replace(c.targets.destinations)
	to.splits.Replace(c.splits.byRoot)
	to.rootsOf.Replace(c.splits.rootsOf)
	to.retries.Replace(c.retries)
	to.retryOf.Replace(c.now.retries)
	upstreams := make(map[mesh.Key]*upstream, len(c.upstreams))
	for key, s := range c.upstreams {
		upstreams[key] = &upstream{bounds: s.bounds, rates: s.rates}
	}
	to.upstreams.Replace(upstreams)
	to.egress.Replace(c.egress)
	ingress := make(map[ingressKey]*gateway, len(c.ingress))
	for key, b := range c.ingress {
		ingress[key] = &gateway{Ingress: b.Ingress, from: mesh.Object[struct{}]{Key: b.from.Key, Created: b.from.Created}}
	}
	to.ingress.Replace(ingress)
	if !same(c.before.classes, m.Classes) {
		to.proxies.Keep(maps.Keys(m.Classes))
	}
	c.now.classes, c.now.services, c.now.accounts = m.Classes, m.Services, m.ServiceAccounts
}

// index finds the Services that can be called, and by whose pods. An ExternalName has
// neither addresses nor endpoints: a call to it is a call to the host that it names.
func (c *Compiler) index() {
	var all callables
	selecting := map[identity.ServiceAccount][]mesh.Key{}
	for _, key := range slices.SortedFunc(maps.Keys(c.model.Services), mesh.CompareKeys) {
		s := c.model.Services[key]
		if !callable(s) {
			continue
		}
		all.services = append(all.services, key)
		all.headless = all.headless || s.Headless
		for _, account := range c.model.ServiceAccounts[key] {
			selecting[account] = append(selecting[account], key)
		}
	}
	c.classes.callable.Set(all)
	c.classes.selecting.Replace(selecting)
}
