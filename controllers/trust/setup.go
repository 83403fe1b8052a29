package trust

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
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

// SetupWithManager registers the Reconciler.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	byLabel := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		name := o.GetLabels()[operatorv1alpha1.LabelMesh]
		if name == "" {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: name}}}
	})
	b := ctrl.NewControllerManagedBy(mgr).Named("trust").For(&operatorv1alpha1.Mesh{}).
		Watches(&corev1.Namespace{}, byLabel).
		Watches(&operatorv1alpha1.MeshRevision{}, byLabel).
		// What says whether a gateway has a certificate, and what is written for it.
		Watches(&configv1alpha2.MeshConfig{}, byLabel).
		Watches(&rbacv1.RoleBinding{}, byLabel)
	bundles, err := observe.HasTrustBundles(mgr.GetRESTMapper())
	if err != nil {
		return err
	}
	if bundles {
		b = b.Watches(&certificatesv1.ClusterTrustBundle{}, byLabel)
	}
	return b.Complete(r)
}
