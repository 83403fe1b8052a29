package watch

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// proxyContainer is the name of the sidecar's container.
const proxyContainer = "envoy"

func keyOf(o client.Object) mesh.Key { return mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()} }

// serviceOf returns what the mesh knows of a Service.
func serviceOf(s *corev1.Service) *mesh.Service {
	out := &mesh.Service{
		Key: keyOf(s), Selector: s.Spec.Selector, PublishNotReady: s.Spec.PublishNotReadyAddresses,
		LocalOnly: s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
	}
	if d := s.Spec.TrafficDistribution; d != nil {
		out.PreferSameZone = *d == corev1.ServiceTrafficDistributionPreferClose || *d == corev1.ServiceTrafficDistributionPreferSameZone
		out.PreferSameNode = *d == corev1.ServiceTrafficDistributionPreferSameNode
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		out.ExternalName = s.Spec.ExternalName
	} else {
		out.Headless = s.Spec.ClusterIP == corev1.ClusterIPNone
	}
	for _, ip := range s.Spec.ClusterIPs {
		if address, err := netip.ParseAddr(ip); err == nil {
			out.ClusterIPs = append(out.ClusterIPs, address)
		}
	}
	for _, p := range s.Spec.Ports {
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			continue
		}
		out.Ports = append(out.Ports, portOf(p))
	}
	slices.SortFunc(out.Ports, func(a, b mesh.ServicePort) int { return int(a.Number) - int(b.Number) })
	return out
}

func portOf(p corev1.ServicePort) mesh.ServicePort {
	appProtocol := ""
	if p.AppProtocol != nil {
		appProtocol = *p.AppProtocol
	}
	out := mesh.ServicePort{Name: p.Name, Number: uint16(p.Port), Protocol: mesh.ProtocolOf(appProtocol, p.Name)} //nolint:gosec // validated by the API server as a port
	switch {
	case p.TargetPort.Type == intstr.String:
		out.TargetPortName = p.TargetPort.StrVal
	case p.TargetPort.IntVal != 0:
		out.TargetPort = uint16(p.TargetPort.IntVal) //nolint:gosec // validated by the API server as a port
	default:
		out.TargetPort = out.Number
	}
	return out
}

// sliceOf returns what the mesh knows of an EndpointSlice; nil if it belongs to no Service.
func sliceOf(s *discoveryv1.EndpointSlice) *mesh.Slice {
	service := s.Labels[discoveryv1.LabelServiceName]
	if service == "" || s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil
	}
	out := &mesh.Slice{Key: keyOf(s), Service: mesh.Key{Namespace: s.Namespace, Name: service}, Ports: map[string]uint16{}}
	for _, p := range s.Ports {
		if p.Port == nil || p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			continue
		}
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		out.Ports[name] = uint16(*p.Port) //nolint:gosec // validated by the API server as a port
	}
	for _, e := range s.Endpoints {
		out.Endpoints = append(out.Endpoints, endpointOf(s.Namespace, e))
	}
	return out
}

func endpointOf(namespace string, e discoveryv1.Endpoint) mesh.SliceEndpoint {
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	out := mesh.SliceEndpoint{
		Ready:       ready,
		Serving:     ready || e.Conditions.Serving != nil && *e.Conditions.Serving,
		Terminating: e.Conditions.Terminating != nil && *e.Conditions.Terminating,
	}
	for _, a := range e.Addresses {
		if address, err := netip.ParseAddr(a); err == nil {
			out.Addresses = append(out.Addresses, address)
		}
	}
	out.Hostname, out.Node, out.Zone = text(e.Hostname), text(e.NodeName), text(e.Zone)
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			out.ZoneHints = append(out.ZoneHints, z.Name)
		}
	}
	if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
		out.Pod = mesh.Key{Namespace: namespace, Name: e.TargetRef.Name}
	}
	return out
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// podOf returns what the mesh knows of a pod that strip has kept.
func podOf(p *corev1.Pod, signer string) *mesh.Pod {
	out := &mesh.Pod{
		Workload: mesh.Workload{
			Key: keyOf(p), UID: string(p.UID), ServiceAccount: identity.ServiceAccount{Namespace: p.Namespace, Name: p.Spec.ServiceAccountName},
			Node: p.Spec.NodeName, Terminating: p.DeletionTimestamp != nil, Revision: p.Annotations[operatorv1alpha1.AnnotationRevision],
		},
		Labels: p.Labels,
		Scrape: strings.EqualFold(p.Annotations["prometheus.io/scrape"], "true"),
		Ended:  p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
	}
	for _, ip := range p.Status.PodIPs {
		if address, err := netip.ParseAddr(ip.IP); err == nil {
			out.Addresses = append(out.Addresses, address)
		}
	}
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			if port.Name == "" {
				continue
			}
			if out.NamedPorts == nil {
				out.NamedPorts = map[string]uint16{}
			}
			out.NamedPorts[port.Name] = uint16(port.ContainerPort) //nolint:gosec // validated by the API server as a port
		}
	}
	out.Meshed = meshed(p, signer)
	out.OwnerKind, out.OwnerName = ownerOf(p)
	return out
}

// meshed reports whether a pod runs the sidecar of the mesh, from what cannot be
// changed while it runs: a native sidecar by that name, and an identity that the
// kubelet asks this mesh's signer for. A pod without these has no certificate that
// anyone in the mesh would accept.
func meshed(p *corev1.Pod, signer string) bool {
	sidecar := slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == proxyContainer && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
	if !sidecar {
		return false
	}
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		if v.Projected == nil {
			return false
		}
		return slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.PodCertificate != nil && s.PodCertificate.SignerName == signer
		})
	})
}

// ownerOf returns the kind and name of what made a pod: for a ReplicaSet of a
// Deployment, the Deployment.
func ownerOf(p *corev1.Pod) (kind, name string) {
	for _, o := range p.OwnerReferences {
		if o.Controller == nil || !*o.Controller {
			continue
		}
		if hash := p.Labels["pod-template-hash"]; o.Kind == "ReplicaSet" && hash != "" {
			return "Deployment", strings.TrimSuffix(o.Name, "-"+hash)
		}
		return o.Kind, o.Name
	}
	return "Pod", p.Name
}

// StripPod keeps of a pod what podOf reads, so that the cache of a large cluster is small.
func StripPod(o any) (any, error) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	out := &corev1.Pod{TypeMeta: p.TypeMeta, ObjectMeta: p.ObjectMeta}
	out.ManagedFields, out.Finalizers = nil, nil
	out.Annotations = map[string]string{}
	for _, key := range []string{operatorv1alpha1.AnnotationRevision, "prometheus.io/scrape"} {
		if v, ok := p.Annotations[key]; ok {
			out.Annotations[key] = v
		}
	}
	out.Spec.ServiceAccountName, out.Spec.NodeName = p.Spec.ServiceAccountName, p.Spec.NodeName
	for _, c := range p.Spec.Containers {
		if len(c.Ports) > 0 {
			out.Spec.Containers = append(out.Spec.Containers, corev1.Container{Name: c.Name, Ports: c.Ports})
		}
	}
	for _, c := range p.Spec.InitContainers {
		if c.Name == proxyContainer {
			out.Spec.InitContainers = append(out.Spec.InitContainers, corev1.Container{Name: c.Name, RestartPolicy: c.RestartPolicy})
		}
	}
	for _, v := range p.Spec.Volumes {
		if v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.PodCertificate != nil }) {
			out.Spec.Volumes = append(out.Spec.Volumes, v)
		}
	}
	out.Status.Phase, out.Status.PodIPs = p.Status.Phase, p.Status.PodIPs
	return out, nil
}
