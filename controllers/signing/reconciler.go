// Package signing answers the PodCertificateRequests of a mesh's signer. It runs in
// the control plane: each replica answers a share, and what one leaves lying another
// takes. Who a pod is comes from the API server; what a certificate says is package
// issue's.
package signing

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/openservicemesh/osm-operator/internal/issue"
)

const (
	// takeover is how long a request lies before any replica answers it.
	takeover = 2 * time.Second
	// retry is how soon a request that cannot be answered yet is looked at again.
	retry = 2 * time.Second
	// workers is how many requests are answered at once.
	workers = 4
)

// Options are what a Reconciler needs.
type Options struct {
	// Client reads requests from the cache and writes their status.
	Client client.Client
	// APIReader reads pods live, since a pod that is asked for is seconds old.
	APIReader client.Reader
	// Signer is the name whose requests are answered.
	Signer string
	// Issuer returns what signs now, or nil if nothing can: the request waits.
	Issuer func() *issue.Issuer
	// Mine reports whether a request, by its hash, is of this replica's share; nil takes all.
	Mine func(hash uint32) bool
	// Issued is told of every certificate; nil tells nobody.
	Issued func(podUID string, c issue.Issued, took time.Duration)
	// Now is the clock.
	Now func() time.Time
}

// Reconciler answers PodCertificateRequests.
type Reconciler struct{ Options }

// New returns a Reconciler.
func New(o Options) *Reconciler { return &Reconciler{Options: o} }

// SetupWithManager registers the Reconciler. It needs no leader: two replicas that
// answer one request write the same kind of answer, and the first one stands.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
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

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, key ctrl.Request) (ctrl.Result, error) {
	var req certificatesv1.PodCertificateRequest
	if err := r.Client.Get(ctx, key.NamespacedName, &req); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if req.Spec.SignerName != r.Signer || answered(&req) {
		return ctrl.Result{}, nil
	}
	if age := r.Now().Sub(req.CreationTimestamp.Time); r.Mine != nil && !r.Mine(hash(string(req.UID))) && age < takeover {
		return ctrl.Result{RequeueAfter: takeover - age}, nil
	}
	issuer := r.Issuer()
	if issuer == nil {
		logf.FromContext(ctx).Info("Leaving a certificate request pending", "reason", "there is no issuing certificate yet")
		return ctrl.Result{RequeueAfter: retry}, nil
	}
	started := r.Now()
	issued, err := r.answer(ctx, &req, issuer)
	var denied *issue.DeniedError
	switch {
	case err == nil:
		return ctrl.Result{}, r.finish(ctx, &req, issued, started)
	case errors.As(err, &denied):
		return ctrl.Result{}, r.deny(ctx, &req, denied)
	default:
		logf.FromContext(ctx).Info("Leaving a certificate request pending", "reason", err.Error())
		return ctrl.Result{RequeueAfter: retry}, nil
	}
}

// answer checks the pod live and has the certificate issued. A pod that is not there
// yet, or not any more, is no reason to deny: the request ends with it.
func (r *Reconciler) answer(ctx context.Context, req *certificatesv1.PodCertificateRequest, issuer *issue.Issuer) (issue.Issued, error) {
	var pod corev1.Pod
	key := client.ObjectKey{Namespace: req.Namespace, Name: req.Spec.PodName}
	if err := r.APIReader.Get(ctx, key, &pod); err != nil {
		return issue.Issued{}, fmt.Errorf("reading pod %s: %w", key, err)
	}
	if pod.UID != req.Spec.PodUID {
		return issue.Issued{}, &issue.DeniedError{Reason: "PodReplaced", Message: fmt.Sprintf("pod %s is not the one that the request is for", key)}
	}
	if pod.Spec.ServiceAccountName != req.Spec.ServiceAccountName || pod.Spec.NodeName != string(req.Spec.NodeName) {
		return issue.Issued{}, &issue.DeniedError{
			Reason: "PodMismatch", Message: fmt.Sprintf("pod %s runs as %s on %s", key, pod.Spec.ServiceAccountName, pod.Spec.NodeName),
		}
	}
	return issuer.Issue(issue.Request{
		Namespace: req.Namespace, ServiceAccount: req.Spec.ServiceAccountName,
		PodName: req.Spec.PodName, PodUID: string(req.Spec.PodUID),
		MaxLifetime: lifetime(req), CSR: req.Spec.StubPKCS10Request,
	}, r.Now())
}

func lifetime(req *certificatesv1.PodCertificateRequest) time.Duration {
	if req.Spec.MaxExpirationSeconds == nil {
		return 0
	}
	return time.Duration(*req.Spec.MaxExpirationSeconds) * time.Second
}

func (r *Reconciler) finish(ctx context.Context, req *certificatesv1.PodCertificateRequest, issued issue.Issued, started time.Time) error {
	next := req.DeepCopy()
	next.Status.CertificateChain = string(issued.ChainPEM)
	next.Status.NotBefore = &metav1.Time{Time: issued.NotBefore}
	next.Status.BeginRefreshAt = &metav1.Time{Time: issued.RefreshAt}
	next.Status.NotAfter = &metav1.Time{Time: issued.NotAfter}
	meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: certificatesv1.PodCertificateRequestConditionTypeIssued, Status: metav1.ConditionTrue, Reason: "Issued",
		Message: "issued by the mesh", LastTransitionTime: metav1.NewTime(r.Now()),
	})
	if err := r.write(ctx, next); err != nil {
		return err
	}
	if r.Issued != nil {
		r.Issued(string(req.Spec.PodUID), issued, r.Now().Sub(started))
	}
	return nil
}

func (r *Reconciler) deny(ctx context.Context, req *certificatesv1.PodCertificateRequest, denied *issue.DeniedError) error {
	logf.FromContext(ctx).Info("Denying a certificate request", "Pod", req.Namespace+"/"+req.Spec.PodName, "reason", denied.Reason)
	next := req.DeepCopy()
	meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: certificatesv1.PodCertificateRequestConditionTypeDenied, Status: metav1.ConditionTrue, Reason: denied.Reason,
		Message: denied.Message, LastTransitionTime: metav1.NewTime(r.Now()),
	})
	return r.write(ctx, next)
}

// write is harmless where another replica was first.
func (r *Reconciler) write(ctx context.Context, next *certificatesv1.PodCertificateRequest) error {
	err := r.Client.Status().Update(ctx, next)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("answering PodCertificateRequest %s: %w", client.ObjectKeyFromObject(next), err)
	}
	return nil
}

func answered(req *certificatesv1.PodCertificateRequest) bool {
	for _, c := range req.Status.Conditions {
		switch c.Type {
		case certificatesv1.PodCertificateRequestConditionTypeIssued, certificatesv1.PodCertificateRequestConditionTypeDenied,
			certificatesv1.PodCertificateRequestConditionTypeFailed:
			return true
		}
	}
	return false
}

func hash(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return h.Sum32()
}
