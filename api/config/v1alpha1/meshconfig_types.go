package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
)

// MeshConfig is the configuration of a running mesh in its older version. It has all the
// fields of the newer one, so that a write through this version drops nothing that was
// written through the other, and no webhook has to convert the two.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=meshconfig
// +kubebuilder:subresource:status
// +kubebuilder:deprecatedversion:warning="config.openservicemesh.io/v1alpha1 MeshConfig is deprecated: use v1alpha2, which has the same fields"
// +kubebuilder:printcolumn:name="Permissive",type=boolean,JSONPath=`.spec.traffic.enablePermissiveTrafficPolicyMode`
// +kubebuilder:printcolumn:name="Egress",type=boolean,JSONPath=`.spec.traffic.enableEgress`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MeshConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is configured.
	// +optional
	Spec configv1alpha2.MeshConfigSpec `json:"spec,omitempty"`
	// status says whether the mesh follows this object.
	// +optional
	Status configv1alpha2.MeshConfigStatus `json:"status,omitempty"`
}

// MeshConfigList is a list of MeshConfigs.
//
// +kubebuilder:object:root=true
type MeshConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshConfig `json:"items"`
}
