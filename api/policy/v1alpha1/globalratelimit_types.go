package v1alpha1

// GlobalRateLimitSpec bounds a rate for all proxies together: each asks a server of
// Envoy's rate limit protocol.
type GlobalRateLimitSpec struct {
	// tcp bounds new connections.
	// +optional
	TCP *TCPGlobalRateLimitSpec `json:"tcp,omitempty"`
	// http bounds requests.
	// +optional
	HTTP *HTTPGlobalRateLimitSpec `json:"http,omitempty"`
}

// RateLimitServiceSpec is a server of Envoy's rate limit protocol, by gRPC in clear.
type RateLimitServiceSpec struct {
	// host is the server's name or address.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Host string `json:"host"`
	// port is the server's port.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int64 `json:"port"`
}

// TCPGlobalRateLimitSpec bounds new connections.
type TCPGlobalRateLimitSpec struct {
	// rateLimitService is asked about each connection.
	// +required
	RateLimitService RateLimitServiceSpec `json:"rateLimitService"`
	// domain is the name by which the server knows its limits.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Domain string `json:"domain"`
	// descriptors say what the connection counts as.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Descriptors []TCPRateLimitDescriptor `json:"descriptors"`
	// timeout bounds the wait for the server; 20 ms when absent.
	// +optional
	Timeout *Duration `json:"timeout,omitempty"`
	// failOpen lets connections through while the server cannot be asked; true when absent.
	// +optional
	FailOpen *bool `json:"failOpen,omitempty"`
}

// TCPRateLimitDescriptor is something that connections count as.
type TCPRateLimitDescriptor struct {
	// entries are what the server compares.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Entries []TCPRateLimitDescriptorEntry `json:"entries"`
}

// TCPRateLimitDescriptorEntry is a key and its value.
type TCPRateLimitDescriptorEntry struct {
	// key is compared by the server.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Key string `json:"key"`
	// value is compared by the server.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value"`
}

// HTTPGlobalRateLimitSpec bounds requests.
type HTTPGlobalRateLimitSpec struct {
	// rateLimitService is asked about each request.
	// +required
	RateLimitService RateLimitServiceSpec `json:"rateLimitService"`
	// domain is the name by which the server knows its limits.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Domain string `json:"domain"`
	// descriptors say what requests count as, unless a route says otherwise. Without any
	// the server is asked for routes with descriptors of their own alone.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Descriptors []HTTPGlobalRateLimitDescriptor `json:"descriptors,omitempty"`
	// timeout bounds the wait for the server; 20 ms when absent.
	// +optional
	Timeout *Duration `json:"timeout,omitempty"`
	// failOpen lets requests through while the server cannot be asked; true when absent.
	// Else they are answered 500.
	// +optional
	FailOpen *bool `json:"failOpen,omitempty"`
	// enableXRateLimitHeaders adds X-RateLimit-Limit, -Remaining and -Reset to answers.
	// +optional
	EnableXRateLimitHeaders *bool `json:"enableXRateLimitHeaders,omitempty"`
	// responseStatusCode is answered over the bound; 429 when absent.
	// +optional
	// +kubebuilder:validation:Enum=400;401;402;403;404;405;406;407;408;409;410;411;412;413;414;415;416;417;421;422;423;424;426;428;429;431;500;501;502;503;504;505;506;507;508;510;511
	ResponseStatusCode int64 `json:"responseStatusCode,omitempty"`
}

// HTTPGlobalPerRouteRateLimitSpec says what requests of a route count as.
type HTTPGlobalPerRouteRateLimitSpec struct {
	// descriptors are in place of the service's.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Descriptors []HTTPGlobalRateLimitDescriptor `json:"descriptors"`
}

// HTTPGlobalRateLimitDescriptor is something that requests count as: those for which each
// entry has a value.
type HTTPGlobalRateLimitDescriptor struct {
	// entries are what the server compares.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Entries []HTTPGlobalRateLimitDescriptorEntry `json:"entries"`
}

// HTTPGlobalRateLimitDescriptorEntry is one of several ways to a key and its value.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:MaxProperties=1
type HTTPGlobalRateLimitDescriptorEntry struct {
	// genericKey is the same for all requests.
	// +optional
	GenericKey *GenericKeyDescriptorEntry `json:"genericKey,omitempty"`
	// remoteAddress is the address of the pod that calls, with the key remote_address.
	// +optional
	RemoteAddress *RemoteAddressDescriptorEntry `json:"remoteAddress,omitempty"`
	// requestHeader is the value of a header.
	// +optional
	RequestHeader *RequestHeaderDescriptorEntry `json:"requestHeader,omitempty"`
	// headerValueMatch is for requests with some headers.
	// +optional
	HeaderValueMatch *HeaderValueMatchDescriptorEntry `json:"headerValueMatch,omitempty"`
}

// GenericKeyDescriptorEntry is the same for all requests.
type GenericKeyDescriptorEntry struct {
	// value is compared by the server.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value"`
	// key is compared by the server; generic_key when absent.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Key string `json:"key,omitempty"`
}

// RemoteAddressDescriptorEntry is the address of the pod that calls.
type RemoteAddressDescriptorEntry struct{}

// RequestHeaderDescriptorEntry is the value of a header.
type RequestHeaderDescriptorEntry struct {
	// name is the name of the header; requests without it do not count.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^:?[-!#$%&'*+.^_|~0-9A-Za-z]+$`
	Name string `json:"name"`
	// key is compared by the server.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Key string `json:"key"`
}

// HeaderValueMatchDescriptorEntry is for requests with some headers.
type HeaderValueMatchDescriptorEntry struct {
	// value is compared by the server.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value"`
	// headers must all match.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Headers []HTTPHeaderMatcher `json:"headers"`
	// key is compared by the server; header_match when absent.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Key string `json:"key,omitempty"`
	// expectMatch false means requests whose headers do not match; true when absent.
	// +optional
	ExpectMatch *bool `json:"expectMatch,omitempty"`
}

// HTTPHeaderMatcher compares a header in one of several ways.
//
// +kubebuilder:validation:MinProperties=2
// +kubebuilder:validation:MaxProperties=2
type HTTPHeaderMatcher struct {
	// name is the header's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^:?[-!#$%&'*+.^_|~0-9A-Za-z]+$`
	Name string `json:"name"`
	// exact is the whole value.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Exact string `json:"exact,omitempty"`
	// prefix is what the value begins with.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Prefix string `json:"prefix,omitempty"`
	// suffix is what the value ends with.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Suffix string `json:"suffix,omitempty"`
	// regex is a regular expression for the whole value.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Regex string `json:"regex,omitempty"`
	// contains is a part of the value.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Contains string `json:"contains,omitempty"`
	// present says whether there is the header.
	// +optional
	Present *bool `json:"present,omitempty"`
}
