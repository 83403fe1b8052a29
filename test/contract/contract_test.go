package contract

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/mesh/meshtest"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/xds/endpoints"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
	"github.com/openservicemesh/osm-operator/test/contract/reading"
	"github.com/openservicemesh/osm-operator/test/contract/wire"
)

// TestCallsEndAsIsPromised draws objects that are accepted, and calls: each ends, by what
// proxies are sent, where the plain reading of the objects says.
func TestCallsEndAsIsPromised(t *testing.T) {
	t.Parallel()
	rapid.Check(t, compare)
}

func FuzzCallsEndAsIsPromised(f *testing.F) { f.Fuzz(rapid.MakeFuzz(compare)) }

func compare(rt *rapid.T) {
	d := drawer{rt}
	m := d.mesh()
	network, err := networkOf(m)
	defer d.show(m)
	if err != nil {
		rt.Fatal(err)
	}
	var meshed []*reading.Pod
	for i := range m.Pods {
		if m.Pods[i].Meshed {
			meshed = append(meshed, &m.Pods[i])
		}
	}
	for range d.number("calls", 16) {
		c := d.call(m, meshed)
		got, err := network.Ends(c)
		if err != nil {
			rt.Fatal(err)
		}
		if want := m.Ends(c); !alike(want, got) {
			rt.Errorf("%s/%s (%s) calls %s:%d, %s %+v %s:\n%v\nwant %v", c.From.Namespace, c.From.Name, c.From.Account, c.Address, c.Port, c.Speaks, c.Request, c.ServerName, got, want)
		}
	}
	for range d.number("calls of gateways", 6) {
		g := d.gateway(meshed)
		got, err := network.Enters(g)
		if err != nil {
			rt.Fatal(err)
		}
		if want := (reading.Shares{m.Enters(g): 1}); !alike(want, got) {
			rt.Errorf("%s with %q calls %s/%s:%d, %s %+v %s:\n%v\nwant %v", g.Source, g.Certificate, g.To.Namespace, g.To.Name, g.Port, g.Speaks, g.Request, g.ServerName, got, want)
		}
	}
}

// show writes down what was drawn, as it would be applied.
func (d drawer) show(m *reading.Mesh) {
	if !d.Failed() {
		return
	}
	if all, err := json.Marshal(m); err == nil {
		d.Logf("%s", all)
	}
}

// alike compares shares. Weights become whole numbers, and fractions of a million.
func alike(a, b reading.Shares) bool {
	for _, of := range []reading.Shares{a, b} {
		for end := range of {
			if math.Abs(a[end]-b[end]) > 1e-5 {
				return false
			}
		}
	}
	return true
}

// networkOf compiles and translates all that the objects say, and hands each pod what its
// proxy would be sent.
func networkOf(m *reading.Mesh) (*wire.Network, error) {
	model := factsOf(m).Model()
	compiler, translator := policy.New(model, []byte("roots"), nil), translate.New()
	proxies, pods := map[string]*wire.Proxy{}, map[netip.Addr]*wire.Pod{}
	for i := range m.Pods {
		p := &m.Pods[i]
		w := model.Workloads[mesh.Key{Namespace: p.Namespace, Name: p.Name}]
		p.Address = w.Addresses[0]
		pod := &wire.Pod{URI: fmt.Sprintf("spiffe://cluster.local/ns/%s/sa/%s", p.Namespace, p.Account)}
		pods[p.Address] = pod
		if !p.Meshed {
			continue
		}
		if proxies[w.Class] == nil {
			made, err := proxyOf(model, compiler, translator, model.Classes[w.Class])
			if err != nil {
				return nil, fmt.Errorf("the proxy of %s/%s: %w", p.Namespace, p.Name, err)
			}
			proxies[w.Class] = made
		}
		pod.Proxy = proxies[w.Class]
	}
	return wire.NewNetwork(pods), nil
}

func proxyOf(model *mesh.Model, compiler *policy.Compiler, translator *translate.Translator, class *mesh.Class) (*wire.Proxy, error) {
	set, err := translator.Proxy(compiler.Proxy(class))
	if err != nil {
		return nil, err
	}
	var assignments []*resource.Resource
	for _, sets := range set.References() {
		a, err := endpoints.Build(model, sets)
		if err != nil {
			return nil, err
		}
		assignments = append(assignments, a)
	}
	return wire.NewProxy(set, assignments)
}

// factsOf are the same objects as the control plane comes to know of them.
func factsOf(m *reading.Mesh) *meshtest.Facts {
	f := &meshtest.Facts{Permissive: m.Permissive, Egress: m.Egress}
	for _, s := range m.Services {
		out := meshtest.Service{Name: s.Namespace + "/" + s.Name, Headless: s.Headless, ExternalName: s.ExternalName, Selector: s.Selector}
		if s.Address.IsValid() {
			out.IPs = []netip.Addr{s.Address}
		}
		for _, p := range s.Ports {
			protocol := mesh.TCP
			if p.HTTP {
				protocol = mesh.HTTP
			}
			out.Ports = append(out.Ports, meshtest.Port{Name: p.Name, Number: p.Number, Target: p.Target, TargetName: p.TargetName, Protocol: protocol})
		}
		f.Services = append(f.Services, out)
	}
	for _, p := range m.Pods {
		f.Pods = append(f.Pods, meshtest.Pod{Name: p.Namespace + "/" + p.Name, Account: p.Account, Labels: p.Labels, Unmeshed: !p.Meshed, Ports: p.Ports})
	}
	for _, o := range m.TrafficTargets {
		meshtest.Put(&f.Policies.TrafficTargets, o.ObjectMeta, o.Spec)
	}
	for _, o := range m.HTTPRouteGroups {
		meshtest.Put(&f.Policies.HTTPRouteGroups, o.ObjectMeta, o.Spec)
	}
	for _, o := range m.TCPRoutes {
		meshtest.Put(&f.Policies.TCPRoutes, o.ObjectMeta, o.Spec)
	}
	for _, o := range m.TrafficSplits {
		meshtest.Put(&f.Policies.TrafficSplits, o.ObjectMeta, o.Spec)
	}
	for _, o := range m.Egresses {
		meshtest.Put(&f.Policies.Egresses, o.ObjectMeta, o.Spec)
	}
	for _, o := range m.IngressBackends {
		meshtest.Put(&f.Policies.IngressBackends, o.ObjectMeta, o.Spec)
	}
	for _, o := range m.Settings {
		meshtest.Put(&f.Policies.UpstreamTrafficSettings, o.ObjectMeta, o.Spec)
	}
	return f
}
