package policy

import (
	"maps"
	"slices"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/lineage"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// classes are what the proxies of each class must do, and what that is made of. Its
// functions can read nothing that may change but by Get, and what they read is what the
// class depends on: there is no list of what depends on what.
type classes struct {
	graph lineage.Graph

	// What there is, and what policies say, from Compiler.
	all       *lineage.Table[string, *mesh.Class]
	shared    *lineage.Value[*ir.Shared]
	mode      *lineage.Value[mode]
	services  *lineage.Table[mesh.Key, *mesh.Service]
	accounts  *lineage.Table[mesh.Key, []identity.ServiceAccount]
	callable  *lineage.Value[callables]
	selecting *lineage.Table[identity.ServiceAccount, []mesh.Key]
	grants    *lineage.Table[identity.ServiceAccount, []*grant]
	reachable *lineage.Table[identity.ServiceAccount, map[identity.ServiceAccount]struct{}]
	splits    *lineage.Table[mesh.Key, *split]
	rootsOf   *lineage.Table[mesh.Key, []mesh.Key]
	retries   *lineage.Table[identity.ServiceAccount, map[mesh.Key]*retry]
	retryOf   *lineage.Table[mesh.Key, *ir.Retry]
	upstreams *lineage.Table[mesh.Key, upstream]
	egress    *lineage.Table[identity.ServiceAccount, []*ir.EgressPort]
	ingress   *lineage.Table[ingressKey, *ir.Ingress]

	// What is made of it.
	routes       *lineage.Derived[identity.ServiceAccount, *routeTable]
	clusters     *lineage.Derived[clusterKey, *ir.Cluster]
	destinations *lineage.Derived[destinationKey, *ir.Destination]
	views        *lineage.Derived[viewKey, []*ir.Destination]
	ports        *lineage.Derived[string, []ir.InboundPort]
	proxies      *lineage.Derived[string, *ir.Proxy]
}

// mode is what the settings say of all classes, besides what is in ir.Shared.
type mode struct {
	trustDomain             identity.TrustDomain
	permissive, passthrough bool
}

// callables are the Services that can be called, in order; headless says that one of
// them is headless, so that it matters where a caller is.
type callables struct {
	services []mesh.Key
	headless bool
}

// upstream is what an UpstreamTrafficSetting says of its Service.
type upstream struct {
	bounds limits
	rates  rates
}

func newClasses() *classes {
	c := &classes{}
	g := &c.graph
	c.all = lineage.NewTable[string, *mesh.Class](g)
	c.shared = lineage.NewValue[*ir.Shared](g)
	c.mode = lineage.NewValue[mode](g)
	c.services = lineage.NewTable[mesh.Key, *mesh.Service](g)
	c.accounts = lineage.NewTable[mesh.Key, []identity.ServiceAccount](g)
	c.callable = lineage.NewValue[callables](g)
	c.selecting = lineage.NewTable[identity.ServiceAccount, []mesh.Key](g)
	c.grants = lineage.NewTable[identity.ServiceAccount, []*grant](g)
	c.reachable = lineage.NewTable[identity.ServiceAccount, map[identity.ServiceAccount]struct{}](g)
	c.splits = lineage.NewTable[mesh.Key, *split](g)
	c.rootsOf = lineage.NewTable[mesh.Key, []mesh.Key](g)
	c.retries = lineage.NewTable[identity.ServiceAccount, map[mesh.Key]*retry](g)
	c.retryOf = lineage.NewTable[mesh.Key, *ir.Retry](g)
	c.upstreams = lineage.NewTable[mesh.Key, upstream](g)
	c.egress = lineage.NewTable[identity.ServiceAccount, []*ir.EgressPort](g)
	c.ingress = lineage.NewTable[ingressKey, *ir.Ingress](g)

	c.routes = lineage.NewDerived(g, c.inboundRoutes)
	c.clusters = lineage.NewDerived(g, c.endpoints)
	c.destinations = lineage.NewDerived(g, c.destination)
	c.views = lineage.NewDerived(g, c.view)
	c.ports = lineage.NewDerived(g, c.inbound)
	c.proxies = lineage.NewResults(g, c.proxy)
	return c
}

// follow takes over what there is now, and what policies say.
func (c *classes) follow(now *Compiler) {
	m := now.model
	c.graph.Advance()
	c.all.Replace(m.Classes)
	c.shared.Set(sharedOf(m.Settings, m.TrustBundle))
	c.mode.Set(mode{trustDomain: m.Settings.TrustDomain, permissive: m.Settings.Permissive, passthrough: m.Settings.Egress})
	c.services.Replace(m.Services)
	c.accounts.Replace(m.ServiceAccounts)
	c.index(m)
	c.grants.Replace(now.targets.grants)
	c.reachable.Replace(now.targets.destinations)
	c.splits.Replace(now.splits.byRoot)
	c.rootsOf.Replace(now.splits.rootsOf)
	c.retries.Replace(now.retries)
	c.retryOf.Replace(now.now.retries)
	upstreams := make(map[mesh.Key]upstream, len(now.upstreams))
	for key, s := range now.upstreams {
		upstreams[key] = upstream{bounds: s.bounds, rates: s.rates}
	}
	c.upstreams.Replace(upstreams)
	c.egress.Replace(now.egress)
	ingress := make(map[ingressKey]*ir.Ingress, len(now.ingress))
	for key, b := range now.ingress {
		ingress[key] = &b.Ingress
	}
	c.ingress.Replace(ingress)
	c.proxies.Keep(maps.Keys(m.Classes))
}

// index finds the Services that can be called, and by whose pods. An ExternalName has
// neither addresses nor endpoints: a call to it is a call to the host that it names.
func (c *classes) index(m inputs) {
	var all callables
	selecting := map[identity.ServiceAccount][]mesh.Key{}
	for _, key := range slices.SortedFunc(maps.Keys(m.Services), mesh.CompareKeys) {
		s := m.Services[key]
		if !callable(s) {
			continue
		}
		all.services = append(all.services, key)
		all.headless = all.headless || s.Headless
		for _, account := range m.ServiceAccounts[key] {
			selecting[account] = append(selecting[account], key)
		}
	}
	c.callable.Set(all)
	c.selecting.Replace(selecting)
}

// proxy compiles a class.
func (c *classes) proxy(id string) *ir.Proxy {
	class, mode := c.all.Get(id), c.mode.Get()
	if class == nil {
		return nil // nobody may ask
	}
	return &ir.Proxy{
		Class:       class.ID,
		Identity:    identity.ID{TrustDomain: mode.trustDomain, ServiceAccount: class.ServiceAccount},
		Inbound:     c.ports.Get(id),
		Outbound:    c.outbound(class),
		Egress:      c.egress.Get(class.ServiceAccount),
		Passthrough: mode.passthrough,
		Metrics:     class.Metrics,
		Shared:      c.shared.Get(),
	}
}
