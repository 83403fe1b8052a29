package policy

import (
	"cmp"
	"math"
	"time"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/ir"
)

// readConnectionSettings reads what is bounded at callers.
func (s *setting) readConnectionSettings() {
	spec := s.Spec.ConnectionSettings
	if spec == nil {
		return
	}
	var bounds ir.Limits
	if t := spec.TCP; t != nil {
		bounds.MaxConnections = s.readBound("maxConnections", t.MaxConnections)
		s.bounds.ConnectTimeout = readDuration(&s.remarks, "connectTimeout", t.ConnectTimeout)
		s.bounds.silence = readDuration(&s.remarks, "tcp.idleTimeout", t.IdleTimeout)
	}
	if h := spec.HTTP; h != nil {
		bounds.MaxRequests = s.readBound("maxRequests", h.MaxRequests)
		bounds.MaxRequestsPerConnection = s.readBound("maxRequestsPerConnection", h.MaxRequestsPerConnection)
		bounds.MaxPendingRequests = s.readBound("maxPendingRequests", h.MaxPendingRequests)
		bounds.MaxRetries = s.readBound("maxRetries", h.MaxRetries)
		s.bounds.Idle = readDuration(&s.remarks, "http.idleTimeout", h.IdleTimeout)
		s.bounds.request = readDuration(&s.remarks, "requestTimeout", h.RequestTimeout)
	}
	if bounds != (ir.Limits{}) {
		s.bounds.Limits = &bounds
	}
}

// readBound reads a bound of what is under way; nil is that there is none.
func (s *setting) readBound(field string, n *int64) *uint32 {
	switch {
	case n == nil:
		return nil
	case *n < 0:
		s.remarks.partly(ReasonInvalidLimit, "", "%s is %d, but must be 0 at least: it is left out", field, *n)
		return nil
	case *n == 0 && field != "maxRetries" && field != "maxRequestsPerConnection":
		s.remarks.partly(ReasonNoTraffic, "", "%s is 0: next to nothing gets through", field)
	}
	return new(uint32(min(*n, math.MaxUint32)))
}

// What a setting is silent about.
const (
	outlierErrors   = 5
	outlierInterval = 10 * time.Second
	outlierEjection = 30 * time.Second
	outlierPercent  = 50
	slowStartLeast  = 10
)

// readOutliers reads who is not called for a while.
func (s *setting) readOutliers() {
	spec := s.Spec.OutlierDetection
	if spec == nil {
		return
	}
	interval := cmp.Or(readDuration(&s.remarks, "outlierDetection.interval", spec.Interval), outlierInterval)
	s.bounds.Outliers = &ir.Outliers{
		Errors:      uint32(s.readNumber("consecutiveErrors", spec.ConsecutiveErrors, 1, math.MaxUint32, outlierErrors)),
		Interval:    max(interval, shortestInterval),
		Ejection:    cmp.Or(readDuration(&s.remarks, "baseEjectionTime", spec.BaseEjectionTime), outlierEjection),
		MostPercent: uint32(s.readNumber("maxEjectionPercent", spec.MaxEjectionPercent, 0, 100, outlierPercent)),
	}
}

// readNumber reads a number between two; without one it is another.
func (s *setting) readNumber(field string, n *int64, least, most, otherwise int64) int64 {
	switch {
	case n == nil:
		return otherwise
	case *n < least || *n > most:
		s.remarks.partly(ReasonInvalidLimit, "", "%s is %d, but must be from %d to %d: it is %d", field, *n, least, most, otherwise)
		return otherwise
	default:
		return *n
	}
}

// readBalance reads which endpoint is called.
func (s *setting) readBalance() {
	spec := s.Spec.LoadBalancing
	if spec == nil {
		return
	}
	out := &ir.Balance{Kind: ir.LeastRequest}
	switch spec.Policy {
	case "", policyv1alpha1.LeastRequest:
	case policyv1alpha1.RoundRobin:
		out.Kind = ir.RoundRobin
	case policyv1alpha1.RingHash:
		s.readHash(spec.HashOn, out)
	default:
		s.remarks.partly(ReasonInvalid, "", "loadBalancing: policy is %.64q, but must be LeastRequest, RoundRobin or RingHash: it is LeastRequest", spec.Policy)
	}
	if start := spec.SlowStart; start != nil && (out.Kind == ir.LeastRequest || out.Kind == ir.RoundRobin) {
		out.SlowStart = readDuration(&s.remarks, "slowStart.window", &start.Window)
		out.LeastPercent = uint32(s.readNumber("minWeightPercent", start.MinWeightPercent, 1, 100, slowStartLeast))
	}
	s.bounds.Balance = out
}

func (s *setting) readHash(spec *policyv1alpha1.HashOnSpec, out *ir.Balance) {
	switch {
	case spec == nil:
		s.remarks.partly(ReasonInvalid, "", "loadBalancing: RingHash needs hashOn: it is LeastRequest")
	case spec.Kind == policyv1alpha1.HashOnSourceIP:
		out.Kind = ir.HashSource
	case !token(spec.Name) || len(spec.Name) > 256:
		s.remarks.partly(ReasonInvalid, "", "loadBalancing: hashOn needs the name of a header or of a cookie, and %.64q is none: it is LeastRequest", spec.Name)
	case spec.Kind == policyv1alpha1.HashOnHeader:
		out.Kind, out.Name = ir.HashHeader, spec.Name
	case spec.Kind == policyv1alpha1.HashOnCookie:
		out.Kind, out.Name = ir.HashCookie, spec.Name
	default:
		s.remarks.partly(ReasonInvalid, "", "loadBalancing: hashOn.kind is %.64q, but must be Header, Cookie or SourceIP: it is LeastRequest", spec.Kind)
	}
}

// Proxies count in milliseconds, and none of them is no bound at all. The longest is more
// than anybody waits, and less than they can hold.
const (
	shortestDuration = time.Millisecond
	longestDuration  = 10 * 365 * 24 * time.Hour
	// shortestInterval keeps proxies from doing nothing but look.
	shortestInterval = 100 * time.Millisecond
)

// readDuration reads a time; 0 is that there is none, or none that can be used.
func readDuration(r *remarks, field string, d *policyv1alpha1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	out, err := time.ParseDuration(string(*d))
	switch {
	case err != nil:
		r.partly(ReasonInvalidDuration, "", "%s: %.64q is no time with its unit, such as 500ms, 5s or 1m30s: it is left out", field, *d)
		return 0
	case out <= 0:
		r.partly(ReasonInvalidDuration, "", "%s is %s, but must be more than 0: it is left out", field, *d)
		return 0
	}
	return min(max(out, shortestDuration), longestDuration)
}
