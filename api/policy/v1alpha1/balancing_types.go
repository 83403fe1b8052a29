package v1alpha1

// OutlierDetectionSpec keeps each caller from pods that answered it with errors: 5xx,
// no answer, or no connection.
type OutlierDetectionSpec struct {
	// consecutiveErrors is how many errors in a row make an outlier; 5 when absent.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	ConsecutiveErrors *int64 `json:"consecutiveErrors,omitempty"`
	// interval is how often outliers are looked for and let in again; 10 s when absent.
	// +optional
	Interval *Duration `json:"interval,omitempty"`
	// baseEjectionTime is how long an outlier is kept out, times how often it was; 30 s
	// when absent.
	// +optional
	BaseEjectionTime *Duration `json:"baseEjectionTime,omitempty"`
	// maxEjectionPercent is the most of the pods that may be kept out; 50 when absent. One
	// pod of one is 100 percent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MaxEjectionPercent *int64 `json:"maxEjectionPercent,omitempty"`
}

// LoadBalancingPolicy is how a pod is chosen.
//
// +kubebuilder:validation:Enum=LeastRequest;RoundRobin;RingHash
type LoadBalancingPolicy string

const (
	// LeastRequest takes of two pods the one with fewer requests under way.
	LeastRequest LoadBalancingPolicy = "LeastRequest"
	// RoundRobin takes one after the other.
	RoundRobin LoadBalancingPolicy = "RoundRobin"
	// RingHash takes the same pod for what is alike, as long as there is that pod.
	RingHash LoadBalancingPolicy = "RingHash"
)

// LoadBalancingSpec says which pod a caller chooses.
//
// +kubebuilder:validation:XValidation:rule="(has(self.policy) && self.policy == 'RingHash') == has(self.hashOn)",message="hashOn belongs to policy RingHash, which needs it"
// +kubebuilder:validation:XValidation:rule="!has(self.slowStart) || !has(self.policy) || self.policy != 'RingHash'",message="slowStart has no meaning with policy RingHash"
type LoadBalancingSpec struct {
	// policy is LeastRequest when absent.
	// +optional
	Policy LoadBalancingPolicy `json:"policy,omitempty"`
	// hashOn says what is alike, for RingHash.
	// +optional
	HashOn *HashOnSpec `json:"hashOn,omitempty"`
	// slowStart gives new pods less to do at first.
	// +optional
	SlowStart *SlowStartSpec `json:"slowStart,omitempty"`
}

// HashOnKind is a part of a request.
//
// +kubebuilder:validation:Enum=Header;Cookie;SourceIP
type HashOnKind string

const (
	// HashOnHeader is the value of a header; requests without it go anywhere.
	HashOnHeader HashOnKind = "Header"
	// HashOnCookie is the value of a cookie; requests without it go anywhere.
	HashOnCookie HashOnKind = "Cookie"
	// HashOnSourceIP is the address of the pod that calls.
	HashOnSourceIP HashOnKind = "SourceIP"
)

// HashOnSpec says what is alike. Connections of bytes have nothing but their SourceIP.
//
// +kubebuilder:validation:XValidation:rule="has(self.name) == (self.kind != 'SourceIP')",message="a Header or a Cookie needs a name, and SourceIP has none"
type HashOnSpec struct {
	// kind is Header, Cookie or SourceIP.
	// +required
	Kind HashOnKind `json:"kind"`
	// name is the name of the header or the cookie.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[-!#$%&'*+.^_|~0-9A-Za-z]+$`
	Name string `json:"name,omitempty"`
}

// SlowStartSpec gives new pods less to do at first.
type SlowStartSpec struct {
	// window is how long a pod is new.
	// +required
	Window Duration `json:"window"`
	// minWeightPercent is the least share of what the other pods get; 10 when absent.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MinWeightPercent *int64 `json:"minWeightPercent,omitempty"`
}
