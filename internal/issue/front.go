package issue

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// noIssuer is how soon requests are looked at again that nothing can sign yet: many
// pods wait for it to come.
const noIssuer = 2 * time.Second

// Front is what stands between pods that ask and an Issuer, whichever way they ask.
type Front struct {
	// Issuer returns what signs now, or nil if nothing can.
	Issuer func() *Issuer
	// Enrolled reports whether a namespace is in the mesh: whoever makes pods elsewhere
	// could ask by hand. Nil enrols all.
	Enrolled func(namespace string) bool
	// Live reads pods live: what is asked for a pod that is seconds old must not be denied
	// because a cache is late.
	Live client.Reader
}

// Look returns what signs now, and the facts of a pod as they are now; a nil pod is one
// that is not there, on which ForPod decides. The error is a *PendingError.
func (f Front) Look(ctx context.Context, key client.ObjectKey) (*Issuer, *Pod, error) {
	issuer := f.Issuer()
	if issuer == nil {
		return nil, nil, &PendingError{Reason: ReasonNoIssuer, Err: errors.New("there is nothing to sign with yet"), RetryAfter: noIssuer}
	}
	if f.Enrolled != nil && !f.Enrolled(key.Namespace) {
		return nil, nil, &PendingError{Reason: ReasonNotEnrolled, Err: fmt.Errorf("namespace %s is not in the mesh", key.Namespace)}
	}
	pod, err := f.read(ctx, key)
	if err != nil {
		return nil, nil, &PendingError{Reason: ReasonPodUnreadable, Err: err}
	}
	return issuer, pod, nil
}

func (f Front) read(ctx context.Context, key client.ObjectKey) (*Pod, error) {
	var pod corev1.Pod
	err := f.Live.Get(ctx, key, &pod)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading pod %s: %w", key, err)
	}
	return &Pod{
		UID: string(pod.UID), ServiceAccount: pod.Spec.ServiceAccountName, Node: pod.Spec.NodeName,
		Finished: pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed,
	}, nil
}
