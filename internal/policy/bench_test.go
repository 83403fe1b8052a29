package policy_test

import (
	"fmt"
	"maps"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/mesh/meshtest"
	"github.com/openservicemesh/osm-operator/internal/policy"
)

// compileAll compiles every class, and returns how many proxies are others than before.
func compileAll(m *mesh.Model, c *policy.Compiler, before map[string]*ir.Proxy) (other int) {
	for id, class := range m.Classes {
		p := c.Proxy(class)
		if before[id] != p {
			before[id] = p
			other++
		}
	}
	return other
}

// BenchmarkCompile compiles a mesh in which every service has a proxy class and five
// callers: all of it, and again after one route of one service has changed.
func BenchmarkCompile(b *testing.B) {
	for _, services := range []int{100, 1000} {
		for _, permissive := range []bool{false, true} {
			mode := map[bool]string{false: "enforced", true: "permissive"}[permissive]
			facts := bookshop(services, permissive)
			m := facts.Model()
			b.Run(fmt.Sprintf("scratch/%s/%d", mode, services), func(b *testing.B) {
				b.ReportAllocs()
				destinations := 0
				for b.Loop() {
					c := policy.New(m, bundle(), nil)
					destinations = 0
					for _, class := range m.Classes {
						destinations += len(c.Proxy(class).Outbound)
					}
				}
				b.ReportMetric(float64(destinations), "destinations")
			})
			b.Run(fmt.Sprintf("change/%s/%d", mode, services), func(b *testing.B) {
				b.ReportAllocs()
				c := policy.New(m, bundle(), nil)
				proxies := map[string]*ir.Proxy{}
				compileAll(m, c, proxies)
				other, n := 0, 0
				for b.Loop() {
					n++
					next := *m
					next.Policies.HTTPRouteGroups = oneOther(facts, n)
					c = policy.New(&next, bundle(), c)
					other += compileAll(&next, c, proxies)
				}
				b.ReportMetric(float64(other)/float64(n), "proxies/op")
			})
		}
	}
}

// oneOther returns the groups of some facts, one of them changed, as another map.
func oneOther(f *meshtest.Facts, n int) map[mesh.Key]*mesh.Object[specsv1alpha4.HTTPRouteGroupSpec] {
	meta := metav1.ObjectMeta{Namespace: "ns-0", Name: "s0000"}
	meshtest.Put(&f.Policies.HTTPRouteGroups, meta, specsv1alpha4.HTTPRouteGroupSpec{Matches: []specsv1alpha4.HTTPMatch{
		{Name: "read", PathRegex: fmt.Sprintf("/books/%d", n)},
	}})
	return maps.Clone(f.Policies.HTTPRouteGroups)
}

// BenchmarkOverlaps makes routes of targets whose matches all overlap.
func BenchmarkOverlaps(b *testing.B) {
	for _, n := range []int{40, 400, 4000} {
		m := overlapping(n).Model()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c := policy.New(m, bundle(), nil)
				compileAll(m, c, map[string]*ir.Proxy{})
			}
		})
	}
}
