package policy_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/mesh/meshtest"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
)

func callers() []identity.ServiceAccount {
	var out []identity.ServiceAccount
	for _, namespace := range []string{"a", "b"} {
		for _, name := range []string{"x", "y", "z", "x.y"} {
			out = append(out, identity.ServiceAccount{Namespace: namespace, Name: name})
		}
	}
	return out
}

func TestRequestsEndAsThePoliciesSay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := maker{rt: rt}.facts().Model()
		c := policy.New(m, bundle(), nil)
		for id, class := range m.Classes {
			for _, port := range c.Proxy(class).Inbound {
				for _, caller := range callers() {
					for _, q := range requests() {
						want := reading{m}.of(caller, class.ServiceAccount, port, q)
						for _, apart := range each(port) {
							if got := proxied(caller, apart, q); got != want {
								rt.Fatalf("%s by %s to port %d of %s: %s, want %s", show(q), caller, port.Port, id, got, want)
							}
						}
					}
				}
			}
		}
	})
}

// each is a port as it is for each of the services behind it.
func each(port ir.InboundPort) []ir.InboundPort {
	out := []ir.InboundPort{port}
	for _, s := range port.Apart {
		port.Routes = s.Routes
		out = append(out, port)
	}
	return out
}

func show(q request) string { return q.method + " " + q.authority + q.path + " x=" + q.x }

// TestCallersReachWhatTheyMay compares destinations with the targets.
func TestCallersReachWhatTheyMay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := maker{rt: rt}.facts().Model()
		c := policy.New(m, bundle(), nil)
		for id, class := range m.Classes {
			reached := map[mesh.Key]bool{}
			for _, d := range c.Proxy(class).Outbound {
				reached[mesh.Key{Namespace: d.Service.Namespace, Name: d.Service.Name}] = true
				checkDestination(rt, m, class, d)
			}
			for key := range m.Services {
				least, most := reachable(m, class.ServiceAccount, key)
				if least && !reached[key] || reached[key] && !most {
					rt.Errorf("%s reaches %s: %t, want between %t and %t", id, key, reached[key], least, most)
				}
			}
		}
	})
}

// reachable says whether a caller must be able to call a Service, and whether it may be:
// a root of a split may, for the sake of its back ends.
func reachable(m *mesh.Model, caller identity.ServiceAccount, service mesh.Key) (least, most bool) {
	s := m.Services[service]
	if !s.Headless && len(s.ClusterIPs) == 0 {
		return false, false
	}
	least = m.Settings.Permissive || len(allowedOf(m, caller, service)) > 0
	root := false
	for _, o := range m.Policies.TrafficSplits {
		name, _, _ := strings.Cut(o.Spec.Service, ".")
		root = root || o.Namespace == service.Namespace && name == service.Name
	}
	return least, least || root
}

// allowedOf are the ServiceAccounts of a Service that a caller may call by any target.
func allowedOf(m *mesh.Model, caller identity.ServiceAccount, service mesh.Key) []identity.ServiceAccount {
	if m.Settings.Permissive {
		return m.ServiceAccounts[service]
	}
	var out []identity.ServiceAccount
	for _, account := range m.ServiceAccounts[service] {
		for _, target := range m.Policies.TrafficTargets {
			if (reading{m}).applies(target, caller, account) {
				out = append(out, account)
				break
			}
		}
	}
	return out
}

// checkDestination looks at every cluster: nothing outside the mesh in enforced mode,
// nothing in clear, nobody who is not allowed.
func checkDestination(rt *rapid.T, m *mesh.Model, class *mesh.Class, d *ir.Destination) {
	for c := range clusters(d) {
		set := c.Endpoints[0]
		service := mesh.Key{Namespace: set.Service.Namespace, Name: set.Service.Name}
		want := allowedOf(m, class.ServiceAccount, service)
		if !slices.Equal(c.Peers, want) {
			rt.Errorf("%s calls %s of %v, may call %v", class.ID, c.Name, c.Peers, want)
		}
		if enforced := !m.Settings.Permissive; set.MeshedOnly != enforced || c.Plaintext == enforced {
			rt.Errorf("%s is called in clear %t, outside the mesh %t", c.Name, c.Plaintext, !set.MeshedOnly)
		}
		if limited := set.ServiceAccounts != ""; limited != (len(want) < len(m.ServiceAccounts[service])) {
			rt.Errorf("%s is limited to %q of %v", c.Name, set.ServiceAccounts, m.ServiceAccounts[service])
		}
	}
}

func clusters(d *ir.Destination) map[*ir.Cluster]struct{} {
	out := map[*ir.Cluster]struct{}{}
	backends := slices.Clone(d.Backends)
	for _, r := range d.Routes {
		backends = append(backends, r.Backends...)
	}
	for _, b := range backends {
		if b.Cluster != nil {
			out[b.Cluster] = struct{}{}
		}
	}
	return out
}

func TestNamesAreUniqueAtAProxy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := maker{rt: rt}.facts().Model()
		c := policy.New(m, bundle(), nil)
		for _, class := range m.Classes {
			p := c.Proxy(class)
			byName := map[string]*ir.Cluster{}
			for _, d := range p.Outbound {
				for cluster := range clusters(d) {
					if other := byName[cluster.Name]; other != nil && other != cluster {
						rt.Fatalf("two clusters %s: %+v, %+v", cluster.Name, other, cluster)
					}
					byName[cluster.Name] = cluster
				}
			}
			for _, all := range p.Inbound {
				for _, port := range each(all) {
					names := map[string]bool{}
					for _, r := range port.Routes {
						if names[r.Name] {
							rt.Fatalf("two routes %s", r.Name)
						}
						names[r.Name] = true
					}
				}
			}
		}
	})
}

func TestTakingAwayAddsNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		f := maker{rt: rt}.facts()
		f.Permissive = false
		before := permissions(f.Model(), callers())
		less := *f
		targets := maps.Clone(f.Policies.TrafficTargets)
		if len(targets) == 0 {
			return
		}
		key := rapid.SampledFrom(slices.SortedFunc(maps.Keys(targets), mesh.CompareKeys)).Draw(rt, "taken target")
		if sources := targets[key].Spec.Sources; len(sources) > 0 && rapid.Bool().Draw(rt, "only a source") {
			o := *targets[key]
			i := rapid.IntRange(0, len(sources)-1).Draw(rt, "taken source")
			o.Spec.Sources = slices.Delete(slices.Clone(sources), i, i+1)
			targets[key] = &o
		} else {
			delete(targets, key)
		}
		less.Policies.TrafficTargets = targets
		for p := range permissions(less.Model(), callers()) {
			if !before[p] {
				rt.Errorf("allowed since %s was taken away: %q", key, p)
			}
		}
	})
}

func TestPermissiveModeAllowsAllThatEnforcedModeDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		f := maker{rt: rt}.facts()
		f.Permissive = true
		all := permissions(f.Model(), callers())
		f.Permissive = false
		for p := range permissions(f.Model(), callers()) {
			if !all[p] {
				rt.Errorf("allowed in enforced mode only: %q", p)
			}
		}
	})
}

// compiled is all that a Compiler says.
type compiled struct {
	Proxies map[string]*ir.Proxy
	Report  []policy.ObjectReport
}

func compile(m *mesh.Model, previous *policy.Compiler) (compiled, *policy.Compiler) {
	c := policy.New(m, bundle(), previous)
	out := compiled{Proxies: map[string]*ir.Proxy{}, Report: c.Report()}
	for id, class := range m.Classes { // in another order each time
		out.Proxies[id] = c.Proxy(class)
	}
	return out, c
}

func TestTheOrderOfFactsMakesNoDifference(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		f := maker{rt: rt}.facts()
		want, _ := compile(f.Model(), nil)
		other := *f
		other.Services = rapid.Permutation(f.Services).Draw(rt, "services")
		other.Pods = rapid.Permutation(f.Pods).Draw(rt, "pods")
		got, _ := compile(other.Model(), nil)
		if !reflect.DeepEqual(want, got) {
			rt.Error("another order gives something else")
		}
	})
}

// TestACompilerThatRemembersSaysTheSame changes some facts at a time.
func TestACompilerThatRemembersSaysTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		f := maker{rt: rt}.facts()
		last, c := compile(f.Model(), nil)
		for range rapid.IntRange(1, 4).Draw(rt, "changes") {
			f = changed(rt, f)
			want, _ := compile(f.Model(), nil)
			var got compiled
			got, c = compile(f.Model(), c)
			if !reflect.DeepEqual(want, got) {
				rt.Fatal("a Compiler that remembers says something else")
			}
			for id, p := range got.Proxies {
				if before := last.Proxies[id]; before != p && reflect.DeepEqual(before, p) {
					rt.Errorf("proxy %s is the same, and another pointer", id)
				}
			}
			last = got
		}
	})
}

// changed returns facts of which one part is another.
func changed(rt *rapid.T, f *meshtest.Facts) *meshtest.Facts {
	next, fresh := *f, maker{rt: rt}.facts()
	switch rapid.IntRange(0, 6).Draw(rt, "change") {
	case 0:
		next.Permissive = !f.Permissive
	case 1:
		next.Services = slices.Concat(f.Services[1:], f.Services[:0], fresh.Services[:1])
	case 2:
		next.Pods = fresh.Pods
	case 3:
		next.Policies.TrafficTargets = fresh.Policies.TrafficTargets
	case 4:
		next.Policies.HTTPRouteGroups = fresh.Policies.HTTPRouteGroups
	case 5:
		next.Policies.TrafficSplits = fresh.Policies.TrafficSplits
	}
	return &next
}

// hostile compiles anything, and translates it.
func hostile(rt *rapid.T) {
	m := maker{rt: rt, hostile: true}.facts().Model()
	c := policy.New(m, bundle(), nil)
	c.Report()
	for _, class := range m.Classes {
		if _, err := translate.New().Proxy(c.Proxy(class)); err != nil {
			rt.Errorf("what was compiled cannot be translated: %v", err)
		}
	}
}

func TestAnythingCompilesToWhatCanBeTranslated(t *testing.T) {
	t.Parallel()
	rapid.Check(t, hostile)
}

func FuzzAnythingCompilesToWhatCanBeTranslated(f *testing.F) { f.Fuzz(rapid.MakeFuzz(hostile)) }

// TestTooManyOverlapsAllowTheSame has more overlapping routes than are written out.
func TestTooManyOverlapsAllowTheSame(t *testing.T) {
	t.Parallel()
	m := overlapping(80).Model()
	p, _ := compile(m, nil)
	for id, class := range m.Classes {
		port := p.Proxies[id].Inbound[0]
		if len(port.Routes) != 1 || len(port.Routes[0].Also) != 80 {
			t.Fatalf("%d routes, want one with all grants", len(port.Routes))
		}
		for _, caller := range callers() {
			for _, q := range requests() {
				want := reading{m}.of(caller, class.ServiceAccount, port, q)
				if want == unknown {
					want = denied
				}
				if got := proxied(caller, port, q); got != want {
					t.Fatalf("%s by %s: %s, want %s", show(q), caller, got, want)
				}
			}
		}
	}
}

// overlapping has n targets for one destination, each with a match of its own that
// overlaps with all others, and with sources of its own.
func overlapping(n int) *meshtest.Facts {
	f := &meshtest.Facts{
		Services: []meshtest.Service{{Name: "a/s", Selector: map[string]string{"app": "s"}, Ports: []meshtest.Port{{Number: 80}}}},
		Pods:     []meshtest.Pod{{Name: "a/s", Account: "s", Labels: map[string]string{"app": "s"}}},
	}
	addOverlaps(f, n, callers())
	return f
}

func TestReportsAreSorted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := policy.New(maker{rt: rt}.facts().Model(), bundle(), nil).Report()
		for i := 1; i < len(r); i++ {
			a, b := r[i-1], r[i]
			if a.Kind > b.Kind || a.Kind == b.Kind && mesh.CompareKeys(a.Key, b.Key) >= 0 {
				rt.Fatal(cmp.Diff(a, b))
			}
		}
	})
}

func subjects(accounts ...identity.ServiceAccount) []accessv1alpha3.IdentityBindingSubject {
	out := make([]accessv1alpha3.IdentityBindingSubject, 0, len(accounts))
	for _, a := range accounts {
		out = append(out, accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: a.Namespace, Name: a.Name})
	}
	return out
}

// TestRoutesOfOneDestinationAddUp has many targets for one destination, whose matches
// are in each other's way.
func TestRoutesOfOneDestinationAddUp(t *testing.T) {
	t.Parallel()
	destination := identity.ServiceAccount{Namespace: "a", Name: "s"}
	sources := callers()[:3]
	rapid.Check(t, func(rt *rapid.T) {
		mk := maker{rt: rt}
		f := overlapping(0)
		for i := range 3 {
			meta := metav1.ObjectMeta{Namespace: "a", Name: fmt.Sprint("n", i)}
			spec := mk.routeGroup()
			for len(spec.Matches) < 2 {
				spec.Matches = append(spec.Matches, mk.routeGroup().Matches...)
			}
			meshtest.Put(&f.Policies.HTTPRouteGroups, meta, spec)
			meshtest.Put(&f.Policies.TrafficTargets, meta, accessv1alpha3.TrafficTargetSpec{
				Destination: subjects(destination)[0],
				Sources:     subjects(rapid.SampledFrom(sources).Draw(rt, "source")),
				Rules:       []accessv1alpha3.TrafficTargetRule{{Kind: "HTTPRouteGroup", Name: meta.Name}},
			})
		}
		m := f.Model()
		p, _ := compile(m, nil)
		port := p.Proxies["a/s s"].Inbound[0]
		for _, caller := range sources {
			for _, q := range requests() {
				if got, want := proxied(caller, port, q), (reading{m}).of(caller, destination, port, q); got != want {
					rt.Fatalf("%s by %s: %s, want %s", show(q), caller, got, want)
				}
			}
		}
	})
}
