package watch

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// ReadPod reads one pod, such as a State has not seen yet.
func ReadPod(ctx context.Context, from client.Reader, key mesh.Key, meshName string) (*mesh.Pod, error) {
	var pod corev1.Pod
	if err := from.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: key.Name}, &pod); err != nil {
		return nil, fmt.Errorf("reading pod %s: %w", key, err)
	}
	return podOf(&pod, identity.SignerName(meshName)), nil
}

// ReadNamespace reads the labels and annotations of a namespace, those of the mesh at least.
func ReadNamespace(ctx context.Context, from client.Reader, name string) (labels, annotations map[string]string, err error) {
	var ns corev1.Namespace
	if err := from.Get(ctx, client.ObjectKey{Name: name}, &ns); err != nil {
		return nil, nil, fmt.Errorf("reading namespace %s: %w", name, err)
	}
	return ns.Labels, ns.Annotations, nil
}

// ReadRunning lists the names of the pods of a namespace that have these labels, run,
// and are not about to end, sorted.
func ReadRunning(ctx context.Context, from client.Reader, namespace string, labels map[string]string) ([]string, error) {
	var pods corev1.PodList
	if err := from.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels(labels)); err != nil {
		return nil, fmt.Errorf("listing pods of namespace %s: %w", namespace, err)
	}
	var out []string
	for i := range pods.Items {
		if p := &pods.Items[i]; p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			out = append(out, p.Name)
		}
	}
	slices.Sort(out)
	return out, nil
}
