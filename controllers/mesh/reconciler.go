// Package mesh reconciles a Mesh: it observes the cluster, has package plan decide
// what should exist, has package apply write it, and reports. It decides nothing
// itself.
package mesh

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/apply"
	"github.com/openservicemesh/osm-operator/internal/observe"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/release"
	"github.com/openservicemesh/osm-operator/internal/status"
)

// recheck is how often a Mesh is looked at although nothing happened.
const recheck = 5 * time.Minute

// unwatched is the same where the cluster has no ClusterTrustBundles, whose changes say
// that the roots are others.
const unwatched = 30 * time.Second

// Options are what a Reconciler needs; all are required.
type Options struct {
	// Client reads from the cache and writes.
	Client client.Client
	// APIReader reads live.
	APIReader client.Reader
	Recorder  events.EventRecorder
	Catalogue release.Catalogue
	// Namespace is where the operator runs, ServiceAccount as whom.
	Namespace, ServiceAccount string
	Reports                   Reports
	Metrics                   *Metrics
	// Now is the clock.
	Now func() time.Time
}

// Reconciler makes the cluster follow Meshes.
type Reconciler struct {
	Options
	applier apply.Applier
}

// New returns a Reconciler.
func New(o Options) *Reconciler {
	return &Reconciler{Options: o, applier: apply.Applier{Reader: o.APIReader, Writer: o.Client, Owner: operatorv1alpha1.ManagedBy}}
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var m operatorv1alpha1.Mesh
	if err := r.read(ctx, req.NamespacedName, &m); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !m.DeletionTimestamp.IsZero() {
		return r.finalize(ctx, &m)
	}
	facts, err := r.observe(ctx, &m)
	if err != nil {
		return ctrl.Result{}, err
	}
	p, err := plan.Compute(facts)
	if plan.IsRefusal(err) {
		return ctrl.Result{RequeueAfter: recheck}, r.report(ctx, &m, plan.Plan{}, refusal(err))
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	if m.Spec.Paused {
		// What runs is told, which need not be what the plan wants.
		return ctrl.Result{RequeueAfter: recheck}, r.report(ctx, &m, plan.Plan{Rollout: p.Rollout}, nil)
	}
	if err := r.hold(ctx, &m); err != nil {
		return ctrl.Result{}, err
	}
	soon, applyErr := r.act(ctx, &m, p)
	if err := r.report(ctx, &m, p, applyProblem(&m, applyErr)); err != nil {
		return ctrl.Result{}, err
	}
	switch {
	case applyErr != nil && !isForeign(applyErr):
		return ctrl.Result{}, applyErr
	case soon:
		return ctrl.Result{RequeueAfter: time.Second}, nil
	default:
		return ctrl.Result{RequeueAfter: again(facts, p)}, nil
	}
}

// read reads a Mesh: live where it may be upgraded, since an upgrade must not step twice
// from where the cache remembers it.
func (r *Reconciler) read(ctx context.Context, key client.ObjectKey, m *operatorv1alpha1.Mesh) error {
	if err := r.Client.Get(ctx, key, m); err != nil {
		return err
	}
	if m.Status.Upgrade == nil && m.Spec.Upgrade == nil {
		return nil
	}
	return r.APIReader.Get(ctx, key, m)
}

// hold keeps the Mesh from going while workloads need it.
func (r *Reconciler) hold(ctx context.Context, m *operatorv1alpha1.Mesh) error {
	if !controllerutil.AddFinalizer(m, operatorv1alpha1.Finalizer) {
		return nil
	}
	if err := r.Client.Update(ctx, m); err != nil {
		return fmt.Errorf("adding the finalizer of Mesh %s: %w", m.Name, err)
	}
	return nil
}

// act writes what the plan wants, and does what the upgrade's step asks for. It reports
// whether it has to be asked again soon.
func (r *Reconciler) act(ctx context.Context, m *operatorv1alpha1.Mesh, p plan.Plan) (soon bool, err error) {
	if err := r.apply(ctx, m, p); err != nil {
		return false, err
	}
	return r.upgrade(ctx, m, p.Rollout)
}

// again is when a Mesh is looked at although nothing happened: sooner where roots are
// published by what is not watched.
func again(f plan.Facts, p plan.Plan) time.Duration {
	pace := pace(p.Rollout.State)
	switch {
	case pace > 0:
		return pace
	case f.PodCertificates:
		return recheck
	case p.WaitingFor != "":
		return time.Second
	default:
		return unwatched
	}
}

func (r *Reconciler) observe(ctx context.Context, m *operatorv1alpha1.Mesh) (plan.Facts, error) {
	var meshes operatorv1alpha1.MeshList
	if err := r.Client.List(ctx, &meshes); err != nil {
		return plan.Facts{}, fmt.Errorf("listing Meshes: %w", err)
	}
	f := plan.Facts{
		Mesh: m, Others: meshes.Items, Catalogue: r.Catalogue,
		OperatorNamespace: r.Namespace, OperatorServiceAccount: r.ServiceAccount,
	}
	var err error
	if f.PodCertificates, err = observe.ReadPodCertificates(r.Client.RESTMapper()); err != nil {
		return plan.Facts{}, err
	}
	if f.TrustBundle, err = observe.ReadTrustBundle(ctx, r.APIReader, m.Name, plan.MeshNamespace(m)); err != nil {
		return plan.Facts{}, err
	}
	err = r.observeRevisions(ctx, &f)
	return f, err
}

// apply writes the stages in order and tells of what was put back.
func (r *Reconciler) apply(ctx context.Context, m *operatorv1alpha1.Mesh, p plan.Plan) error {
	// While something is written for the first time, nothing of it can have been missing.
	ready := meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionReady)
	settled := m.Status.ObservedGeneration == m.Generation && ready != nil && ready.Reason != operatorv1alpha1.ReasonApplying
	for _, stage := range p.Stages {
		results, err := r.applier.Apply(ctx, m.Name, stage.Objects...)
		r.tell(ctx, m, results, settled && !stage.Passing)
		if err != nil {
			return fmt.Errorf("writing the %s: %w", stage.Name, err)
		}
	}
	return nil
}

// tell records events about objects that were put back: after the spec has been
// followed once, an object that is missing or different was changed by someone.
func (r *Reconciler) tell(ctx context.Context, m *operatorv1alpha1.Mesh, results []apply.Result, settled bool) {
	for _, result := range results {
		if result.Outcome == apply.Unchanged {
			continue
		}
		logf.FromContext(ctx).Info("Wrote object", "Object", result.String(), "outcome", result.Outcome)
		switch {
		case result.Outcome == apply.Repaired:
			r.Metrics.Repaired(result.GVK.Kind)
			r.Recorder.Eventf(m, nil, corev1.EventTypeWarning, "Repaired", "Apply", "%s was changed and has been put back", result)
		case result.Outcome == apply.Created && settled && m.Status.Version != "":
			r.Metrics.Repaired(result.GVK.Kind)
			r.Recorder.Eventf(m, nil, corev1.EventTypeWarning, "Recreated", "Apply", "%s was missing and has been made again", result)
		}
	}
}

func refusal(err error) *status.Problem {
	if _, taken := errors.AsType[*plan.NamespaceTakenError](err); taken {
		return &status.Problem{Reason: operatorv1alpha1.ReasonNamespaceTaken, Err: err}
	}
	if errors.Is(err, plan.ErrUpgradePolicy) {
		return &status.Problem{Reason: operatorv1alpha1.ReasonUpgradePolicyInvalid, Err: err}
	}
	if errors.Is(err, plan.ErrNoPodCertificates) {
		return &status.Problem{Reason: operatorv1alpha1.ReasonWorkloadIdentityUnavailable, Err: err}
	}
	if errors.Is(err, release.ErrNoWay) {
		return &status.Problem{Reason: operatorv1alpha1.ReasonVersionUnreachable, Err: err}
	}
	return &status.Problem{Reason: operatorv1alpha1.ReasonUnknownVersion, Err: err}
}

func applyProblem(m *operatorv1alpha1.Mesh, err error) *status.Problem {
	switch {
	case err == nil, apierrors.IsConflict(err):
		return nil
	case apierrors.IsForbidden(err) && m.Status.Version == "":
		// The operator has just bound itself in a new namespace, which the API server
		// takes a moment to see.
		return &status.Problem{Reason: operatorv1alpha1.ReasonApplying, Err: err, Waiting: true}
	case isForeign(err):
		return &status.Problem{Reason: operatorv1alpha1.ReasonForeignObject, Err: err}
	default:
		return &status.Problem{Reason: operatorv1alpha1.ReasonApplyFailed, Err: err}
	}
}

func isForeign(err error) bool {
	var foreign *apply.ForeignError
	return errors.As(err, &foreign)
}

// pods reads the pods of a mesh; unknown is told by a negative count.
func (r *Reconciler) pods(ctx context.Context, m *operatorv1alpha1.Mesh) (observe.Pods, error) {
	return observe.ReadPods(ctx, r.Client, m.Name)
}
