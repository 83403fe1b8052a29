package mesh

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/status"
)

// report writes the status of a Mesh from facts read now, if it differs.
func (r *Reconciler) report(ctx context.Context, m *operatorv1alpha1.Mesh, p plan.Plan, problem *status.Problem) error {
	revision, err := r.revision(ctx, m, p)
	if err != nil {
		return err
	}
	facts := status.MeshFacts{Generation: m.Generation, Problem: problem, WaitingFor: p.WaitingFor, Paused: m.Spec.Paused}
	facts.Authority = meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionAuthorityReady)
	facts.Gateway = meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionGatewayReady)
	next := *m.Status.DeepCopy()
	if p.Rollout.State.Current != "" {
		next.Upgrade = p.Rollout.Status()
		next.History = p.Rollout.History(next.History)
	}
	facts.Upgrade = next.Upgrade
	next.ObservedGeneration = m.Generation
	next.Deletion = nil
	if revision != nil {
		facts.Revision = revision.Status.Conditions
		facts.RevisionSeen = revision.Status.ObservedGeneration == revision.Generation
		next.Version, next.Revision = revision.Spec.Version, revision.Spec.Revision
		next.WorkloadIdentity = revision.Spec.WorkloadIdentity
		next.Proxies = revision.Status.Proxies
	}
	pods, err := r.pods(ctx, m)
	if err != nil {
		return err
	}
	if next.Proxies == nil {
		next.Proxies = &operatorv1alpha1.ProxyCounts{}
	}
	next.Proxies.Pods = new(int32(len(pods.Names)))
	if facts.Pods, err = r.podSettings(ctx, m, pods); err != nil {
		return err
	}
	before := m.Status.Upgrade
	written, err := r.write(ctx, m, next, status.Mesh(facts))
	if written && p.Rollout.State.Current != "" {
		r.tellUpgrade(ctx, m, before, p.Rollout)
	}
	return err
}

// revision returns the MeshRevision that the plan, or before it the status, names.
func (r *Reconciler) revision(ctx context.Context, m *operatorv1alpha1.Mesh, p plan.Plan) (*operatorv1alpha1.MeshRevision, error) {
	name := p.Revision.Revision
	if name == "" {
		name = m.Status.Revision
	}
	if name == "" {
		return nil, nil
	}
	var revision operatorv1alpha1.MeshRevision
	err := r.Client.Get(ctx, client.ObjectKey{Name: plan.RevisionObjectName(m.Name, name)}, &revision)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading MeshRevision %s: %w", name, err)
	}
	return &revision, nil
}

// write patches the status if it differs, and records transitions as events. It reports
// whether it wrote. Nothing is written over what somebody else wrote meanwhile, such as the
// conditions of other controllers, which are in the same list: that change wakes the
// reconciler again.
func (r *Reconciler) write(ctx context.Context, m *operatorv1alpha1.Mesh, next operatorv1alpha1.MeshStatus, conditions []metav1.Condition) (bool, error) {
	before := m.DeepCopy()
	var turned []metav1.Condition
	for _, c := range conditions {
		old := meta.FindStatusCondition(m.Status.Conditions, c.Type)
		if old == nil || old.Status != c.Status || old.Reason != c.Reason {
			turned = append(turned, c)
		}
		meta.SetStatusCondition(&next.Conditions, c)
	}
	if equality.Semantic.DeepEqual(before.Status, next) {
		return false, nil
	}
	m.Status = next
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, m, patch); err != nil {
		if apierrors.IsConflict(err) {
			return false, nil
		}
		return false, client.IgnoreNotFound(fmt.Errorf("writing the status of Mesh %s: %w", m.Name, err))
	}
	for _, c := range turned {
		logf.FromContext(ctx).Info("Condition changed", "condition", c.Type, "status", c.Status, "reason", c.Reason)
		r.Recorder.Eventf(m, nil, eventType(c), c.Reason, "Report", "%s is %s: %s", c.Type, c.Status, c.Message)
	}
	return true, nil
}

func eventType(c metav1.Condition) string {
	bad := c.Type == operatorv1alpha1.ConditionDegraded && c.Status == metav1.ConditionTrue ||
		c.Type == operatorv1alpha1.ConditionReady && c.Status == metav1.ConditionFalse && c.Reason != operatorv1alpha1.ReasonApplying
	if bad {
		return corev1.EventTypeWarning
	}
	return corev1.EventTypeNormal
}
