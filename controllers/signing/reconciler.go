// Package signing answers the PodCertificateRequests of a mesh's signer. It runs in
// the control plane: each replica answers a share, and what one leaves lying another
// takes. Who a pod is comes from the API server; what a certificate says, and who is
// denied one, is package issue's.
package signing

import (
	"context"
	"errors"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/openservicemesh/osm-operator/internal/issue"
)

const (
	// takeover is how long a request lies before any replica answers it.
	takeover = 5 * time.Second
	// soonest and latest bound how soon a request that waits is looked at again.
	soonest, latest = time.Second, 15 * time.Second
	// patience is how long an authority may take for one certificate.
	patience = 30 * time.Second
)

// Options are what a Reconciler needs.
type Options struct {
	// Client reads requests from the cache and writes their status.
	Client client.Client
	// APIReader reads pods live: what is asked for a pod that is seconds old must not be
	// denied because a cache is late.
	APIReader client.Reader
	// Signer is the name whose requests are answered.
	Signer string
	// Issuer returns what signs now, or nil if nothing can: requests wait.
	Issuer func() *issue.Issuer
	// Mine reports whether a request, by its UID, is of this replica's share; nil takes
	// all. What is of another's is taken too when it lies for seconds.
	Mine func(uid string) bool
	// Enrolled reports whether a namespace is in the mesh: whoever makes pods elsewhere
	// could mount a certificate of the mesh by hand. Requests from there wait. Nil enrols
	// all.
	Enrolled func(namespace string) bool
	// Issued is told of every certificate that a pod got; nil tells nobody.
	Issued func(issue.Issued)
	// Waiting is told, each time that it is looked at, of a request that cannot be answered,
	// and why; nil tells nobody.
	Waiting func(podUID, reason string)
	// Metrics count; required.
	Metrics *Metrics
	// Now is the clock.
	Now func() time.Time
}

// Reconciler answers PodCertificateRequests.
type Reconciler struct {
	Options
}

// New returns a Reconciler.
func New(o Options) *Reconciler { return &Reconciler{Options: o} }

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, key ctrl.Request) (ctrl.Result, error) {
	var req certificatesv1.PodCertificateRequest
	if err := r.Client.Get(ctx, key.NamespacedName, &req); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if req.Spec.SignerName != r.Signer || answered(&req) || !req.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	age := r.Now().Sub(req.CreationTimestamp.Time)
	if r.Mine != nil && !r.Mine(string(req.UID)) && age < takeover {
		return ctrl.Result{RequeueAfter: min(takeover-age, takeover)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	started := r.Now()
	issued, err := r.answer(ctx, &req)
	var denied *issue.DeniedError
	switch {
	case err == nil:
		return ctrl.Result{}, r.finish(ctx, &req, issued, r.Now().Sub(started))
	case errors.As(err, &denied):
		return ctrl.Result{}, r.deny(ctx, &req, denied)
	default:
		return r.wait(ctx, &req, age, err), nil
	}
}

// answer reads the pod live and has the certificate issued.
func (r *Reconciler) answer(ctx context.Context, req *certificatesv1.PodCertificateRequest) (issue.Issued, error) {
	front := issue.Front{Issuer: r.Issuer, Enrolled: r.Enrolled, Live: r.APIReader}
	issuer, pod, err := front.Look(ctx, client.ObjectKey{Namespace: req.Namespace, Name: req.Spec.PodName})
	if err != nil {
		return issue.Issued{}, err
	}
	spec := issue.PodRequest{
		Namespace: req.Namespace, PodName: req.Spec.PodName, PodUID: string(req.Spec.PodUID),
		ServiceAccount: req.Spec.ServiceAccountName, Node: string(req.Spec.NodeName),
		CSR: req.Spec.StubPKCS10Request, Annotations: req.Spec.UnverifiedUserAnnotations,
	}
	if seconds := req.Spec.MaxExpirationSeconds; seconds != nil {
		spec.MaxLifetime = time.Duration(*seconds) * time.Second
	}
	return issuer.ForPod(ctx, spec, pod)
}

// wait leaves a request as it is, and comes back to it the later the older it is.
func (r *Reconciler) wait(ctx context.Context, req *certificatesv1.PodCertificateRequest, age time.Duration, err error) ctrl.Result {
	reason, after := issue.ReasonAuthorityUnavailable, min(max(age/2, soonest), latest)
	if pending, ok := errors.AsType[*issue.PendingError](err); ok {
		reason = pending.Reason
		if pending.RetryAfter > 0 {
			after = min(pending.RetryAfter, time.Minute)
		}
	}
	logf.FromContext(ctx).Info("Leaving a certificate request pending", "Pod", podName(req), "reason", reason, "cause", err.Error(), "retryAfter", after)
	r.Metrics.Waiting(reason)
	if r.Waiting != nil {
		r.Waiting(string(req.Spec.PodUID), reason)
	}
	return ctrl.Result{RequeueAfter: after}
}

// finish gives the pod its certificate, and tells of it if it got it.
func (r *Reconciler) finish(ctx context.Context, req *certificatesv1.PodCertificateRequest, issued issue.Issued, took time.Duration) error {
	next := req.DeepCopy()
	next.Status = certificatesv1.PodCertificateRequestStatus{
		CertificateChain: string(issued.ChainPEM),
		NotBefore:        &metav1.Time{Time: issued.NotBefore},
		BeginRefreshAt:   &metav1.Time{Time: issued.RefreshAt},
		NotAfter:         &metav1.Time{Time: issued.NotAfter},
		Conditions:       r.condition(certificatesv1.PodCertificateRequestConditionTypeIssued, "Issued", "issued to "+issued.ID.URI()),
	}
	written, err := r.write(ctx, next)
	if err != nil || !written {
		return err
	}
	logf.FromContext(ctx).Info("Issued certificate", "Pod", podName(req), "identity", issued.ID.URI(), "serial", issued.Serial, "notAfter", issued.NotAfter)
	r.Metrics.Issued(took)
	if r.Issued != nil {
		r.Issued(issued)
	}
	return nil
}

func (r *Reconciler) deny(ctx context.Context, req *certificatesv1.PodCertificateRequest, denied *issue.DeniedError) error {
	logf.FromContext(ctx).Info("Denying a certificate request", "Pod", podName(req), "reason", denied.Reason, "cause", denied.Message)
	next := req.DeepCopy()
	next.Status = certificatesv1.PodCertificateRequestStatus{
		Conditions: r.condition(certificatesv1.PodCertificateRequestConditionTypeDenied, denied.Reason, denied.Message),
	}
	written, err := r.write(ctx, next)
	if written {
		r.Metrics.Denied(denied.Reason)
	}
	return err
}

func (r *Reconciler) condition(kind, reason, message string) []metav1.Condition {
	return []metav1.Condition{{
		Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(r.Now()),
	}}
}

// write reports whether this answer is the one that stands: where another replica was
// first, or the request is gone, there is nothing to put right.
func (r *Reconciler) write(ctx context.Context, next *certificatesv1.PodCertificateRequest) (bool, error) {
	err := r.Client.Status().Update(ctx, next)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("answering PodCertificateRequest %s: %w", client.ObjectKeyFromObject(next), err)
	}
	return true, nil
}

func podName(req *certificatesv1.PodCertificateRequest) string {
	return req.Namespace + "/" + req.Spec.PodName
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
