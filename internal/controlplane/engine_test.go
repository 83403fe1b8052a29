package controlplane_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/controlplane"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// sent is what an Engine handed on.
type sent struct {
	mu sync.Mutex
	// Protected by mu.
	classes map[string]*resource.Set
	shared  map[string]*resource.Resource
	moved   map[string]string
	log     []string
	// resources counts those that differ from what was handed on before: what proxies
	// that have everything are sent.
	resources int
	// unsettled, if set, is waited for by whoever asks whether proxies have settled.
	unsettled chan struct{}
}

func newSent() *sent {
	return &sent{classes: map[string]*resource.Set{}, shared: map[string]*resource.Resource{}, moved: map[string]string{}}
}

// SetClass implements controlplane.Cache.
func (s *sent) SetClass(id string, set *resource.Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, "class "+id)
	s.resources += differing(s.classes[id], set)
	s.classes[id] = set
}

// differing counts the resources that are new in a set, changed or gone.
func differing(old, set *resource.Set) int {
	count := 0
	for _, kind := range []string{resource.ListenerType, resource.RouteType, resource.ClusterType, resource.SecretType} {
		for name, r := range set.All(kind) {
			if old == nil || old.Get(kind, name) == nil || old.Get(kind, name).Version != r.Version {
				count++
			}
		}
		if old == nil {
			continue
		}
		for name := range old.All(kind) {
			if set.Get(kind, name) == nil {
				count++
			}
		}
	}
	return count
}

// DeleteClass implements controlplane.Cache.
func (s *sent) DeleteClass(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, "no class "+id)
	delete(s.classes, id)
}

// SetShared implements controlplane.Cache.
func (s *sent) SetShared(name string, r *resource.Resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.shared[name]
	switch {
	case r == nil:
		s.log = append(s.log, "no endpoints "+name)
		delete(s.shared, name)
		return
	case old == nil || old.Version != r.Version: // the cache sends nothing else
		s.log = append(s.log, "endpoints "+name)
		s.resources++
	}
	s.shared[name] = r
}

// Move implements controlplane.Cache.
func (s *sent) Move(podUID, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved[podUID] = id
}

// Settled implements controlplane.Cache.
func (s *sent) Settled(ctx context.Context, _ string, _ ...string) error {
	s.mu.Lock()
	gate := s.unsettled
	s.mu.Unlock()
	if gate == nil {
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take returns what was handed on since it was called last.
func (s *sent) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.log
	s.log = nil
	slices.Sort(out)
	return out
}

// versions are those of all that was handed on, by what it is.
func (s *sent) versions() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	for id, set := range s.classes {
		for _, kind := range []string{resource.ListenerType, resource.RouteType, resource.ClusterType, resource.SecretType} {
			for name, r := range set.All(kind) {
				out[id+" "+kind+" "+name] = r.Version
			}
		}
		for name := range set.References() {
			out[id+" refers to "+name] = ""
		}
	}
	for name, r := range s.shared {
		out["endpoints "+name] = r.Version
	}
	return out
}

// addresses are those in a load assignment.
func (s *sent) addresses(t *testing.T, name string) []string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.shared[name]
	if r == nil {
		t.Fatalf("there is no load assignment %s among %q", name, slices.Sorted(maps.Keys(s.shared)))
	}
	var a endpointv3.ClusterLoadAssignment
	if err := proto.Unmarshal(r.Body, &a); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range a.GetEndpoints() {
		for _, e := range l.GetLbEndpoints() {
			out = append(out, e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
		}
	}
	return out
}

// world is a State, and an Engine that follows it.
type world struct {
	state  *mesh.State
	engine *controlplane.Engine
	sent   *sent
	gone   []string
	told   [][]policy.ObjectReport
	// Classes are counted that were compiled, and that were found sound by an audit or not.
	recompiled, sound, unsound int
}

func newWorld(ctx context.Context, bundle []byte) *world {
	w := &world{state: mesh.NewState(settings(true)), sent: newSent()}
	w.engine = controlplane.NewEngine(controlplane.EngineOptions{
		Cache: w.sent, Gone: func(uid string) { w.gone = append(w.gone, uid) },
		Compiled:   func(r []policy.ObjectReport) { w.told = append(w.told, r) },
		Recompiled: func(classes int) { w.recompiled += classes },
		Audited: func(sound bool) {
			if sound {
				w.sound++
			} else {
				w.unsound++
			}
		},
	})
	w.engine.SetTrustBundle(ctx, bundle)
	return w
}

// apply brings facts all the way to what is sent, and returns what was.
func (w *world) apply(ctx context.Context, facts ...mesh.Fact) []string {
	w.state.Apply(facts...)
	if m, change := w.state.Publish(); !change.Empty() {
		w.engine.Update(ctx, m, change)
	}
	return w.sent.take()
}

func settings(permissive bool) mesh.Settings {
	s := mesh.DefaultSettings("osm", "osm-system", identity.DefaultTrustDomain)
	s.RetryPolicy = true
	s.Permissive = permissive
	return s
}

func key(name string) mesh.Key { return mesh.Key{Namespace: "shop", Name: name} }

func joined() mesh.Fact { return mesh.NamespaceFact{Name: "shop", Monitored: true} }

func service(name string, number byte, change ...func(*mesh.Service)) mesh.Fact {
	s := &mesh.Service{
		Key: key(name), ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, number})}, Selector: map[string]string{"app": name},
		Ports: []mesh.ServicePort{{Name: "http", Number: 80, TargetPort: 8080, Protocol: mesh.HTTP}},
	}
	for _, c := range change {
		c(s)
	}
	return mesh.ServiceFact{Key: s.Key, Service: s}
}

func pod(name, app, account string, number byte, change ...func(*mesh.Pod)) mesh.Fact {
	p := &mesh.Pod{
		Workload: mesh.Workload{
			Key: key(name), UID: "uid-" + name, ServiceAccount: identity.ServiceAccount{Namespace: "shop", Name: account}, Meshed: true,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, number})},
		},
		Labels: map[string]string{"app": app},
	}
	for _, c := range change {
		c(p)
	}
	return mesh.PodFact{Key: p.Key, Pod: p}
}

// slice has the pods of these names and numbers as endpoints.
func slice(service string, pods map[string]byte, change ...func(*mesh.SliceEndpoint)) mesh.Fact {
	s := &mesh.Slice{Key: key(service + "-1"), Service: key(service), Ports: map[string]uint16{"http": 8080}}
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		s.Endpoints = append(s.Endpoints, mesh.SliceEndpoint{
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, pods[name]})}, Ready: true, Serving: true, Pod: key(name),
		})
		for _, c := range change {
			c(&s.Endpoints[len(s.Endpoints)-1])
		}
	}
	return mesh.SliceFact{Key: s.Key, Slice: s}
}

const webEndpoints = "shop/web|80"

func TestEachChangeSendsWhatItConcerns(t *testing.T) {
	ctx, w := t.Context(), newWorld(t.Context(), pki.New(t).RootsPEM())
	if err := w.engine.Ready(); err == nil {
		t.Error("the engine is ready before it has a Model")
	}
	w.apply(ctx, joined(), service("web", 1), service("db", 2), pod("web-1", "web", "web", 1), pod("buyer", "buyer", "buyer", 9), slice("web", map[string]byte{"web-1": 1}))
	if err := w.engine.Ready(); err != nil {
		t.Error(err)
	}
	buyer := w.engine.Model().Workloads[key("buyer")].Class
	for _, step := range []struct {
		name  string
		facts []mesh.Fact
		want  []string
	}{
		{"an endpoint", []mesh.Fact{pod("web-2", "web", "web", 2), slice("web", map[string]byte{"web-1": 1, "web-2": 2})}, []string{"endpoints " + webEndpoints}},
		{"an endpoint of a pod that is not known yet", []mesh.Fact{slice("web", map[string]byte{"web-1": 1, "web-2": 2, "web-3": 3})}, nil},
		{"that pod", []mesh.Fact{pod("web-3", "web", "web", 3)}, []string{"endpoints " + webEndpoints}},
		{"a pod that is called as before", []mesh.Fact{pod("web-3", "web", "web", 3, func(p *mesh.Pod) { p.Terminating = true })}, nil},
		{"a pod that has left the mesh is called in clear", []mesh.Fact{pod("web-3", "web", "web", 3, func(p *mesh.Pod) { p.Meshed = false })}, []string{"endpoints " + webEndpoints}},
		{"endpoints that are not ready", []mesh.Fact{slice("web", map[string]byte{"web-1": 1}, func(e *mesh.SliceEndpoint) { e.Ready = false })}, []string{"endpoints " + webEndpoints}},
		{
			"a Service whose endpoints count all the same",
			[]mesh.Fact{service("web", 1, func(s *mesh.Service) { s.PublishNotReady = true })},
			[]string{"endpoints " + webEndpoints},
		},
		{"a pod that nobody calls", []mesh.Fact{pod("buyer-2", "buyer", "buyer", 8)}, nil},
		{"a Service that nothing else concerns", []mesh.Fact{service("cart", 3)}, []string{"class shop/buyer", "class shop/web", "endpoints shop/cart|80"}},
		{"a policy that changes nothing", []mesh.Fact{group("unused", "/")}, nil},
		{"a Service that is gone", []mesh.Fact{mesh.ServiceFact{Key: key("cart")}}, []string{"class shop/buyer", "class shop/web", "no endpoints shop/cart|80"}},
		{"the last pod of a class", []mesh.Fact{mesh.PodFact{Key: key("buyer")}, mesh.PodFact{Key: key("buyer-2")}}, []string{"no class shop/buyer"}},
	} {
		got := w.apply(ctx, step.facts...)
		for i := range got {
			if kind, id, ok := strings.Cut(got[i], "class "); ok {
				got[i] = kind + "class " + id[:strings.LastIndexByte(id, '/')]
			}
		}
		if diff := cmp.Diff(step.want, slices.Compact(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	if got := w.sent.moved["uid-buyer-2"]; got != buyer {
		t.Errorf("a new pod's proxy was put into class %q, want %q", got, buyer)
	}
	if !slices.Equal(w.gone, []string{"uid-buyer", "uid-buyer-2"}) && !slices.Equal(w.gone, []string{"uid-buyer-2", "uid-buyer"}) {
		t.Errorf("pods that are gone: %q", w.gone)
	}
	w.gone = nil
	w.apply(ctx, mesh.NamespaceFact{Name: "shop"})
	if len(w.gone) > 0 {
		t.Errorf("pods of a namespace that left the mesh lost their streams: %q", w.gone)
	}
}

func group(name, path string) mesh.Fact {
	return mesh.PolicyFact[specsv1alpha4.HTTPRouteGroupSpec]{Key: key(name), Object: &mesh.Object[specsv1alpha4.HTTPRouteGroupSpec]{
		Key: key(name), UID: name, Generation: 1, Spec: specsv1alpha4.HTTPRouteGroupSpec{Matches: []specsv1alpha4.HTTPMatch{{Name: "all", PathRegex: path}}},
	}}
}

// TestANewAccountWaits is about an endpoint whose certificate its callers would refuse
// until they know its ServiceAccount.
func TestANewAccountWaits(t *testing.T) {
	bundle := pki.New(t).RootsPEM()
	start := func(ctx context.Context) *world {
		w := newWorld(ctx, bundle)
		w.apply(ctx, joined(), service("web", 1), pod("web-1", "web", "web", 1), pod("buyer", "buyer", "buyer", 9), slice("web", map[string]byte{"web-1": 1}))
		w.sent.mu.Lock()
		w.sent.unsettled = make(chan struct{})
		w.sent.mu.Unlock()
		w.apply(ctx, pod("canary", "web", "canary", 2), slice("web", map[string]byte{"web-1": 1, "canary": 2}))
		return w
	}
	holds := func(t *testing.T, w *world, when string, want ...string) {
		t.Helper()
		if got := w.sent.addresses(t, webEndpoints); !slices.Equal(got, want) {
			t.Errorf("%s the endpoints are %q, want %q", when, got, want)
		}
	}
	t.Run("until its callers acknowledged their clusters", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := start(t.Context())
			synctest.Wait()
			holds(t, w, "before the acknowledgement", "10.0.0.1")
			w.apply(t.Context(), pod("web-3", "web", "web", 3), slice("web", map[string]byte{"web-1": 1, "canary": 2, "web-3": 3}))
			holds(t, w, "other endpoints do not wait:", "10.0.0.1", "10.0.0.3")
			close(w.sent.unsettled)
			w.engine.Wait()
			holds(t, w, "after the acknowledgement", "10.0.0.1", "10.0.0.2", "10.0.0.3")
		})
	})
	t.Run("but not for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := start(t.Context())
			time.Sleep(6 * time.Second)
			synctest.Wait()
			holds(t, w, "after a while", "10.0.0.1", "10.0.0.2")
		})
	})
	t.Run("and not if it is gone meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := start(t.Context())
			w.apply(t.Context(), mesh.PodFact{Key: key("canary")}, slice("web", map[string]byte{"web-1": 1}))
			close(w.sent.unsettled)
			w.engine.Wait()
			holds(t, w, "without it", "10.0.0.1")
		})
	})
}

func TestTheRootsAreSent(t *testing.T) {
	ctx, first, second := t.Context(), pki.New(t).RootsPEM(), pki.New(t).RootsPEM()
	w := newWorld(ctx, first)
	w.apply(ctx, joined(), pod("buyer", "buyer", "buyer", 9))
	before := w.sent.versions()
	w.engine.SetTrustBundle(ctx, first)
	if got := w.sent.take(); len(got) > 0 {
		t.Errorf("the same roots sent %q", got)
	}
	w.engine.SetTrustBundle(ctx, second)
	changed := 0
	for what, version := range w.sent.versions() {
		if before[what] != version {
			changed++
			if !strings.Contains(what, resource.SecretType) {
				t.Errorf("other roots changed %s", what)
			}
		}
	}
	if changed != 1 {
		t.Errorf("other roots changed %d resources, want the one that holds them", changed)
	}
}

func TestPlaceCatchesUp(t *testing.T) {
	ctx := t.Context()
	w := newWorld(ctx, pki.New(t).RootsPEM())
	w.engine.Place(key("buyer"), "uid-buyer", "") // before the first Model
	w.apply(ctx, joined(), pod("buyer", "buyer", "buyer", 9))
	w.sent.moved = map[string]string{}
	class := w.engine.Model().Workloads[key("buyer")].Class
	w.engine.Place(key("buyer"), "uid-buyer", class)
	w.engine.Place(key("buyer"), "another pod of that name", "")
	w.engine.Place(key("nobody"), "uid-nobody", "")
	if len(w.sent.moved) > 0 {
		t.Errorf("moved %v, though nobody is in the wrong class", w.sent.moved)
	}
	w.engine.Place(key("buyer"), "uid-buyer", "the class of before")
	if w.sent.moved["uid-buyer"] != class {
		t.Errorf("moved %v", w.sent.moved)
	}
}

// drawFacts draws a step of a small mesh's life.
func drawFacts(t *rapid.T) (about string, fact mesh.Fact) {
	name := rapid.SampledFrom([]string{"web", "web-v2", "db"}).Draw(t, "name")
	number := byte(rapid.IntRange(1, 5).Draw(t, "number"))
	gone := rapid.IntRange(0, 3).Draw(t, "gone") == 0
	kind := rapid.SampledFrom([]string{"namespace", "service", "pod", "slice", "group", "target", "split", "settings"}).Draw(t, "kind")
	podName := fmt.Sprintf("p%d", number)
	switch kind {
	case "namespace":
		return kind, mesh.NamespaceFact{Name: "shop", Monitored: !gone}
	case "service":
		if gone {
			return kind + name, mesh.ServiceFact{Key: key(name)}
		}
		unready := rapid.Bool().Draw(t, "publish unready")
		return kind + name, service(name, number, func(s *mesh.Service) { s.PublishNotReady = unready })
	case "pod":
		if gone {
			return kind + podName, mesh.PodFact{Key: key(podName)}
		}
		meshed := rapid.IntRange(0, 4).Draw(t, "meshed") > 0
		return kind + podName, pod(podName, name, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "account"), number, func(p *mesh.Pod) { p.Meshed = meshed })
	case "slice":
		pods := map[string]byte{}
		for i := range byte(6) {
			if rapid.Bool().Draw(t, "in") {
				pods[fmt.Sprintf("p%d", i)] = i
			}
		}
		ready := rapid.Bool().Draw(t, "ready")
		return kind + name, slice(name, pods, func(e *mesh.SliceEndpoint) { e.Ready, e.Serving = ready, ready })
	case "group":
		return kind, group("routes", rapid.SampledFrom([]string{"/", "/a.*", "("}).Draw(t, "path"))
	case "target":
		return kind, target(gone)
	case "split":
		return kind, split(gone, name)
	default:
		return kind, mesh.SettingsFact{Settings: settings(!gone)}
	}
}

func target(gone bool) mesh.Fact {
	f := mesh.PolicyFact[accessv1alpha3.TrafficTargetSpec]{Key: key("t")}
	if !gone {
		f.Object = &mesh.Object[accessv1alpha3.TrafficTargetSpec]{Key: f.Key, UID: "t", Generation: 1, Spec: accessv1alpha3.TrafficTargetSpec{
			Destination: accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: "shop", Name: "b"},
			Sources:     []accessv1alpha3.IdentityBindingSubject{{Kind: "ServiceAccount", Namespace: "shop", Name: "a"}},
			Rules:       []accessv1alpha3.TrafficTargetRule{{Kind: "HTTPRouteGroup", Name: "routes"}},
		}}
	}
	return f
}

func split(gone bool, back string) mesh.Fact {
	f := mesh.PolicyFact[splitv1alpha4.TrafficSplitSpec]{Key: key("s")}
	if !gone {
		f.Object = &mesh.Object[splitv1alpha4.TrafficSplitSpec]{Key: f.Key, UID: "s", Generation: 1, Spec: splitv1alpha4.TrafficSplitSpec{
			Service: "web", Backends: []splitv1alpha4.TrafficSplitBackend{{Service: back, Weight: 1}},
		}}
	}
	return f
}

// TestWhatIsSentDependsOnTheModelAlone compares an Engine that followed every step with
// one that sees only where they led.
func TestWhatIsSentDependsOnTheModelAlone(t *testing.T) {
	bundle := pki.New(t).RootsPEM()
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(ctx, bundle)
		last := map[string]mesh.Fact{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			about, fact := drawFacts(t)
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
		if n := len(w.engine.Failing()); n > 0 {
			t.Fatalf("%d things cannot be made: %v", n, w.engine.Failing())
		}
	})
}
