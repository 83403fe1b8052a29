package policy

import (
	"maps"
	"slices"

	"github.com/openservicemesh/osm-operator/internal/mesh"
)

const kindTCPRoute = "TCPRoute"

// tcpRoute is a TCPRoute that was read.
type tcpRoute struct {
	// listed says that it lists ports at all; ports are those of them that there are.
	listed bool
	ports  []uint16
}

func (c *Compiler) compileTCPRoutes() {
	c.tcpRoutes = map[mesh.Key]*tcpRoute{}
	for _, key := range slices.SortedFunc(maps.Keys(c.model.Policies.TCPRoutes), mesh.CompareKeys) {
		o := c.model.Policies.TCPRoutes[key]
		var r remarks
		route := &tcpRoute{listed: len(o.Spec.Matches.Ports) > 0}
		for _, p := range o.Spec.Matches.Ports {
			if p < 1 || p > 65535 {
				r.partly(ReasonInvalidPort, "", "%d is no port: it allows nothing", p)
				continue
			}
			route.ports = append(route.ports, uint16(p))
		}
		c.tcpRoutes[key] = route
		c.reports = append(c.reports, r.report(kindTCPRoute, key, o.UID, o.Generation))
	}
}
