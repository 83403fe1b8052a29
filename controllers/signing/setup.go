package signing

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/fields"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// workers is how many requests are answered at once: with an authority that is far
// away, most of the time is waiting.
const workers = 8

// CacheByObject has a cache hold the requests of one signer and none of others.
func CacheByObject(signer string) map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&certificatesv1.PodCertificateRequest{}: {Field: fields.OneTermEqualSelector("spec.signerName", signer)},
	}
}

// SetupWithManager registers the Reconciler. It needs no leader: two replicas that
// answer one request write the same kind of answer, and the first one stands.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	// The cache should hold no others, but whoever sets it up may not know.
	ours := predicate.NewPredicateFuncs(func(o client.Object) bool {
		req, ok := o.(*certificatesv1.PodCertificateRequest)
		return ok && req.Spec.SignerName == r.Signer && !answered(req)
	})
	return ctrl.NewControllerManagedBy(mgr).Named("signing").
		For(&certificatesv1.PodCertificateRequest{}).
		WithEventFilter(ours).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, NeedLeaderElection: new(false)}).
		Complete(r)
}
