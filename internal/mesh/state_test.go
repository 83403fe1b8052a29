package mesh_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

func key(ns, name string) mesh.Key { return mesh.Key{Namespace: ns, Name: name} }

func settings() mesh.Settings { return mesh.DefaultSettings("osm", "osm-system", "cluster.local") }

func namespace(name string) mesh.Fact { return mesh.NamespaceFact{Name: name, Monitored: true} }

func service(ns, name string, change ...func(*mesh.Service)) mesh.Fact {
	s := &mesh.Service{
		Key: key(ns, name), ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Selector: map[string]string{"app": name},
		Ports: []mesh.ServicePort{{Name: "http", Number: 80, TargetPortName: "web", Protocol: mesh.HTTP}},
	}
	for _, c := range change {
		c(s)
	}
	return mesh.ServiceFact{Key: s.Key, Service: s}
}

func pod(ns, name, app string, change ...func(*mesh.Pod)) mesh.Fact {
	p := &mesh.Pod{
		Workload: mesh.Workload{
			Key: key(ns, name), UID: name, ServiceAccount: identity.ServiceAccount{Namespace: ns, Name: app}, Meshed: true, Node: "n1",
		},
		Labels: map[string]string{"app": app}, NamedPorts: map[string]uint16{"web": 8080, "debug": 6060},
	}
	for _, c := range change {
		c(p)
	}
	return mesh.PodFact{Key: p.Key, Pod: p}
}

func slice(ns, name, service, ip string, change ...func(*mesh.Slice)) mesh.Fact {
	s := &mesh.Slice{
		Key: key(ns, name), Service: key(ns, service), Ports: map[string]uint16{"http": 8080},
		Endpoints: []mesh.SliceEndpoint{{Addresses: []netip.Addr{netip.MustParseAddr(ip)}, Ready: true, Serving: true, Pod: key(ns, "p")}},
	}
	for _, c := range change {
		c(s)
	}
	return mesh.SliceFact{Key: s.Key, Slice: s}
}

func publish(facts ...mesh.Fact) *mesh.Model {
	s := mesh.NewState(settings())
	s.Apply(facts...)
	m, _ := s.Publish()
	return m
}

func TestStateJoins(t *testing.T) {
	s := mesh.NewState(settings())
	s.Apply(
		pod("shop", "p", "web"), slice("shop", "web-1", "web", "10.0.0.2"), service("shop", "web"), namespace("shop"),
		service("else", "web"), pod("else", "p", "web"), mesh.NodeFact{Name: "n1", Zone: "a"},
	)
	m, change := s.Publish()
	want := mesh.Change{
		Namespaces: true, Services: map[mesh.Key]struct{}{key("shop", "web"): {}}, Endpoints: map[mesh.Key]struct{}{key("shop", "web"): {}},
		Workloads: map[mesh.Key]struct{}{key("shop", "p"): {}}, Classes: map[string]struct{}{m.Workloads[key("shop", "p")].Class: {}},
	}
	if diff := cmp.Diff(want, change); diff != "" {
		t.Errorf("the change (-want +got):\n%s", diff)
	}
	if _, ok := m.Services[key("else", "web")]; ok {
		t.Error("a Service of a namespace that is not in the mesh is in the model")
	}
	w := m.Workloads[key("shop", "p")]
	if w.Zone != "a" {
		t.Errorf("the pod's zone is %q", w.Zone)
	}
	wantClass := &mesh.Class{
		ID: w.Class, ServiceAccount: identity.ServiceAccount{Namespace: "shop", Name: "web"}, Services: []mesh.Key{key("shop", "web")},
		NamedPorts: map[string]uint16{"web": 8080},
	}
	if diff := cmp.Diff(wantClass, m.Classes[w.Class]); diff != "" {
		t.Errorf("the pod's class (-want +got):\n%s", diff)
	}
	wantEndpoints := []mesh.Endpoint{{
		Address: netip.MustParseAddr("10.0.0.2"), Ports: map[uint16]uint16{80: 8080}, Ready: true, Serving: true, Pod: key("shop", "p"),
	}}
	if diff := cmp.Diff(wantEndpoints, m.Endpoints[key("shop", "web")].Items, addresses()); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	if got := m.ServiceAccounts[key("shop", "web")]; !slices.Equal(got, []identity.ServiceAccount{{Namespace: "shop", Name: "web"}}) {
		t.Errorf("the Service's accounts are %v", got)
	}
}

func addresses() cmp.Option { return cmp.Comparer(func(a, b netip.Addr) bool { return a == b }) }

func TestChangeIsExact(t *testing.T) {
	steps := []struct {
		name  string
		facts []mesh.Fact
		want  string
	}{
		{"the same facts again change nothing", []mesh.Fact{
			namespace("shop"), service("shop", "web"), pod("shop", "p", "web"), slice("shop", "web-1", "web", "10.0.0.2"),
			mesh.SettingsFact{Settings: settings()},
		}, "endpoints 0 services 0 classes 0 workloads 0"},
		{"a fact that is taken back before it is published changes nothing", []mesh.Fact{
			service("shop", "web", func(s *mesh.Service) { s.Ports = nil }), service("shop", "web"),
		}, "endpoints 0 services 0 classes 0 workloads 0"},
		{"a label that nothing selects changes nothing", []mesh.Fact{
			pod("shop", "p", "web", func(p *mesh.Pod) { p.Labels["team"] = "a" }),
		}, "endpoints 0 services 0 classes 0 workloads 0"},
		{"what is outside the mesh changes nothing", []mesh.Fact{service("else", "web"), pod("else", "p", "web")}, "endpoints 0 services 0 classes 0 workloads 0"},
		{"an endpoint changes its Service's endpoints alone", []mesh.Fact{slice("shop", "web-1", "web", "10.0.0.3")}, "endpoints 1 services 0 classes 0 workloads 0"},
		{"a slice that changes hands changes both Services' endpoints", []mesh.Fact{slice("shop", "web-1", "db", "10.0.0.3")}, "endpoints 2 services 0 classes 0 workloads 0"},
		{"a second pod of a class changes that pod alone", []mesh.Fact{pod("shop", "q", "web")}, "endpoints 0 services 0 classes 0 workloads 1"},
		{"a pod of another account changes its Service", []mesh.Fact{
			pod("shop", "r", "web", func(p *mesh.Pod) { p.ServiceAccount.Name = "other" }),
		}, "endpoints 0 services 1 classes 1 workloads 1"},
		{"a pod that has ended is gone", []mesh.Fact{
			pod("shop", "r", "web", func(p *mesh.Pod) { p.ServiceAccount.Name, p.Ended = "other", true }),
		}, "endpoints 0 services 1 classes 1 workloads 1"},
		{"a Service that begins to select pods changes their class", []mesh.Fact{
			service("shop", "all", func(s *mesh.Service) { s.Selector = map[string]string{"app": "web"} }),
		}, "endpoints 1 services 1 classes 2 workloads 2"},
		{"a Service that no longer selects them too", []mesh.Fact{
			service("shop", "all", func(s *mesh.Service) { s.Selector = nil }),
		}, "endpoints 0 services 1 classes 2 workloads 2"},
		{"a Service that is gone", []mesh.Fact{mesh.ServiceFact{Key: key("shop", "all")}}, "endpoints 1 services 1 classes 0 workloads 0"},
		{"a node's zone changes the pods that run there", []mesh.Fact{mesh.NodeFact{Name: "n1", Zone: "b"}}, "endpoints 0 services 0 classes 0 workloads 2"},
		{"the last pod takes its class with it", []mesh.Fact{
			mesh.PodFact{Key: key("shop", "p")}, mesh.PodFact{Key: key("shop", "q")}, mesh.PodFact{Key: key("shop", "never was")},
		}, "endpoints 0 services 1 classes 1 workloads 2"},
		{"a namespace that leaves takes all with it", []mesh.Fact{mesh.NamespaceFact{Name: "shop"}}, "endpoints 2 services 2 classes 0 workloads 0 namespaces"},
	}
	s := mesh.NewState(settings())
	s.Apply(namespace("shop"), service("shop", "web"), service("shop", "db"), pod("shop", "p", "web"), slice("shop", "web-1", "web", "10.0.0.2"))
	before, _ := s.Publish()
	last := before
	for _, step := range steps {
		s.Apply(step.facts...)
		m, c := s.Publish()
		got := fmt.Sprintf("endpoints %d services %d classes %d workloads %d", len(c.Endpoints), len(c.Services), len(c.Classes), len(c.Workloads))
		if c.Namespaces {
			got += " namespaces"
		}
		if got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
		if c.Empty() != (m == last) {
			t.Errorf("%s: the change is empty: %t, but the model is the one before: %t", step.name, c.Empty(), m == last)
		}
		last = m
	}
	if len(before.Services) != 2 || before.Workloads[key("shop", "p")] == nil {
		t.Error("a Model that was published has changed")
	}
}

func TestEndpointsOfSeveralSlices(t *testing.T) {
	v6 := func(s *mesh.Slice) { s.Ports = map[string]uint16{"http": 8081} }
	unready := func(s *mesh.Slice) { s.Endpoints[0].Ready = false }
	m := publish(
		namespace("shop"), service("shop", "web"),
		slice("shop", "web-2", "web", "10.0.0.9"), slice("shop", "web-v6", "web", "fd00::2", v6), slice("shop", "web-1", "web", "10.0.0.2"),
		slice("shop", "web-moved", "web", "10.0.0.9", unready),
	)
	var got []string
	for _, e := range m.Endpoints[key("shop", "web")].Items {
		got = append(got, fmt.Sprintf("%s %d %t", e.Address, e.Ports[80], e.Ready))
	}
	want := []string{"10.0.0.2 8080 true", "10.0.0.9 8080 true", "fd00::2 8081 true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("endpoints of both families, each once and the ready one first (-want +got):\n%s", diff)
	}
}

func TestPortsOfHeadlessEndpoints(t *testing.T) {
	headless := func(s *mesh.Service) { s.Headless, s.ClusterIPs = true, nil }
	moved := func(s *mesh.Slice) { s.Ports = map[string]uint16{"http": 9090} }
	s := mesh.NewState(settings())
	s.Apply(namespace("shop"), service("shop", "web", headless), service("shop", "vip"), slice("shop", "vip-1", "vip", "10.0.0.9"))
	for _, step := range []struct {
		name    string
		with    mesh.Fact
		want    []uint16
		changed int
	}{
		{"no endpoints", service("shop", "web", headless), nil, 2},
		{"the first endpoints tell the port", slice("shop", "web-1", "web", "10.0.0.2"), []uint16{8080}, 1},
		{"more endpoints on the same port change nothing of the Service", slice("shop", "web-2", "web", "10.0.0.3"), []uint16{8080}, 0},
		{"endpoints on another port add it", slice("shop", "web-2", "web", "10.0.0.3", moved), []uint16{8080, 9090}, 1},
		{"a slice of another Service does not", slice("shop", "vip-1", "vip", "10.0.0.9", moved), []uint16{8080, 9090}, 0},
		{"endpoints that go take their port with them", mesh.SliceFact{Key: key("shop", "web-1")}, []uint16{9090}, 1},
		{"endpoints that are another Service's now too", slice("shop", "web-2", "vip", "10.0.0.3", moved), nil, 1},
	} {
		s.Apply(step.with)
		m, c := s.Publish()
		if got := m.Services[key("shop", "web")].Ports[0].PodPorts; !slices.Equal(got, step.want) {
			t.Errorf("%s: %v, want %v", step.name, got, step.want)
		}
		if len(c.Services) != step.changed {
			t.Errorf("%s: %d Services changed, want %d", step.name, len(c.Services), step.changed)
		}
		if got := m.Services[key("shop", "vip")].Ports[0].PodPorts; got != nil {
			t.Errorf("%s: a Service with an address has %v", step.name, got)
		}
	}
}

func TestClassesByLocality(t *testing.T) {
	base := []mesh.Fact{
		namespace("shop"),
		mesh.NodeFact{Name: "n1", Zone: "a"},
		mesh.NodeFact{Name: "n2", Zone: "b"},
		pod("shop", "p", "web"), pod("shop", "q", "web", func(p *mesh.Pod) { p.Node = "n2" }),
	}
	for _, tc := range []struct {
		name string
		with mesh.Fact
		want int
	}{
		{"without a Service that asks, pods of all zones share a class", service("shop", "db"), 1},
		{"a Service that prefers its zone parts them", service("shop", "db", func(s *mesh.Service) { s.PreferSameZone = true }), 2},
		{"a Service with zone hints too", service("shop", "db", func(s *mesh.Service) { s.ZoneHints = true }), 2},
		{"a Service for its own node too", service("shop", "db", func(s *mesh.Service) { s.LocalOnly = true }), 2},
		{"a Service outside the mesh does not", service("else", "db", func(s *mesh.Service) { s.LocalOnly = true }), 1},
	} {
		s := mesh.NewState(settings())
		s.Apply(base...)
		s.Publish()
		s.Apply(tc.with)
		m, _ := s.Publish()
		if len(m.Classes) != tc.want {
			t.Errorf("%s: %d classes, want %d", tc.name, len(m.Classes), tc.want)
		}
		if diff := cmp.Diff(publish(append(slices.Clone(base), tc.with)...), m, addresses()); diff != "" {
			t.Errorf("%s: later is not the same as at once (-at once +later):\n%s", tc.name, diff)
		}
	}
}

func TestPoliciesOfTheMeshOnly(t *testing.T) {
	k := key("shop", "x")
	created := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	facts := func(generation int64) []mesh.Fact {
		return []mesh.Fact{
			object[accessv1alpha3.TrafficTargetSpec](k, generation, created), object[specsv1alpha4.HTTPRouteGroupSpec](k, generation, created),
			object[specsv1alpha4.TCPRouteSpec](k, generation, created), object[splitv1alpha4.TrafficSplitSpec](k, generation, created),
			object[policyv1alpha1.EgressSpec](k, generation, created), object[policyv1alpha1.IngressBackendSpec](k, generation, created),
			object[policyv1alpha1.UpstreamTrafficSettingSpec](k, generation, created),
		}
	}
	count := func(m *mesh.Model) int {
		p := m.Policies
		return len(p.TrafficTargets) + len(p.HTTPRouteGroups) + len(p.TCPRoutes) + len(p.TrafficSplits) + len(p.Egresses) + len(p.IngressBackends) + len(p.UpstreamTrafficSettings)
	}
	s := mesh.NewState(settings())
	s.Apply(facts(1)...)
	if m, c := s.Publish(); count(m) != 0 || !c.Empty() {
		t.Errorf("%d policies of a namespace that is not in the mesh count: %+v", count(m), c)
	}
	s.Apply(object[policyv1alpha1.RetrySpec](k, 1, created))
	if m, c := s.Publish(); len(m.Policies.Retries) != 1 || !c.Policies {
		t.Error("a Retry does not count where it is")
	}
	s.Apply(namespace("shop"))
	if m, c := s.Publish(); count(m) != 7 || !c.Policies {
		t.Errorf("%d policies of a namespace that joined count, want 7: %+v", count(m), c)
	}
	s.Apply(facts(1)...)
	if _, c := s.Publish(); !c.Empty() {
		t.Errorf("the same policies again are a change: %+v", c)
	}
	for _, f := range facts(2) {
		s.Apply(f)
		if _, c := s.Publish(); !c.Policies {
			t.Errorf("a new generation is no change: %T", f)
		}
	}
	s.Apply(mesh.PolicyFact[specsv1alpha4.TCPRouteSpec]{Key: k})
	if m, c := s.Publish(); count(m) != 6 || !c.Policies {
		t.Error("a policy that was deleted counts")
	}
}

func object[S mesh.PolicySpec](k mesh.Key, generation int64, created time.Time) mesh.Fact {
	return mesh.PolicyFact[S]{Key: k, Object: &mesh.Object[S]{Key: k, UID: "1", Generation: generation, Created: created}}
}

func TestClassIDsDiffer(t *testing.T) {
	changes := map[string]func(*mesh.Pod){
		"nothing":     func(*mesh.Pod) {},
		"the account": func(p *mesh.Pod) { p.ServiceAccount.Name = "x" },
		"the Service": func(p *mesh.Pod) { p.Labels["app"] = "db" },
		"the port":    func(p *mesh.Pod) { p.NamedPorts["web"] = 9 },
		"scraping":    func(p *mesh.Pod) { p.Scrape = true },
	}
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		m := publish(namespace("shop"), service("shop", "web"), service("shop", "db"), pod("shop", "p", "web", changes[name]))
		id := m.Workloads[key("shop", "p")].Class
		if other, ok := seen[id]; ok {
			t.Errorf("pods that differ in %s and in %s have one class", name, other)
		}
		seen[id] = name
	}
	same := publish(namespace("shop"), service("shop", "web"), pod("shop", "other", "web", func(p *mesh.Pod) {
		p.UID, p.Node, p.Labels["team"], p.NamedPorts["debug"] = "other", "n2", "b", 1
	}))
	if _, ok := seen[same.Workloads[key("shop", "other")].Class]; !ok {
		t.Error("pods that differ in nothing that matters have two classes")
	}
}

func TestProtocolOf(t *testing.T) {
	for _, tc := range []struct {
		app, name string
		want      mesh.Protocol
	}{
		{"", "", mesh.HTTP},
		{"", "tcp", mesh.HTTP},
		{"", "tcp-x", mesh.TCP},
		{"", "tcp-server-first-x", mesh.TCPServerFirst},
		{"", "grpc-x", mesh.HTTP},
		{"", "mysql-x", mesh.HTTP},
		{"HTTP", "tcp-x", mesh.HTTP},
		{"https", "", mesh.TCP},
		{"TLS", "", mesh.TCP},
		{"mysql", "http-x", mesh.TCP},
		{"tcp-server-first", "http-x", mesh.TCPServerFirst},
		{"http2", "", mesh.HTTP},
		{"kubernetes.io/h2c", "", mesh.HTTP},
		{"kubernetes.io/ws", "", mesh.HTTP},
		{"kubernetes.io/wss", "", mesh.TCP},
		{"gRPC", "", mesh.HTTP},
	} {
		if got := mesh.ProtocolOf(tc.app, tc.name); got != tc.want {
			t.Errorf("ProtocolOf(%q, %q) = %s, want %s", tc.app, tc.name, got, tc.want)
		}
	}
}

// BenchmarkPublishOneEndpoint changes one endpoint of 1,000 Services with 10,000 pods.
func BenchmarkPublishOneEndpoint(b *testing.B) {
	for _, namespaces := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d namespaces", namespaces), func(b *testing.B) {
			s := mesh.NewState(settings())
			for i := range 1000 {
				ns, name := fmt.Sprintf("ns%d", i%namespaces), fmt.Sprintf("s%d", i)
				s.Apply(namespace(ns), service(ns, name))
				for k := range 10 {
					p := fmt.Sprintf("%s-%d", name, k)
					s.Apply(pod(ns, p, name), slice(ns, p, name, fmt.Sprintf("10.%d.%d.%d", k, i/250, i%250)))
				}
			}
			s.Publish()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Apply(slice("ns0", "s0-0", "s0", fmt.Sprintf("10.100.0.%d", i%250)))
				if _, c := s.Publish(); len(c.Endpoints) != 1 {
					b.Fatalf("changed %+v", c)
				}
			}
		})
	}
}
