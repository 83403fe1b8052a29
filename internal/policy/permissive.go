package policy

import (
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
)

// anyone is every workload that has a certificate of this mesh.
func anyone() ir.Principals { return ir.Principals{Any: true} }

// permissiveRoutes let anyone send anything.
func permissiveRoutes() []ir.InboundRoute {
	return []ir.InboundRoute{{Name: "permissive", Allow: anyone()}}
}

// permissiveView is what a caller may reach in permissive mode: every Service, and all
// of it. Who calls matters only where a headless Service has short names, and where
// the caller has retries of its own.
func (c *Compiler) permissiveView(k viewKey) *view {
	v := &view{namespace: k.namespace, zone: k.zone, node: k.node, retries: c.retries[k.caller]}
	v.reach = c.all
	v.services = c.services
	return v
}

func (c *Compiler) permissiveKey(caller identity.ServiceAccount) viewKey {
	var k viewKey
	if c.headless {
		k.namespace = caller.Namespace
	}
	if len(c.retries[caller]) > 0 {
		k.caller = caller
	}
	return k
}
