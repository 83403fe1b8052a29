package v1alpha4

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// HTTPRouteGroup names kinds of HTTP requests, for TrafficTargets, TrafficSplits,
// Egresses and IngressBackends to refer to.
// Source: https://github.com/servicemeshinterface/smi-spec/blob/main/apis/traffic-specs/v1alpha4/traffic-specs.md
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=htr
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type HTTPRouteGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec lists the matches.
	// +optional
	Spec HTTPRouteGroupSpec `json:"spec,omitempty"`
	// status says whether the mesh follows this object.
	// +optional
	Status RouteStatus `json:"status,omitempty"`
}

// HTTPRouteGroupSpec lists named matches.
type HTTPRouteGroupSpec struct {
	// matches are the kinds of requests of this group.
	// +required
	// +listType=atomic
	Matches []HTTPMatch `json:"matches"`
}

// HTTPMatch is one kind of request; all that it sets must hold.
type HTTPMatch struct {
	// name is what other objects call this match.
	// +required
	Name string `json:"name"`
	// pathRegex is an RE2 regular expression for the whole path without the
	// query; empty is any path.
	// +optional
	PathRegex string `json:"pathRegex,omitempty"`
	// methods are HTTP methods; none, or "*" anywhere in the list, is any.
	// +optional
	// +listType=atomic
	Methods []string `json:"methods,omitempty"`
	// headers are maps of a header's name to an RE2 regular expression for its
	// whole value. The name host is matched against the authority.
	// +optional
	// +listType=atomic
	Headers []map[string]string `json:"headers,omitempty"`
}

// HTTPRouteGroupList is a list of HTTPRouteGroups.
//
// +kubebuilder:object:root=true
type HTTPRouteGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HTTPRouteGroup `json:"items"`
}

// TCPRoute names TCP ports, for TrafficTargets to refer to.
// Source: https://github.com/servicemeshinterface/smi-spec/blob/main/apis/traffic-specs/v1alpha4/traffic-specs.md
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=tr
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TCPRoute struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec lists the ports.
	// +optional
	Spec TCPRouteSpec `json:"spec,omitempty"`
	// status says whether the mesh follows this object.
	// +optional
	Status RouteStatus `json:"status,omitempty"`
}

// TCPRouteSpec says what the route matches.
type TCPRouteSpec struct {
	// matches are the ports of the destination's pods; none is any port.
	// +optional
	Matches TCPMatch `json:"matches,omitempty"`
}

// TCPMatch lists target ports.
type TCPMatch struct {
	// name is not used; it is kept for manifests that have it.
	// +optional
	Name string `json:"name,omitempty"`
	// ports are the destination pods' ports.
	// +optional
	// +listType=atomic
	Ports []int `json:"ports,omitempty"`
}

// RouteStatus says whether the mesh follows the object.
type RouteStatus struct {
	// conditions are Accepted and ResolvedRefs, written by the control plane.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// TCPRouteList is a list of TCPRoutes.
//
// +kubebuilder:object:root=true
type TCPRouteList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TCPRoute `json:"items"`
}
