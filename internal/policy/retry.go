package policy

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// What Open Service Mesh did where a Retry is silent.
const (
	retryAttempts    = 1
	retryBackoff     = 25 * time.Millisecond
	retryBackoffMost = 10
)

// retryConditions are those that Envoy knows.
// Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/router_filter
func retryConditions() []string {
	return []string{
		"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx",
		"refused-stream", "retriable-status-codes", "retriable-headers", "http3-post-connect-failure",
		"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
	}
}

// retry is a Retry for one source; nil is none.
type retry struct {
	object  mesh.Key
	policy  *ir.Retry
	remarks *remarks
}

func (r *retry) key() mesh.Key {
	if r == nil {
		return mesh.Key{}
	}
	return r.object
}

// compileRetries reads all Retries, the older first: of several for one source and one
// Service only the first is followed. They may live in any namespace; those of the
// mesh are reported.
func (c *Compiler) compileRetries() {
	c.retries = map[identity.ServiceAccount]map[mesh.Key]*retry{}
	older := mesh.Older[policyv1alpha1.RetrySpec, policyv1alpha1.RetrySpec]
	all := slices.SortedFunc(maps.Values(c.model.Policies.Retries), older)
	said := make([]remarks, len(all))
	for i, o := range all {
		c.compileRetry(o, &said[i])
	}
	for i, o := range all {
		if c.model.Namespaces[o.Namespace] != nil {
			c.reports = append(c.reports, said[i].report("Retry", o.Key, o.UID, o.Generation))
		}
	}
}

func (c *Compiler) compileRetry(o *mesh.Object[policyv1alpha1.RetrySpec], r *remarks) {
	policy, ok := retryPolicy(o.Spec.RetryPolicy, r)
	switch {
	case !c.model.Settings.RetryPolicy:
		r.ignored(ReasonNoEffect, "", "featureFlags.enableRetryPolicy is off in the MeshConfig")
	case o.Spec.Source.Kind != kindServiceAccount:
		r.ignored(ReasonInvalidSource, "", "the source is a %s, but must be a ServiceAccount", o.Spec.Source.Kind)
	case !ok:
		r.ignored(ReasonInvalid, "", "retryOn names no condition that there is")
	}
	if len(r.fatal) > 0 {
		return
	}
	policy = keep(c.now.retries, c.before.retries, o.Key, policy)
	source := identity.ServiceAccount{Namespace: o.Spec.Source.Namespace, Name: o.Spec.Source.Name}
	if c.retries[source] == nil {
		c.retries[source] = map[mesh.Key]*retry{}
	}
	for _, d := range o.Spec.Destinations {
		key := mesh.Key{Namespace: d.Namespace, Name: d.Name}
		if d.Kind != "Service" {
			r.partly(ReasonUnsupportedKind, "", "a destination is a %s, but must be a Service: it is left out", d.Kind)
			continue
		}
		if c.model.Services[key] == nil {
			r.missing(ReasonServiceNotFound, "", "the Service %s does not exist", key)
		}
		if first := c.retries[source][key]; first != nil && first.object != o.Key {
			r.partly(ReasonConflict, "", "Retry %s is for the Service %s already, and is older: it is followed there", first.object, key)
			first.remarks.partly(ReasonConflict, "", "Retry %s is for the Service %s too, and is younger: this one is followed there", o.Key, key)
			continue
		}
		c.retries[source][key] = &retry{object: o.Key, policy: policy, remarks: r}
	}
}

// retryPolicy reads what is tried again and how. It is false if nothing is.
func retryPolicy(spec policyv1alpha1.RetryPolicySpec, r *remarks) (*ir.Retry, bool) {
	var on []string
	for word := range strings.SplitSeq(spec.RetryOn, ",") {
		switch word = strings.TrimSpace(word); {
		case slices.Contains(retryConditions(), word):
			on = append(on, word)
		case word != "":
			r.partly(ReasonInvalid, "", "retryOn: %q is no condition of Envoy: it is left out", word)
		}
	}
	out := &ir.Retry{On: strings.Join(on, ","), Attempts: retryAttempts, BackoffBase: retryBackoff}
	switch n := spec.NumRetries; {
	case n == nil:
	case *n < 0:
		r.partly(ReasonInvalidLimit, "", "numRetries is %d, but must be 0 at least: it is %d", *n, retryAttempts)
	default:
		// One more is the request itself, which must be counted too.
		out.Attempts = uint32(min(*n, math.MaxUint32-1))
	}
	out.PerTry = readDuration(r, "perTryTimeout", spec.PerTryTimeout)
	if base := readDuration(r, "retryBackoffBaseInterval", spec.RetryBackoffBaseInterval); base > 0 {
		out.BackoffBase = min(base, time.Hour)
	}
	out.BackoffMax = retryBackoffMost * out.BackoffBase
	return out, len(on) > 0
}
