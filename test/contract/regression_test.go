package contract

import (
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/test/contract/reading"
)

// TestCallsThatEndedElsewhere holds what random objects have found: the end is written
// down here, and both readings must say it.
func TestCallsThatEndedElsewhere(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(m *reading.Mesh)
		// call goes out from a/buyer, unless gateway is set.
		call    reading.Call
		gateway *reading.Gateway
		want    string
	}{
		"TLS that offers HTTP is no HTTP, on a port with both": {
			change: func(m *reading.Mesh) {
				m.Egress = true
				m.Egresses = append(m.Egresses, egress("web", "http", "a.example"), egress("secure", "https", "b.example"))
			},
			call: reading.Call{Address: outside, Port: 443, Speaks: reading.TLS, ServerName: "c.example"},
			want: reading.Passed + "192.0.2.1:443",
		},
		"bytes beside HTTP and TLS are bytes": {
			change: func(m *reading.Mesh) {
				m.Egresses = append(m.Egresses, egress("web", "http", "a.example"), egress("secure", "https", "b.example"), egress("bytes", "tcp"))
			},
			call: reading.Call{Address: outside, Port: 443, Speaks: reading.Bytes},
			want: reading.Passed + "192.0.2.1:443",
		},
		"a headless root without pods that may be called is split": {
			change: func(m *reading.Mesh) {
				headlessRoot(m, web)
			},
			call: reading.Call{Address: outside, Port: 8080, Speaks: reading.HTTP, Request: reading.Request{Method: "GET", Path: "/", Host: "root.a"}},
			want: reading.Missing, // by the callee, for want of an HTTPRouteGroup
		},
		"an Egress works beside a headless Service without pods": {
			change: func(m *reading.Mesh) {
				headlessRoot(m, reading.Port{Number: 443, Target: 443})
				m.Egresses = append(m.Egresses, egress("bytes", "tcp"))
			},
			call: reading.Call{Address: outside, Port: 443, Speaks: reading.Bytes},
			want: reading.Passed + "192.0.2.1:443",
		},
		"sidecars are no gateways where these ask for the name of a Service": {
			change: func(m *reading.Mesh) {
				o := ingress("gateway", 0, "store", "https", "10.0.0.0/8")
				o.Spec.Backends[0].TLS = &policyv1alpha1.TLSSpec{SkipClientCertValidation: true, SNIHosts: []string{"store.a.svc.cluster.local"}}
				m.IngressBackends = append(m.IngressBackends, o)
			},
			call: reading.Call{Address: storeIP, Port: 80, Speaks: reading.HTTP, Request: reading.Request{Method: "GET", Path: "/", Host: "store"}},
			want: reading.Served + "172.22.0.2:8080",
		},
		"a Service's limits and gateways that ask for its name": {
			change: func(m *reading.Mesh) {
				twin := m.Services[0]
				twin.Name, twin.Address = "twin", netip.MustParseAddr("10.96.0.9")
				m.Services = append(m.Services, twin)
				o := ingress("gateway", 0, "store", "https", "10.0.0.0/8")
				o.Spec.Backends[0].TLS = &policyv1alpha1.TLSSpec{SkipClientCertValidation: true, SNIHosts: []string{"twin.a.svc.cluster.local"}}
				m.IngressBackends = append(m.IngressBackends, o)
				limits := policyv1alpha1.UpstreamTrafficSetting{ObjectMeta: meta("limits", 0)}
				limits.Spec.Host = "twin.a.svc.cluster.local"
				limits.Spec.RateLimit = &policyv1alpha1.RateLimitSpec{Local: &policyv1alpha1.LocalRateLimitSpec{
					TCP: &policyv1alpha1.TCPLocalRateLimitSpec{Connections: 9, Unit: "second"},
				}}
				m.Settings = append(m.Settings, limits)
			},
			call: reading.Call{Address: netip.MustParseAddr("10.96.0.9"), Port: 80, Speaks: reading.HTTP, Request: reading.Request{Method: "GET", Path: "/", Host: "twin"}},
			want: reading.Served + "172.22.0.2:8080",
		},
		"the older IngressBackend is followed, whatever its Service's name": {
			change: func(m *reading.Mesh) {
				twin := m.Services[0]
				twin.Name, twin.Address = "a-twin", netip.MustParseAddr("10.96.0.9")
				m.Services = append(m.Services, twin)
				m.IngressBackends = append(m.IngressBackends, ingress("old", 0, "store", "http", "10.0.0.0/8"), ingress("new", 1, "a-twin", "http", "0.0.0.0/0"))
			},
			gateway: &reading.Gateway{Source: outside, Port: 8080, Speaks: reading.HTTP, Request: reading.Request{Method: "GET", Path: "/", Host: "x"}},
			want:    reading.Reset,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := shop()
			tt.change(m)
			network, err := networkOf(m)
			if err != nil {
				t.Fatal(err)
			}
			var want, got reading.Shares
			if tt.gateway != nil {
				tt.gateway.To = &m.Pods[1]
				want = reading.Shares{m.Enters(*tt.gateway): 1}
				got, err = network.Enters(*tt.gateway)
			} else {
				tt.call.From = &m.Pods[0]
				want = m.Ends(tt.call)
				got, err = network.Ends(tt.call)
			}
			if err != nil {
				t.Fatal(err)
			}
			at := storeAddress(m, tt.want)
			if want[at] != 1 || got[at] != 1 {
				t.Errorf("promised is %v, sent is %v, want %s", want, got, at)
			}
		})
	}
}

var (
	outside = netip.MustParseAddr("192.0.2.1")
	storeIP = netip.MustParseAddr("10.96.0.1")
	web     = reading.Port{Number: 80, Target: 8080, HTTP: true}
)

// storeAddress puts the address of the store's pod where it stands for it.
func storeAddress(m *reading.Mesh, end string) string {
	if end == reading.Served+"172.22.0.2:8080" {
		return reading.Served + m.Pods[1].Address.String() + ":8080"
	}
	return end
}

// shop is a buyer and a store, in permissive mode.
func shop() *reading.Mesh {
	return &reading.Mesh{
		Permissive: true,
		Services:   []reading.Service{{Namespace: "a", Name: "store", Address: storeIP, Selector: map[string]string{"app": "store"}, Ports: []reading.Port{web}}},
		Pods: []reading.Pod{
			{Namespace: "a", Name: "buyer", Account: "buyer", Meshed: true},
			{Namespace: "a", Name: "store", Account: "store", Meshed: true, Labels: map[string]string{"app": "store"}},
		},
	}
}

func meta(name string, age int64) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "a", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(age, 0))}
}

func egress(name, protocol string, hosts ...string) policyv1alpha1.Egress {
	return policyv1alpha1.Egress{ObjectMeta: meta(name, 0), Spec: policyv1alpha1.EgressSpec{
		Sources: []policyv1alpha1.EgressSource{{Kind: "ServiceAccount", Namespace: "a", Name: "buyer"}},
		Hosts:   hosts, Ports: []policyv1alpha1.PortSpec{{Number: 443, Protocol: protocol}},
	}}
}

func ingress(name string, age int64, service, protocol, within string) policyv1alpha1.IngressBackend {
	return policyv1alpha1.IngressBackend{ObjectMeta: meta(name, age), Spec: policyv1alpha1.IngressBackendSpec{
		Backends: []policyv1alpha1.BackendSpec{{Name: service, Port: policyv1alpha1.PortSpec{Number: 8080, Protocol: protocol}}},
		Sources:  []policyv1alpha1.IngressSourceSpec{{Kind: "IPRange", Name: within}},
	}}
}

// headlessRoot enforces policies, and splits all of a headless Service without pods to the
// store, which the buyer may connect to.
func headlessRoot(m *reading.Mesh, port reading.Port) {
	m.Permissive = false
	m.Services = append(m.Services, reading.Service{Namespace: "a", Name: "root", Headless: true, Ports: []reading.Port{port}})
	m.TrafficSplits = append(m.TrafficSplits, splitv1alpha4.TrafficSplit{
		ObjectMeta: meta("split", 0),
		Spec:       splitv1alpha4.TrafficSplitSpec{Service: "root", Backends: []splitv1alpha4.TrafficSplitBackend{{Service: "store", Weight: 1}}},
	})
	m.TrafficTargets = append(m.TrafficTargets, anyPort("buyer", "store"))
}

// anyPort lets a ServiceAccount connect to another, on any port, and request nothing.
func anyPort(source, destination string) accessv1alpha3.TrafficTarget {
	return accessv1alpha3.TrafficTarget{ObjectMeta: meta(source+"-"+destination, 0), Spec: accessv1alpha3.TrafficTargetSpec{
		Destination: accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: "a", Name: destination},
		Sources:     []accessv1alpha3.IdentityBindingSubject{{Kind: "ServiceAccount", Namespace: "a", Name: source}},
		Rules:       []accessv1alpha3.TrafficTargetRule{{Kind: "HTTPRouteGroup", Name: "gone"}},
	}}
}
