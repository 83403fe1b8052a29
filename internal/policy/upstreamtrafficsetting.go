package policy

import (
	"maps"
	"slices"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// compileLimits reads the connectionSettings of all UpstreamTrafficSettings, the older
// first: of several for one Service only the first is followed. Rate limits are not
// followed here yet, and so the kind is not reported.
func (c *Compiler) compileLimits() {
	c.limits = map[mesh.Key]limits{}
	older := mesh.Older[policyv1alpha1.UpstreamTrafficSettingSpec, policyv1alpha1.UpstreamTrafficSettingSpec]
	for _, o := range slices.SortedFunc(maps.Values(c.model.Policies.UpstreamTrafficSettings), older) {
		service, ok := serviceOf(o.Spec.Host)
		if !ok || service.Namespace != o.Namespace {
			continue
		}
		if _, taken := c.limits[service]; taken {
			continue
		}
		c.limits[service] = c.compileLimit(service, o.Spec.ConnectionSettings)
	}
}

func (c *Compiler) compileLimit(service mesh.Key, spec *policyv1alpha1.ConnectionSettingsSpec) limits {
	if spec == nil {
		return limits{}
	}
	var out limits
	var bounds ir.Limits
	if t := spec.TCP; t != nil {
		bounds.MaxConnections = t.MaxConnections
		if t.ConnectTimeout != nil {
			out.connectTimeout = max(0, t.ConnectTimeout.Duration)
		}
	}
	if h := spec.HTTP; h != nil {
		bounds.MaxRequests = h.MaxRequests
		bounds.MaxRequestsPerConnection = h.MaxRequestsPerConnection
		bounds.MaxPendingRequests = h.MaxPendingRequests
		bounds.MaxRetries = h.MaxRetries
	}
	if bounds != (ir.Limits{}) {
		out.limits = keep(c.now.limits, c.before.limits, service, &bounds)
	}
	return out
}
