package issue

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ReadPod reads the facts of a pod with a reader that reads live; nil is a pod that is
// not there, on which ForPod decides.
func ReadPod(ctx context.Context, live client.Reader, key client.ObjectKey) (*Pod, error) {
	var pod corev1.Pod
	err := live.Get(ctx, key, &pod)
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
