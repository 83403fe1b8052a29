package mesh_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

func key(ns, name string) mesh.Key { return mesh.Key{Namespace: ns, Name: name} }

func settings() mesh.Settings { return mesh.DefaultSettings("osm", "osm-system", "cluster.local") }

func service(ns, name string, ports ...mesh.ServicePort) *mesh.Service {
	return &mesh.Service{
		Key: key(ns, name), ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
		Selector: map[string]string{"app": name}, Ports: ports,
	}
}

func pod(ns, name, app string, meshed bool) *mesh.Pod {
	return &mesh.Pod{
		Workload: mesh.Workload{
			Key: key(ns, name), UID: name, ServiceAccount: identity.ServiceAccount{Namespace: ns, Name: app}, Meshed: meshed,
		},
		Labels: map[string]string{"app": app}, NamedPorts: map[string]uint16{"web": 8080},
	}
}

func slice(ns, name, service, ip string, ready bool) *mesh.Slice {
	return &mesh.Slice{
		Key: key(ns, name), Service: key(ns, service), Ports: map[string]uint16{"http": 8080},
		Endpoints: []mesh.SliceEndpoint{{Addresses: []netip.Addr{netip.MustParseAddr(ip)}, Ready: ready, Serving: ready, Pod: key(ns, "p")}},
	}
}

var port = mesh.ServicePort{Name: "http", Number: 80, TargetPortName: "web", Protocol: mesh.HTTP} //nolint:gochecknoglobals // a constant

func TestStateJoins(t *testing.T) {
	s := mesh.NewState(settings())
	s.SetNamespace("shop", true)
	s.SetService(key("shop", "web"), service("shop", "web", port))
	s.SetPod(key("shop", "p"), pod("shop", "p", "web", true))
	s.SetSlice(key("shop", "web-1"), slice("shop", "web-1", "web", "10.0.0.2", true))
	s.SetService(key("else", "web"), service("else", "web", port))
	m, change := s.Publish()

	if len(change.Services) != 1 || len(change.Endpoints) != 1 || len(change.Classes) != 1 {
		t.Errorf("change is %+v, want one service with its endpoints and one class", change)
	}
	if _, ok := m.Services[key("else", "web")]; ok {
		t.Error("a Service of a namespace that is not in the mesh is in the model")
	}
	w := m.Workloads[key("shop", "p")]
	class := m.Classes[w.Class]
	if class == nil || class.NamedPorts["web"] != 8080 || !cmp.Equal(class.Services, []mesh.Key{key("shop", "web")}) {
		t.Fatalf("the pod's class is %+v", class)
	}
	if e := m.Endpoints[key("shop", "web")].Items; len(e) != 1 || e[0].Ports[80] != 8080 {
		t.Errorf("endpoints are %+v", e)
	}
	if got := m.ServiceAccounts[key("shop", "web")]; len(got) != 1 || got[0].Name != "web" {
		t.Errorf("the Service's accounts are %v", got)
	}
}

func TestChangeIsExact(t *testing.T) {
	s := mesh.NewState(settings())
	s.SetNamespace("shop", true)
	s.SetService(key("shop", "web"), service("shop", "web", port))
	s.SetService(key("shop", "db"), service("shop", "db", port))
	s.SetPod(key("shop", "p"), pod("shop", "p", "web", true))
	s.SetSlice(key("shop", "web-1"), slice("shop", "web-1", "web", "10.0.0.2", true))
	before, _ := s.Publish()

	steps := []struct {
		name string
		do   func()
		want string
	}{
		{"the same facts again change nothing", func() {
			s.SetService(key("shop", "web"), service("shop", "web", port))
			s.SetPod(key("shop", "p"), pod("shop", "p", "web", true))
			s.SetNamespace("shop", true)
		}, "endpoints 0 services 0 classes 0 workloads 0"},
		{"a label that nothing selects changes nothing", func() {
			p := pod("shop", "p", "web", true)
			p.Labels["team"] = "a"
			s.SetPod(key("shop", "p"), p)
		}, "endpoints 0 services 0 classes 0 workloads 0"},
		{"an endpoint changes its Service's endpoints alone", func() {
			s.SetSlice(key("shop", "web-1"), slice("shop", "web-1", "web", "10.0.0.3", true))
		}, "endpoints 1 services 0 classes 0 workloads 0"},
		{"a second pod of a class changes that pod alone", func() {
			s.SetPod(key("shop", "q"), pod("shop", "q", "web", true))
		}, "endpoints 0 services 0 classes 0 workloads 1"},
		{"the last pod takes its class with it", func() {
			s.SetPod(key("shop", "p"), nil)
			s.SetPod(key("shop", "q"), nil)
		}, "endpoints 0 services 1 classes 1 workloads 2"},
		{"a namespace that leaves takes all with it", func() { s.SetNamespace("shop", false) }, "endpoints 2 services 2 classes 0 workloads 0"},
	}
	for _, step := range steps {
		step.do()
		_, c := s.Publish()
		got := fmt.Sprintf("endpoints %d services %d classes %d workloads %d", len(c.Endpoints), len(c.Services), len(c.Classes), len(c.Workloads))
		if got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
	if len(before.Services) != 2 || before.Workloads[key("shop", "p")] == nil {
		t.Error("a Model that was published has changed")
	}
}

func TestPoliciesOfTheMeshOnly(t *testing.T) {
	s := mesh.NewState(settings())
	group := &mesh.Object[specsv1alpha4.HTTPRouteGroupSpec]{Key: key("shop", "routes"), UID: "1", Generation: 1}
	kind := func(p *mesh.Policies) *map[mesh.Key]*mesh.Object[specsv1alpha4.HTTPRouteGroupSpec] {
		return &p.HTTPRouteGroups
	}
	mesh.SetPolicy(s, kind, group.Key, group)
	m, _ := s.Publish()
	if len(m.Policies.HTTPRouteGroups) != 0 {
		t.Error("a policy of a namespace that is not in the mesh counts")
	}
	s.SetNamespace("shop", true)
	m, c := s.Publish()
	if len(m.Policies.HTTPRouteGroups) != 1 || !c.Namespaces {
		t.Error("a policy of a namespace that joined does not count")
	}
	mesh.SetPolicy(s, kind, group.Key, &mesh.Object[specsv1alpha4.HTTPRouteGroupSpec]{Key: group.Key, UID: "1", Generation: 1})
	if _, c := s.Publish(); !c.Empty() {
		t.Errorf("the same policy again is a change: %+v", c)
	}
}

// TestOrderDoesNotMatter gives the same facts in two orders, one of them with
// publishing in between.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type fact func(*mesh.State)
		var facts []fact
		for i := range rapid.IntRange(1, 8).Draw(t, "services") {
			ns, name := fmt.Sprintf("ns%d", i%2), fmt.Sprintf("s%d", i)
			facts = append(facts,
				func(s *mesh.State) { s.SetService(key(ns, name), service(ns, name, port)) },
				func(s *mesh.State) { s.SetPod(key(ns, name+"-pod"), pod(ns, name+"-pod", name, i%3 != 0)) },
				func(s *mesh.State) {
					s.SetSlice(key(ns, name+"-slice"), slice(ns, name+"-slice", name, fmt.Sprintf("10.0.0.%d", i+1), i%2 == 0))
				},
				func(s *mesh.State) { s.SetNamespace(ns, true) },
			)
		}
		once, often := mesh.NewState(settings()), mesh.NewState(settings())
		for _, f := range facts {
			f(once)
		}
		for _, f := range rapid.Permutation(facts).Draw(t, "order") {
			f(often)
			if rapid.Bool().Draw(t, "publish") {
				often.Publish()
			}
		}
		a, _ := once.Publish()
		b, _ := often.Publish()
		if diff := cmp.Diff(a, b, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
			t.Errorf("the order of facts matters:\n%s", diff)
		}
	})
}

func TestProtocolOf(t *testing.T) {
	for _, tc := range []struct {
		app, name string
		want      mesh.Protocol
	}{
		{"", "", mesh.HTTP}, {"", "tcp", mesh.HTTP}, {"", "tcp-x", mesh.TCP}, {"", "tcp-server-first-x", mesh.TCPServerFirst},
		{"", "grpc-x", mesh.HTTP}, {"HTTP", "tcp-x", mesh.HTTP}, {"https", "", mesh.TCP}, {"mysql", "http-x", mesh.TCP},
		{"kubernetes.io/h2c", "", mesh.HTTP}, {"kubernetes.io/wss", "", mesh.TCP}, {"gRPC", "", mesh.HTTP},
	} {
		if got := mesh.ProtocolOf(tc.app, tc.name); got != tc.want {
			t.Errorf("ProtocolOf(%q, %q) = %s, want %s", tc.app, tc.name, got, tc.want)
		}
	}
}

func BenchmarkPublishOneEndpoint(b *testing.B) {
	s := mesh.NewState(settings())
	for i := range 100 {
		ns := fmt.Sprintf("ns%d", i)
		s.SetNamespace(ns, true)
		for j := range 10 {
			name := fmt.Sprintf("s%d", j)
			s.SetService(key(ns, name), service(ns, name, port))
			for k := range 10 {
				p := fmt.Sprintf("%s-%d", name, k)
				s.SetPod(key(ns, p), pod(ns, p, name, true))
				s.SetSlice(key(ns, p), slice(ns, p, name, fmt.Sprintf("10.0.%d.%d", j, k), true))
			}
		}
	}
	s.Publish()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.SetSlice(key("ns0", "s0-0"), slice("ns0", "s0-0", "s0", fmt.Sprintf("10.1.0.%d", i%250), true))
		if _, c := s.Publish(); len(c.Endpoints) != 1 {
			b.Fatalf("changed %+v", c)
		}
	}
}
