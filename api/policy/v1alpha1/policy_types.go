package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PolicyStatus is what Open Service Mesh's users read, and the conditions beside it.
type PolicyStatus struct {
	// currentStatus is committed or error.
	// +optional
	CurrentStatus string `json:"currentStatus,omitempty"`
	// reason says why.
	// +optional
	Reason string `json:"reason,omitempty"`
	// conditions are Accepted and ResolvedRefs, written by the control plane.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Egress allows ServiceAccounts to call hosts outside the mesh.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=egress
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Egress struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says who may call what.
	// +optional
	Spec EgressSpec `json:"spec,omitempty"`
	// status says whether the mesh follows this object.
	// +optional
	Status PolicyStatus `json:"status,omitempty"`
}

// EgressSpec says who may call what outside the mesh.
type EgressSpec struct {
	// sources are the ServiceAccounts that may call.
	// +required
	// +listType=atomic
	Sources []EgressSource `json:"sources"`
	// hosts are host names: of the Host header for http, of the SNI for https.
	// +optional
	// +listType=atomic
	Hosts []string `json:"hosts,omitempty"`
	// ipAddresses are destination ranges in CIDR form.
	// +optional
	// +listType=atomic
	IPAddresses []string `json:"ipAddresses,omitempty"`
	// ports are destination ports with their protocol.
	// +required
	// +listType=atomic
	Ports []PortSpec `json:"ports"`
	// matches names an HTTPRouteGroup or UpstreamTrafficSetting of this
	// namespace; apiGroup holds the group and the version.
	// +optional
	// +listType=atomic
	Matches []corev1.TypedLocalObjectReference `json:"matches,omitempty"`
}

// EgressSource names a ServiceAccount.
type EgressSource struct {
	// kind is ServiceAccount.
	// +required
	// +kubebuilder:validation:Enum=ServiceAccount
	Kind string `json:"kind"`
	// name is the ServiceAccount's name.
	// +required
	Name string `json:"name"`
	// namespace is the ServiceAccount's namespace.
	// +required
	Namespace string `json:"namespace"`
}

// PortSpec is a port and the protocol spoken on it.
type PortSpec struct {
	// number is the port.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Number int `json:"number"`
	// protocol is the protocol spoken on the port.
	// +required
	Protocol string `json:"protocol"`
}

// EgressList is a list of Egresses.
//
// +kubebuilder:object:root=true
type EgressList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Egress `json:"items"`
}

// IngressBackend lets gateways outside the mesh call services in it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=ingressbackend
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.currentStatus`
type IngressBackend struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which gateways may call what.
	// +optional
	Spec IngressBackendSpec `json:"spec,omitempty"`
	// status says whether the mesh follows this object.
	// +optional
	Status PolicyStatus `json:"status,omitempty"`
}

// IngressBackendSpec says which gateways may call which services.
type IngressBackendSpec struct {
	// backends are the services that are called.
	// +required
	// +listType=atomic
	Backends []BackendSpec `json:"backends"`
	// sources are the gateways.
	// +required
	// +listType=atomic
	Sources []IngressSourceSpec `json:"sources"`
	// matches names HTTPRouteGroups of this namespace.
	// +optional
	// +listType=atomic
	Matches []corev1.TypedLocalObjectReference `json:"matches,omitempty"`
}

// BackendSpec is a service with the port that its pods listen on.
type BackendSpec struct {
	// name is the Service's name.
	// +required
	Name string `json:"name"`
	// port is the target port of the pods.
	// +required
	Port PortSpec `json:"port"`
	// tls is for protocol https.
	// +optional
	TLS *TLSSpec `json:"tls,omitempty"`
}

// TLSSpec is how a gateway's TLS connection is checked.
type TLSSpec struct {
	// skipClientCertValidation accepts gateways without a client certificate.
	// +required
	SkipClientCertValidation bool `json:"skipClientCertValidation"`
	// sniHosts are the server names that gateways send.
	// +optional
	// +listType=atomic
	SNIHosts []string `json:"sniHosts,omitempty"`
}

// IngressSourceSpec names gateways.
type IngressSourceSpec struct {
	// kind is Service, IPRange or AuthenticatedPrincipal.
	// +required
	Kind string `json:"kind"`
	// name is the Service's name, the range in CIDR form, or the name in the certificate.
	// +required
	Name string `json:"name"`
	// namespace is the Service's namespace.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// IngressBackendList is a list of IngressBackends.
//
// +kubebuilder:object:root=true
type IngressBackendList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IngressBackend `json:"items"`
}

// Retry is how a ServiceAccount's failed requests to services are tried again.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=retry
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Retry struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what is tried again and how.
	// +optional
	Spec RetrySpec `json:"spec,omitempty"`
	// status says whether the mesh follows this object.
	// +optional
	Status PolicyStatus `json:"status,omitempty"`
}

// RetrySpec says what is tried again and how.
type RetrySpec struct {
	// source is the calling ServiceAccount.
	// +required
	Source RetrySrcDstSpec `json:"source"`
	// destinations are the called Services.
	// +required
	// +listType=atomic
	Destinations []RetrySrcDstSpec `json:"destinations"`
	// retryPolicy says when and how often.
	// +required
	RetryPolicy RetryPolicySpec `json:"retryPolicy"`
}

// RetrySrcDstSpec names a ServiceAccount or a Service.
type RetrySrcDstSpec struct {
	// kind is ServiceAccount or Service.
	// +required
	Kind string `json:"kind"`
	// name is the object's name.
	// +required
	Name string `json:"name"`
	// namespace is the object's namespace.
	// +required
	Namespace string `json:"namespace"`
}

// RetryPolicySpec says when and how often a request is tried again.
type RetryPolicySpec struct {
	// retryOn is a comma-separated list of Envoy's retry conditions.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	RetryOn string `json:"retryOn"`
	// perTryTimeout bounds each try; no bound when absent.
	// +optional
	PerTryTimeout *Duration `json:"perTryTimeout,omitempty"`
	// numRetries is how often a request is tried again; 1 when absent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	NumRetries *int64 `json:"numRetries,omitempty"`
	// retryBackoffBaseInterval is the first wait; 25 ms when absent, at most ten times that.
	// +optional
	RetryBackoffBaseInterval *Duration `json:"retryBackoffBaseInterval,omitempty"`
}

// RetryList is a list of Retries.
//
// +kubebuilder:object:root=true
type RetryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Retry `json:"items"`
}
