package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MeshRevision is one installed control plane of a Mesh. The operator writes it;
// two of one Mesh can stand side by side.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=osm
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Mesh",type=string,JSONPath=`.spec.mesh`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.version`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Replicas",type=string,JSONPath=`.status.replicas`
// +kubebuilder:printcolumn:name="Connected",type=integer,JSONPath=`.status.proxies.connected`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MeshRevision struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is installed.
	// +optional
	Spec MeshRevisionSpec `json:"spec,omitempty"`
	// status is what the operator found.
	// +optional
	Status MeshRevisionStatus `json:"status,omitempty"`
}

// MeshRevisionSpec is what is installed: the version and the rendered settings.
type MeshRevisionSpec struct {
	// mesh is the name of the Mesh that this belongs to.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.mesh cannot be changed"
	Mesh string `json:"mesh"`
	// revision is the short name that the objects of this control plane carry.
	// +required
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.revision cannot be changed"
	Revision string `json:"revision"`
	// version is the version of the control plane.
	// +required
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version"`
	// namespace is where the control plane runs.
	// +required
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
	// trustDomain is the SPIFFE trust domain.
	// +required
	// +kubebuilder:validation:MaxLength=253
	TrustDomain string `json:"trustDomain"`
	// workloadIdentity says where the certificates of workloads come from; PodCertificate
	// when absent.
	// +optional
	WorkloadIdentity WorkloadIdentity `json:"workloadIdentity,omitempty"`
	// osmImage is the image of the control plane and of the init container.
	// +required
	// +kubebuilder:validation:MaxLength=512
	OSMImage string `json:"osmImage"`
	// envoyImage is the sidecar's image.
	// +required
	// +kubebuilder:validation:MaxLength=512
	EnvoyImage string `json:"envoyImage"`
	// pullPolicy is for both images.
	// +required
	PullPolicy corev1.PullPolicy `json:"pullPolicy"`
	// pullSecrets are for the control plane.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	PullSecrets []corev1.LocalObjectReference `json:"pullSecrets,omitempty"`
	// replicas is the number of control-plane pods.
	// +required
	// +kubebuilder:validation:Minimum=1
	Replicas int32 `json:"replicas,omitempty"`
	// resources are each control-plane pod's.
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
	// tolerations are the control-plane pods'.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// nodeSelector is the control-plane pods'.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
}

// MeshRevisionStatus is what the operator found.
type MeshRevisionStatus struct {
	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions are Ready, Progressing and Degraded.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// replicas tells available and wanted control-plane pods, such as 2/2.
	// +optional
	// +kubebuilder:validation:MaxLength=23
	Replicas string `json:"replicas,omitempty"`
	// proxies counts the sidecars of this revision.
	// +optional
	Proxies *ProxyCounts `json:"proxies,omitempty"`
}

// MeshRevisionList is a list of MeshRevisions.
//
// +kubebuilder:object:root=true
type MeshRevisionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshRevision `json:"items"`
}
