package watch

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
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
		ZoneHints: strings.EqualFold(s.Annotations[corev1.AnnotationTopologyMode], "auto"),
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
	out.ClusterIPs = addresses(s.Spec.ClusterIPs)
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
	out := mesh.ServicePort{Name: p.Name, Number: uint16(p.Port), Protocol: mesh.ProtocolOf(appProtocol, p.Name)}
	switch {
	case p.TargetPort.Type == intstr.String:
		out.TargetPortName = p.TargetPort.StrVal
	case p.TargetPort.IntVal != 0:
		out.TargetPort = uint16(p.TargetPort.IntVal)
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
		out.Ports[name] = uint16(*p.Port)
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
	out.Addresses = addresses(e.Addresses)
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

// addresses leaves out what is none, as "None" is of a headless Service.
func addresses(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		if address, err := netip.ParseAddr(t); err == nil {
			out = append(out, address.Unmap().WithZone(""))
		}
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
			Key: keyOf(p), UID: string(p.UID), ServiceAccount: identity.ServiceAccount{Namespace: p.Namespace, Name: cmp.Or(p.Spec.ServiceAccountName, "default")},
			Node: p.Spec.NodeName, Terminating: p.DeletionTimestamp != nil, Revision: p.Annotations[operatorv1alpha1.AnnotationRevision],
		},
		Labels: p.Labels,
		Scrape: scraped(p),
		Ended:  p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
	}
	for _, ip := range p.Status.PodIPs {
		out.Addresses = append(out.Addresses, addresses([]string{ip.IP})...)
	}
	out.NamedPorts = namedPorts(p)
	out.Meshed = meshed(p, signer)
	out.OwnerKind, out.OwnerName = ownerOf(p)
	return out
}

func scraped(p *corev1.Pod) bool {
	yes, err := strconv.ParseBool(p.Annotations[scrapeAnnotation])
	return err == nil && yes
}

// namedPorts are the ports that Services can target by name: those of containers that
// go on running.
func namedPorts(p *corev1.Pod) map[string]uint16 {
	var out map[string]uint16
	add := func(c corev1.Container) {
		for _, port := range c.Ports {
			if port.Name == "" || port.Protocol != "" && port.Protocol != corev1.ProtocolTCP {
				continue
			}
			if out == nil {
				out = map[string]uint16{}
			}
			if _, taken := out[port.Name]; !taken {
				out[port.Name] = uint16(port.ContainerPort)
			}
		}
	}
	for _, c := range p.Spec.Containers {
		add(c)
	}
	for _, c := range p.Spec.InitContainers {
		if native(c) {
			add(c)
		}
	}
	return out
}

func native(c corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// meshed reports whether a pod runs the sidecar of the mesh, from what cannot be
// changed while it runs: a native sidecar by that name, and an identity that the
// kubelet asks this mesh's signer for, or a token to ask for one. A pod without these
// has no certificate that anyone in the mesh would accept.
func meshed(p *corev1.Pod, signer string) bool {
	sidecar := slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == proxyContainer && native(c)
	})
	if !sidecar {
		return false
	}
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		if v.Projected == nil {
			return false
		}
		return slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.PodCertificate != nil && s.PodCertificate.SignerName == signer ||
				s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == signer
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
