package controlplane_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// TestOnlyClassesThatDependAreCompiled counts, for each kind of event in a mesh of a
// thousand services, how many classes are compiled, how many of them are sent something
// else, how many load assignments are made, and how many resources differ in all of it.
func TestOnlyClassesThatDependAreCompiled(t *testing.T) {
	m := mall{services: 1000, pods: 2}
	ctx := t.Context()
	w := m.open(ctx, false, pki.New(t).RootsPEM())
	other := func(change func(*mesh.Settings)) mesh.Fact {
		s := settings(false)
		change(&s)
		return mesh.SettingsFact{Settings: s}
	}
	// Each step begins where the one before ended.
	for _, step := range []struct {
		name                    string
		facts                   []mesh.Fact
		compiled, sent, assigns int
		// resources is how many differ, counted for each class and each load assignment. Those
		// of a class that is new are all counted, though its proxies may have had them.
		resources int
	}{
		{name: "an endpoint", facts: []mesh.Fact{m.endpoints(5, false)}, assigns: 1, resources: 1},
		{name: "endpoints as they were", facts: []mesh.Fact{m.endpoints(5, false)}},
		{name: "a pod that ends", facts: []mesh.Fact{m.pod(5, 0, func(p *mesh.Pod) { p.Terminating = true })}},
		{name: "a pod as it was", facts: []mesh.Fact{m.pod(5, 1)}},
		{name: "a pod more of a class", facts: []mesh.Fact{m.pod(5, 2)}},
		{name: "a Service as it was", facts: []mesh.Fact{m.service(5)}},
		{name: "a node", facts: []mesh.Fact{mesh.NodeFact{Name: "n", Zone: "z"}}},
		{name: "a namespace with nothing in it", facts: []mesh.Fact{mesh.NamespaceFact{Name: "more", Monitored: true}}},
		{name: "settings as they were", facts: []mesh.Fact{other(func(*mesh.Settings) {})}},
		{name: "a setting that is not for proxies", facts: []mesh.Fact{other(func(s *mesh.Settings) { s.LeafLifetime = time.Hour })}},
		{name: "a TrafficTarget that says the same", facts: []mesh.Fact{object(shop(5), 2, m.target(5, 5, 4, 3, 2, 1))}},
		{name: "a TrafficTarget without one of its sources", facts: []mesh.Fact{object(shop(5), 3, m.target(5, 1, 2, 3, 4))}, compiled: 2, sent: 2, resources: 5},
		{name: "a TrafficTarget more", facts: []mesh.Fact{object("more", 1, m.target(5, 500))}, compiled: 2, sent: 2, resources: 5},
		{name: "a TrafficTarget that is gone", facts: []mesh.Fact{noObject[accessv1alpha3.TrafficTargetSpec](shop(5))}, compiled: 5, sent: 5, resources: 14},
		{name: "that TrafficTarget again", facts: []mesh.Fact{object(shop(5), 1, m.target(5, 1, 2, 3, 4, 5))}, compiled: 6, sent: 6, resources: 17},
		{name: "an HTTPRouteGroup", facts: []mesh.Fact{object(shop(5), 2, routes("/books"))}, compiled: 1, sent: 1, resources: 1},
		{name: "an HTTPRouteGroup that nobody names", facts: []mesh.Fact{object("more", 1, routes("/"))}},
		{name: "a TCPRoute that nobody names", facts: []mesh.Fact{object("more", 1, specsv1alpha4.TCPRouteSpec{})}},
		{name: "a TrafficSplit is for the callers of its root, and of its back ends", facts: []mesh.Fact{object("more", 1, splitOf(shop(5), shop(5), shop(700)))}, compiled: 6 + 5, sent: 6 + 5, resources: 16},
		{name: "weights of a TrafficSplit", facts: []mesh.Fact{object("more", 2, splitOf(shop(5), shop(5), shop(5), shop(700)))}, compiled: 6 + 5, sent: 6 + 5, resources: 11},
		{name: "a TrafficSplit that is gone", facts: []mesh.Fact{noObject[splitv1alpha4.TrafficSplitSpec]("more")}, compiled: 6 + 5, sent: 6 + 5, resources: 16},
		{name: "a Retry", facts: []mesh.Fact{object("more", 1, retryOf(shop(6), shop(5), 3))}, compiled: 1, sent: 1, resources: 1},
		{name: "a Retry of what is not called", facts: []mesh.Fact{object("other", 1, retryOf(shop(600), shop(5), 3))}},
		{name: "a bound of connections", facts: []mesh.Fact{object("more", 1, settingOf(shop(5), 9, 0))}, compiled: 6, sent: 6, resources: 6},
		{name: "a bound of requests", facts: []mesh.Fact{object("other", 1, settingOf(shop(8), 0, 9))}, compiled: 1, sent: 1, resources: 1},
		{name: "an Egress", facts: []mesh.Fact{object("routes", 1, routes("/")), object("more", 1, egressOf(shop(5), "a.example"))}, compiled: 1, sent: 1, resources: 3},
		{name: "an IngressBackend", facts: []mesh.Fact{object("more", 1, ingressOf(shop(5), shop(900)))}, compiled: 1, sent: 1, resources: 2},
		{name: "an endpoint of its gateway", facts: []mesh.Fact{mesh.SliceFact{Key: key(shop(900))}}, compiled: 1, sent: 1, assigns: 1, resources: 3},
		{name: "a Service that nobody may call", facts: []mesh.Fact{service("more", 1)}},
		{name: "a Service that selects pods of another", facts: []mesh.Fact{service("more", 1, func(s *mesh.Service) { s.Selector = map[string]string{"app": shop(100)} })}, compiled: 6, sent: 6, assigns: 1, resources: 38},
		{name: "a port of a Service", facts: []mesh.Fact{m.service(100, func(s *mesh.Service) { s.Ports[0].TargetPort = 8081 })}, compiled: 6, sent: 6, resources: 18},
		{name: "a setting of all proxies", facts: []mesh.Fact{other(func(s *mesh.Settings) { s.Tracing = &mesh.Tracing{Address: "jaeger", Port: 9411, Endpoint: "/"} })}, compiled: 1000, sent: 1000, resources: 7007},
	} {
		w.recompiled, w.sent.resources = 0, 0
		got := struct{ compiled, sent, assigns, resources int }{}
		for _, what := range w.apply(ctx, step.facts...) {
			switch what[0] {
			case 'c':
				got.sent++
			case 'e':
				got.assigns++
			}
		}
		got.compiled, got.resources = w.recompiled, w.sent.resources
		if want := (struct{ compiled, sent, assigns, resources int }{step.compiled, step.sent, step.assigns, step.resources}); got != want {
			t.Errorf("%s: (compiled, sent, assigned, resources) is %v, want %v", step.name, got, want)
		}
	}
}

// drawAny draws a step of a small mesh's life, with facts of every kind.
func drawAny(t *rapid.T) (about string, fact mesh.Fact) {
	gone := rapid.IntRange(0, 3).Draw(t, "gone") == 0
	name := func(what string) string { return rapid.SampledFrom([]string{"web", "web-v2", "db"}).Draw(t, what) }
	account := func(what string) string { return rapid.SampledFrom([]string{"a", "b"}).Draw(t, what) }
	one := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "object")
	number := int64(rapid.IntRange(0, 2).Draw(t, "number"))
	switch kind := rapid.SampledFrom([]string{"basic", "node", "tcp", "target", "split", "retry", "setting", "egress", "ingress", "service", "pod"}).Draw(t, "kind of fact"); kind {
	case "node":
		return kind, mesh.NodeFact{Name: "n", Zone: rapid.SampledFrom([]string{"", "z"}).Draw(t, "zone")}
	case "tcp":
		return kind, policyOf(gone, "routes", specsv1alpha4.TCPRouteSpec{Matches: specsv1alpha4.TCPMatch{Ports: []int{8080 + int(number)}}})
	case "target":
		spec := accessv1alpha3.TrafficTargetSpec{Destination: accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: "shop", Name: account("destination")}}
		for range 1 + number {
			spec.Sources = append(spec.Sources, accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: "shop", Name: account("source")})
			spec.Rules = append(spec.Rules, accessv1alpha3.TrafficTargetRule{Kind: rapid.SampledFrom([]string{"HTTPRouteGroup", "TCPRoute"}).Draw(t, "rule"), Name: "routes"})
		}
		return kind + one, policyOf(gone, one, spec)
	case "split":
		return kind + one, policyOf(gone, one, splitOf(name("root"), name("back end"), name("other back end")))
	case "retry":
		return kind + one, policyOf(gone, one, retryOf(account("source"), name("service"), number))
	case "setting":
		return kind + one, policyOf(gone, one, settingOf(name("service"), number, int64(rapid.IntRange(0, 2).Draw(t, "requests"))))
	case "egress":
		spec := egressOf(account("source"), "a.example")
		spec.Ports[0].Number += int(number)
		return kind + one, policyOf(gone, one, spec)
	case "ingress":
		return kind + one, policyOf(gone, one, ingressOf(name("back end"), name("gateway")))
	case "service":
		n := name("service")
		if gone {
			return kind + n, mesh.ServiceFact{Key: key(n)}
		}
		shape := rapid.IntRange(0, 5).Draw(t, "shape")
		return kind + n, service(n, byte(number), func(s *mesh.Service) { shapeService(s, shape) })
	case "pod":
		n := fmt.Sprintf("p%d", number)
		p := pod(n, name("app"), account("account"), byte(number), func(p *mesh.Pod) {
			p.Node, p.Scrape = "n", gone
			p.NamedPorts = map[string]uint16{"web": 8080 + uint16(number)}
		})
		return kind + n, p
	default:
		return drawFacts(t)
	}
}

func shapeService(s *mesh.Service, shape int) {
	switch shape {
	case 0:
		s.Headless, s.ClusterIPs = true, nil
	case 1:
		s.Ports[0].Protocol = mesh.TCP
	case 2:
		s.PreferSameZone = true
	case 3:
		s.Ports[0].TargetPort, s.Ports[0].TargetPortName = 0, "web"
	case 4:
		s.Ports = append(s.Ports, mesh.ServicePort{Name: "tcp", Number: 81, TargetPort: 8081, Protocol: mesh.TCPServerFirst})
	}
}

func policyOf[S mesh.PolicySpec](gone bool, name string, spec S) mesh.Fact {
	if gone {
		return noObject[S](name)
	}
	return object(name, 1, spec)
}

// TestIncrementalEqualsFromScratch compares an Engine that followed facts of every kind,
// step by step, with one that sees only where they led: to the byte, by the versions,
// and in what is said of policies.
func TestIncrementalEqualsFromScratch(t *testing.T) {
	bundle := pki.New(t).RootsPEM()
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(ctx, bundle)
		w.apply(ctx, joined())
		last := map[string]mesh.Fact{"namespace": joined()}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			about, fact := drawAny(t)
			last[about] = fact
			w.state.Apply(fact)
			if rapid.Bool().Draw(t, "publish") {
				w.apply(ctx)
			}
		}
		w.apply(ctx)
		w.engine.Wait()
		scratch := newWorld(ctx, bundle)
		scratch.apply(ctx, slices.Collect(maps.Values(last))...)
		scratch.engine.Wait()
		if diff := cmp.Diff(scratch.sent.versions(), w.sent.versions()); diff != "" {
			t.Fatalf("what is sent depends on the way (-at once +step by step):\n%s", diff)
		}
		if diff := cmp.Diff(lastOf(scratch.told), lastOf(w.told)); diff != "" {
			t.Fatalf("what is said depends on the way (-at once +step by step):\n%s", diff)
		}
		if n := len(w.engine.Failing()); n > 0 {
			t.Fatalf("%d things cannot be made: %v", n, w.engine.Failing())
		}
	})
}

func lastOf[T any](all []T) T {
	var none T
	if len(all) == 0 {
		return none
	}
	return all[len(all)-1]
}
