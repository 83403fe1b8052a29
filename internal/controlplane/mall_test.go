package controlplane_test

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// mall is a large mesh: services of some pods each, every service with a ServiceAccount, a
// class of proxies and a TrafficTarget of its own, by which its five neighbours call it.
type mall struct{ services, pods int }

func shop(i int) string { return fmt.Sprintf("s%d", i) }

func (m mall) facts(permissive bool) []mesh.Fact {
	out := []mesh.Fact{joined(), mesh.SettingsFact{Settings: settings(permissive)}}
	for i := range m.services {
		out = append(out, m.service(i), m.endpoints(i, true), object(shop(i), 1, routes("/")), object(shop(i), 1, m.target(i, 1, 2, 3, 4, 5)))
		for k := range m.pods {
			out = append(out, m.pod(i, k))
		}
	}
	return out
}

// open starts an engine for the mall.
func (m mall) open(ctx context.Context, permissive bool, bundle []byte) *world {
	w := newWorld(ctx, bundle)
	w.apply(ctx, m.facts(permissive)...)
	w.recompiled = 0
	return w
}

func (mall) service(i int, change ...func(*mesh.Service)) mesh.Fact {
	at := func(s *mesh.Service) {
		s.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i / 250), byte(i % 250)})}
	}
	return service(shop(i), 0, append([]func(*mesh.Service){at}, change...)...)
}

func address(i, k int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(k), byte(i / 250), byte(i % 250)})
}

func podName(i, k int) string { return fmt.Sprintf("s%d-%d", i, k) }

func (mall) pod(i, k int, change ...func(*mesh.Pod)) mesh.Fact {
	at := func(p *mesh.Pod) { p.Addresses = []netip.Addr{address(i, k)} }
	return pod(podName(i, k), shop(i), shop(i), 0, append([]func(*mesh.Pod){at}, change...)...)
}

// endpoints are those of a service; whether the first is ready is said.
func (m mall) endpoints(i int, ready bool) mesh.Fact {
	s := &mesh.Slice{Key: key(shop(i)), Service: key(shop(i)), Ports: map[string]uint16{"http": 8080}}
	for k := range m.pods {
		s.Endpoints = append(s.Endpoints, mesh.SliceEndpoint{Addresses: []netip.Addr{address(i, k)}, Ready: k > 0 || ready, Pod: key(podName(i, k))})
	}
	return mesh.SliceFact{Key: s.Key, Slice: s}
}

// target lets those who come so many places after a service call it.
func (m mall) target(i int, after ...int) accessv1alpha3.TrafficTargetSpec {
	spec := accessv1alpha3.TrafficTargetSpec{
		Destination: accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: "shop", Name: shop(i)},
		Rules:       []accessv1alpha3.TrafficTargetRule{{Kind: "HTTPRouteGroup", Name: shop(i)}},
	}
	for _, a := range after {
		spec.Sources = append(spec.Sources, accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: "shop", Name: shop((i + a) % m.services)})
	}
	return spec
}

func routes(path string) specsv1alpha4.HTTPRouteGroupSpec {
	return specsv1alpha4.HTTPRouteGroupSpec{Matches: []specsv1alpha4.HTTPMatch{{Name: "all", PathRegex: path, Methods: []string{"GET"}}}}
}

// object is a policy in the namespace of the mesh.
func object[S mesh.PolicySpec](name string, generation int64, spec S) mesh.Fact {
	return mesh.PolicyFact[S]{Key: key(name), Object: &mesh.Object[S]{Key: key(name), UID: name, Generation: generation, Spec: spec}}
}

func noObject[S mesh.PolicySpec](name string) mesh.Fact { return mesh.PolicyFact[S]{Key: key(name)} }

func splitOf(root string, backends ...string) splitv1alpha4.TrafficSplitSpec {
	spec := splitv1alpha4.TrafficSplitSpec{Service: root}
	for _, b := range backends {
		spec.Backends = append(spec.Backends, splitv1alpha4.TrafficSplitBackend{Service: b, Weight: 1})
	}
	return spec
}

func retryOf(source, service string, times int64) policyv1alpha1.RetrySpec {
	return policyv1alpha1.RetrySpec{
		Source:       policyv1alpha1.RetrySrcDstSpec{Kind: "ServiceAccount", Namespace: "shop", Name: source},
		Destinations: []policyv1alpha1.RetrySrcDstSpec{{Kind: "Service", Namespace: "shop", Name: service}},
		RetryPolicy:  policyv1alpha1.RetryPolicySpec{RetryOn: "5xx", NumRetries: &times},
	}
}

// settingOf bounds connections to a Service, and requests at it; 0 is no bound.
func settingOf(service string, connections, requests int64) policyv1alpha1.UpstreamTrafficSettingSpec {
	spec := policyv1alpha1.UpstreamTrafficSettingSpec{Host: service + ".shop.svc.cluster.local"}
	if connections > 0 {
		spec.ConnectionSettings = &policyv1alpha1.ConnectionSettingsSpec{TCP: &policyv1alpha1.TCPConnectionSettings{MaxConnections: &connections}}
	}
	if requests > 0 {
		spec.RateLimit = &policyv1alpha1.RateLimitSpec{Local: &policyv1alpha1.LocalRateLimitSpec{
			HTTP: &policyv1alpha1.HTTPLocalRateLimitSpec{Requests: requests, Unit: "second"},
		}}
	}
	return spec
}

func egressOf(source, host string) policyv1alpha1.EgressSpec {
	return policyv1alpha1.EgressSpec{
		Sources: []policyv1alpha1.EgressSource{{Kind: "ServiceAccount", Namespace: "shop", Name: source}},
		Hosts:   []string{host}, Ports: []policyv1alpha1.PortSpec{{Number: 80, Protocol: "http"}},
		Matches: []corev1.TypedLocalObjectReference{{APIGroup: new("specs.smi-spec.io/v1alpha4"), Kind: "HTTPRouteGroup", Name: "routes"}},
	}
}

// ingressOf lets in those who have the addresses of a gateway's endpoints.
func ingressOf(backend, gateway string) policyv1alpha1.IngressBackendSpec {
	return policyv1alpha1.IngressBackendSpec{
		Backends: []policyv1alpha1.BackendSpec{{Name: backend, Port: policyv1alpha1.PortSpec{Number: 8080, Protocol: "http"}}},
		Sources:  []policyv1alpha1.IngressSourceSpec{{Kind: "Service", Namespace: "shop", Name: gateway}},
	}
}
