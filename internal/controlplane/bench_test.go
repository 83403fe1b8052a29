package controlplane_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/controlplane"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

// follower is a State, and an Engine with the cache that serves proxies.
type follower struct {
	state      *mesh.State
	engine     *controlplane.Engine
	recompiled int
}

func newFollower(ctx context.Context, bundle []byte) *follower {
	f := &follower{state: mesh.NewState(settings(true))}
	f.engine = controlplane.NewEngine(controlplane.EngineOptions{Cache: serve.NewCache(), Recompiled: func(n int) { f.recompiled += n }})
	f.engine.SetTrustBundle(ctx, bundle)
	return f
}

// apply does what the watcher does with facts.
func (f *follower) apply(ctx context.Context, facts ...mesh.Fact) {
	f.state.Apply(facts...)
	if m, change := f.state.Publish(); !change.Empty() {
		f.engine.Update(ctx, m, change)
	}
}

// BenchmarkEngine measures a change from the fact until what it concerns is in the cache
// that serves proxies: services of ten pods each, every service with a class of proxies
// and, where policies are enforced, with a TrafficTarget for five callers.
func BenchmarkEngine(b *testing.B) {
	bundle := pki.New(b).RootsPEM()
	for _, services := range []int{200, 1000} {
		m := mall{services: services, pods: 10}
		for _, mode := range []string{"enforced", "permissive"} {
			facts := m.facts(mode == "permissive")
			b.Run(fmt.Sprintf("scratch/%s/%d", mode, services), func(b *testing.B) {
				b.ReportAllocs()
				began := processor(b)
				for b.Loop() {
					newFollower(b.Context(), bundle).apply(b.Context(), facts...)
				}
				b.ReportMetric(float64((processor(b)-began).Microseconds())/float64(b.N), "cpu-us/op")
			})
			f := newFollower(b.Context(), bundle)
			f.apply(b.Context(), facts...)
			for _, event := range m.events() {
				b.Run(fmt.Sprintf("%s/%s/%d", event.name, mode, services), func(b *testing.B) {
					b.ReportAllocs()
					f.recompiled = 0
					n, began := 0, processor(b)
					for b.Loop() {
						f.apply(b.Context(), event.fact(n))
						n++
					}
					b.ReportMetric(float64((processor(b)-began).Microseconds())/float64(n), "cpu-us/op")
					b.ReportMetric(float64(f.recompiled)/float64(n), "classes/op")
				})
			}
		}
	}
}

// processor returns the time that this process has computed: on a machine that others use
// as well, it says more than the clock.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// event is something that happens to a mall again and again.
type event struct {
	name string
	fact func(n int) mesh.Fact
}

func (m mall) events() []event {
	return []event{
		{"endpoint", func(n int) mesh.Fact { return m.endpoints(0, n%2 == 1) }},
		{"target", func(n int) mesh.Fact { return object(shop(0), int64(n+2), m.target(0, 1, 2, 3, 4, 5+(n+1)%2)) }},
		{"service", func(n int) mesh.Fact {
			if n%2 == 1 {
				return mesh.ServiceFact{Key: key("more")}
			}
			return service("more", 1)
		}},
		{"pod of a known class", func(n int) mesh.Fact {
			if n%2 == 1 {
				return mesh.PodFact{Key: key(podName(0, 11))}
			}
			return m.pod(0, 11)
		}},
		{"nothing new", func(int) mesh.Fact { return m.service(1) }},
	}
}
