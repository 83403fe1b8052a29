package ir

import "time"

// Limits bound what one proxy has under way to a cluster; nil is no bound.
type Limits struct {
	MaxConnections, MaxPendingRequests, MaxRequests, MaxRetries, MaxRequestsPerConnection *uint32
}

// Upstream is how the endpoints of a cluster are called; zero values are defaults.
type Upstream struct {
	// ConnectTimeout bounds the making of a connection; 0 is 5 s.
	ConnectTimeout time.Duration
	// Idle, for HTTP, ends a connection on which there is no request; 0 is 30 min.
	Idle time.Duration
	// Limits bound what callers have under way; nil is no bound.
	Limits *Limits
	// Outliers are not called for a while; nil is that all are.
	Outliers *Outliers
	// HealthCheck asks endpoints in the mesh whether they listen; nil is not to ask.
	HealthCheck *HealthCheck
	// Balance says which endpoint is called; nil is of two the one with fewer requests.
	Balance *Balance
}

// Outliers are endpoints that answer with errors.
type Outliers struct {
	// Errors in a row make one; 0 is 5.
	Errors uint32
	// Interval is how often it is looked; 0 is 10 s. Ejection is how long an outlier is not
	// called, times how often it was one; 0 is 30 s.
	Interval, Ejection time.Duration
	// MostPercent of the endpoints may be outliers.
	MostPercent uint32
}

// HealthCheck asks the sidecar of an endpoint whether the application listens.
type HealthCheck struct {
	// Interval is how often, Timeout how long the answer may take.
	Interval, Timeout time.Duration
	// Unhealthy answers in a row keep from an endpoint, Healthy ones bring back to it.
	Unhealthy, Healthy uint32
}

// BalanceKind says by what an endpoint is chosen.
type BalanceKind string

const (
	// LeastRequest takes of two endpoints the one with fewer requests.
	LeastRequest BalanceKind = "least-request"
	// RoundRobin takes one after the other.
	RoundRobin BalanceKind = "round-robin"
	// HashHeader takes the same one for the same value of a header.
	HashHeader BalanceKind = "header"
	// HashCookie takes the same one for the same value of a cookie.
	HashCookie BalanceKind = "cookie"
	// HashSource takes the same one for the same address of the caller.
	HashSource BalanceKind = "source"
)

// Balance says which endpoint is called.
type Balance struct {
	Kind BalanceKind
	// Name is the header's or the cookie's.
	Name string
	// SlowStart is how long an endpoint is new, unless hashes decide; 0 is not at all.
	// A new one gets less than others, but LeastPercent of it.
	SlowStart    time.Duration
	LeastPercent uint32
}

// Rate is how often something may happen at one proxy.
type Rate struct {
	// Number in each Interval, and Burst on top at once.
	Number   uint32
	Burst    uint32
	Interval time.Duration
}

// LocalRateLimit bounds the rate of requests at one proxy.
type LocalRateLimit struct {
	Rate
	// Status is the answer over the bound; 0 is 429. Headers are added to it.
	Status  uint32
	Headers []Header
}

// GlobalRateLimit bounds a rate for all proxies together: a server of Envoy's rate limit
// protocol is asked about each connection or request.
type GlobalRateLimit struct {
	// Address and Port are the server's.
	Address string
	Port    uint16
	// Domain is the name by which the server knows its limits.
	Domain string
	// Timeout bounds the wait for the server; 0 is 20 ms.
	Timeout time.Duration
	// FailOpen lets through what the server cannot be asked about.
	FailOpen bool
	// Status, for requests, is the answer over the bound; 0 is 429.
	Status uint32
	// Headers, for requests, tells clients of the bound.
	Headers bool
	// Descriptors are what connections and requests count as.
	Descriptors []RateDescriptor
}

// RateDescriptor is something that connections or requests count as: those for which
// each entry has a value.
type RateDescriptor []RateEntry

// RateEntryKind says where the value of an entry comes from.
type RateEntryKind string

const (
	// RateGeneric is the same value for all.
	RateGeneric RateEntryKind = "generic"
	// RateAddress is the address of the caller. For requests only, like all that follow.
	RateAddress RateEntryKind = "address"
	// RateHeader is the value of a header.
	RateHeader RateEntryKind = "header"
	// RateMatch is the same value for requests whose headers match.
	RateMatch RateEntryKind = "match"
)

// RateEntry is a key and its value.
type RateEntry struct {
	Kind RateEntryKind
	// Key and Value are compared by the server; a header's value and an address are found
	// in the request.
	Key, Value string
	// Header is the name of the header.
	Header string
	// Headers must all match, or with Otherwise must not.
	Headers   []ValueMatch
	Otherwise bool
}
