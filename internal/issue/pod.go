package issue

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/identity"
)

// maxCSR is how long a PKCS#10 request is at the most, as the API server has it.
const maxCSR = 10 * 1024

// PodRequest is what a kubelet asks for in the name of a pod. That it may do so for
// this pod is vouched for by the API server; that the pod is as it says is not.
type PodRequest struct {
	Namespace, PodName, PodUID string
	ServiceAccount             string
	Node                       string
	// MaxLifetime is the longest that is taken, the backdating included; 0 is no bound.
	MaxLifetime time.Duration
	// CSR is a PKCS#10 request, signed with the key that is to be certified. Nothing in
	// it but the key is read: names and extensions that it asks for are not answered.
	CSR []byte
	// Annotations are what the pod's author wrote into the volume for the signer. This
	// signer knows none.
	Annotations map[string]string
}

// Pod is what a live read found of the pod.
type Pod struct {
	UID            string
	ServiceAccount string
	// Node is where it runs; empty before it is scheduled.
	Node string
	// Finished says that all of its containers have ended for good.
	Finished bool
}

// ForPod returns a certificate for a pod. The pod must have been read live, after the
// request: nil says that it was not found. A *DeniedError is for ever, a *PendingError
// may pass.
func (i *Issuer) ForPod(ctx context.Context, req PodRequest, pod *Pod) (Issued, error) {
	if err := checkPod(req, pod); err != nil {
		return Issued{}, err
	}
	if len(req.Annotations) > 0 {
		keys := strings.Join(slices.Sorted(maps.Keys(req.Annotations)), ", ")
		return Issued{}, denied(ReasonUnknownAnnotations, "the volume has annotations that mean nothing here: %s", keys)
	}
	if req.MaxLifetime < 0 || req.MaxLifetime > 0 && req.MaxLifetime < minLifetime {
		return Issued{}, denied(ReasonInvalidRequest, "a certificate is good for %s at least, %s are wanted at most", minLifetime, req.MaxLifetime)
	}
	key, err := publicKey(req.CSR)
	if err != nil {
		return Issued{}, err
	}
	return i.issue(ctx, subject{
		serviceAccount: identity.ServiceAccount{Namespace: req.Namespace, Name: req.ServiceAccount},
		podUID:         req.PodUID, key: key, maxLifetime: req.MaxLifetime.Truncate(time.Second),
	})
}

// checkPod holds a request to the pod that runs. What differs is of the parts of a pod
// that never change.
func checkPod(req PodRequest, pod *Pod) error {
	name := req.Namespace + "/" + req.PodName
	switch {
	case pod == nil:
		// The request goes with its pod; that the pod is still to come is not for us to rule out.
		return &PendingError{Reason: ReasonPodNotFound, Err: fmt.Errorf("there is no pod %s", name)}
	case pod.UID != req.PodUID:
		return denied(ReasonPodReplaced, "pod %s is not the one that the request is for", name)
	case pod.ServiceAccount != req.ServiceAccount:
		return denied(ReasonPodMismatch, "pod %s runs as ServiceAccount %s, not as %s", name, pod.ServiceAccount, req.ServiceAccount)
	case pod.Finished:
		return denied(ReasonPodFinished, "pod %s has ended", name)
	case pod.Node == "":
		return &PendingError{Reason: ReasonPodNotScheduled, Err: fmt.Errorf("pod %s is on no node yet", name)}
	case pod.Node != req.Node:
		return denied(ReasonPodMismatch, "pod %s runs on node %s, not on %s", name, pod.Node, req.Node)
	}
	return nil
}

// publicKey reads the key of a request and proves that the asker holds it.
func publicKey(csr []byte) (crypto.PublicKey, error) {
	if len(csr) > maxCSR {
		return nil, denied(ReasonInvalidRequest, "the PKCS#10 request has %d bytes, at most %d are read", len(csr), maxCSR)
	}
	parsed, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, denied(ReasonInvalidRequest, "the request is no PKCS#10 request")
	}
	// First the kind of the key: checking a signature with a bad one can be costly.
	if err := ca.CheckPublicKey(parsed.PublicKey); err != nil {
		if invalid, ok := errors.AsType[*ca.InvalidError](err); ok {
			return nil, denied(ReasonUnsupportedKeyType, "%s", invalid.Message)
		}
		return nil, err
	}
	if err := parsed.CheckSignature(); err != nil {
		return nil, denied(ReasonInvalidRequest, "the request is not signed with its key")
	}
	return parsed.PublicKey, nil
}
