package endpoints_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/xds/endpoints"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

var shop = mesh.Key{Namespace: "shop", Name: "cart"}

// model returns a mesh with one service, whose port 80 is 8080 in its pods.
func model(change func(*mesh.Service), items ...mesh.Endpoint) *mesh.Model {
	service := &mesh.Service{Key: shop, Ports: []mesh.ServicePort{{Number: 80, TargetPort: 8080, Protocol: mesh.HTTP}}}
	if change != nil {
		change(service)
	}
	m := &mesh.Model{
		Namespaces: map[string]*mesh.Namespace{"shop": {Name: "shop"}},
		Services:   map[mesh.Key]*mesh.Service{shop: service},
		Endpoints:  map[mesh.Key]*mesh.Endpoints{shop: {Service: shop, Items: items}},
		Workloads:  map[mesh.Key]*mesh.Workload{},
	}
	for _, e := range items {
		if e.Pod.Name == "" || e.Pod.Name == "unknown" {
			continue
		}
		m.Workloads[e.Pod] = &mesh.Workload{
			Key: e.Pod, Meshed: e.Pod.Name != "bare", Addresses: []netip.Addr{e.Address},
			ServiceAccount: identity.ServiceAccount{Namespace: "shop", Name: "sa-" + e.Pod.Name},
		}
	}
	return m
}

// at returns a ready endpoint of a meshed pod.
func at(address, pod string, changes ...func(*mesh.Endpoint)) mesh.Endpoint {
	e := mesh.Endpoint{
		Address: netip.MustParseAddr(address), Ports: map[uint16]uint16{80: 8080}, Ready: true, Serving: true,
		Pod: mesh.Key{Namespace: "shop", Name: pod},
	}
	if pod == "" {
		e.Pod = mesh.Key{}
	}
	for _, change := range changes {
		change(&e)
	}
	return e
}

func unready(e *mesh.Endpoint) { e.Ready, e.Serving = false, false }
func ending(e *mesh.Endpoint)  { e.Ready, e.Terminating = false, true }
func on(node, zone string, hints ...string) func(*mesh.Endpoint) {
	return func(e *mesh.Endpoint) { e.Node, e.Zone, e.ZoneHints = node, zone, hints }
}

func set(changes ...func(*ir.EndpointSet)) []ir.EndpointSet {
	s := ir.EndpointSet{Service: ir.ServicePort{Namespace: "shop", Name: "cart", Port: 80}}
	for _, change := range changes {
		change(&s)
	}
	return []ir.EndpointSet{s}
}

func TestBuild(t *testing.T) {
	t.Parallel()
	local := func(s *mesh.Service) { s.LocalOnly = true }
	zonal := func(s *mesh.Service) { s.PreferSameZone = true }
	nodal := func(s *mesh.Service) { s.PreferSameNode = true }
	here := func(s *ir.EndpointSet) { s.Node, s.Zone = "n1", "z1" }
	inZone1 := func(s *ir.EndpointSet) { s.Zone = "z1" }
	tests := map[string]struct {
		model *mesh.Model
		sets  []ir.EndpointSet
		want  []string
	}{
		"endpoints in the mesh say whose certificate they present": {
			model(nil, at("10.0.0.2", "b"), at("10.0.0.1", "a")), set(),
			[]string{"10.0.0.1:8080 shop/sa-a", "10.0.0.2:8080 shop/sa-b"},
		},
		"an endpoint outside the mesh says nothing": {
			model(nil, at("10.0.0.1", "bare"), at("10.0.0.2", ""), at("10.0.0.3", "far", func(e *mesh.Endpoint) { e.Pod.Namespace = "elsewhere" })), set(),
			[]string{"10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"},
		},
		"an endpoint whose pod is not known yet waits": {
			model(nil, at("10.0.0.1", "unknown"), at("10.0.0.2", "b")), set(), []string{"10.0.0.2:8080 shop/sa-b"},
		},
		"an endpoint of a pod that was there before waits": {
			func() *mesh.Model {
				m := model(nil, at("10.0.0.1", "a"))
				m.Endpoints[shop].Items[0].Address = netip.MustParseAddr("10.0.0.9")
				return m
			}(), set(), nil,
		},
		"IPv6 comes after IPv4": {
			model(nil, at("fd00::1", "six"), at("10.0.0.1", "a")), set(), []string{"10.0.0.1:8080 shop/sa-a", "[fd00::1]:8080 shop/sa-six"},
		},
		"endpoints that are not ready are left out": {
			model(nil, at("10.0.0.1", "a", unready), at("10.0.0.2", "b"), at("10.0.0.3", "c", ending)), set(), []string{"10.0.0.2:8080 shop/sa-b"},
		},
		"where none is ready, those that still serve while they end are called": {
			model(nil, at("10.0.0.1", "a", unready), at("10.0.0.3", "c", ending)), set(), []string{"10.0.0.3:8080 shop/sa-c"},
		},
		"where none serves, nobody is there": {
			model(nil, at("10.0.0.1", "a", unready)), set(), nil,
		},
		"a service may publish what is not ready": {
			model(func(s *mesh.Service) { s.PublishNotReady = true }, at("10.0.0.1", "a", unready), at("10.0.0.2", "b")), set(),
			[]string{"10.0.0.1:8080 shop/sa-a", "10.0.0.2:8080 shop/sa-b"},
		},
		"a service that is not there has no endpoints": {
			&mesh.Model{}, set(), nil,
		},
		"endpoints without the port are left out": {
			model(nil, at("10.0.0.1", "a", func(e *mesh.Endpoint) { e.Ports = map[uint16]uint16{81: 1} })), set(), nil,
		},
		"only the ServiceAccounts that are meant": {
			model(nil, at("10.0.0.1", "a"), at("10.0.0.2", "b"), at("10.0.0.3", "c"), at("10.0.0.4", "")),
			set(func(s *ir.EndpointSet) { s.ServiceAccounts = "shop/sa-a,shop/sa-c" }),
			[]string{"10.0.0.1:8080 shop/sa-a", "10.0.0.3:8080 shop/sa-c"},
		},
		"a ServiceAccount is not meant by a part of its name": {
			model(nil, at("10.0.0.1", "a")), set(func(s *ir.EndpointSet) { s.ServiceAccounts = "shop/sa-aa" }), nil,
		},
		"those that are not meant do not count as ready": {
			model(nil, at("10.0.0.1", "a", ending), at("10.0.0.2", "b")), set(func(s *ir.EndpointSet) { s.ServiceAccounts = "shop/sa-a" }),
			[]string{"10.0.0.1:8080 shop/sa-a"},
		},
		"only what is in the mesh": {
			model(nil, at("10.0.0.1", "a"), at("10.0.0.2", "bare"), at("10.0.0.3", "")), set(func(s *ir.EndpointSet) { s.MeshedOnly = true }),
			[]string{"10.0.0.1:8080 shop/sa-a"},
		},
		"a local service is called on the caller's node alone": {
			model(local, at("10.0.0.1", "a", on("n1", "z1")), at("10.0.0.2", "b", on("n2", "z1"))), set(here), []string{"10.0.0.1:8080 shop/sa-a"},
		},
		"a local service without an endpoint on the node has none": {
			model(local, at("10.0.0.2", "b", on("n2", "z1"))), set(here), nil,
		},
		"hints are followed": {
			model(nil, at("10.0.0.1", "a", on("n1", "z1", "z2")), at("10.0.0.2", "b", on("n2", "z2", "z1", "z3"))), set(inZone1), []string{"10.0.0.2:8080 shop/sa-b"},
		},
		"hints that not all endpoints have are not": {
			model(nil, at("10.0.0.1", "a", on("n1", "z1")), at("10.0.0.2", "b", on("n2", "z2", "z1"))), set(inZone1),
			[]string{"10.0.0.1:8080 shop/sa-a", "10.0.0.2:8080 shop/sa-b"},
		},
		"a zone without a hint of its own gets all": {
			model(nil, at("10.0.0.1", "a", on("n1", "z2", "z2")), at("10.0.0.2", "b", on("n2", "z3", "z3"))), set(inZone1),
			[]string{"10.0.0.1:8080 shop/sa-a", "10.0.0.2:8080 shop/sa-b"},
		},
		"the own zone is preferred where the service asks": {
			model(zonal, at("10.0.0.1", "a", on("n1", "z1")), at("10.0.0.2", "b", on("n2", "z2"))), set(inZone1), []string{"10.0.0.1:8080 shop/sa-a"},
		},
		"an own zone where nobody is ready is passed over": {
			model(zonal, at("10.0.0.1", "a", on("n1", "z1"), unready), at("10.0.0.2", "b", on("n2", "z2"))), set(inZone1), []string{"10.0.0.2:8080 shop/sa-b"},
		},
		"the own node is preferred where the service asks, then the own zone": {
			model(nodal, at("10.0.0.1", "a", on("n2", "z1")), at("10.0.0.2", "b", on("n3", "z2"))), set(here), []string{"10.0.0.1:8080 shop/sa-a"},
		},
		"what no endpoint has may pass": {
			model(nil, at("10.0.0.1", "a")), set(func(s *ir.EndpointSet) { s.Passthrough = true }),
			[]string{"10.0.0.1:8080 shop/sa-a", "passthrough"},
		},
		"an endpoint in several sets is there once": {
			model(nil, at("10.0.0.1", "a")), append(set(), set(func(s *ir.EndpointSet) { s.MeshedOnly = true })...), []string{"10.0.0.1:8080 shop/sa-a"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, read(t, tt.model, tt.sets)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestMetricsKnowEndpoints holds what metrics tell of each endpoint: its pod, as the host's
// name, and what made the pod.
func TestMetricsKnowEndpoints(t *testing.T) {
	t.Parallel()
	m := model(nil, at("10.0.0.1", "a"), at("10.0.0.2", "b"), at("10.0.0.3", "bare"), at("10.0.0.4", ""))
	for _, w := range m.Workloads {
		w.OwnerKind, w.OwnerName = "Deployment", "cart-v1"
	}
	m.Workloads[mesh.Key{Namespace: "shop", Name: "bare"}].OwnerKind = "StatefulSet"
	r, err := endpoints.Build(m, set())
	if err != nil {
		t.Fatal(err)
	}
	var a endpointv3.ClusterLoadAssignment
	if err := proto.Unmarshal(r.Body, &a); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range a.GetEndpoints()[0].GetLbEndpoints() {
		said := e.GetMetadata().GetFilterMetadata()[name.WorkloadMetadata].GetFields()
		got[e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress()] = fmt.Sprintf("%s of %s %s/%s", e.GetEndpoint().GetHostname(),
			said[name.KindKey].GetStringValue(), said[name.NamespaceKey].GetStringValue(), said[name.NameKey].GetStringValue())
	}
	want := map[string]string{
		"10.0.0.1": "a of Deployment shop/cart-v1", "10.0.0.2": "b of Deployment shop/cart-v1",
		"10.0.0.3": "bare of StatefulSet shop/cart-v1", "10.0.0.4": "unknown of  /",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNamesTellSetsApart(t *testing.T) {
	t.Parallel()
	sets := [][]ir.EndpointSet{
		set(),
		set(func(s *ir.EndpointSet) { s.Service.Port = 81 }),
		set(func(s *ir.EndpointSet) { s.ServiceAccounts = "shop/a" }),
		set(func(s *ir.EndpointSet) { s.ServiceAccounts = "shop/a,shop/b" }),
		set(func(s *ir.EndpointSet) { s.MeshedOnly = true }),
		set(func(s *ir.EndpointSet) { s.Zone = "z" }),
		set(func(s *ir.EndpointSet) { s.Node = "z" }),
		set(func(s *ir.EndpointSet) { s.Passthrough = true }),
		append(set(), set(func(s *ir.EndpointSet) { s.Zone = "z" })...),
		append(set(), set(func(s *ir.EndpointSet) { s.Node = "z" })...),
		nil,
	}
	seen := map[string]int{}
	for i, s := range sets {
		n := endpoints.Name(s)
		if j, ok := seen[n]; ok {
			t.Errorf("%v and %v are both called %q", s, sets[j], n)
		}
		seen[n] = i
	}
	if got := endpoints.Name(set()); got != "shop/cart|80" {
		t.Errorf("got %q", got)
	}
	both := sets[8]
	if a, b := endpoints.Name(both), endpoints.Name([]ir.EndpointSet{both[1], both[0], both[1]}); a != b {
		t.Errorf("the order and doubles make %q and %q", a, b)
	}
}

func TestTheOrderOfEndpointsDoesNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		items := drawItems(rt)
		change := func(s *mesh.Service) {
			s.LocalOnly = rapid.Bool().Draw(rt, "local")
			s.PreferSameZone = rapid.Bool().Draw(rt, "zonal")
			s.PublishNotReady = rapid.Bool().Draw(rt, "publish")
		}
		sets := set(func(s *ir.EndpointSet) {
			s.Node = rapid.SampledFrom([]string{"", "n1"}).Draw(rt, "node")
			s.Zone = rapid.SampledFrom([]string{"", "z1"}).Draw(rt, "zone")
			s.MeshedOnly = rapid.Bool().Draw(rt, "meshed only")
			s.Passthrough = rapid.Bool().Draw(rt, "passthrough")
		})
		m := model(change, items...)
		first, err := endpoints.Build(m, sets)
		if err != nil {
			rt.Fatal(err)
		}
		shuffled := *m
		shuffled.Endpoints = map[mesh.Key]*mesh.Endpoints{shop: {Service: shop, Items: rapid.Permutation(items).Draw(rt, "shuffled")}}
		again, err := endpoints.Build(&shuffled, sets)
		if err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(first.Body, again.Body) || first.Version != again.Version {
			rt.Errorf("another order gave another resource")
		}
		var a endpointv3.ClusterLoadAssignment
		if err := proto.Unmarshal(first.Body, &a); err != nil {
			rt.Fatal(err)
		}
		if err := a.ValidateAll(); err != nil {
			rt.Error(err)
		}
		plain, err := proto.MarshalOptions{Deterministic: true}.Marshal(&a)
		if err != nil {
			rt.Fatal(err)
		}
		if len(plain) != len(first.Body) {
			rt.Errorf("%d bytes for a message of %d", len(first.Body), len(plain))
		}
		if a.GetClusterName() != endpoints.Name(sets) || first.Name != a.GetClusterName() || first.TypeURL != resource.EndpointType {
			rt.Errorf("got %s %q for %q", first.TypeURL, first.Name, endpoints.Name(sets))
		}
	})
}

func drawItems(rt *rapid.T) []mesh.Endpoint {
	n := rapid.IntRange(0, 8).Draw(rt, "endpoints")
	items := make([]mesh.Endpoint, 0, n)
	for i := range n {
		pod := rapid.SampledFrom([]string{"", "bare", "unknown", "p"}).Draw(rt, "pod")
		if pod == "p" || pod == "bare" {
			pod += map[bool]string{true: fmt.Sprint(i)}[pod == "p"]
		}
		e := at(fmt.Sprintf("10.0.0.%d", i+1), pod)
		e.Ready = rapid.Bool().Draw(rt, "ready")
		e.Serving = e.Ready || rapid.Bool().Draw(rt, "serving")
		e.Terminating = !e.Ready && rapid.Bool().Draw(rt, "terminating")
		e.Node = rapid.SampledFrom([]string{"n1", "n2"}).Draw(rt, "runs on")
		e.Zone = rapid.SampledFrom([]string{"z1", "z2"}).Draw(rt, "runs in")
		e.ZoneHints = rapid.SliceOfN(rapid.SampledFrom([]string{"z1", "z2"}), 0, 2).Draw(rt, "hints")
		items = append(items, e)
	}
	return items
}

// read builds a load assignment and writes each endpoint as a line.
func read(t *testing.T, m *mesh.Model, sets []ir.EndpointSet) []string {
	t.Helper()
	r, err := endpoints.Build(m, sets)
	if err != nil {
		t.Fatal(err)
	}
	var a endpointv3.ClusterLoadAssignment
	if err := proto.Unmarshal(r.Body, &a); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, locality := range a.GetEndpoints() {
		for _, e := range locality.GetLbEndpoints() {
			said := e.GetMetadata().GetFilterMetadata()[name.TransportMetadata].GetFields()
			if said[name.PassthroughKey].GetStringValue() == "true" {
				out = append(out, "passthrough")
				continue
			}
			at := e.GetEndpoint().GetAddress().GetSocketAddress()
			line := netip.AddrPortFrom(netip.MustParseAddr(at.GetAddress()), uint16(at.GetPortValue())).String()
			account := said[name.MeshKey].GetStringValue()
			if (account != "") != (said[name.MeshedKey].GetStringValue() == "true") {
				t.Errorf("%s: the account is %q, but meshed is %v", line, account, said[name.MeshedKey])
			}
			if account != "" {
				line += " " + account
			}
			out = append(out, line)
		}
	}
	return out
}

func BenchmarkEndpoints(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			items := make([]mesh.Endpoint, 0, n)
			for i := range n {
				items = append(items, at(fmt.Sprintf("10.0.%d.%d", i/250, i%250+1), fmt.Sprintf("p%d", i)))
			}
			m := model(nil, items...)
			for _, w := range m.Workloads {
				w.ServiceAccount.Name = "cart"
			}
			sets := set()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := endpoints.Build(m, sets); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
