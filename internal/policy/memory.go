package policy

import (
	"reflect"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// memory is what was compiled, by all that it was compiled for: of one Model, the
// same key gives the same value.
type memory struct {
	shared       map[struct{}]*ir.Shared
	groups       map[mesh.Key]*routeGroup
	retries      map[mesh.Key]*ir.Retry
	routes       map[identity.ServiceAccount]*routeTable
	clusters     map[clusterKey]*ir.Cluster
	destinations map[destinationKey]*ir.Destination
	views        map[viewKey][]*ir.Destination
	egress       map[egressPortKey]*ir.EgressPort
	proxies      map[string]*ir.Proxy
}

func newMemory() memory {
	return memory{
		shared:       map[struct{}]*ir.Shared{},
		groups:       map[mesh.Key]*routeGroup{},
		retries:      map[mesh.Key]*ir.Retry{},
		routes:       map[identity.ServiceAccount]*routeTable{},
		clusters:     map[clusterKey]*ir.Cluster{},
		destinations: map[destinationKey]*ir.Destination{},
		views:        map[viewKey][]*ir.Destination{},
		egress:       map[egressPortKey]*ir.EgressPort{},
		proxies:      map[string]*ir.Proxy{},
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
