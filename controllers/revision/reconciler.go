// Package revision reconciles a MeshRevision: the control plane of one version, with
// its Deployment, Service and budget. It reports how far that is rolled out and
// what its proxies told.
package revision

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/apply"
	"github.com/openservicemesh/osm-operator/internal/observe"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/status"
)

// recheck is how often a MeshRevision is looked at although nothing happened.
const recheck = time.Minute

// Reports tells what the proxies of a control plane told its replicas.
type Reports interface {
	// Read returns the counts of the proxies of a revision of a mesh, from the
	// replicas that serve it now. Known is false if any of them could not be read.
	Read(mesh, revision string, replicas []observe.Replica) status.Proxies
	// Forget stops reading the replicas of a MeshRevision, by object name.
	Forget(name string)
}

// Options are what a Reconciler needs; all are required.
type Options struct {
	// Client reads from the cache and writes.
	Client client.Client
	// APIReader reads live.
	APIReader client.Reader
	Recorder  events.EventRecorder
	Reports   Reports
}

// Reconciler makes the cluster follow MeshRevisions.
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
	var revision operatorv1alpha1.MeshRevision
	err := r.Client.Get(ctx, req.NamespacedName, &revision)
	if apierrors.IsNotFound(err) || err == nil && !revision.DeletionTimestamp.IsZero() {
		r.Reports.Forget(req.Name)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading MeshRevision %s: %w", req.Name, err)
	}
	paused, err := r.paused(ctx, &revision)
	if err != nil {
		return ctrl.Result{}, err
	}
	var applyErr error
	if !paused {
		var results []apply.Result
		results, applyErr = r.applier.Apply(ctx, revision.Spec.Mesh, render.Revision(render.RevisionInput{Revision: &revision})...)
		r.tell(ctx, &revision, results)
	}
	if err := r.report(ctx, &revision, applyErr); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: recheck}, applyErr
}

// paused tells whether the Mesh of a revision keeps the operator from writing.
func (r *Reconciler) paused(ctx context.Context, revision *operatorv1alpha1.MeshRevision) (bool, error) {
	var m operatorv1alpha1.Mesh
	if err := r.Client.Get(ctx, client.ObjectKey{Name: revision.Spec.Mesh}, &m); client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("reading Mesh %s: %w", revision.Spec.Mesh, err)
	}
	return m.Spec.Paused, nil
}

// tell records events about objects that were put back.
func (r *Reconciler) tell(ctx context.Context, revision *operatorv1alpha1.MeshRevision, results []apply.Result) {
	settled := revision.Status.ObservedGeneration == revision.Generation
	for _, result := range results {
		if result.Outcome == apply.Unchanged {
			continue
		}
		logf.FromContext(ctx).Info("Wrote object", "Object", result.String(), "outcome", result.Outcome)
		switch {
		case result.Outcome == apply.Repaired:
			r.Recorder.Eventf(revision, nil, corev1.EventTypeWarning, "Repaired", "Apply", "%s was changed and has been put back", result)
		case result.Outcome == apply.Created && settled:
			r.Recorder.Eventf(revision, nil, corev1.EventTypeWarning, "Recreated", "Apply", "%s was missing and has been made again", result)
		}
	}
}

// report writes the status from facts read now, if it differs.
func (r *Reconciler) report(ctx context.Context, revision *operatorv1alpha1.MeshRevision, applyErr error) error {
	spec := revision.Spec
	key := client.ObjectKey{Namespace: spec.Namespace, Name: render.Deployment(spec.Revision)}
	// Live: the cache may still hold the Deployment from before it was written, all rolled out.
	found, err := observe.ReadControlPlane(ctx, r.APIReader, key)
	if err != nil {
		return err
	}
	replicas, err := observe.ReadReplicas(ctx, r.Client, key, render.ReportPort)
	if err != nil {
		return err
	}
	pods, err := observe.ReadPods(ctx, r.Client, spec.Mesh)
	if err != nil {
		return err
	}
	proxies := r.Reports.Read(spec.Mesh, spec.Revision, replicas)
	proxies.Pods = pods.ByRevision[spec.Revision]

	before := revision.DeepCopy()
	next := &revision.Status
	next.ObservedGeneration = revision.Generation
	next.Replicas = fmt.Sprintf("%d/%d", found.Available, spec.Replicas)
	next.Proxies = proxies.Counts()
	conditions := status.Revision(revision.Generation, status.ControlPlane{
		Found: found.Found, RolledOut: found.RolledOut(), Wanted: spec.Replicas, Available: found.Available, Stuck: found.Stuck,
	}, proxies, applyErr)
	for _, c := range conditions {
		meta.SetStatusCondition(&next.Conditions, c)
	}
	if equality.Semantic.DeepEqual(before.Status, *next) {
		return nil
	}
	if err := r.Client.Status().Patch(ctx, revision, client.MergeFrom(before)); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("writing the status of MeshRevision %s: %w", revision.Name, err))
	}
	return nil
}
