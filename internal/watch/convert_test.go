package watch

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

const signer = "identity.openservicemesh.io/osm"

func compareAddresses() cmp.Option {
	return cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
}

func at(address string) netip.Addr { return netip.MustParseAddr(address) }

func TestServices(t *testing.T) {
	tcp, udp := corev1.ProtocolTCP, corev1.ProtocolUDP
	for name, tc := range map[string]struct {
		service corev1.Service
		want    mesh.Service
	}{
		"ports of both kinds, UDP left out, in order": {
			service: corev1.Service{Spec: corev1.ServiceSpec{
				ClusterIPs: []string{"10.96.0.1", "fd00::1"}, Selector: map[string]string{"app": "web"},
				Ports: []corev1.ServicePort{
					{Name: "tcp-db", Port: 3306, Protocol: tcp, TargetPort: intstr.FromString("db")},
					{Name: "dns", Port: 53, Protocol: udp},
					{Name: "web", Port: 80, TargetPort: intstr.FromInt32(8080), AppProtocol: new("kubernetes.io/h2c")},
					{Name: "same", Port: 90},
				},
			}},
			want: mesh.Service{
				ClusterIPs: []netip.Addr{at("10.96.0.1"), at("fd00::1")}, Selector: map[string]string{"app": "web"},
				Ports: []mesh.ServicePort{
					{Name: "web", Number: 80, TargetPort: 8080, Protocol: mesh.HTTP},
					{Name: "same", Number: 90, TargetPort: 90, Protocol: mesh.HTTP},
					{Name: "tcp-db", Number: 3306, TargetPortName: "db", Protocol: mesh.TCP},
				},
			},
		},
		"headless": {
			service: corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}, PublishNotReadyAddresses: true}},
			want:    mesh.Service{Headless: true, PublishNotReady: true},
		},
		"an external name": {
			service: corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}},
			want:    mesh.Service{ExternalName: "example.com"},
		},
		"locality by distribution": {
			service: corev1.Service{Spec: corev1.ServiceSpec{TrafficDistribution: new("PreferClose"), InternalTrafficPolicy: new(corev1.ServiceInternalTrafficPolicyLocal)}},
			want:    mesh.Service{PreferSameZone: true, LocalOnly: true},
		},
		"locality by node": {
			service: corev1.Service{Spec: corev1.ServiceSpec{TrafficDistribution: new("PreferSameNode")}},
			want:    mesh.Service{PreferSameNode: true},
		},
		"locality by hints": {
			service: corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"service.kubernetes.io/topology-mode": "Auto"}}},
			want:    mesh.Service{ZoneHints: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.service.Namespace, tc.service.Name = "shop", "web"
			tc.want.Key = mesh.Key{Namespace: "shop", Name: "web"}
			stripped := stripped(t, stripService, tc.service.DeepCopy())
			if diff := cmp.Diff(&tc.want, serviceOf(stripped), compareAddresses()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// stripped is an object as the cache holds it.
func stripped[O client.Object](t *testing.T, strip func(any) (any, error), o O) O {
	t.Helper()
	out, err := strip(o)
	if err != nil {
		t.Fatal(err)
	}
	typed, ok := out.(O)
	if !ok {
		t.Fatalf("stripping made a %T", out)
	}
	return typed
}

func TestEndpointSlices(t *testing.T) {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		Ports: []discoveryv1.EndpointPort{
			{Name: new("http"), Port: new(int32(8080))}, {Port: new(int32(9)), Protocol: new(corev1.ProtocolUDP)}, {Name: new("none")},
		},
		Endpoints: []discoveryv1.Endpoint{
			{
				Addresses: []string{"10.0.0.1"}, Hostname: new("web-0"), NodeName: new("n1"), Zone: new("a"),
				Hints:      &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "b"}}},
				TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: "web-0", UID: "1"},
				Conditions: discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)},
			},
			{Addresses: []string{"10.0.0.2"}, TargetRef: &corev1.ObjectReference{Kind: "Node", Name: "n"}},
			{Addresses: []string{"10.0.0.3"}, Conditions: discoveryv1.EndpointConditions{Ready: new(false)}},
		},
	}
	want := &mesh.Slice{
		Key: mesh.Key{Namespace: "shop", Name: "web-1"}, Service: mesh.Key{Namespace: "shop", Name: "web"}, Ports: map[string]uint16{"http": 8080},
		Endpoints: []mesh.SliceEndpoint{
			{
				Addresses: []netip.Addr{at("10.0.0.1")}, Serving: true, Terminating: true, Hostname: "web-0", Node: "n1", Zone: "a",
				ZoneHints: []string{"b"}, Pod: mesh.Key{Namespace: "shop", Name: "web-0"},
			},
			{Addresses: []netip.Addr{at("10.0.0.2")}, Ready: true, Serving: true},
			{Addresses: []netip.Addr{at("10.0.0.3")}},
		},
	}
	if diff := cmp.Diff(want, sliceOf(stripped(t, stripSlice, slice.DeepCopy())), compareAddresses()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	slice.Labels = nil
	if sliceOf(slice) != nil {
		t.Error("a slice of no Service counts")
	}
}

// sidecar makes a pod have what only an injected pod has.
func sidecar(p *corev1.Pod) {
	p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{
		Name: "envoy", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 15003}},
	})
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "osm-identity", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{SignerName: signer, KeyType: "ECDSAP256"}}},
	}}})
}

func TestPods(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		want   func(*mesh.Pod)
	}{
		"a plain pod": {change: func(*corev1.Pod) {}, want: func(*mesh.Pod) {}},
		"a pod of the mesh": {
			change: func(p *corev1.Pod) {
				sidecar(p)
				p.Annotations = map[string]string{"openservicemesh.io/revision": "v1", "prometheus.io/scrape": "TRUE", "other": "x"}
			},
			want: func(p *mesh.Pod) { p.Meshed, p.Revision, p.Scrape = true, "v1", true },
		},
		"a pod that says so of itself is not": {
			change: func(p *corev1.Pod) {
				p.Labels["osm-proxy-uuid"], p.Labels["openservicemesh.io/injected-by"] = "x", "osm"
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "envoy"})
			},
			want: func(p *mesh.Pod) { p.Labels["osm-proxy-uuid"], p.Labels["openservicemesh.io/injected-by"] = "x", "osm" },
		},
		"a pod of another mesh is not": {
			change: func(p *corev1.Pod) {
				sidecar(p)
				p.Spec.Volumes[0].Projected.Sources[0].PodCertificate.SignerName += "-2"
			},
			want: func(*mesh.Pod) {},
		},
		"a pod of the mesh that proves itself with a token": {
			change: func(p *corev1.Pod) {
				sidecar(p)
				p.Spec.Volumes[0].Projected.Sources[0] = corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: signer, Path: "token"}}
			},
			want: func(p *mesh.Pod) { p.Meshed = true },
		},
		"a pod with a token for the API server is not": {
			change: func(p *corev1.Pod) {
				sidecar(p)
				p.Spec.Volumes[0].Projected.Sources[0] = corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}
			},
			want: func(*mesh.Pod) {},
		},
		"a sidecar that only runs at the start is none": {
			change: func(p *corev1.Pod) { sidecar(p); p.Spec.InitContainers[0].RestartPolicy = nil },
			want:   func(*mesh.Pod) {},
		},
		"a pod that ends": {
			change: func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.Now()) },
			want:   func(p *mesh.Pod) { p.Terminating = true },
		},
		"a pod that has ended": {
			change: func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded },
			want:   func(p *mesh.Pod) { p.Ended = true },
		},
		"a pod of a Deployment": {
			change: func(p *corev1.Pod) {
				p.Labels["pod-template-hash"] = "abc"
				p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-abc", Controller: new(true)}}
			},
			want: func(p *mesh.Pod) {
				p.Labels["pod-template-hash"], p.OwnerKind, p.OwnerName = "abc", "Deployment", "web"
			},
		},
		"a pod of a StatefulSet": {
			change: func(p *corev1.Pod) {
				p.OwnerReferences = []metav1.OwnerReference{{Kind: "X", Name: "x"}, {Kind: "StatefulSet", Name: "db", Controller: new(true)}}
			},
			want: func(p *mesh.Pod) { p.OwnerKind, p.OwnerName = "StatefulSet", "db" },
		},
		"ports of containers that go on running": {
			change: func(p *corev1.Pod) {
				p.Spec.InitContainers = []corev1.Container{
					{Name: "once", Ports: []corev1.ContainerPort{{Name: "setup", ContainerPort: 1}}},
					{Name: "native", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{{Name: "log", ContainerPort: 2}}},
				}
			},
			want: func(p *mesh.Pod) { p.NamedPorts["log"] = 2 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: "u", Labels: map[string]string{"app": "web"}},
				Spec: corev1.PodSpec{
					ServiceAccountName: "web", NodeName: "n1",
					Containers: []corev1.Container{{Name: "app", Image: "x", Ports: []corev1.ContainerPort{
						{Name: "web", ContainerPort: 8080}, {ContainerPort: 9090}, {Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP},
					}}},
				},
				Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}},
			}
			want := &mesh.Pod{
				Workload: mesh.Workload{
					Key: mesh.Key{Namespace: "shop", Name: "web-1"}, UID: "u", ServiceAccount: identity.ServiceAccount{Namespace: "shop", Name: "web"},
					Addresses: []netip.Addr{at("10.0.0.1"), at("fd00::1")}, Node: "n1", OwnerKind: "Pod", OwnerName: "web-1",
				},
				Labels: map[string]string{"app": "web"}, NamedPorts: map[string]uint16{"web": 8080},
			}
			tc.change(pod)
			tc.want(want)
			whole := podOf(pod, signer)
			if diff := cmp.Diff(want, podOf(stripped(t, stripPod, pod.DeepCopy()), signer), compareAddresses()); diff != "" {
				t.Errorf("as the cache holds it (-want +got):\n%s", diff)
			}
			if !cmp.Equal(want, whole, compareAddresses()) {
				t.Errorf("as the API server gives it, it is another: %s", cmp.Diff(want, whole, compareAddresses()))
			}
		})
	}
}

func TestStrippingDropsWhatIsNotRead(t *testing.T) {
	noise := metav1.ObjectMeta{
		Name: "x", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}},
		Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: "{}", "openservicemesh.io/metrics": "enabled"},
		Labels:      map[string]string{"openservicemesh.io/monitored-by": "osm", "team": "a"},
	}
	ns := stripped(t, stripNamespace, &corev1.Namespace{ObjectMeta: noise})
	want := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "x", Labels: map[string]string{"openservicemesh.io/monitored-by": "osm"}, Annotations: map[string]string{"openservicemesh.io/metrics": "enabled"},
	}}
	if diff := cmp.Diff(want, ns); diff != "" {
		t.Errorf("a namespace (-want +got):\n%s", diff)
	}
	config := stripped(t, stripMetadata, &corev1.ConfigMap{ObjectMeta: *noise.DeepCopy()})
	if config.ManagedFields != nil || len(config.Annotations) != 1 || len(config.Labels) != 2 {
		t.Errorf("any other kind: %+v", config.ObjectMeta)
	}
	pod := stripped(t, stripPod, &corev1.Pod{ObjectMeta: noise, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Env: []corev1.EnvVar{{Name: "SECRET"}}}}}})
	if pod.ManagedFields != nil || pod.Annotations != nil || len(pod.Spec.Containers) != 0 {
		t.Errorf("a pod: %+v", pod)
	}
}
