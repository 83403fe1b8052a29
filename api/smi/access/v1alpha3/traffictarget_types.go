package v1alpha3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TrafficTarget allows its sources to call its destination by its rules.
// Source: https://github.com/servicemeshinterface/smi-spec/blob/main/apis/traffic-access/v1alpha3/traffic-access.md
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=tt
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Destination",type=string,JSONPath=`.spec.destination.name`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TrafficTarget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says who may call whom.
	// +optional
	Spec TrafficTargetSpec `json:"spec,omitempty"`
	// status says whether the mesh follows this object.
	// +optional
	Status TrafficTargetStatus `json:"status,omitempty"`
}

// TrafficTargetSpec says who may call whom, and how.
type TrafficTargetSpec struct {
	// destination is the ServiceAccount that is called. Its namespace must be
	// that of the TrafficTarget.
	// +required
	Destination IdentityBindingSubject `json:"destination"`
	// sources are the ServiceAccounts that may call.
	// +optional
	// +listType=atomic
	Sources []IdentityBindingSubject `json:"sources"`
	// rules name the routes that may be called.
	// +required
	// +listType=atomic
	Rules []TrafficTargetRule `json:"rules"`
}

// TrafficTargetRule names a route object in the namespace of the TrafficTarget.
type TrafficTargetRule struct {
	// kind is the kind of the route object.
	// +required
	// +kubebuilder:validation:Enum=HTTPRouteGroup;TCPRoute;UDPRoute
	Kind string `json:"kind"`
	// name is the name of the route object.
	// +required
	Name string `json:"name"`
	// matches limits an HTTPRouteGroup to these of its matches; none means all.
	// +optional
	// +listType=atomic
	Matches []string `json:"matches,omitempty"`
}

// IdentityBindingSubject names a ServiceAccount.
type IdentityBindingSubject struct {
	// kind is ServiceAccount.
	// +required
	Kind string `json:"kind"`
	// name is the name of the ServiceAccount.
	// +required
	Name string `json:"name"`
	// namespace is the namespace of the ServiceAccount; it has no default.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// TrafficTargetStatus says whether the mesh follows the object.
type TrafficTargetStatus struct {
	// conditions are Accepted and ResolvedRefs, written by the control plane.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// TrafficTargetList is a list of TrafficTargets.
//
// +kubebuilder:object:root=true
type TrafficTargetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficTarget `json:"items"`
}
