package policystatus

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/programmed"
)

const (
	// recount is how long an object keeps its counts of proxies where nothing else of its
	// status changes, and recountsPerSecond bounds how many objects get others.
	recount           = 30 * time.Second
	recountsPerSecond = 5
)

// report is all that is to be said of an object.
type report struct {
	policy.ObjectReport
	// programmed says nothing yet if its status is empty: then what was said stays.
	programmed programmed.Verdict
}

// written is what was written last, and when.
type written struct {
	report
	at time.Time
}

// SetProgrammed says which proxies have acknowledged what, in place of what was said; the
// map must not be changed afterwards. It is to be called again while counts differ that
// are not written yet.
func (w *Writer) SetProgrammed(verdicts map[policy.ObjectName]programmed.Verdict) {
	w.mu.Lock()
	w.programmed = verdicts
	w.mu.Unlock()
	w.rouse()
}

// now returns all that is to be said.
func (w *Writer) now() []report {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]report, 0, len(w.reports))
	for _, r := range w.reports {
		v := w.programmed[policy.ObjectName{Kind: r.Kind, Key: r.Key}]
		if v.UID != r.UID || v.Generation != r.Generation {
			v = programmed.Verdict{} // it is of what the object was
		}
		out = append(out, report{r, v})
	}
	return out
}

// turns reports whether anything else is to be said than what was written, but for counts
// of proxies. What says nothing yet of proxies changes nothing.
func (d written) turns(r report) bool {
	return d.ObjectReport != r.ObjectReport ||
		r.programmed.Status != "" && (d.programmed.Status != r.programmed.Status || d.programmed.Reason != r.programmed.Reason)
}

// counts reports whether counts differ that were written long ago.
func (d written) counts(r report, now time.Time) bool {
	return r.programmed.Status != "" && d.programmed.Message != r.programmed.Message && now.Sub(d.at) >= recount
}

// acknowledged is what proxies said. What they said before stays until there is something
// to be said of them again, with the generation that it was said of.
func acknowledged(r report, before []metav1.Condition) []metav1.Condition {
	if p := r.programmed; p.Status != "" {
		return []metav1.Condition{{
			Type: ConditionProgrammed, Status: metav1.ConditionStatus(p.Status), Reason: p.Reason, Message: p.Message, ObservedGeneration: r.Generation,
		}}
	}
	if old := meta.FindStatusCondition(before, ConditionProgrammed); old != nil {
		return []metav1.Condition{*old}
	}
	return nil
}
