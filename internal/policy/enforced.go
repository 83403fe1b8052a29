package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// enforcedView is what TrafficTargets let a caller reach: Services that select pods of
// an allowed ServiceAccount, and of those only the pods that have one. A root is
// reached, pods of its own or not, if a back end of its split is.
func (c *Compiler) enforcedView(k viewKey) *view {
	allowed := c.targets.destinations[k.caller]
	reached := map[mesh.Key]reach{}
	for account := range allowed {
		for _, service := range c.selecting[account] {
			if _, known := reached[service]; !known {
				reached[service] = c.allowedOf(service, allowed)
			}
		}
	}
	v := &view{namespace: k.namespace, zone: k.zone, node: k.node, retries: c.retries[k.caller]}
	v.reach = func(service mesh.Key) reach { return reached[service] }
	called := maps.Clone(reached)
	for service := range reached {
		for _, root := range c.splits.rootsOf[service] {
			called[root] = reach{}
		}
	}
	v.services = slices.SortedFunc(maps.Keys(called), mesh.CompareKeys)
	return v
}

// allowedOf is what may be reached of a Service by whoever may call some
// ServiceAccounts. The set is named only where it is smaller than the Service's, so
// that callers share what they see alike.
func (c *Compiler) allowedOf(service mesh.Key, allowed map[identity.ServiceAccount]struct{}) reach {
	all := c.model.ServiceAccounts[service]
	r := reach{ok: true}
	var names []string
	for _, account := range all {
		if _, ok := allowed[account]; ok {
			r.peers = append(r.peers, account)
			names = append(names, account.String())
		}
	}
	if len(r.peers) < len(all) {
		r.limit = strings.Join(names, ",")
		return r
	}
	return reach{ok: true, peers: all}
}
