package controlplane_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// BenchmarkEngine measures a change from fact to what is handed to the cache: services
// of ten pods each, and a class of proxies for each service.
func BenchmarkEngine(b *testing.B) {
	for _, services := range []int{100, 1000} {
		w := newWorld(b.Context(), pki.New(b).RootsPEM())
		w.state.Apply(joined())
		at := func(i, k int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(k), byte(i / 250), byte(i % 250)}) }
		endpoints := func(i int, ready bool) mesh.Fact {
			name := fmt.Sprintf("s%d", i)
			s := &mesh.Slice{Key: key(name), Service: key(name), Ports: map[string]uint16{"http": 8080}}
			for k := range 10 {
				s.Endpoints = append(s.Endpoints, mesh.SliceEndpoint{
					Addresses: []netip.Addr{at(i, k)}, Ready: k > 0 || ready, Pod: key(fmt.Sprintf("s%d-%d", i, k)),
				})
			}
			return mesh.SliceFact{Key: s.Key, Slice: s}
		}
		for i := range services {
			name := fmt.Sprintf("s%d", i)
			w.state.Apply(service(name, byte(i)), endpoints(i, true))
			for k := range 10 {
				p := fmt.Sprintf("s%d-%d", i, k)
				w.state.Apply(mesh.PodFact{Key: key(p), Pod: &mesh.Pod{
					Workload: mesh.Workload{
						Key: key(p), UID: p, Meshed: true, Addresses: []netip.Addr{at(i, k)}, ServiceAccount: identity.ServiceAccount{Namespace: "shop", Name: name},
					},
					Labels: map[string]string{"app": name},
				}})
			}
		}
		w.apply(b.Context())
		b.Run(fmt.Sprintf("an endpoint of %d services", services), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if got := w.apply(b.Context(), endpoints(0, i%2 == 1)); len(got) != 1 {
					b.Fatalf("%d things were sent", len(got))
				}
			}
		})
		b.Run(fmt.Sprintf("a service beside %d", services), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				fact := service("more", 1)
				if i%2 == 1 {
					fact = mesh.ServiceFact{Key: key("more")}
				}
				w.apply(b.Context(), fact)
			}
		})
	}
}
