package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// restartAnnotation is what kubectl rollout restart sets in a pod template.
const restartAnnotation = "kubectl.kubernetes.io/restartedAt"

// Workload names a workload of group apps.
type Workload struct {
	Kind, Namespace, Name string
}

// Move gives a workload's pods another revision of the control plane, by its pod
// template, and has them restarted as kubectl rollout restart does. wave is the mark that
// the workload gets; an empty one takes the mark away. A workload that has gone is none to
// move.
func Move(ctx context.Context, c client.Client, w Workload, revision, wave string, now time.Time) error {
	mark := any(nil)
	if wave != "" {
		mark = wave
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{operatorv1alpha1.AnnotationWave: mark}},
		"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{
			operatorv1alpha1.AnnotationRevision: revision,
			restartAnnotation:                   now.UTC().Format(time.RFC3339),
		}}}},
	})
	if err != nil {
		return fmt.Errorf("encoding the patch of %s %s/%s: %w", w.Kind, w.Namespace, w.Name, err)
	}
	object := &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: w.Kind},
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: w.Name},
	}
	err = c.Patch(ctx, object, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(operatorv1alpha1.ManagedBy))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("moving %s %s/%s to revision %s: %w", w.Kind, w.Namespace, w.Name, revision, err)
	}
	return nil
}
