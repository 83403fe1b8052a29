package inject

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// Names and numbers that people and dashboards know.
const (
	// ProxyContainer is the name of the sidecar.
	ProxyContainer = "envoy"
	// InitContainer is the name of the container that redirects traffic.
	InitContainer = "osm-init"
	// IdentityContainer is the name of the container that keeps the certificate where the
	// kubelet does not.
	IdentityContainer = "osm-identity"
	// ProxyUID is the user that the sidecar runs as, which redirection lets pass.
	ProxyUID = 1500

	identityVolume  = "osm-identity"
	trustVolume     = "osm-trust"
	bootstrapVolume = "osm-bootstrap"
	tokenVolume     = "osm-token"
)

// Config are the settings of a mesh that a sidecar is made from.
type Config struct {
	// Mesh is the mesh's name, MeshNamespace where its control plane runs.
	Mesh, MeshNamespace string
	// Revision is the revision that injects.
	Revision string
	// ControlPlane is the host that serves xDS to this revision's proxies.
	ControlPlane string
	// ControlPlaneName is the DNS name that its certificate must have.
	ControlPlaneName string
	// OSMImage and EnvoyImage are the images of the two containers.
	OSMImage, EnvoyImage string
	PullPolicy           corev1.PullPolicy
	// LogLevel is the sidecar's; error when empty.
	LogLevel string
	// Resources are the sidecar's.
	Resources corev1.ResourceRequirements
	// PrivilegedInit runs the init container privileged.
	PrivilegedInit bool
	// PodIPMode has the sidecar call its application on the pod's address instead of loopback.
	PodIPMode bool
	// Exclusions are the mesh-wide lists; a pod's annotations add to them.
	Exclusions Exclusions
	// ControlPlaneID is the SPIFFE ID of the control plane.
	ControlPlaneID string
	// Identity says where a sidecar's certificate comes from; PodCertificate when empty.
	Identity operatorv1alpha1.WorkloadIdentity
	// Roots are the mesh's roots as PEM. They are needed where the certificate does not
	// come from the kubelet.
	Roots string
	// LeafLifetime is the lifetime asked for in certificates; the signer may give less.
	LeafLifetime time.Duration
}

// Exclusions is the traffic that is not redirected to the sidecar.
type Exclusions struct {
	InboundPorts, OutboundPorts []int
	// OutboundRanges are not redirected; if OutboundOnly is not empty, only its ranges are.
	OutboundRanges, OutboundOnly []string
	Interfaces                   []string
}

// Namespace is what of a pod's namespace decides.
type Namespace struct {
	Name                string
	Labels, Annotations map[string]string
}
