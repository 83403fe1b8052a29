package policy

import (
	"maps"
	"slices"

	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/lineage"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// classes are what the proxies of each class must do, and what that is made of; and what
// TrafficTargets say, of which there may be as many. Their functions can read nothing that
// may change but by Get, and what they read is what the result depends on: there is no list
// of what depends on what.
type classes struct {
	graph lineage.Graph

	// What TrafficTargets are read from, and what was read.
	objects    *lineage.Table[mesh.Key, *mesh.Object[accessv1alpha3.TrafficTargetSpec]]
	groups     *lineage.Table[mesh.Key, *routeGroup]
	tcpRoutes  *lineage.Table[mesh.Key, *tcpRoute]
	namespaces *lineage.Table[string, *mesh.Namespace]
	running    *lineage.Table[identity.ServiceAccount, bool]
	targets    *lineage.Derived[mesh.Key, *target]

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
	upstreams *lineage.Table[mesh.Key, *upstream]
	egress    *lineage.Table[identity.ServiceAccount, []*ir.EgressPort]
	ingress   *lineage.Table[ingressKey, *ir.Ingress]

	// What is made of it.
	routes       *lineage.Derived[identity.ServiceAccount, *routeTable]
	clusters     *lineage.Derived[clusterKey, *ir.Cluster]
	destinations *lineage.Derived[destinationKey, *ir.Destination]
	views        *lineage.Derived[viewKey, []*ir.Destination]
	ports        *lineage.Derived[string, []ir.InboundPort]
	proxies      *lineage.Derived[string, *ir.Proxy]

	// kept are the classes that proxies are kept for.
	kept map[string]*mesh.Class
	// indexed are the inputs that callable and selecting were last made of.
	indexed struct {
		services map[mesh.Key]*mesh.Service
		accounts map[mesh.Key][]identity.ServiceAccount
	}
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
	c.objects = lineage.NewTable[mesh.Key](g, lineage.Same[*mesh.Object[accessv1alpha3.TrafficTargetSpec]])
	c.groups = lineage.NewTable[mesh.Key](g, lineage.Same[*routeGroup])
	c.tcpRoutes = lineage.NewTable[mesh.Key](g, lineage.Same[*tcpRoute])
	c.namespaces = lineage.NewTable[string](g, lineage.Same[*mesh.Namespace])
	c.running = lineage.NewTable[identity.ServiceAccount](g, lineage.Same[bool])
	c.targets = lineage.NewResults(g, c.target)

	c.all = lineage.NewTable[string](g, lineage.Same[*mesh.Class])
	c.shared = lineage.NewValue[*ir.Shared](g)
	c.mode = lineage.NewValue[mode](g)
	c.services = lineage.NewTable[mesh.Key](g, lineage.Same[*mesh.Service])
	c.accounts = lineage.NewTable[mesh.Key](g, slices.Equal[[]identity.ServiceAccount])
	c.callable = lineage.NewValue[callables](g)
	c.selecting = lineage.NewTable[identity.ServiceAccount](g, slices.Equal[[]mesh.Key])
	c.grants = lineage.NewTable[identity.ServiceAccount](g, lineage.Same[[]*grant])
	c.reachable = lineage.NewTable[identity.ServiceAccount](g, maps.Equal[map[identity.ServiceAccount]struct{}, map[identity.ServiceAccount]struct{}])
	c.splits = lineage.NewTable[mesh.Key](g, lineage.Same[*split])
	c.rootsOf = lineage.NewTable[mesh.Key](g, slices.Equal[[]mesh.Key])
	c.retries = lineage.NewTable[identity.ServiceAccount](g, lineage.Same[map[mesh.Key]*retry])
	c.retryOf = lineage.NewTable[mesh.Key](g, lineage.Same[*ir.Retry])
	c.upstreams = lineage.NewTable[mesh.Key](g, lineage.Same[*upstream])
	c.egress = lineage.NewTable[identity.ServiceAccount](g, lineage.Same[[]*ir.EgressPort])
	c.ingress = lineage.NewTable[ingressKey](g, lineage.Same[*ir.Ingress])

	c.routes = lineage.NewDerived(g, c.inboundRoutes)
	c.clusters = lineage.NewDerived(g, c.endpoints)
	c.destinations = lineage.NewDerived(g, c.destination)
	c.views = lineage.NewDerived(g, c.view)
	c.ports = lineage.NewDerived(g, c.inbound)
	c.proxies = lineage.NewResults(g, c.proxy)
	return c
}

// read takes over what TrafficTargets are read from, and returns the function that reads.
func (c *classes) read(now *Compiler) func(mesh.Key) *target {
	m := now.model
	c.graph.Advance()
	c.objects.Replace(m.Policies.TrafficTargets)
	c.groups.Replace(now.groups)
	c.tcpRoutes.Replace(now.tcpRoutes)
	c.namespaces.Replace(m.Namespaces)
	c.running.Replace(m.Running)
	c.targets.Keep(maps.Keys(m.Policies.TrafficTargets))
	return c.targets.Get
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
	c.index(m.Services, m.ServiceAccounts)
	c.grants.Replace(now.targets.grants)
	c.reachable.Replace(now.targets.destinations)
	c.splits.Replace(now.splits.byRoot)
	c.rootsOf.Replace(now.splits.rootsOf)
	c.retries.Replace(now.retries)
	c.retryOf.Replace(now.now.retries)
	upstreams := make(map[mesh.Key]*upstream, len(now.upstreams))
	for key, s := range now.upstreams {
		upstreams[key] = &upstream{bounds: s.bounds, rates: s.rates}
	}
	c.upstreams.Replace(upstreams)
	c.egress.Replace(now.egress)
	ingress := make(map[ingressKey]*ir.Ingress, len(now.ingress))
	for key, b := range now.ingress {
		ingress[key] = &b.Ingress
	}
	c.ingress.Replace(ingress)
	if !same(c.kept, m.Classes) {
		c.kept = m.Classes
		c.proxies.Keep(maps.Keys(m.Classes))
	}
}

// index finds the Services that can be called, and by whose pods. An ExternalName has
// neither addresses nor endpoints: a call to it is a call to the host that it names.
func (c *classes) index(services map[mesh.Key]*mesh.Service, accounts map[mesh.Key][]identity.ServiceAccount) {
	if same(c.indexed.services, services) && same(c.indexed.accounts, accounts) {
		return
	}
	c.indexed.services, c.indexed.accounts = services, accounts
	var all callables
	selecting := map[identity.ServiceAccount][]mesh.Key{}
	for _, key := range slices.SortedFunc(maps.Keys(services), mesh.CompareKeys) {
		s := services[key]
		if !callable(s) {
			continue
		}
		all.services = append(all.services, key)
		all.headless = all.headless || s.Headless
		for _, account := range accounts[key] {
			selecting[account] = append(selecting[account], key)
		}
	}
	c.callable.Set(all)
	c.selecting.Replace(selecting)
}

// upstream returns what is said of a Service; the zero value is nothing.
func (c *classes) upstream(service mesh.Key) upstream {
	if u := c.upstreams.Get(service); u != nil {
		return *u
	}
	return upstream{}
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
