package controlplane

import (
	"slices"
	"strings"
	"sync"

	"github.com/go-logr/logr"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/policy"
)

// ReasonPartlyFollowed says that a MeshConfig holds what cannot be followed, and what
// is done in place of it. It is the reason of Accepted on a MeshConfig.
const ReasonPartlyFollowed = "PartlyFollowed"

// VerdictOptions are what Verdicts need; all are required.
type VerdictOptions struct {
	// Log is told of what changed and is not as its author meant.
	Log logr.Logger
	// Code is told of each new fault that has a code.
	Code func(code string)
	// Write is given all that is to be said whenever it changed.
	Write func(reports []policy.ObjectReport)
}

// Verdicts gather what is to be said of policies and of the MeshConfig. They are safe
// for concurrent use.
type Verdicts struct {
	// Read-only after NewVerdicts.
	VerdictOptions

	mu sync.Mutex
	// Protected by mu.
	policies []policy.ObjectReport
	config   []policy.ObjectReport
	told     map[subject]policy.ObjectReport
}

// subject is what a report speaks of.
type subject struct {
	kind string
	key  mesh.Key
}

// NewVerdicts returns Verdicts about nothing.
func NewVerdicts(o VerdictOptions) *Verdicts {
	return &Verdicts{VerdictOptions: o, told: map[subject]policy.ObjectReport{}}
}

// Policies takes the reports of a compilation.
func (v *Verdicts) Policies(reports []policy.ObjectReport) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.policies = reports
	v.changed()
}

// MeshConfig takes what of the MeshConfig cannot be followed.
func (v *Verdicts) MeshConfig(config *mesh.Object[configv1alpha2.MeshConfigSpec], problems []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := policy.ObjectReport{
		Kind: "MeshConfig", Key: config.Key, UID: config.UID, Generation: config.Generation,
		Accepted: policy.Verdict{OK: true, Reason: policy.ReasonAccepted, Message: "the object is followed"},
		Resolved: policy.Verdict{OK: true, Reason: policy.ReasonResolved},
	}
	if len(problems) > 0 {
		r.Accepted.Reason, r.Accepted.Message = ReasonPartlyFollowed, strings.Join(problems, "; ")
	}
	v.config = []policy.ObjectReport{r}
	v.changed()
}

// OfPolicies returns the reports of the last compilation.
func (v *Verdicts) OfPolicies() []policy.ObjectReport {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.policies
}

// All returns all that is to be said now.
func (v *Verdicts) All() []policy.ObjectReport {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Concat(v.config, v.policies)
}

// changed tells what differs from what was told; mu is held.
func (v *Verdicts) changed() {
	all := slices.Concat(v.config, v.policies)
	now := make(map[subject]policy.ObjectReport, len(all))
	different := len(all) != len(v.told)
	for _, r := range all {
		about := subject{r.Kind, r.Key}
		now[about] = r
		if old, ok := v.told[about]; !ok || old != r {
			different = true
			v.tell(r, "Accepted", old.Accepted, r.Accepted)
			v.tell(r, "ResolvedRefs", old.Resolved, r.Resolved)
		}
	}
	v.told = now
	if different {
		v.Write(all)
	}
}

// tell tells of one verdict that is not what the author of the object meant.
func (v *Verdicts) tell(r policy.ObjectReport, condition string, old, now policy.Verdict) {
	if now == old || now.OK && (now.Reason == policy.ReasonAccepted || now.Reason == policy.ReasonResolved) {
		return
	}
	values := []any{r.Kind, r.Key.String(), "condition", condition, "ok", now.OK, "reason", now.Reason, "message", now.Message}
	if now.Code != "" {
		values = append(values, "error_code", now.Code)
		v.Code(now.Code)
	}
	v.Log.Info("Found fault with an object", values...)
}
