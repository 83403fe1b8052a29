package mesh

import (
	"reflect"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
)

// policyTables are the policy objects of all namespaces.
type policyTables struct {
	trafficTargets          policyTable[accessv1alpha3.TrafficTargetSpec]
	httpRouteGroups         policyTable[specsv1alpha4.HTTPRouteGroupSpec]
	tcpRoutes               policyTable[specsv1alpha4.TCPRouteSpec]
	trafficSplits           policyTable[splitv1alpha4.TrafficSplitSpec]
	egresses                policyTable[policyv1alpha1.EgressSpec]
	ingressBackends         policyTable[policyv1alpha1.IngressBackendSpec]
	retries                 policyTable[policyv1alpha1.RetrySpec]
	upstreamTrafficSettings policyTable[policyv1alpha1.UpstreamTrafficSettingSpec]
}

// policyTable are the objects of one kind; marked says that one changed.
type policyTable[Spec PolicySpec] struct {
	all    map[Key]*Object[Spec]
	marked bool
}

func newPolicyTables() policyTables {
	return policyTables{
		trafficTargets:          policyTable[accessv1alpha3.TrafficTargetSpec]{all: map[Key]*Object[accessv1alpha3.TrafficTargetSpec]{}},
		httpRouteGroups:         policyTable[specsv1alpha4.HTTPRouteGroupSpec]{all: map[Key]*Object[specsv1alpha4.HTTPRouteGroupSpec]{}},
		tcpRoutes:               policyTable[specsv1alpha4.TCPRouteSpec]{all: map[Key]*Object[specsv1alpha4.TCPRouteSpec]{}},
		trafficSplits:           policyTable[splitv1alpha4.TrafficSplitSpec]{all: map[Key]*Object[splitv1alpha4.TrafficSplitSpec]{}},
		egresses:                policyTable[policyv1alpha1.EgressSpec]{all: map[Key]*Object[policyv1alpha1.EgressSpec]{}},
		ingressBackends:         policyTable[policyv1alpha1.IngressBackendSpec]{all: map[Key]*Object[policyv1alpha1.IngressBackendSpec]{}},
		retries:                 policyTable[policyv1alpha1.RetrySpec]{all: map[Key]*Object[policyv1alpha1.RetrySpec]{}},
		upstreamTrafficSettings: policyTable[policyv1alpha1.UpstreamTrafficSettingSpec]{all: map[Key]*Object[policyv1alpha1.UpstreamTrafficSettingSpec]{}},
	}
}

func noPolicies() Policies {
	return Policies{
		TrafficTargets:          map[Key]*Object[accessv1alpha3.TrafficTargetSpec]{},
		HTTPRouteGroups:         map[Key]*Object[specsv1alpha4.HTTPRouteGroupSpec]{},
		TCPRoutes:               map[Key]*Object[specsv1alpha4.TCPRouteSpec]{},
		TrafficSplits:           map[Key]*Object[splitv1alpha4.TrafficSplitSpec]{},
		Egresses:                map[Key]*Object[policyv1alpha1.EgressSpec]{},
		IngressBackends:         map[Key]*Object[policyv1alpha1.IngressBackendSpec]{},
		Retries:                 map[Key]*Object[policyv1alpha1.RetrySpec]{},
		UpstreamTrafficSettings: map[Key]*Object[policyv1alpha1.UpstreamTrafficSettingSpec]{},
	}
}

// markAll is for a namespace that joins or leaves: its objects appear or go.
func (t *policyTables) markAll() {
	t.trafficTargets.marked, t.httpRouteGroups.marked, t.tcpRoutes.marked, t.trafficSplits.marked = true, true, true, true
	t.egresses.marked, t.ingressBackends.marked, t.retries.marked, t.upstreamTrafficSettings.marked = true, true, true, true
}

// publishPolicies reports whether an object that counts changed. A Retry counts
// wherever it is, all others in the mesh's namespaces only.
func (s *State) publishPolicies(m *Model) bool {
	everywhere := func(string) bool { return true }
	t, p := &s.policies, &m.Policies
	changed := []bool{
		publishTable(&t.trafficTargets, &p.TrafficTargets, s.monitored),
		publishTable(&t.httpRouteGroups, &p.HTTPRouteGroups, s.monitored),
		publishTable(&t.tcpRoutes, &p.TCPRoutes, s.monitored),
		publishTable(&t.trafficSplits, &p.TrafficSplits, s.monitored),
		publishTable(&t.egresses, &p.Egresses, s.monitored),
		publishTable(&t.ingressBackends, &p.IngressBackends, s.monitored),
		publishTable(&t.retries, &p.Retries, everywhere),
		publishTable(&t.upstreamTrafficSettings, &p.UpstreamTrafficSettings, s.monitored),
	}
	for _, c := range changed {
		if c {
			return true
		}
	}
	return false
}

// publishTable puts the objects that count in place of those before, unless they are
// the same.
func publishTable[Spec PolicySpec](t *policyTable[Spec], published *map[Key]*Object[Spec], counts func(namespace string) bool) bool {
	if !t.marked {
		return false
	}
	t.marked = false
	before := *published
	now := make(map[Key]*Object[Spec], len(t.all))
	same := true
	for key, object := range t.all {
		if !counts(key.Namespace) {
			continue
		}
		if old := before[key]; old != nil && sameObject(old, object) {
			object = old
		} else {
			same = false
		}
		now[key] = object
	}
	if same && len(now) == len(before) {
		return false
	}
	*published = now
	return true
}

func (f PolicyFact[Spec]) apply(s *State) {
	t := tableOf[Spec](&s.policies)
	if t == nil {
		return
	}
	old := t.all[f.Key]
	if old == nil && f.Object == nil || old != nil && f.Object != nil && sameObject(old, f.Object) {
		return
	}
	if f.Object == nil {
		delete(t.all, f.Key)
	} else {
		t.all[f.Key] = f.Object
	}
	t.marked = true
}

// tableOf returns the table of a kind.
func tableOf[Spec PolicySpec](t *policyTables) *policyTable[Spec] {
	for _, table := range []any{
		&t.trafficTargets, &t.httpRouteGroups, &t.tcpRoutes, &t.trafficSplits,
		&t.egresses, &t.ingressBackends, &t.retries, &t.upstreamTrafficSettings,
	} {
		if typed, ok := table.(*policyTable[Spec]); ok {
			return typed
		}
	}
	return nil
}

func sameObject[Spec any](a, b *Object[Spec]) bool {
	return a == b || a.UID == b.UID && a.Generation == b.Generation && a.Created.Equal(b.Created) && reflect.DeepEqual(a.Spec, b.Spec)
}
