package v1alpha4

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrafficSplit shares the traffic of its root service among back ends by weight.
// Every served version has the same fields, so that a write through one drops
// nothing that was written through the other.
// Source: https://github.com/servicemeshinterface/smi-spec/blob/main/apis/traffic-split/v1alpha4/traffic-split.md
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:shortName=ts
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.spec.service`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TrafficSplit struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says how the traffic is shared.
	// +optional
	Spec TrafficSplitSpec `json:"spec,omitempty"`
	// status says whether the mesh follows this object.
	// +optional
	Status TrafficSplitStatus `json:"status,omitempty"`
}

// TrafficSplitSpec says how the traffic of a service is shared.
type TrafficSplitSpec struct {
	// service is the root service: a bare name, or a host name whose first label
	// is taken. The namespace is always that of the TrafficSplit.
	// +required
	Service string `json:"service"`
	// backends are the services that share the traffic.
	// +required
	// +listType=atomic
	Backends []TrafficSplitBackend `json:"backends"`
	// matches names HTTPRouteGroups of this namespace: only requests that match
	// one of them are split; none splits all.
	// +optional
	// +listType=atomic
	Matches []corev1.TypedLocalObjectReference `json:"matches,omitempty"`
}

// TrafficSplitBackend is a service and its share.
type TrafficSplitBackend struct {
	// service is the name of a Service in the namespace of the TrafficSplit.
	// +required
	Service string `json:"service"`
	// weight is this back end's share, relative to the sum of all weights; zero
	// gets no traffic.
	// +required
	// +kubebuilder:validation:Minimum=0
	Weight float64 `json:"weight"`
}

// TrafficSplitStatus says whether the mesh follows the object.
type TrafficSplitStatus struct {
	// conditions are Accepted and ResolvedRefs, written by the control plane.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// TrafficSplitList is a list of TrafficSplits.
//
// +kubebuilder:object:root=true
type TrafficSplitList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficSplit `json:"items"`
}
