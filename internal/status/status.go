// Package status says how a Mesh and its control planes are: facts go in,
// conditions and counts come out. It is pure; messages are sorted and hold no
// times, so that the same facts give the same status and nothing is written twice.
package status

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// ControlPlane is how far a control plane is rolled out.
type ControlPlane struct {
	Found, RolledOut  bool
	Wanted, Available int32
	// Stuck is why the roll-out does not go on, empty if it does.
	Stuck string
}

// Proxies are counts of proxies; Known is false if some replica could not be read.
type Proxies struct {
	// Pods is the number of pods with a sidecar; negative if it could not be read.
	Pods int32
	// Known says that every replica was read, so that the other counts hold.
	Known                        bool
	Connected, Synced, Rejecting int32
	// Unread names the replicas that could not be read.
	Unread []string
	// Waiting counts pods that wait for a certificate through no fault of their own, by
	// reason, as far as it is known.
	Waiting map[string]int
}

// Counts returns the counts as the API holds them, without those that are not known.
func (p Proxies) Counts() *operatorv1alpha1.ProxyCounts {
	out := &operatorv1alpha1.ProxyCounts{}
	if p.Pods >= 0 {
		out.Pods = new(p.Pods)
	}
	if p.Known {
		out.Connected, out.Synced, out.Rejecting = new(p.Connected), new(p.Synced), new(p.Rejecting)
	}
	return out
}

// condition is a condition without its time, which the caller fills in.
func condition(kind string, status metav1.ConditionStatus, reason, message string, generation int64) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: generation}
}

// Revision returns the conditions of a MeshRevision. trustErr is why certificates
// could not be made for it, empty if they could.
func Revision(generation int64, c ControlPlane, p Proxies, applyErr error) []metav1.Condition {
	if applyErr != nil {
		message := applyErr.Error()
		return []metav1.Condition{
			condition(operatorv1alpha1.ConditionReady, readyWhile(c), operatorv1alpha1.ReasonApplyFailed, message, generation),
			condition(operatorv1alpha1.ConditionProgressing, metav1.ConditionTrue, operatorv1alpha1.ReasonApplying, message, generation),
			condition(operatorv1alpha1.ConditionDegraded, metav1.ConditionTrue, operatorv1alpha1.ReasonApplyFailed, message, generation),
		}
	}
	return []metav1.Condition{ready(generation, c), progressing(generation, c), degraded(generation, c, p)}
}

func readyWhile(c ControlPlane) metav1.ConditionStatus {
	if c.Available > 0 {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

func ready(generation int64, c ControlPlane) metav1.Condition {
	count := fmt.Sprintf("%d of %d replicas of the control plane are available", c.Available, c.Wanted)
	switch {
	case !c.Found:
		return condition(operatorv1alpha1.ConditionReady, metav1.ConditionFalse, operatorv1alpha1.ReasonControlPlaneUnavailable, "the control plane is not there yet", generation)
	case c.Available == 0:
		return condition(operatorv1alpha1.ConditionReady, metav1.ConditionFalse, operatorv1alpha1.ReasonControlPlaneUnavailable, count, generation)
	case !c.RolledOut:
		return condition(operatorv1alpha1.ConditionReady, metav1.ConditionTrue, operatorv1alpha1.ReasonRollingOut, count, generation)
	default:
		return condition(operatorv1alpha1.ConditionReady, metav1.ConditionTrue, operatorv1alpha1.ReasonAllReady, count, generation)
	}
}

func progressing(generation int64, c ControlPlane) metav1.Condition {
	if c.RolledOut {
		return condition(operatorv1alpha1.ConditionProgressing, metav1.ConditionFalse, operatorv1alpha1.ReasonUpToDate, "all that the spec asks for is rolled out", generation)
	}
	return condition(operatorv1alpha1.ConditionProgressing, metav1.ConditionTrue, operatorv1alpha1.ReasonRollingOut, "the control plane is being rolled out", generation)
}

// counted writes counts by their reasons.
func counted(counts map[string]int) string {
	var out []string
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("%d for %s", counts[reason], reason))
	}
	return strings.Join(out, ", ")
}

func degraded(generation int64, c ControlPlane, p Proxies) metav1.Condition {
	yes := func(reason, message string) metav1.Condition {
		return condition(operatorv1alpha1.ConditionDegraded, metav1.ConditionTrue, reason, message, generation)
	}
	switch {
	case c.Stuck != "":
		return yes(operatorv1alpha1.ReasonControlPlaneUnavailable, "the roll-out of the control plane does not go on: "+c.Stuck)
	case len(p.Waiting) > 0:
		return yes(operatorv1alpha1.ReasonCertificatesPending,
			"pods wait for their certificates, and those that run for new ones: "+counted(p.Waiting)+"; the control plane's log says why")
	case p.Known && p.Rejecting > 0:
		return yes(operatorv1alpha1.ReasonProxiesRejecting, fmt.Sprintf(
			"%d of %d connected proxies rejected configuration and keep what they had: see osm_proxy_nack_count and the control plane's log", p.Rejecting, p.Connected))
	case c.Available > 0 && !p.Known:
		return condition(operatorv1alpha1.ConditionDegraded, metav1.ConditionUnknown, operatorv1alpha1.ReasonFactsUnknown,
			"not every replica of the control plane could be asked about its proxies: "+strings.Join(p.Unread, ", "), generation)
	default:
		return condition(operatorv1alpha1.ConditionDegraded, metav1.ConditionFalse, operatorv1alpha1.ReasonHealthy, "nothing needs attention", generation)
	}
}
