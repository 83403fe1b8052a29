package policy

import (
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
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
func (c *classes) permissiveView(k viewKey) *view {
	return &view{
		viewKey: k, retries: c.retries.Get(k.caller), services: c.callable.Get().services,
		reach: func(mesh.Key) reach { return reach{ok: true} },
	}
}

func (c *classes) permissiveKey(caller identity.ServiceAccount) viewKey {
	var k viewKey
	if c.callable.Get().headless {
		k.namespace = caller.Namespace
	}
	if len(c.retries.Get(caller)) > 0 {
		k.caller = caller
	}
	return k
}
