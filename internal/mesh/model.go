package mesh

import (
	"cmp"
	"net/netip"
	"strings"
	"time"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/identity"
)

// Key names a namespaced object.
type Key struct {
	Namespace string
	Name      string
}

// String returns namespace/name.
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// CompareKeys orders keys by namespace, then name.
func CompareKeys(a, b Key) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// Model is one state of the mesh. It is immutable: so are the maps in it and all
// that they point to. Only namespaces of this mesh are in it, with their services,
// pods and policies; traffic to anything else is traffic to outside the mesh.
type Model struct {
	// Settings are the mesh-wide settings with all defaults filled in.
	Settings Settings
	// Namespaces are the namespaces that are monitored by this mesh.
	Namespaces map[string]*Namespace
	// Services are the Services of those namespaces.
	Services map[Key]*Service
	// Endpoints are the endpoints of each Service, by the Service's key.
	Endpoints map[Key]*Endpoints
	// Workloads are the pods of those namespaces, by the pod's key.
	Workloads map[Key]*Workload
	// Classes are the proxy classes that at least one meshed Workload has, by Class.ID.
	Classes map[string]*Class
	// ServiceAccounts are the ServiceAccounts of the running pods that each Service
	// selects, sorted, by the Service's key.
	ServiceAccounts map[Key][]identity.ServiceAccount
	// Running are the ServiceAccounts that Workloads run as.
	Running map[identity.ServiceAccount]bool
	// Policies are the policy objects of those namespaces.
	Policies Policies
}

// Policies are the policy objects of the mesh's namespaces. Each is read as it was
// written; nothing is validated or resolved yet.
type Policies struct {
	TrafficTargets          map[Key]*Object[accessv1alpha3.TrafficTargetSpec]
	HTTPRouteGroups         map[Key]*Object[specsv1alpha4.HTTPRouteGroupSpec]
	TCPRoutes               map[Key]*Object[specsv1alpha4.TCPRouteSpec]
	TrafficSplits           map[Key]*Object[splitv1alpha4.TrafficSplitSpec]
	Egresses                map[Key]*Object[policyv1alpha1.EgressSpec]
	IngressBackends         map[Key]*Object[policyv1alpha1.IngressBackendSpec]
	Retries                 map[Key]*Object[policyv1alpha1.RetrySpec]
	UpstreamTrafficSettings map[Key]*Object[policyv1alpha1.UpstreamTrafficSettingSpec]
}

// Object is a policy object: what the user wrote, and what is needed to order
// objects by age and to speak of them.
type Object[Spec any] struct {
	Key
	// UID and Generation tell which state of which object this is.
	UID        string
	Generation int64
	// Created orders objects that speak of the same thing: the older wins, then
	// the lesser key.
	Created time.Time
	Spec    Spec
}

// Namespace is a namespace of the mesh.
type Namespace struct {
	Name string
}

// Protocol is what is spoken on a port, as far as the mesh treats it differently.
type Protocol string

const (
	// HTTP is HTTP/1.1, HTTP/2 with prior knowledge, gRPC and WebSocket.
	HTTP Protocol = "http"
	// TCP is any protocol in which the client speaks first, or TLS of the application's own.
	TCP Protocol = "tcp"
	// TCPServerFirst is any protocol in which the server may speak first.
	TCPServerFirst Protocol = "tcp-server-first"
)

// Service is a Service of a namespace of the mesh.
type Service struct {
	Key
	// ClusterIPs are the Service's addresses, IPv4 and IPv6; none for a headless
	// Service or an ExternalName.
	ClusterIPs []netip.Addr
	// Headless says that the Service has no address of its own and is not an ExternalName.
	Headless bool
	// ExternalName is the host of an ExternalName Service.
	ExternalName string
	// Selector selects the Service's pods; nil for a Service without one.
	Selector map[string]string
	// Ports are the Service's TCP ports, in the order of their numbers.
	Ports []ServicePort
	// PublishNotReady says that endpoints count as ready whatever their condition.
	PublishNotReady bool
	// PreferSameZone and PreferSameNode follow spec.trafficDistribution.
	PreferSameZone, PreferSameNode bool
	// ZoneHints says that the zone hints of endpoints count, where all have them.
	ZoneHints bool
	// LocalOnly says that spec.internalTrafficPolicy is Local.
	LocalOnly bool
}

// ServicePort is one TCP port of a Service.
type ServicePort struct {
	// Name is the port's name, empty if it has none.
	Name string
	// Number is the port that clients call.
	Number uint16
	// TargetPort is the port of the pods, 0 if it is named.
	TargetPort uint16
	// TargetPortName is the name of the pods' port, empty if it is a number.
	TargetPortName string
	// PodPorts, for a headless Service, are the numbers that its endpoints have for the
	// port, sorted: that is where clients connect to. None while there are no endpoints.
	PodPorts []uint16
	// Protocol is what is spoken, by appProtocol, the port's name, or HTTP.
	Protocol Protocol
}

// ByZone reports whether it counts in which zone a caller runs.
func (s *Service) ByZone() bool { return s.PreferSameZone || s.PreferSameNode || s.ZoneHints }

// ByNode reports whether it counts on which node a caller runs.
func (s *Service) ByNode() bool { return s.LocalOnly || s.PreferSameNode }

// Port returns the port with that number.
func (s *Service) Port(number uint16) (ServicePort, bool) {
	for _, p := range s.Ports {
		if p.Number == number {
			return p, true
		}
	}
	return ServicePort{}, false
}

// Endpoints are the endpoints of a Service, sorted by address.
type Endpoints struct {
	Service Key
	// Items are all endpoints, ready or not.
	Items []Endpoint
}

// Endpoint is one address that serves some ports of a Service.
type Endpoint struct {
	Address netip.Addr
	// Ports are the endpoint's port numbers by the number of the Service's port.
	Ports map[uint16]uint16
	// Ready, Serving and Terminating are the conditions of the EndpointSlice.
	Ready, Serving, Terminating bool
	// Hostname is the endpoint's host name within a headless Service.
	Hostname string
	// Node and Zone are where it runs; ZoneHints are the zones it should serve.
	Node, Zone string
	ZoneHints  []string
	// Pod is the pod behind it; the zero Key if there is none.
	Pod Key
}

// Workload is a pod of a namespace of the mesh.
type Workload struct {
	Key
	UID            string
	ServiceAccount identity.ServiceAccount
	// Addresses are the pod's IPs.
	Addresses []netip.Addr
	Node      string
	Zone      string
	// Meshed says that the pod runs this mesh's sidecar, from facts of its spec
	// that the API server vouches for: not from a label or an annotation.
	Meshed bool
	// Revision is the revision of the sidecar that it was injected with.
	Revision string
	// Terminating says that the pod is being deleted; its proxy still serves.
	Terminating bool
	// Class is the ID of the proxy class; empty unless Meshed.
	Class string
	// OwnerKind and OwnerName tell the workload that made the pod, such as
	// Deployment and its name.
	OwnerKind, OwnerName string
}

// Class is all that decides the configuration of a proxy. Pods of one class get
// the same bytes.
type Class struct {
	// ID names the class: the same for the same contents.
	ID             string
	ServiceAccount identity.ServiceAccount
	// Services are the Services that select the pod, sorted.
	Services []Key
	// NamedPorts resolves the names of container ports that these Services target.
	NamedPorts map[string]uint16
	// Metrics says that the pod is to be scraped: annotation prometheus.io/scrape.
	Metrics bool
	// Zone and Node are set only where a Service of the mesh asks for locality (ByZone,
	// ByNode); empty otherwise, so that pods everywhere share a class.
	Zone, Node string
}

// Change says what differs from the Model before. An empty Change means that
// nothing that a proxy could see has changed.
type Change struct {
	// Endpoints are the Services whose endpoints changed.
	Endpoints map[Key]struct{}
	// Services are the Services that were added, changed or removed, or whose
	// ServiceAccounts changed.
	Services map[Key]struct{}
	// Classes are the IDs of classes that appeared or went.
	Classes map[string]struct{}
	// Workloads are the pods that appeared, went, or changed a field of Workload.
	Workloads map[Key]struct{}
	// Policies says that a policy object changed; Settings that the settings did;
	// Namespaces that a namespace joined or left.
	Policies, Settings, Namespaces bool
}

// Empty reports whether nothing changed.
func (c Change) Empty() bool {
	return len(c.Endpoints) == 0 && len(c.Services) == 0 && len(c.Classes) == 0 && len(c.Workloads) == 0 &&
		!c.Policies && !c.Settings && !c.Namespaces
}
