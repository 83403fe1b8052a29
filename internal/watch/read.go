package watch

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
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

// Replica is a pod of a control plane.
type Replica struct{ Name, Address, Revision string }

// ReadReplicas lists the pods of a namespace that have these labels and run, also those that
// are about to end, with the revision that a label of theirs tells, sorted.
func ReadReplicas(ctx context.Context, from client.Reader, namespace string, labels map[string]string) ([]Replica, error) {
	var pods corev1.PodList
	if err := from.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels(labels)); err != nil {
		return nil, fmt.Errorf("listing pods of namespace %s: %w", namespace, err)
	}
	var out []Replica
	for i := range pods.Items {
		if p := &pods.Items[i]; p.Status.Phase == corev1.PodRunning && len(p.Status.PodIPs) > 0 {
			out = append(out, Replica{Name: p.Name, Address: p.Status.PodIPs[0].IP, Revision: p.Labels[operatorv1alpha1.LabelRevision]})
		}
	}
	slices.SortFunc(out, func(a, b Replica) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// ReadCurrentRevision reads which revision new pods of a mesh get; empty where there is no
// such Mesh, or where it does not say yet.
func ReadCurrentRevision(ctx context.Context, from client.Reader, meshName string) (string, error) {
	var m operatorv1alpha1.Mesh
	err := from.Get(ctx, client.ObjectKey{Name: meshName}, &m)
	if absent(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading Mesh %s: %w", meshName, err)
	}
	return m.Status.Revision, nil
}

// ReadRevision reads the settings of a control plane, and whether it is there.
func ReadRevision(ctx context.Context, from client.Reader, name string) (operatorv1alpha1.MeshRevisionSpec, bool, error) {
	var r operatorv1alpha1.MeshRevision
	err := from.Get(ctx, client.ObjectKey{Name: name}, &r)
	if absent(err) {
		return operatorv1alpha1.MeshRevisionSpec{}, false, nil
	}
	if err != nil {
		return operatorv1alpha1.MeshRevisionSpec{}, false, fmt.Errorf("reading MeshRevision %s: %w", name, err)
	}
	return r.Spec, r.DeletionTimestamp.IsZero(), nil
}

// absent says that an object is not there, or that the cluster does not know its kind any
// more.
func absent(err error) bool { return apierrors.IsNotFound(err) || meta.IsNoMatchError(err) }
