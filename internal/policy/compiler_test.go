package policy_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/mesh/meshtest"
	"github.com/openservicemesh/osm-operator/internal/policy"
)

// addOverlaps adds targets for ServiceAccount a/s, whose matches overlap pairwise.
func addOverlaps(f *meshtest.Facts, n int, callers []identity.ServiceAccount) {
	for i := range n {
		meta := metav1.ObjectMeta{Namespace: "a", Name: fmt.Sprintf("n%03d", i)}
		meshtest.Put(&f.Policies.HTTPRouteGroups, meta, specsv1alpha4.HTTPRouteGroupSpec{Matches: []specsv1alpha4.HTTPMatch{
			{Name: "m", PathRegex: fmt.Sprintf("/a(|/[bc]|/%d)", i)},
		}})
		meshtest.Put(&f.Policies.TrafficTargets, meta, accessv1alpha3.TrafficTargetSpec{
			Destination: subjects(identity.ServiceAccount{Namespace: "a", Name: "s"})[0],
			Sources:     subjects(callers[i%len(callers)], callers[(i/3)%len(callers)]),
			Rules:       []accessv1alpha3.TrafficTargetRule{{Kind: "HTTPRouteGroup", Name: meta.Name}},
		})
	}
}

func TestSettingsAreShared(t *testing.T) {
	t.Parallel()
	m := (&meshtest.Facts{Permissive: true, Egress: true, Pods: []meshtest.Pod{{Name: "a/1", Account: "x", Scrape: true}, {Name: "a/2", Account: "y"}}}).Model()
	m.Settings.Tracing = &mesh.Tracing{Address: "jaeger", Port: 9411, Endpoint: "/api/v2/spans", Sampled: 5}
	m.Settings.ExternalAuthorization = &mesh.ExternalAuthorization{Address: "opa", Port: 9191, StatPrefix: "p", Timeout: time.Second, FailureModeAllow: true}
	first, c := compile(m, nil)
	x, y := first.Proxies["a/x scraped"], first.Proxies["a/y"]
	want := &ir.Shared{
		TrustDomain: "cluster.local", TrustBundle: bundle(),
		TLS:                   ir.TLS{MinVersion: "TLSv1_3", MaxVersion: "TLSv1_3", Curves: []string{"X25519MLKEM768", "X25519", "P-256"}},
		Tracing:               &ir.Tracing{Address: "jaeger", Port: 9411, Endpoint: "/api/v2/spans", Sampled: 5},
		ExternalAuthorization: &ir.ExternalAuthorization{Address: "opa", Port: 9191, StatPrefix: "p", Timeout: time.Second, FailureModeAllow: true},
		RequestMetrics:        true,
	}
	if diff := cmp.Diff(want, x.Shared); diff != "" {
		t.Errorf("shared settings (-want +got):\n%s", diff)
	}
	if x.Shared != y.Shared {
		t.Error("two proxies hold other pointers to the same settings")
	}
	if !x.Metrics || y.Metrics || !x.Passthrough {
		t.Errorf("metrics are %t and %t, passthrough %t", x.Metrics, y.Metrics, x.Passthrough)
	}
	if want := (identity.ID{TrustDomain: "cluster.local", ServiceAccount: identity.ServiceAccount{Namespace: "a", Name: "x"}}); x.Identity != want {
		t.Errorf("the identity is %v, want %v", x.Identity, want)
	}
	other := policy.New(m, []byte("other roots"), c)
	if p := other.Proxy(m.Classes["a/y"]); string(p.Shared.TrustBundle) != "other roots" || p == y {
		t.Error("new roots did not reach the proxies")
	}
}

// TestCallersThatSeeTheSameHoldTheSame is what makes work proportional to the mesh's
// services, and not to callers times services.
func TestCallersThatSeeTheSameHoldTheSame(t *testing.T) {
	t.Parallel()
	for _, permissive := range []bool{true, false} {
		m := bookshop(20, permissive).Model()
		got, _ := compile(m, nil)
		held := map[ir.ServicePort]*ir.Destination{}
		for id, p := range got.Proxies {
			for _, d := range p.Outbound {
				if other := held[d.Service]; other != nil && other != d {
					t.Errorf("permissive %t: %s holds a destination %v of its own", permissive, id, d.Service)
				}
				held[d.Service] = d
			}
		}
		if len(held) == 0 {
			t.Errorf("permissive %t: nobody calls anybody", permissive)
		}
	}
}

// TestAChangeTouchesNothingElse compares pointers before and after.
func TestAChangeTouchesNothingElse(t *testing.T) {
	t.Parallel()
	first := ir.ServicePort{Namespace: "ns-0", Name: "s0000", Port: 80}
	newPort := func(f *meshtest.Facts) {
		f.Services[0].Ports = append(f.Services[0].Ports, meshtest.Port{Number: 81, Target: 8081})
	}
	tests := map[string]struct {
		permissive bool
		change     func(*meshtest.Facts)
		// proxies is how many proxies are others, destinations which destinations are.
		proxies      int
		destinations []ir.ServicePort
	}{
		"nothing is another where nothing changed": {
			change: func(*meshtest.Facts) {},
		},
		"a new port is a new destination for all in permissive mode": {
			permissive: true, change: newPort, proxies: 20, destinations: []ir.ServicePort{{Namespace: "ns-0", Name: "s0000", Port: 81}},
		},
		"a new port is a new destination for those who may call it, and a port of its pods": {
			change: newPort, proxies: 6, destinations: []ir.ServicePort{{Namespace: "ns-0", Name: "s0000", Port: 81}},
		},
		"a target taken away is told to its sources and its destination": {
			proxies: 6,
			change: func(f *meshtest.Facts) {
				delete(f.Policies.TrafficTargets, mesh.Key{Namespace: "ns-0", Name: "s0000"})
			},
		},
		"a route that changed is told to its destination": {
			proxies: 1,
			change: func(f *meshtest.Facts) {
				meshtest.Put(&f.Policies.HTTPRouteGroups, metav1.ObjectMeta{Namespace: "ns-0", Name: "s0000"}, specsv1alpha4.HTTPRouteGroupSpec{})
			},
		},
		"a split is told to those who may call its root": {
			proxies: 5, destinations: []ir.ServicePort{first},
			change: func(f *meshtest.Facts) {
				meshtest.Put(&f.Policies.TrafficSplits, metav1.ObjectMeta{Namespace: "ns-0", Name: "split"}, splitv1alpha4.TrafficSplitSpec{
					Service: "s0000", Backends: []splitv1alpha4.TrafficSplitBackend{{Service: "s0000", Weight: 1}},
				})
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := bookshop(20, tt.permissive)
			before, c := compile(f.Model(), nil)
			tt.change(f)
			after, _ := compile(f.Model(), c)
			proxies, fresh := 0, map[ir.ServicePort]bool{}
			for id, p := range after.Proxies {
				if p != before.Proxies[id] {
					proxies++
				}
				for _, d := range p.Outbound {
					if !slices.Contains(before.Proxies[id].Outbound, d) {
						fresh[d.Service] = true
					}
				}
			}
			if proxies != tt.proxies {
				t.Errorf("%d proxies are others, want %d", proxies, tt.proxies)
			}
			if diff := cmp.Diff(tt.destinations, slices.Collect(maps.Keys(fresh))); diff != "" {
				t.Errorf("other destinations (-want +got):\n%s", diff)
			}
		})
	}
}

// bookshop has n services in ten namespaces, each with pods of a ServiceAccount of its
// own, that its five followers may call.
func bookshop(n int, permissive bool) *meshtest.Facts {
	f := &meshtest.Facts{Permissive: permissive}
	account := func(i int) identity.ServiceAccount {
		i %= n
		return identity.ServiceAccount{Namespace: fmt.Sprint("ns-", i%10), Name: fmt.Sprintf("s%04d", i)}
	}
	for i := range n {
		a := account(i)
		labels := map[string]string{"app": a.Name}
		f.Services = append(f.Services, meshtest.Service{Name: a.String(), Selector: labels, Ports: []meshtest.Port{{Number: 80, Target: 8080}}})
		f.Pods = append(f.Pods, meshtest.Pod{Name: a.String() + "-1", Account: a.Name, Labels: labels})
		meta := metav1.ObjectMeta{Namespace: a.Namespace, Name: a.Name}
		meshtest.Put(&f.Policies.HTTPRouteGroups, meta, specsv1alpha4.HTTPRouteGroupSpec{Matches: []specsv1alpha4.HTTPMatch{
			{Name: "read", PathRegex: "/books/[0-9]+", Methods: []string{"GET", "HEAD"}},
			{Name: "buy", PathRegex: "/books/[0-9]+/buy", Methods: []string{"POST"}},
		}})
		meshtest.Put(&f.Policies.TrafficTargets, meta, accessv1alpha3.TrafficTargetSpec{
			Destination: subjects(a)[0],
			Sources:     subjects(account(i+1), account(i+2), account(i+3), account(i+4), account(i+5)),
			Rules:       []accessv1alpha3.TrafficTargetRule{{Kind: "HTTPRouteGroup", Name: a.Name}},
		})
	}
	return f
}
