package mesh

import (
	"context"
	"fmt"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/status"
)

// heldCheck is how often a held deletion is looked at; pods that go are seen at once.
const heldCheck = 30 * time.Second

// mostNamed is how many blocking pods the status names.
const mostNamed = 20

// finalize holds the deletion while pods need the mesh, then lets go. The webhooks
// go first, so that nothing calls a control plane that is on its way out; all else
// is the garbage collector's, by owner.
func (r *Reconciler) finalize(ctx context.Context, m *operatorv1alpha1.Mesh) (ctrl.Result, error) {
	if !controllerutil.ContainsFinalizer(m, operatorv1alpha1.Finalizer) {
		return ctrl.Result{}, nil
	}
	pods, err := r.pods(ctx, m)
	if err != nil {
		return ctrl.Result{}, err
	}
	if len(pods.Names) > 0 && m.Spec.DeletionPolicy != operatorv1alpha1.DeletionOrphan {
		return ctrl.Result{RequeueAfter: heldCheck}, r.reportHeld(ctx, m, pods.Names)
	}
	for _, webhook := range []client.Object{
		&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: render.MutatingWebhook(m.Name)}},
		&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: render.ValidatingWebhook(m.Name)}},
	} {
		if err := r.deleteOwned(ctx, m, webhook); err != nil {
			return ctrl.Result{}, err
		}
	}
	controllerutil.RemoveFinalizer(m, operatorv1alpha1.Finalizer)
	if err := r.Client.Update(ctx, m); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(fmt.Errorf("removing the finalizer of Mesh %s: %w", m.Name, err))
	}
	return ctrl.Result{}, nil
}

// deleteOwned deletes an object if it is this Mesh's: a Mesh that was refused owns
// nothing, whatever the names.
func (r *Reconciler) deleteOwned(ctx context.Context, m *operatorv1alpha1.Mesh, object client.Object) error {
	name := object.GetName()
	if err := r.APIReader.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
		return client.IgnoreNotFound(err)
	}
	if !metav1.IsControlledBy(object, m) {
		return nil
	}
	if err := r.Client.Delete(ctx, object); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %s: %w", name, err)
	}
	return nil
}

func (r *Reconciler) reportHeld(ctx context.Context, m *operatorv1alpha1.Mesh, names []string) error {
	next := *m.Status.DeepCopy()
	next.ObservedGeneration = m.Generation
	next.Deletion = &operatorv1alpha1.DeletionStatus{BlockingPods: int32(len(names)), Pods: names[:min(len(names), mostNamed)]}
	facts := status.MeshFacts{Generation: m.Generation, Deleting: true, Blocking: len(names)}
	revision, err := r.revision(ctx, m, plan.Plan{})
	if err != nil {
		return err
	}
	if revision != nil {
		facts.Revision = revision.Status.Conditions
	}
	_, err = r.write(ctx, m, next, status.Mesh(facts))
	return err
}
