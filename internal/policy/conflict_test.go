package policy_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/mesh/meshtest"
	"github.com/openservicemesh/osm-operator/internal/policy"
)

// TestTheOlderIsFollowed has two objects of each kind speak of the same thing. Both say so;
// that of the older is what is done, and of equals that of the lesser name.
func TestTheOlderIsFollowed(t *testing.T) {
	t.Parallel()
	kinds := map[string]struct {
		put func(f *meshtest.Facts, meta metav1.ObjectMeta)
		// ignored says that nothing is left of the younger one.
		ignored bool
	}{
		"Retry": {put: func(f *meshtest.Facts, meta metav1.ObjectMeta) {
			meshtest.Put(&f.Policies.Retries, meta, policyv1alpha1.RetrySpec{
				Source:       policyv1alpha1.RetrySrcDstSpec{Kind: "ServiceAccount", Namespace: "a", Name: "x"},
				Destinations: []policyv1alpha1.RetrySrcDstSpec{{Kind: "Service", Namespace: "a", Name: "s"}},
				RetryPolicy:  policyv1alpha1.RetryPolicySpec{RetryOn: "5xx", NumRetries: new(number(meta))},
			})
		}},
		"UpstreamTrafficSetting": {put: func(f *meshtest.Facts, meta metav1.ObjectMeta) {
			meshtest.Put(&f.Policies.UpstreamTrafficSettings, meta, policyv1alpha1.UpstreamTrafficSettingSpec{
				Host:               "s.a.svc.cluster.local",
				ConnectionSettings: &policyv1alpha1.ConnectionSettingsSpec{TCP: &policyv1alpha1.TCPConnectionSettings{MaxConnections: new(number(meta))}},
			})
		}},
		"TrafficSplit": {ignored: true, put: func(f *meshtest.Facts, meta metav1.ObjectMeta) {
			meshtest.Put(&f.Policies.TrafficSplits, meta, splitv1alpha4.TrafficSplitSpec{
				Service: "s", Backends: []splitv1alpha4.TrafficSplitBackend{{Service: "s", Weight: float64(number(meta))}, {Service: "t", Weight: 1}},
			})
		}},
		"Egress": {put: func(f *meshtest.Facts, meta metav1.ObjectMeta) {
			protocol := map[bool]string{true: "tcp", false: "tcp-server-first"}[number(meta) == 1]
			meshtest.Put(&f.Policies.Egresses, meta, policyv1alpha1.EgressSpec{
				Sources:     []policyv1alpha1.EgressSource{{Kind: "ServiceAccount", Namespace: "a", Name: "x"}},
				IPAddresses: []string{"192.0.2.0/24"}, Ports: []policyv1alpha1.PortSpec{{Number: 9999, Protocol: protocol}},
			})
		}},
		"IngressBackend": {put: func(f *meshtest.Facts, meta metav1.ObjectMeta) {
			meshtest.Put(&f.Policies.IngressBackends, meta, policyv1alpha1.IngressBackendSpec{
				Backends: []policyv1alpha1.BackendSpec{{Name: "s", Port: policyv1alpha1.PortSpec{Number: 8080, Protocol: "http"}}},
				Sources:  []policyv1alpha1.IngressSourceSpec{{Kind: "IPRange", Name: map[bool]string{true: "192.0.2.0/24", false: "198.51.100.0/24"}[number(meta) == 1]}},
			})
		}},
	}
	ages := map[string]struct{ one, two time.Duration }{
		"the first is older":       {0, time.Second},
		"the second is older":      {time.Second, 0},
		"both are of the same age": {0, 0},
	}
	for kind, of := range kinds {
		for age, at := range ages {
			t.Run(kind+": "+age, func(t *testing.T) {
				t.Parallel()
				meta := func(name string, age time.Duration) metav1.ObjectMeta {
					return metav1.ObjectMeta{Namespace: "a", Name: name, UID: "u", CreationTimestamp: metav1.NewTime(time.Unix(1000, 0).Add(age))}
				}
				winner, loser := meta("one", at.one), meta("two", at.two)
				if at.two < at.one {
					winner, loser = loser, winner
				}
				both, alone := conflicting(), conflicting()
				of.put(both, loser)
				of.put(both, winner)
				of.put(alone, winner)
				together, c := compile(both.Model(), nil)
				single, _ := compile(alone.Model(), nil)
				if diff := cmp.Diff(single.Proxies, together.Proxies, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
					t.Errorf("proxies with the older alone, and with both (-alone +both):\n%s", diff)
				}
				for _, r := range c.Report() {
					switch {
					case r.Kind != kind:
					case r.Accepted.Reason != policy.ReasonConflict:
						t.Errorf("%s says %+v", r.Key, r.Accepted)
					case r.Key.Name == winner.Name && (!r.Accepted.OK || !strings.Contains(r.Accepted.Message, kind+" a/"+loser.Name) || !strings.Contains(r.Accepted.Message, "younger")):
						t.Errorf("the older, %s, says %+v", r.Key, r.Accepted)
					case r.Key.Name == loser.Name && (r.Accepted.OK == of.ignored || !strings.Contains(r.Accepted.Message, kind+" a/"+winner.Name) || !strings.Contains(r.Accepted.Message, "older")):
						t.Errorf("the younger, %s, says %+v", r.Key, r.Accepted)
					}
				}
			})
		}
	}
}

// number tells what an object says from what the other one does.
func number(meta metav1.ObjectMeta) int64 { return map[string]int64{"one": 1, "two": 2}[meta.Name] }

// conflicting is what both objects are about.
func conflicting() *meshtest.Facts {
	labels := map[string]string{"app": "s"}
	return &meshtest.Facts{
		Permissive: true,
		Services: []meshtest.Service{
			{Name: "a/s", Selector: labels, Ports: []meshtest.Port{{Number: 80, Target: 8080}}},
			{Name: "a/t", Ports: []meshtest.Port{{Number: 80, Target: 8080}}},
		},
		Pods: []meshtest.Pod{{Name: "a/1", Account: "x"}, {Name: "a/2", Account: "s", Labels: labels}},
	}
}
