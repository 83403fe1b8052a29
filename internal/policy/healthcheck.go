package policy

import (
	"cmp"
	"time"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// What Open Service Mesh did where its flag was set.
const (
	healthInterval  = 10 * time.Second
	healthTimeout   = time.Second
	healthUnhealthy = 3
	healthHealthy   = 1
)

// mostAnswers bounds how many answers in a row may be waited for.
const mostAnswers = 100

// readHealthCheck reads whether callers ask, and how.
func (s *setting) readHealthCheck() {
	spec := s.Spec.HealthCheck
	if spec == nil {
		return
	}
	switch spec.Mode {
	case "", policyv1alpha1.HealthCheckEnabled:
	case policyv1alpha1.HealthCheckDisabled:
		s.bounds.unchecked = true
		return
	default:
		s.remarks.partly(ReasonInvalid, "", "healthCheck: mode is %.64q, but must be Enabled or Disabled: it is Enabled", spec.Mode)
	}
	interval := cmp.Or(readDuration(&s.remarks, "healthCheck.interval", spec.Interval), healthInterval)
	s.bounds.HealthCheck = &ir.HealthCheck{
		Interval:  max(interval, shortestInterval),
		Timeout:   cmp.Or(readDuration(&s.remarks, "healthCheck.timeout", spec.Timeout), healthTimeout),
		Unhealthy: uint32(s.readNumber("unhealthyThreshold", spec.UnhealthyThreshold, 1, mostAnswers, healthUnhealthy)),
		Healthy:   uint32(s.readNumber("healthyThreshold", spec.HealthyThreshold, 1, mostAnswers, healthHealthy)),
	}
}

// healthCheck is how callers ask the endpoints of a Service whether they listen; nil is
// not at all.
func (c *classes) healthCheck(service mesh.Key) *ir.HealthCheck {
	bounds := c.upstream(service).bounds
	switch {
	case bounds.HealthCheck != nil:
		return bounds.HealthCheck
	case bounds.unchecked || !c.mode.Get().healthChecks:
		return nil
	default:
		return &ir.HealthCheck{Interval: healthInterval, Timeout: healthTimeout, Unhealthy: healthUnhealthy, Healthy: healthHealthy}
	}
}

// watched is how often it is looked whether a port is listened on: as often as callers of
// any of its Services ask.
func (c *classes) watched(services []mesh.Key) time.Duration {
	var shortest time.Duration
	for _, service := range services {
		if h := c.healthCheck(service); h != nil && (shortest == 0 || h.Interval < shortest) {
			shortest = h.Interval
		}
	}
	return shortest
}
