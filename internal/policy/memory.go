package policy

import (
	"reflect"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// memory is what was read of policies, by what it was read from.
type memory struct {
	groups  map[mesh.Key]*routeGroup
	retries map[mesh.Key]*ir.Retry
	egress  map[egressPortKey]*ir.EgressPort
	// What classes were told last that need not be told again.
	classes  map[string]*mesh.Class
	services map[mesh.Key]*mesh.Service
	accounts map[mesh.Key][]identity.ServiceAccount
}

func newMemory() memory {
	return memory{
		retries: map[mesh.Key]*ir.Retry{},
		egress:  map[egressPortKey]*ir.EgressPort{},
	}
}

// keep remembers a value, or the one before if that is the same.
func keep[K comparable, V any](now, before map[K]*V, key K, value *V) *V {
	if old := before[key]; old != nil && reflect.DeepEqual(old, value) {
		value = old
	}
	now[key] = value
	return value
}
