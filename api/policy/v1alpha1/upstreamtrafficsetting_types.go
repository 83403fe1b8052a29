package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Duration is a time in Go's form, such as 500ms, 5s or 1m30s. What cannot be read is
// told in the status of its object.
//
// +kubebuilder:validation:MaxLength=64
// +kubebuilder:validation:XValidation:rule="self.matches('^[+]?(0|(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$')",message="must be a time with its unit, such as 500ms, 5s or 1m30s"
type Duration string

// UpstreamTrafficSetting bounds the traffic to a service.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=upstreamtrafficsetting
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.currentStatus`
type UpstreamTrafficSetting struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what is bounded.
	// +optional
	Spec UpstreamTrafficSettingSpec `json:"spec,omitempty"`
	// status says whether the mesh follows this object.
	// +optional
	Status PolicyStatus `json:"status,omitempty"`
}

// UpstreamTrafficSettingSpec says what is bounded.
type UpstreamTrafficSettingSpec struct {
	// host is the full host name of a Service of this namespace, such as
	// store.shop.svc.cluster.local. Where an Egress names this object, it may be any host.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^([*]|[-_a-zA-Z0-9]+)([.][-_a-zA-Z0-9]+)+[.]?$')",message="must be a full host name, such as name.namespace.svc.cluster.local"
	Host string `json:"host"`
	// connectionSettings bound connections and requests at each caller.
	// +optional
	ConnectionSettings *ConnectionSettingsSpec `json:"connectionSettings,omitempty"`
	// outlierDetection keeps callers from pods that answer with errors; no pod is kept
	// from them when absent.
	// +optional
	OutlierDetection *OutlierDetectionSpec `json:"outlierDetection,omitempty"`
	// healthCheck has callers ask pods whether they listen; featureFlags of the MeshConfig
	// decide when absent.
	// +optional
	HealthCheck *HealthCheckSpec `json:"healthCheck,omitempty"`
	// loadBalancing says which pod a caller chooses: of two the one with fewer requests
	// when absent.
	// +optional
	LoadBalancing *LoadBalancingSpec `json:"loadBalancing,omitempty"`
	// rateLimit bounds the rate at each callee.
	// +optional
	RateLimit *RateLimitSpec `json:"rateLimit,omitempty"`
	// httpRoutes bound single routes.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1024
	HTTPRoutes []HTTPRouteSpec `json:"httpRoutes,omitempty"`
}

// ConnectionSettingsSpec bounds connections and requests.
type ConnectionSettingsSpec struct {
	// tcp bounds connections.
	// +optional
	TCP *TCPConnectionSettings `json:"tcp,omitempty"`
	// http bounds requests.
	// +optional
	HTTP *HTTPConnectionSettings `json:"http,omitempty"`
}

// TCPConnectionSettings bounds connections.
type TCPConnectionSettings struct {
	// maxConnections is the most connections to the service; no limit when absent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MaxConnections *int64 `json:"maxConnections,omitempty"`
	// connectTimeout bounds the making of a connection; 5 s when absent.
	// +optional
	ConnectTimeout *Duration `json:"connectTimeout,omitempty"`
	// idleTimeout ends a connection of bytes on which nothing is said; no bound when absent.
	// +optional
	IdleTimeout *Duration `json:"idleTimeout,omitempty"`
}

// HTTPConnectionSettings bounds requests.
type HTTPConnectionSettings struct {
	// maxRequests is the most requests under way; no limit when absent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MaxRequests *int64 `json:"maxRequests,omitempty"`
	// maxRequestsPerConnection is the most requests on one connection; no limit when absent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MaxRequestsPerConnection *int64 `json:"maxRequestsPerConnection,omitempty"`
	// maxPendingRequests is the most requests that wait for a connection; no limit when absent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MaxPendingRequests *int64 `json:"maxPendingRequests,omitempty"`
	// maxRetries is the most retries under way; no limit when absent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MaxRetries *int64 `json:"maxRetries,omitempty"`
	// idleTimeout ends a connection on which there is no request; 30 min when absent.
	// +optional
	IdleTimeout *Duration `json:"idleTimeout,omitempty"`
	// requestTimeout bounds a request from its first byte to the end of its answer, with
	// all its retries; no bound when absent.
	// +optional
	RequestTimeout *Duration `json:"requestTimeout,omitempty"`
}

// RateLimitSpec bounds a rate.
type RateLimitSpec struct {
	// local is counted by each proxy for itself.
	// +optional
	Local *LocalRateLimitSpec `json:"local,omitempty"`
	// global is counted for all proxies together.
	// +optional
	Global *GlobalRateLimitSpec `json:"global,omitempty"`
}

// LocalRateLimitSpec bounds a rate at each proxy.
type LocalRateLimitSpec struct {
	// tcp bounds new connections.
	// +optional
	TCP *TCPLocalRateLimitSpec `json:"tcp,omitempty"`
	// http bounds requests.
	// +optional
	HTTP *HTTPLocalRateLimitSpec `json:"http,omitempty"`
}

// TCPLocalRateLimitSpec bounds new connections.
//
// +kubebuilder:validation:XValidation:rule="has(self.connections) && has(self.unit)",message="a rate limit needs connections and unit"
type TCPLocalRateLimitSpec struct {
	// connections is the most connections in each unit.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	Connections int64 `json:"connections,omitempty"`
	// unit is the time that the bound is for.
	// +optional
	// +kubebuilder:validation:Enum=second;minute;hour
	Unit string `json:"unit,omitempty"`
	// burst is what may come on top at once.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	Burst int64 `json:"burst,omitempty"`
}

// HTTPLocalRateLimitSpec bounds requests.
//
// +kubebuilder:validation:XValidation:rule="has(self.requests) && has(self.unit)",message="a rate limit needs requests and unit"
type HTTPLocalRateLimitSpec struct {
	// requests is the most requests in each unit.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	Requests int64 `json:"requests,omitempty"`
	// unit is the time that the bound is for.
	// +optional
	// +kubebuilder:validation:Enum=second;minute;hour
	Unit string `json:"unit,omitempty"`
	// burst is what may come on top at once.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	Burst int64 `json:"burst,omitempty"`
	// responseStatusCode is answered over the bound; 429 when absent.
	// +optional
	// +kubebuilder:validation:Enum=400;401;402;403;404;405;406;407;408;409;410;411;412;413;414;415;416;417;421;422;423;424;426;428;429;431;500;501;502;503;504;505;506;507;508;510;511
	ResponseStatusCode int64 `json:"responseStatusCode,omitempty"`
	// responseHeadersToAdd are added to that answer.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	ResponseHeadersToAdd []HTTPHeaderValue `json:"responseHeadersToAdd,omitempty"`
}

// HTTPHeaderValue is a header.
type HTTPHeaderValue struct {
	// name is the header's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[-!#$%&'*+.^_|~0-9A-Za-z]+$`
	Name string `json:"name"`
	// value is the header's value.
	// +required
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value"`
}

// HTTPRouteSpec bounds one route.
//
// +kubebuilder:validation:XValidation:rule="has(self.path) && size(self.path) > 0",message="a route needs a path"
type HTTPRouteSpec struct {
	// path is a regular expression for the whole path. It is compared with the pathRegex
	// of routes; in permissive mode, where there are none, with the path of requests.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Path string `json:"path,omitempty"`
	// rateLimit bounds the route's rate in place of the service's.
	// +optional
	RateLimit *HTTPPerRouteRateLimitSpec `json:"rateLimit,omitempty"`
}

// HTTPPerRouteRateLimitSpec bounds one route's rate.
type HTTPPerRouteRateLimitSpec struct {
	// local is counted by each proxy for itself.
	// +optional
	Local *HTTPLocalRateLimitSpec `json:"local,omitempty"`
	// global is counted for all proxies together, by the server that rateLimit names.
	// +optional
	Global *HTTPGlobalPerRouteRateLimitSpec `json:"global,omitempty"`
}

// UpstreamTrafficSettingList is a list of UpstreamTrafficSettings.
//
// +kubebuilder:object:root=true
type UpstreamTrafficSettingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []UpstreamTrafficSetting `json:"items"`
}
