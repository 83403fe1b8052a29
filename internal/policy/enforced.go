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
func (c *classes) enforcedView(k viewKey) *view {
	allowed := c.reachable.Get(k.caller)
	reached := map[mesh.Key]reach{}
	for account := range allowed {
		for _, service := range c.selecting.Get(account) {
			if _, known := reached[service]; !known {
				reached[service] = c.allowedOf(service, allowed)
			}
		}
	}
	called := maps.Clone(reached)
	for service := range reached {
		for _, root := range c.rootsOf.Get(service) {
			called[root] = reach{}
		}
	}
	return &view{
		viewKey: k, retries: c.retries.Get(k.caller), services: slices.SortedFunc(maps.Keys(called), mesh.CompareKeys),
		reach: func(service mesh.Key) reach { return reached[service] },
	}
}

// allowedOf is what may be reached of a Service by whoever may call some
// ServiceAccounts. The set is named only where it is smaller than the Service's, so
// that callers share what they see alike.
func (c *classes) allowedOf(service mesh.Key, allowed map[identity.ServiceAccount]struct{}) reach {
	all := c.accounts.Get(service)
	var names []string
	for _, account := range all {
		if _, ok := allowed[account]; ok {
			names = append(names, account.String())
		}
	}
	if len(names) == len(all) {
		return reach{ok: true}
	}
	return reach{ok: true, limit: strings.Join(names, ",")}
}

// peers are the ServiceAccounts of a Service that somebody may reach, sorted.
func (c *classes) peers(service mesh.Key, limit string) []identity.ServiceAccount {
	all := c.accounts.Get(service)
	if limit == "" {
		return all
	}
	names := strings.Split(limit, ",")
	return slices.DeleteFunc(slices.Clone(all), func(a identity.ServiceAccount) bool { return !slices.Contains(names, a.String()) })
}
