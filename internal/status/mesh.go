package status

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// Problem is why a Mesh cannot be followed, with the reason for its conditions.
type Problem struct {
	Reason string
	Err    error
	// Waiting says that the problem is expected to pass without a person.
	Waiting bool
}

// MeshFacts are what the conditions of a Mesh are made from.
type MeshFacts struct {
	Generation int64
	// Problem is set if the Mesh could not be planned or written.
	Problem *Problem
	// Revision are the conditions of the current MeshRevision; nil if there is none.
	Revision []metav1.Condition
	// RevisionSeen says that the MeshRevision's status speaks of its newest spec.
	RevisionSeen bool
	// Authority is what was told of the certificate authority, Gateway of the certificate of
	// an ingress gateway; nil if nothing was.
	Authority, Gateway *metav1.Condition
	// Pods says which pods have older settings than new ones get; nil if that is not known.
	Pods *PodSettings
	// Upgrade is the upgrade that is under way or failed; nil if there is none.
	Upgrade *operatorv1alpha1.UpgradeStatus
	// Paused says that nothing is written for the Mesh.
	Paused bool
	// WaitingFor says what is missing, empty if nothing is.
	WaitingFor string
	// Deleting says that the Mesh is being deleted, Blocking by how many pods that is held.
	Deleting bool
	Blocking int
}

// PodSettings says which pods have older settings than new ones get.
type PodSettings struct {
	// Total counts the pods with a sidecar.
	Total int
	// Outdated names those of them, as namespace/name, sorted.
	Outdated []string
}

// mostOutdated is how many pods a condition names.
const mostOutdated = 5

// Mesh returns the conditions of a Mesh.
func Mesh(f MeshFacts) []metav1.Condition {
	conditions := certifying(f, followed(f))
	if f.Pods != nil {
		conditions = append(conditions, podsCurrent(f))
	}
	return conditions
}

// podsCurrent names the pods that have to be restarted.
func podsCurrent(f MeshFacts) metav1.Condition {
	old := f.Pods.Outdated
	if len(old) == 0 {
		return condition(operatorv1alpha1.ConditionPodsCurrent, metav1.ConditionTrue, operatorv1alpha1.ReasonPodsCurrent,
			"all pods have the settings that new pods get", f.Generation)
	}
	names := strings.Join(old[:min(len(old), mostOutdated)], ", ")
	if more := len(old) - mostOutdated; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return condition(operatorv1alpha1.ConditionPodsCurrent, metav1.ConditionFalse, operatorv1alpha1.ReasonRestartNeeded,
		fmt.Sprintf("%d of %d pods keep older settings until they are restarted: %s", len(old), f.Pods.Total, names), f.Generation)
}

// certifying has certificates that need a person show where one looks first, unless
// something else does.
func certifying(f MeshFacts, conditions []metav1.Condition) []metav1.Condition {
	for _, told := range []*metav1.Condition{f.Authority, f.Gateway} {
		if told == nil || told.Status != metav1.ConditionFalse {
			continue
		}
		for i, c := range conditions {
			if c.Type == operatorv1alpha1.ConditionDegraded && c.Status != metav1.ConditionTrue {
				conditions[i] = condition(c.Type, metav1.ConditionTrue, told.Reason, told.Message, f.Generation)
			}
		}
	}
	return conditions
}

func followed(f MeshFacts) []metav1.Condition {
	if f.Deleting {
		return deleting(f)
	}
	if f.Problem != nil {
		return refused(f)
	}
	if f.Paused {
		return upgrading(f, paused(f))
	}
	if f.WaitingFor != "" || f.Revision == nil || !f.RevisionSeen {
		message := "writing what the spec asks for"
		if f.WaitingFor != "" {
			message = "waiting for " + f.WaitingFor
		}
		return upgrading(f, []metav1.Condition{
			condition(operatorv1alpha1.ConditionReady, statusOf(f.Revision, operatorv1alpha1.ConditionReady, metav1.ConditionFalse), operatorv1alpha1.ReasonApplying, message, f.Generation),
			condition(operatorv1alpha1.ConditionProgressing, metav1.ConditionTrue, operatorv1alpha1.ReasonApplying, message, f.Generation),
			condition(operatorv1alpha1.ConditionDegraded, metav1.ConditionFalse, operatorv1alpha1.ReasonHealthy, "nothing needs attention", f.Generation),
		})
	}
	out := make([]metav1.Condition, 0, len(f.Revision))
	for _, c := range f.Revision {
		out = append(out, condition(c.Type, c.Status, c.Reason, c.Message, f.Generation))
	}
	return upgrading(f, out)
}

// upgrading puts into conditions what an upgrade has to say: that workloads are on their
// way, and that a step failed.
func upgrading(f MeshFacts, conditions []metav1.Condition) []metav1.Condition {
	u := f.Upgrade
	if u == nil {
		return conditions
	}
	for i, c := range conditions {
		failed := u.Phase == operatorv1alpha1.UpgradeFailed || u.Phase == operatorv1alpha1.UpgradeUndoing
		moving := u.Phase != operatorv1alpha1.UpgradeFailed && u.Phase != operatorv1alpha1.UpgradeRetiring
		switch {
		case c.Type == operatorv1alpha1.ConditionDegraded && failed:
			conditions[i] = condition(c.Type, metav1.ConditionTrue, operatorv1alpha1.ReasonUpgradeFailed, u.Evidence+": it is not tried again until the spec changes", f.Generation)
		case c.Type == operatorv1alpha1.ConditionProgressing && moving && !f.Paused:
			conditions[i] = condition(c.Type, metav1.ConditionTrue, operatorv1alpha1.ReasonUpgrading, u.Message, f.Generation)
		}
	}
	return conditions
}

// paused tells of the control plane as of any other: what runs may still need a person.
func paused(f MeshFacts) []metav1.Condition {
	progressing := condition(operatorv1alpha1.ConditionProgressing, metav1.ConditionFalse, operatorv1alpha1.ReasonPaused,
		"spec.paused is set: nothing is written or put back, only certificates are renewed", f.Generation)
	if f.Revision == nil {
		return []metav1.Condition{
			condition(operatorv1alpha1.ConditionReady, metav1.ConditionFalse, operatorv1alpha1.ReasonPaused, "spec.paused is set, and no control plane is installed", f.Generation),
			progressing,
			condition(operatorv1alpha1.ConditionDegraded, metav1.ConditionFalse, operatorv1alpha1.ReasonHealthy, "nothing needs attention", f.Generation),
		}
	}
	out := []metav1.Condition{progressing}
	for _, c := range f.Revision {
		if c.Type != operatorv1alpha1.ConditionProgressing {
			out = append(out, condition(c.Type, c.Status, c.Reason, c.Message, f.Generation))
		}
	}
	return out
}

func statusOf(conditions []metav1.Condition, kind string, otherwise metav1.ConditionStatus) metav1.ConditionStatus {
	for _, c := range conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return otherwise
}

// refused keeps Ready as it was: what ran before goes on running.
func refused(f MeshFacts) []metav1.Condition {
	message := f.Problem.Err.Error()
	degraded, progressing := metav1.ConditionTrue, metav1.ConditionFalse
	if f.Problem.Waiting {
		degraded, progressing = metav1.ConditionFalse, metav1.ConditionTrue
	}
	return []metav1.Condition{
		condition(operatorv1alpha1.ConditionReady, statusOf(f.Revision, operatorv1alpha1.ConditionReady, metav1.ConditionFalse), f.Problem.Reason, message, f.Generation),
		condition(operatorv1alpha1.ConditionProgressing, progressing, f.Problem.Reason, message, f.Generation),
		condition(operatorv1alpha1.ConditionDegraded, degraded, f.Problem.Reason, message, f.Generation),
	}
}

func deleting(f MeshFacts) []metav1.Condition {
	reason, message := operatorv1alpha1.ReasonDeleting, "the mesh is being deleted"
	held := metav1.ConditionFalse
	if f.Blocking > 0 {
		reason = operatorv1alpha1.ReasonWaitingForWorkloads
		message = fmt.Sprintf("%d pods still have the sidecar: take their namespaces out of the mesh and restart them, or set spec.deletionPolicy to Orphan", f.Blocking)
		held = metav1.ConditionTrue
	}
	return []metav1.Condition{
		condition(operatorv1alpha1.ConditionReady, statusOf(f.Revision, operatorv1alpha1.ConditionReady, metav1.ConditionFalse), reason, message, f.Generation),
		condition(operatorv1alpha1.ConditionProgressing, metav1.ConditionTrue, reason, message, f.Generation),
		condition(operatorv1alpha1.ConditionDegraded, held, reason, message, f.Generation),
	}
}
