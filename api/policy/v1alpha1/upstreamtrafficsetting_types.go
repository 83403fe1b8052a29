package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	// host is the service's full host name.
	// +required
	Host string `json:"host"`
	// connectionSettings bound connections and requests at each caller.
	// +optional
	ConnectionSettings *ConnectionSettingsSpec `json:"connectionSettings,omitempty"`
	// rateLimit bounds the rate at each callee.
	// +optional
	RateLimit *RateLimitSpec `json:"rateLimit,omitempty"`
	// httpRoutes bound single routes.
	// +optional
	// +listType=atomic
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
	MaxConnections *uint32 `json:"maxConnections,omitempty"`
	// connectTimeout bounds the making of a connection; 5 s when absent.
	// +optional
	ConnectTimeout *metav1.Duration `json:"connectTimeout,omitempty"`
}

// HTTPConnectionSettings bounds requests.
type HTTPConnectionSettings struct {
	// maxRequests is the most requests under way; no limit when absent.
	// +optional
	MaxRequests *uint32 `json:"maxRequests,omitempty"`
	// maxRequestsPerConnection is the most requests on one connection; no limit when absent.
	// +optional
	MaxRequestsPerConnection *uint32 `json:"maxRequestsPerConnection,omitempty"`
	// maxPendingRequests is the most requests that wait for a connection; no limit when absent.
	// +optional
	MaxPendingRequests *uint32 `json:"maxPendingRequests,omitempty"`
	// maxRetries is the most retries under way; no limit when absent.
	// +optional
	MaxRetries *uint32 `json:"maxRetries,omitempty"`
}

// RateLimitSpec bounds a rate.
type RateLimitSpec struct {
	// local is counted by each proxy for itself.
	// +optional
	Local *LocalRateLimitSpec `json:"local,omitempty"`
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
type TCPLocalRateLimitSpec struct {
	// connections is the most connections in each unit.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Connections uint32 `json:"connections"`
	// unit is the time that the bound is for.
	// +optional
	// +kubebuilder:validation:Enum=second;minute;hour
	Unit string `json:"unit"`
	// burst is what may come on top at once.
	// +optional
	Burst uint32 `json:"burst,omitempty"`
}

// HTTPLocalRateLimitSpec bounds requests.
type HTTPLocalRateLimitSpec struct {
	// requests is the most requests in each unit.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Requests uint32 `json:"requests"`
	// unit is the time that the bound is for.
	// +optional
	// +kubebuilder:validation:Enum=second;minute;hour
	Unit string `json:"unit"`
	// burst is what may come on top at once.
	// +optional
	Burst uint32 `json:"burst,omitempty"`
	// responseStatusCode is answered over the bound; 429 when absent.
	// +optional
	// +kubebuilder:validation:Minimum=400
	// +kubebuilder:validation:Maximum=599
	ResponseStatusCode uint32 `json:"responseStatusCode,omitempty"`
	// responseHeadersToAdd are added to that answer.
	// +optional
	// +listType=atomic
	ResponseHeadersToAdd []HTTPHeaderValue `json:"responseHeadersToAdd,omitempty"`
}

// HTTPHeaderValue is a header.
type HTTPHeaderValue struct {
	// name is the header's name.
	// +required
	Name string `json:"name"`
	// value is the header's value.
	// +required
	Value string `json:"value"`
}

// HTTPRouteSpec bounds one route.
type HTTPRouteSpec struct {
	// path is compared with the route's pathRegex as a string.
	// +optional
	Path string `json:"path"`
	// rateLimit bounds the route's rate in place of the service's.
	// +optional
	RateLimit *HTTPPerRouteRateLimitSpec `json:"rateLimit,omitempty"`
}

// HTTPPerRouteRateLimitSpec bounds one route's rate.
type HTTPPerRouteRateLimitSpec struct {
	// local is counted by each proxy for itself.
	// +optional
	Local *HTTPLocalRateLimitSpec `json:"local,omitempty"`
}

// UpstreamTrafficSettingList is a list of UpstreamTrafficSettings.
//
// +kubebuilder:object:root=true
type UpstreamTrafficSettingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []UpstreamTrafficSetting `json:"items"`
}
