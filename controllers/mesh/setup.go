package mesh

import (
	"context"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/observe"
)

// SetupWithManager registers the Reconciler. Every kind that it writes is watched,
// so that what somebody changes is put back at once.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	b := ctrl.NewControllerManagedBy(mgr).Named("mesh").
		// A younger Mesh may get the namespace of one that goes, so all are looked at.
		Watches(&operatorv1alpha1.Mesh{}, handler.EnqueueRequestsFromMapFunc(r.allMeshes)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(byLabel(operatorv1alpha1.LabelInjectedBy)))
	kinds := []client.Object{
		&corev1.Namespace{}, &configv1alpha2.MeshConfig{}, &corev1.ServiceAccount{}, &corev1.Service{},
		&rbacv1.ClusterRoleBinding{}, &rbacv1.RoleBinding{}, &networkingv1.NetworkPolicy{},
		&operatorv1alpha1.MeshRevision{},
		&admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{},
	}
	bundles, err := observe.HasTrustBundles(mgr.GetRESTMapper())
	if err != nil {
		return err
	}
	if bundles {
		kinds = append(kinds, &certificatesv1.ClusterTrustBundle{})
	}
	for _, kind := range kinds {
		b = b.Watches(kind, handler.EnqueueRequestsFromMapFunc(byLabel(operatorv1alpha1.LabelMesh)))
	}
	return b.Complete(r)
}

func (r *Reconciler) allMeshes(ctx context.Context, changed client.Object) []reconcile.Request {
	var meshes operatorv1alpha1.MeshList
	requests := []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(changed)}}
	if err := r.Client.List(ctx, &meshes); err != nil {
		return requests
	}
	for i := range meshes.Items {
		if name := meshes.Items[i].Name; name != changed.GetName() {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
		}
	}
	return requests
}

func byLabel(label string) handler.MapFunc {
	return func(_ context.Context, o client.Object) []reconcile.Request {
		name := o.GetLabels()[label]
		if name == "" {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: name}}}
	}
}
