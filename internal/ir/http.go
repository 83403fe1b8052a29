package ir

import "time"

// HTTPRoute says where requests that match it go.
type HTTPRoute struct {
	// Name is for logs and metrics: the object it comes from.
	Name  string
	Match HTTPMatch
	// Backends share the requests by weight. With none, and neither Redirect nor
	// Respond, a request is answered 503 at once.
	Backends []WeightedBackend
	// Redirect answers with a redirection in place of back ends.
	Redirect *Redirect
	// Respond answers with a status in place of back ends.
	Respond *Response
	// Filters change what is passed to every back end.
	Filters Filters
	// Timeouts bound the request; zero values are no bound.
	Timeouts Timeouts
	// Retry tries failed requests again; nil is never.
	Retry *Retry
}

// WeightedBackend is a cluster and its share.
type WeightedBackend struct {
	Cluster *Cluster
	// Weight is the share, relative to the sum of all; 0 gets nothing.
	Weight uint32
	// Filters change what is passed to this back end alone.
	Filters Filters
	// Unresolved says that the back end does not exist: its share is answered
	// with Status.
	Unresolved bool
	// Status is the answer of an unresolved back end; 0 is 503.
	Status uint32
}

// HTTPMatch is a kind of request: all that is set must hold. The zero value is any request.
type HTTPMatch struct {
	Path PathMatch
	// Methods are exact, any of them; none is any.
	Methods []string
	// Headers must all match. The name ":authority" is the host.
	Headers []ValueMatch
	// QueryParams must all match.
	QueryParams []ValueMatch
}

// MatchKind says how a value is compared.
type MatchKind string

const (
	// MatchAny is always true; for a header or a query parameter, that it is there.
	MatchAny MatchKind = ""
	// MatchExact compares the whole value.
	MatchExact MatchKind = "exact"
	// MatchPrefix compares the beginning of the value, byte by byte.
	MatchPrefix MatchKind = "prefix"
	// MatchPathPrefix compares whole elements of a path: /a matches /a and /a/b, not /ab.
	MatchPathPrefix MatchKind = "path-prefix"
	// MatchRegex is an RE2 regular expression for the whole value.
	MatchRegex MatchKind = "regex"
)

// PathMatch compares the path without the query.
type PathMatch struct {
	Kind  MatchKind
	Value string
}

// ValueMatch compares a header or a query parameter.
type ValueMatch struct {
	Name   string
	Kind   MatchKind
	Value  string
	Invert bool
}

// Filters change a request or a response on its way.
type Filters struct {
	RequestHeaders  HeaderChange
	ResponseHeaders HeaderChange
	// Rewrite changes host and path; nil changes nothing.
	Rewrite *Rewrite
	// Mirrors get copies of requests; their answers are dropped.
	Mirrors []Mirror
}

// HeaderChange sets, adds, then removes headers.
type HeaderChange struct {
	Set, Add []Header
	Remove   []string
}

// Header is a header's name and value.
type Header struct {
	Name, Value string
}

// Rewrite changes the host and the path of a request.
type Rewrite struct {
	// Host replaces the host; empty leaves it.
	Host string
	// Path replaces the whole path, or the matched prefix if Prefix is set; nil leaves it.
	Path   *string
	Prefix bool
}

// Mirror gets a share of copies.
type Mirror struct {
	Cluster *Cluster
	// Numerator of Denominator requests are copied.
	Numerator, Denominator uint32
}

// Redirect is an answer that sends the client elsewhere; empty fields keep what the request has.
type Redirect struct {
	Scheme, Host string
	Port         uint16
	Path         *string
	// Prefix says that Path replaces the matched prefix only.
	Prefix bool
	// Status is 301, 302, 303, 307 or 308.
	Status uint32
}

// Response is an answer of the proxy's own.
type Response struct {
	Status uint32
	Body   string
}

// Timeouts bound a request; zero is no bound.
type Timeouts struct {
	// Request bounds the whole request, with retries.
	Request time.Duration
	// Backend bounds each try.
	Backend time.Duration
	// Idle bounds a time without bytes in either direction.
	Idle time.Duration
}

// Retry tries failed requests again.
type Retry struct {
	// On are Envoy's retry conditions, comma-separated.
	On string
	// StatusCodes are tried again on top.
	StatusCodes []uint32
	// Attempts is how often, after the first.
	Attempts uint32
	// PerTry bounds each try; 0 is no bound of its own.
	PerTry time.Duration
	// BackoffBase is the first wait, BackoffMax the longest; 0 is 25 ms, and ten times the base.
	BackoffBase, BackoffMax time.Duration
}
