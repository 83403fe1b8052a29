package mesh

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/apply"
	"github.com/openservicemesh/osm-operator/internal/observe"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/plan/rollout"
)

// Reports tells what the proxies of a control plane told its replicas.
type Reports interface {
	// Proxies returns the proxies that are connected to a revision of a mesh, by pod UID,
	// and whether that is all of them.
	Proxies(mesh, revision string) (map[string]observe.Proxy, bool)
}

// observeRevisions reads the control planes that a Mesh has, and where there is something
// to upgrade, the workloads.
func (r *Reconciler) observeRevisions(ctx context.Context, f *plan.Facts) error {
	var revisions operatorv1alpha1.MeshRevisionList
	if err := r.Client.List(ctx, &revisions, client.MatchingLabels{operatorv1alpha1.LabelMesh: f.Mesh.Name}); err != nil {
		return fmt.Errorf("listing the revisions of Mesh %s: %w", f.Mesh.Name, err)
	}
	f.Revisions = revisions.Items
	f.Rollout.Now = r.Now()
	wanted, err := plan.Wanted(*f)
	if err != nil || plan.Settled(*f, wanted) {
		return nil //nolint:nilerr // the plan says it again, and better
	}
	pods, err := r.pods(ctx, f.Mesh)
	if err != nil {
		return err
	}
	proxies := observe.Proxies{}
	for i := range f.Revisions {
		name := f.Revisions[i].Spec.Revision
		told, known := r.Reports.Proxies(f.Mesh.Name, name)
		proxies[name] = told
		f.Rollout.Revisions = append(f.Rollout.Revisions, revisionFacts(&f.Revisions[i], int(pods.ByRevision[name]), len(told), known))
	}
	workloads, err := observe.ReadWorkloads(ctx, r.APIReader, f.Mesh.Name, pods.All, proxies)
	if err != nil {
		return err
	}
	f.Rollout.Workloads, f.Rollout.Loose = workloads.All, workloads.Loose
	return nil
}

// revisionFacts says how a control plane is. A status that speaks of an older spec says
// nothing.
func revisionFacts(rev *operatorv1alpha1.MeshRevision, pods, sessions int, known bool) rollout.Revision {
	out := rollout.Revision{Name: rev.Spec.Revision, Pods: pods, Sessions: sessions, SessionsKnown: known, Reason: "it was not looked at yet"}
	ready := meta.FindStatusCondition(rev.Status.Conditions, operatorv1alpha1.ConditionReady)
	if ready == nil {
		return out
	}
	out.Reason = ready.Message
	out.Ready = ready.Status == metav1.ConditionTrue
	out.Settled = out.Ready && ready.Reason == operatorv1alpha1.ReasonAllReady && rev.Status.ObservedGeneration == rev.Generation
	if degraded := meta.FindStatusCondition(rev.Status.Conditions, operatorv1alpha1.ConditionDegraded); !out.Settled && degraded != nil && degraded.Status == metav1.ConditionTrue {
		out.Reason = degraded.Message
	}
	return out
}

// upgrade does what the step of the upgrade asks for. It reports whether it has to be
// asked again soon.
func (r *Reconciler) upgrade(ctx context.Context, m *operatorv1alpha1.Mesh, d rollout.Decision) (again bool, err error) {
	for _, move := range d.Moves {
		err := apply.Move(ctx, r.Client, apply.Workload(move.Ref), move.To, move.Wave, r.Now())
		if apierrors.IsForbidden(err) {
			// The operator has just bound itself in the namespace, which the API server takes
			// a moment to see.
			logf.FromContext(ctx).Info("Waiting to move workload", "Workload", move.String(), "reason", err.Error())
			again = true
			continue
		}
		if err != nil {
			return again, err
		}
		logf.FromContext(ctx).Info("Moved workload", "Workload", move.String(), "Revision", move.To)
		r.Recorder.Eventf(m, nil, corev1.EventTypeNormal, "Moved", "Upgrade", "%s was given revision %s and is restarting", move.Ref, move.To)
	}
	for _, name := range d.Retire {
		revision := &operatorv1alpha1.MeshRevision{ObjectMeta: metav1.ObjectMeta{Name: plan.RevisionObjectName(m.Name, name)}}
		if err := r.deleteOwned(ctx, m, revision); err != nil {
			return again, err
		}
		logf.FromContext(ctx).Info("Removed control plane", "MeshRevision", revision.Name)
		r.Recorder.Eventf(m, nil, corev1.EventTypeNormal, "Retired", "Upgrade", "the control plane %s, which nothing uses any more, was removed", name)
	}
	return again, r.giveUpAccess(ctx, m, d)
}

// giveUpAccess takes back the right to restart workloads, where none is to be restarted.
func (r *Reconciler) giveUpAccess(ctx context.Context, m *operatorv1alpha1.Mesh, d rollout.Decision) error {
	switch d.State.Phase {
	case operatorv1alpha1.UpgradeMoving, operatorv1alpha1.UpgradeSoaking, operatorv1alpha1.UpgradeUndoing, operatorv1alpha1.UpgradeRollingBack:
		return nil
	default:
	}
	var bindings rbacv1.RoleBindingList
	if err := r.Client.List(ctx, &bindings, client.MatchingLabels{operatorv1alpha1.LabelMesh: m.Name}); err != nil {
		return fmt.Errorf("listing the RoleBindings of Mesh %s: %w", m.Name, err)
	}
	for i := range bindings.Items {
		b := &bindings.Items[i]
		needed := slices.ContainsFunc(d.Moves, func(move rollout.Move) bool { return move.Namespace == b.Namespace })
		if b.Name != render.WorkloadsBinding(m.Name) || needed {
			continue
		}
		if err := r.deleteOwned(ctx, m, b); err != nil {
			return err
		}
	}
	return nil
}

// tellUpgrade records what turned since the status was written last.
func (r *Reconciler) tellUpgrade(ctx context.Context, m *operatorv1alpha1.Mesh, before *operatorv1alpha1.UpgradeStatus, d rollout.Decision) {
	for _, ended := range d.Ended {
		kind := corev1.EventTypeNormal
		if ended.Outcome == operatorv1alpha1.UpgradeUndone {
			kind = corev1.EventTypeWarning
		}
		r.Recorder.Eventf(m, nil, kind, "Upgrade"+string(ended.Outcome), "Upgrade", "%s", strings.TrimSuffix(fmt.Sprintf("from %s to %s: %s", ended.From, ended.To, ended.Evidence), ": "))
	}
	var was operatorv1alpha1.UpgradePhase
	wave := 0
	if before != nil {
		was, wave = before.Phase, int(before.Wave)
	}
	if s := d.State; s.Phase != was || s.Wave != wave {
		logf.FromContext(ctx).Info("Upgrade went on", "from", was, "phase", s.Phase, "wave", s.Wave, "target", s.Target, "reason", d.Message)
		if s.Phase != "" {
			r.Recorder.Eventf(m, nil, corev1.EventTypeNormal, string(s.Phase), "Upgrade", "%s", short(d.Message, s))
		}
	}
}

// short is what an event says of a step.
func short(message string, s rollout.State) string {
	if message == "" {
		message = "target " + s.Target
	}
	const longest = 1000
	return message[:min(len(message), longest)]
}

// pace is how often an upgrade is looked at although nothing happened; zero where none is
// under way.
func pace(s rollout.State) time.Duration {
	switch s.Phase {
	case "":
		return 0
	case operatorv1alpha1.UpgradeAwaitingApproval, operatorv1alpha1.UpgradeFailed:
		return time.Minute
	case operatorv1alpha1.UpgradeRetiring:
		return 10 * time.Second
	default:
		return 2 * time.Second
	}
}
