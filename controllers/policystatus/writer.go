// Package policystatus writes what the control plane found about policies and the
// MeshConfig: reports come in, conditions and events go out. One replica writes, by a
// lease; nothing is written that is there already, and what changes is told by an
// event, at a bounded rate. Counts of proxies that change, and nothing else, wait.
package policystatus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/programmed"
)

// Condition types of policies and of the MeshConfig, set by the control plane.
const (
	// ConditionAccepted is True when the object is followed, in part at least.
	ConditionAccepted = "Accepted"
	// ConditionResolvedRefs is True when all that it names was found.
	ConditionResolvedRefs = "ResolvedRefs"
	// ConditionProgrammed is True when all proxies that a policy concerns acknowledged it.
	ConditionProgrammed = "Programmed"
)

const (
	// fieldOwner owns the status of policies.
	fieldOwner = "osm-control-plane"
	// perSecond and burst bound how many objects are written.
	perSecond, burst = 20, 50
	// batch is how many are written before newer reports are looked at.
	batch = 50
	// retry is how soon what could not be written is tried again.
	retry = 5 * time.Second
)

// Options are what a Writer needs; all are required.
type Options struct {
	// Client reads from the cache, and writes status.
	Client client.Client
	// Recorder takes events.
	Recorder events.EventRecorder
}

// Writer writes reports. It is safe for concurrent use.
type Writer struct {
	// Read-only after New.
	Options
	limit, recounts *rate.Limiter
	wake            chan struct{}

	mu sync.Mutex
	// Protected by mu; the newest, never changed.
	reports    []policy.ObjectReport
	programmed map[policy.ObjectName]programmed.Verdict

	// done is what was written, for the goroutine of Start alone.
	done map[id]written
}

// id names an object.
type id struct {
	kind string
	key  mesh.Key
}

func idOf(r report) id { return id{r.Kind, r.Key} }

// New returns a Writer that has nothing to write.
func New(o Options) *Writer {
	return &Writer{
		Options: o, limit: rate.NewLimiter(perSecond, burst), recounts: rate.NewLimiter(recountsPerSecond, burst),
		wake: make(chan struct{}, 1), done: map[id]written{},
	}
}

// Set says what is to be said now, in place of what was; reports must not be changed
// afterwards.
func (w *Writer) Set(reports []policy.ObjectReport) {
	w.mu.Lock()
	w.reports = reports
	w.mu.Unlock()
	w.rouse()
}

func (w *Writer) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Start implements manager.Runnable.
func (w *Writer) Start(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		case <-timer.C:
		}
		if more := w.pass(ctx); more {
			timer.Reset(retry)
		}
	}
}

// pass writes until nothing is left that can be written, and reports whether something
// could not.
func (w *Writer) pass(ctx context.Context) bool {
	failed := map[id]struct{}{}
	for ctx.Err() == nil {
		reports := w.now()
		w.forget(reports)
		can := func(r report) bool {
			_, no := failed[idOf(r)]
			return !no
		}
		next := fair(reports, batch, func(r report) bool { return can(r) && w.done[idOf(r)].turns(r) })
		if len(next) == 0 {
			next = fair(reports, batch, func(r report) bool {
				return can(r) && w.done[idOf(r)].counts(r, time.Now()) && w.recounts.Allow()
			})
		}
		if len(next) == 0 {
			break
		}
		for _, r := range next {
			if err := w.write(ctx, r); err != nil {
				failed[idOf(r)] = struct{}{}
				if ctx.Err() == nil {
					logf.FromContext(ctx).Info("Writing a status again later", "kind", r.Kind, "name", r.Key.String(), "reason", err.Error())
				}
				continue
			}
			w.done[idOf(r)] = written{r, time.Now()}
		}
	}
	return len(failed) > 0
}

// forget drops what was written of objects that are not reported on any more.
func (w *Writer) forget(reports []report) {
	now := make(map[id]struct{}, len(reports))
	for _, r := range reports {
		now[idOf(r)] = struct{}{}
	}
	for i := range w.done {
		if _, ok := now[i]; !ok {
			delete(w.done, i)
		}
	}
}

// fair picks some of the reports that are wanted, by turns from each namespace, so that
// one with many policies does not keep others waiting.
func fair(reports []report, most int, wanted func(report) bool) []report {
	var order []string
	byNamespace := map[string][]report{}
	for _, r := range reports {
		if !wanted(r) {
			continue
		}
		if byNamespace[r.Key.Namespace] == nil {
			order = append(order, r.Key.Namespace)
		}
		byNamespace[r.Key.Namespace] = append(byNamespace[r.Key.Namespace], r)
	}
	var out []report
	for turn := 0; len(out) < most; turn++ {
		took := false
		for _, ns := range order {
			if turn < len(byNamespace[ns]) && len(out) < most {
				out = append(out, byNamespace[ns][turn])
				took = true
			}
		}
		if !took {
			break
		}
	}
	return out
}

// write brings one object up to date, if the report still speaks of it.
func (w *Writer) write(ctx context.Context, r report) error {
	s, known := subjectOf(r.Kind)
	if !known {
		return nil
	}
	if err := w.Client.Get(ctx, client.ObjectKey{Namespace: r.Key.Namespace, Name: r.Key.Name}, s.object); err != nil {
		return client.IgnoreNotFound(err)
	}
	if s.conditions == nil {
		return w.tell(ctx, s, nil, verdicts(r, s, nil))
	}
	if string(s.object.GetUID()) != r.UID || s.object.GetGeneration() != r.Generation {
		return nil // there will be a report on what it is now
	}
	before := s.conditions()
	now := verdicts(r, s, before)
	kept, changed := merge(before, now)
	if !changed && !osmChanged(s, r.ObjectReport) {
		return nil
	}
	if err := w.apply(ctx, s, kept, r); err != nil {
		return err
	}
	return w.tell(ctx, s, before, now)
}

// merge returns the conditions of now, with the times of those before that are the
// same, and whether any is not.
func merge(before, now []metav1.Condition) (kept []metav1.Condition, changed bool) {
	for _, c := range now {
		if old := meta.FindStatusCondition(before, c.Type); old != nil {
			kept = append(kept, *old)
		}
		changed = meta.SetStatusCondition(&kept, c) || changed
	}
	return kept, changed
}

// osmChanged reports whether the object has the status of Open Service Mesh and it
// is another one by now.
func osmChanged(s subject, r policy.ObjectReport) bool {
	if s.status == nil {
		return false
	}
	current, wanted := s.status(), osmStatus(r)
	return current.CurrentStatus != wanted.CurrentStatus || current.Reason != wanted.Reason
}

// verdicts are the conditions of a report.
func verdicts(r report, s subject, before []metav1.Condition) []metav1.Condition {
	out := []metav1.Condition{condition(ConditionAccepted, r.Accepted, r.Generation)}
	if s.resolves {
		out = append(out, condition(ConditionResolvedRefs, r.Resolved, r.Generation))
		out = append(out, acknowledged(r, before)...)
	}
	return out
}

func condition(kind string, v policy.Verdict, generation int64) metav1.Condition {
	status := metav1.ConditionFalse
	if v.OK {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: kind, Status: status, Reason: v.Reason, Message: v.Message, ObservedGeneration: generation}
}

// osmStatus is what Open Service Mesh wrote.
func osmStatus(r policy.ObjectReport) policyv1alpha1.PolicyStatus {
	switch {
	case !r.Accepted.OK:
		return policyv1alpha1.PolicyStatus{CurrentStatus: "error", Reason: r.Accepted.Message}
	case !r.Resolved.OK:
		return policyv1alpha1.PolicyStatus{CurrentStatus: "error", Reason: r.Resolved.Message}
	default:
		return policyv1alpha1.PolicyStatus{CurrentStatus: "committed", Reason: "successfully committed by the system"}
	}
}

// apply writes a status. The UID in it makes the API server refuse if the object was
// replaced by another of its name.
func (w *Writer) apply(ctx context.Context, s subject, conditions []metav1.Condition, r report) error {
	if err := w.limit.Wait(ctx); err != nil {
		return err
	}
	var list []any
	for _, c := range conditions {
		list = append(list, map[string]any{
			"type": c.Type, "status": string(c.Status), "reason": c.Reason, "message": c.Message,
			"observedGeneration": c.ObservedGeneration, "lastTransitionTime": c.LastTransitionTime.UTC().Format(time.RFC3339),
		})
	}
	status := map[string]any{"conditions": list}
	if s.status != nil {
		wanted := osmStatus(r.ObjectReport)
		status["currentStatus"], status["reason"] = wanted.CurrentStatus, wanted.Reason
	}
	u := &unstructured.Unstructured{Object: map[string]any{"status": status}}
	u.SetGroupVersionKind(s.gvk)
	u.SetNamespace(r.Key.Namespace)
	u.SetName(r.Key.Name)
	u.SetUID(s.object.GetUID())
	err := w.Client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(fieldOwner), client.ForceOwnership)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("writing the status of %s %s: %w", r.Kind, r.Key, err)
	}
	return nil
}

// tell records what changed. That a new object is all right goes without saying.
func (w *Writer) tell(ctx context.Context, s subject, before, now []metav1.Condition) error {
	for _, c := range now {
		old := meta.FindStatusCondition(before, c.Type)
		fine := c.Status == metav1.ConditionTrue && slices.Contains(asMeant(), c.Reason)
		if c.Reason == programmed.ReasonNotAccepted || old == nil && fine || old != nil && old.Status == c.Status && old.Reason == c.Reason {
			continue
		}
		if s.conditions == nil {
			if err := w.limit.Wait(ctx); err != nil {
				return err
			}
		}
		kind := corev1.EventTypeWarning
		if fine {
			kind = corev1.EventTypeNormal
		}
		w.Recorder.Eventf(s.object, nil, kind, c.Reason, "Compile", "%s is %s: %s", c.Type, c.Status, note(c.Message))
	}
	return nil
}

// asMeant are the reasons of what is as the author of an object meant it.
func asMeant() []string {
	return []string{policy.ReasonAccepted, policy.ReasonResolved, programmed.ReasonAcknowledged, programmed.ReasonNoProxies}
}

// note shortens a message to what an event holds.
func note(message string) string {
	const most = 900
	if len(message) <= most {
		return message
	}
	return strings.ToValidUTF8(message[:most], "") + "..."
}
