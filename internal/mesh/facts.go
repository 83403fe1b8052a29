package mesh

import (
	"net/netip"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
)

// Fact is one thing that is known of the cluster. A later Fact about the same thing
// takes the place of the earlier. Facts about namespaces that are not in the mesh
// count as soon as they are.
type Fact interface{ apply(s *State) }

// NamespaceFact says whether a namespace belongs to the mesh.
type NamespaceFact struct {
	Name      string
	Monitored bool
}

// ServiceFact is a Service; nil is that there is none.
type ServiceFact struct {
	Key     Key
	Service *Service
}

// SliceFact is a part of the endpoints of a Service; nil is that there is none.
type SliceFact struct {
	Key   Key
	Slice *Slice
}

// PodFact is a pod; nil is that there is none.
type PodFact struct {
	Key Key
	Pod *Pod
}

// NodeFact is the zone of a node; empty where the node has none, or is gone.
type NodeFact struct {
	Name, Zone string
}

// SettingsFact are the mesh-wide settings.
type SettingsFact struct {
	Settings Settings
}

// PolicyFact is a policy object; nil is that there is none.
type PolicyFact[Spec PolicySpec] struct {
	Key    Key
	Object *Object[Spec]
}

// PolicySpec is a kind of policy, by what its objects say.
type PolicySpec interface {
	accessv1alpha3.TrafficTargetSpec | specsv1alpha4.HTTPRouteGroupSpec | specsv1alpha4.TCPRouteSpec | splitv1alpha4.TrafficSplitSpec |
		policyv1alpha1.EgressSpec | policyv1alpha1.IngressBackendSpec | policyv1alpha1.RetrySpec | policyv1alpha1.UpstreamTrafficSettingSpec
}

// Slice is a part of the endpoints of a Service, as an EndpointSlice holds it.
type Slice struct {
	Key
	Service Key
	// Ports are port numbers by the names of the Service's ports; a single port may
	// have the empty name.
	Ports     map[string]uint16
	Endpoints []SliceEndpoint
}

// SliceEndpoint is one endpoint of a Slice.
type SliceEndpoint struct {
	Addresses                   []netip.Addr
	Ready, Serving, Terminating bool
	Hostname, Node, Zone        string
	ZoneHints                   []string
	Pod                         Key
}

// Pod is what decides about a pod's proxy. Its Class and Zone are found by the State.
type Pod struct {
	Workload
	Labels map[string]string
	// NamedPorts are the numbers of named container ports.
	NamedPorts map[string]uint16
	// Scrape is the annotation prometheus.io/scrape.
	Scrape bool
	// Ended says that the pod has succeeded or failed: it serves no more.
	Ended bool
}
