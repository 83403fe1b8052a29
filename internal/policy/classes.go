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
	ingress   *lineage.Table[ingressKey, *gateway]

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
	healthChecks            bool
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
	c.ingress = lineage.NewTable[ingressKey](g, lineage.Same[*gateway])

	c.routes = lineage.NewDerived(g, c.inboundRoutes)
	c.clusters = lineage.NewDerived(g, c.endpoints)
	c.destinations = lineage.NewDerived(g, c.destination)
	c.views = lineage.NewDerived(g, c.view)
	c.ports = lineage.NewDerived(g, c.inbound)
	c.proxies = lineage.NewResults(g, c.proxy)
	return c
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
