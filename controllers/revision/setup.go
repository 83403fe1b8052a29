package revision

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/plan"
)

// SetupWithManager registers the Reconciler. Every kind that it writes is watched;
// reported wakes the MeshRevision, by object name, whose proxies told something new.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, reported <-chan event.GenericEvent) error {
	b := ctrl.NewControllerManagedBy(mgr).Named("revision").For(&operatorv1alpha1.MeshRevision{}).
		Watches(&operatorv1alpha1.Mesh{}, handler.EnqueueRequestsFromMapFunc(r.ofMesh), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(byLabels(operatorv1alpha1.LabelInjectedBy, operatorv1alpha1.LabelInjectedRevision))).
		WatchesRawSource(source.Channel(reported, &handler.EnqueueRequestForObject{}))
	for _, kind := range []client.Object{&appsv1.Deployment{}, &corev1.Service{}, &policyv1.PodDisruptionBudget{}, &discoveryv1.EndpointSlice{}} {
		b = b.Watches(kind, handler.EnqueueRequestsFromMapFunc(byLabels(operatorv1alpha1.LabelMesh, operatorv1alpha1.LabelRevision)))
	}
	return b.Complete(r)
}

// ofMesh wakes the MeshRevisions of a Mesh, which may have been paused until now. One
// that cannot be listed is looked at when its time comes.
func (r *Reconciler) ofMesh(ctx context.Context, m client.Object) []reconcile.Request {
	var revisions operatorv1alpha1.MeshRevisionList
	if err := r.Client.List(ctx, &revisions); err != nil {
		logf.FromContext(ctx).Error(err, "Listing MeshRevisions", "Mesh", m.GetName())
		return nil
	}
	var requests []reconcile.Request
	for i := range revisions.Items {
		if revisions.Items[i].Spec.Mesh == m.GetName() {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&revisions.Items[i])})
		}
	}
	return requests
}

func byLabels(mesh, revision string) handler.MapFunc {
	return func(_ context.Context, o client.Object) []reconcile.Request {
		labels := o.GetLabels()
		if labels[mesh] == "" || labels[revision] == "" {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: plan.RevisionObjectName(labels[mesh], labels[revision])}}}
	}
}
