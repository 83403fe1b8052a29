package v1alpha2

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MeshConfig is the configuration of a running mesh. A mesh has one, called
// osm-mesh-config, in its namespace. Every field is optional and none is
// defaulted in the stored object: an absent field means what the code's default
// says, so that a default can change with the version.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=meshconfig
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
// +kubebuilder:printcolumn:name="Permissive",type=boolean,JSONPath=`.spec.traffic.enablePermissiveTrafficPolicyMode`
// +kubebuilder:printcolumn:name="Egress",type=boolean,JSONPath=`.spec.traffic.enableEgress`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MeshConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is configured.
	// +optional
	Spec MeshConfigSpec `json:"spec,omitempty"`
	// status says whether the mesh follows this object.
	// +optional
	Status MeshConfigStatus `json:"status,omitempty"`
}

// MeshConfigSpec is what is configured.
type MeshConfigSpec struct {
	// sidecar configures the proxies.
	// +optional
	Sidecar *SidecarSpec `json:"sidecar,omitempty"`
	// traffic configures what is let through.
	// +optional
	Traffic *TrafficSpec `json:"traffic,omitempty"`
	// observability configures logs and traces.
	// +optional
	Observability *ObservabilitySpec `json:"observability,omitempty"`
	// certificate configures the certificates of workloads.
	// +optional
	Certificate *CertificateSpec `json:"certificate,omitempty"`
	// featureFlags switches features.
	// +optional
	FeatureFlags *FeatureFlags `json:"featureFlags,omitempty"`
}

// SidecarSpec configures the proxies.
type SidecarSpec struct {
	// enablePrivilegedInitContainer runs the init container privileged; false when absent.
	// +optional
	EnablePrivilegedInitContainer *bool `json:"enablePrivilegedInitContainer,omitempty"`
	// logLevel is the proxies' log level; error when absent.
	// +optional
	// +kubebuilder:validation:Enum=trace;debug;info;warning;warn;error;critical;off
	LogLevel string `json:"logLevel,omitempty"`
	// maxDataPlaneConnections is the most proxies a control-plane replica serves; 0 or absent is no limit.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxDataPlaneConnections *int `json:"maxDataPlaneConnections,omitempty"`
	// envoyImage is the proxy's image; the Mesh's when absent.
	// +optional
	EnvoyImage string `json:"envoyImage,omitempty"`
	// envoyWindowsImage has no effect: Windows nodes are not supported.
	// +optional
	EnvoyWindowsImage string `json:"envoyWindowsImage,omitempty"`
	// initContainerImage is the image that redirects traffic; the Mesh's when absent.
	// +optional
	InitContainerImage string `json:"initContainerImage,omitempty"`
	// resources are the proxy container's; none when absent.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
	// configResyncInterval has no effect: proxies follow changes and need no resync.
	// +optional
	ConfigResyncInterval string `json:"configResyncInterval,omitempty"`
	// tlsMinProtocolVersion is the lowest TLS version that proxies accept; TLSv1_3 between sidecars when absent.
	// +optional
	// +kubebuilder:validation:Enum=TLS_AUTO;TLSv1_0;TLSv1_1;TLSv1_2;TLSv1_3
	TLSMinProtocolVersion string `json:"tlsMinProtocolVersion,omitempty"`
	// tlsMaxProtocolVersion is the highest TLS version that proxies accept; TLSv1_3 when absent.
	// +optional
	// +kubebuilder:validation:Enum=TLS_AUTO;TLSv1_0;TLSv1_1;TLSv1_2;TLSv1_3
	TLSMaxProtocolVersion string `json:"tlsMaxProtocolVersion,omitempty"`
	// cipherSuites are for TLS up to 1.2; Envoy's when absent.
	// +optional
	// +listType=atomic
	CipherSuites []string `json:"cipherSuites,omitempty"`
	// ecdhCurves are the key exchanges in order; X25519MLKEM768, X25519, P-256 when absent.
	// +optional
	// +listType=atomic
	ECDHCurves []string `json:"ecdhCurves,omitempty"`
	// localProxyMode is where the proxy finds its application; Localhost when absent.
	// +optional
	// +kubebuilder:validation:Enum=Localhost;PodIP
	LocalProxyMode string `json:"localProxyMode,omitempty"`
}

// TrafficSpec configures what is let through.
type TrafficSpec struct {
	// enableEgress lets traffic to unknown destinations pass; true when absent.
	// +optional
	EnableEgress *bool `json:"enableEgress,omitempty"`
	// outboundIPRangeExclusionList are ranges that are not redirected.
	// +optional
	// +listType=atomic
	OutboundIPRangeExclusionList []string `json:"outboundIPRangeExclusionList,omitempty"`
	// outboundIPRangeInclusionList are the only ranges that are redirected, if any.
	// +optional
	// +listType=atomic
	OutboundIPRangeInclusionList []string `json:"outboundIPRangeInclusionList,omitempty"`
	// outboundPortExclusionList are destination ports that are not redirected.
	// +optional
	// +listType=atomic
	OutboundPortExclusionList []int `json:"outboundPortExclusionList,omitempty"`
	// inboundPortExclusionList are ports of the pod that are not redirected.
	// +optional
	// +listType=atomic
	InboundPortExclusionList []int `json:"inboundPortExclusionList,omitempty"`
	// networkInterfaceExclusionList are interfaces that are not redirected.
	// +optional
	// +listType=atomic
	NetworkInterfaceExclusionList []string `json:"networkInterfaceExclusionList,omitempty"`
	// enablePermissiveTrafficPolicyMode lets every workload of the mesh call every service of it; true when absent.
	// +optional
	EnablePermissiveTrafficPolicyMode *bool `json:"enablePermissiveTrafficPolicyMode,omitempty"`
	// inboundExternalAuthorization asks an outside server about each inbound HTTP request.
	// +optional
	InboundExternalAuthorization *ExternalAuthzSpec `json:"inboundExternalAuthorization,omitempty"`
}

// ExternalAuthzSpec configures external authorization.
type ExternalAuthzSpec struct {
	// enable switches it on; false when absent.
	// +optional
	Enable *bool `json:"enable,omitempty"`
	// address is the host of the server.
	// +optional
	Address string `json:"address,omitempty"`
	// port is the port of the server.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int `json:"port,omitempty"`
	// statPrefix names its metrics; inboundExtAuthz when absent.
	// +optional
	StatPrefix string `json:"statPrefix,omitempty"`
	// timeout bounds each question; 1s when absent.
	// +optional
	Timeout string `json:"timeout,omitempty"`
	// failureModeAllow lets requests through when the server does not answer; false when absent.
	// +optional
	FailureModeAllow *bool `json:"failureModeAllow,omitempty"`
}

// ObservabilitySpec configures logs and traces.
type ObservabilitySpec struct {
	// osmLogLevel is the control plane's log level; info when absent.
	// +optional
	OSMLogLevel string `json:"osmLogLevel,omitempty"`
	// enableDebugServer opens the debug pages of the control plane; false when absent.
	// +optional
	EnableDebugServer *bool `json:"enableDebugServer,omitempty"`
	// tracing sends spans to a Zipkin or an OpenTelemetry server.
	// +optional
	Tracing *TracingSpec `json:"tracing,omitempty"`
}

// TracingProvider is the protocol that spans are sent by.
// +kubebuilder:validation:Enum=Zipkin;OpenTelemetry
type TracingProvider string

const (
	// TracingZipkin is version 2 of Zipkin's HTTP API, with JSON.
	TracingZipkin TracingProvider = "Zipkin"
	// TracingOpenTelemetry is OTLP by gRPC.
	TracingOpenTelemetry TracingProvider = "OpenTelemetry"
)

// TracingSpec configures tracing.
type TracingSpec struct {
	// enable switches it on; false when absent.
	// +optional
	Enable *bool `json:"enable,omitempty"`
	// port is the server's port; 9411 when absent.
	// +optional
	Port int `json:"port,omitempty"`
	// address is the server's host; jaeger in the mesh namespace when absent.
	// +optional
	Address string `json:"address,omitempty"`
	// endpoint is the path for spans; /api/v2/spans when absent.
	// +optional
	Endpoint string `json:"endpoint,omitempty"`
	// provider is the protocol that spans are sent by; Zipkin when absent. The fields
	// port, address and endpoint are Zipkin's.
	// +optional
	Provider TracingProvider `json:"provider,omitempty"`
	// openTelemetry is where spans are sent to if the provider is OpenTelemetry.
	// +optional
	OpenTelemetry *OpenTelemetryTracingSpec `json:"openTelemetry,omitempty"`
	// samplingPercentage is how many of the traces that begin at a proxy are sampled;
	// 100 when absent. What a caller has decided about its trace is kept.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	SamplingPercentage *int32 `json:"samplingPercentage,omitempty"`
}

// OpenTelemetryTracingSpec is a server of OTLP by gRPC.
type OpenTelemetryTracingSpec struct {
	// address is the server's host; opentelemetry-collector in the mesh namespace when absent.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Address string `json:"address,omitempty"`
	// port is the server's port; 4317 when absent.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
}

// CertificateSpec configures the certificates of workloads.
type CertificateSpec struct {
	// serviceCertValidityDuration is the lifetime of a workload's certificate; 48h when absent.
	// +optional
	ServiceCertValidityDuration string `json:"serviceCertValidityDuration,omitempty"`
	// certKeyBitSize has no effect on workloads: their keys are ECDSA P-256, made on the node.
	// +optional
	CertKeyBitSize int `json:"certKeyBitSize,omitempty"`
	// ingressGateway asks for a client certificate for an ingress controller.
	// +optional
	IngressGateway *IngressGatewayCertSpec `json:"ingressGateway,omitempty"`
}

// IngressGatewayCertSpec asks for a client certificate for an ingress controller.
type IngressGatewayCertSpec struct {
	// subjectAltNames are its names; the first is used.
	// +required
	// +kubebuilder:validation:MinItems=1
	// +listType=atomic
	SubjectAltNames []string `json:"subjectAltNames"`
	// validityDuration is its lifetime, an hour to a year; 24h where it cannot be read.
	// +required
	ValidityDuration string `json:"validityDuration"`
	// secret is where the operator keeps it: tls.crt, tls.key, and ca.crt to verify sidecars with.
	// +required
	Secret corev1.SecretReference `json:"secret"`
}

// FeatureFlags switches features.
type FeatureFlags struct {
	// enableWASMStats makes osm_request metrics; true when absent.
	// +optional
	EnableWASMStats *bool `json:"enableWASMStats,omitempty"`
	// enableEgressPolicy follows Egress objects; true when absent.
	// +optional
	EnableEgressPolicy *bool `json:"enableEgressPolicy,omitempty"`
	// enableMulticlusterMode has no effect.
	// +optional
	EnableMulticlusterMode *bool `json:"enableMulticlusterMode,omitempty"`
	// enableSnapshotCacheMode has no effect.
	// +optional
	EnableSnapshotCacheMode *bool `json:"enableSnapshotCacheMode,omitempty"`
	// enableAsyncProxyServiceMapping has no effect.
	// +optional
	EnableAsyncProxyServiceMapping *bool `json:"enableAsyncProxyServiceMapping,omitempty"`
	// enableIngressBackendPolicy follows IngressBackend objects; true when absent.
	// +optional
	EnableIngressBackendPolicy *bool `json:"enableIngressBackendPolicy,omitempty"`
	// enableEnvoyActiveHealthChecks lets callers check callees' health; false when absent.
	// +optional
	EnableEnvoyActiveHealthChecks *bool `json:"enableEnvoyActiveHealthChecks,omitempty"`
	// enableRetryPolicy follows Retry objects; false when absent.
	// +optional
	EnableRetryPolicy *bool `json:"enableRetryPolicy,omitempty"`
	// enableMeshRootCertificate has no effect: the Mesh names the certificate authority.
	// +optional
	EnableMeshRootCertificate *bool `json:"enableMeshRootCertificate,omitempty"`
}

// MeshConfigStatus says whether the mesh follows the object.
type MeshConfigStatus struct {
	// conditions are Accepted, written by the control plane.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MeshConfigList is a list of MeshConfigs.
//
// +kubebuilder:object:root=true
type MeshConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshConfig `json:"items"`
}
