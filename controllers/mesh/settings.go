package mesh

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/inject"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/observe"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/status"
)

// podSettings compares what pods were made with to what their control plane would make them
// with now; nil where there is no MeshConfig to tell. What an upgrade moves is not its
// affair: a pod is compared with its own control plane, and not at all where that is gone.
func (r *Reconciler) podSettings(ctx context.Context, m *operatorv1alpha1.Mesh, pods observe.Pods) (*status.PodSettings, error) {
	key := client.ObjectKey{Namespace: plan.MeshNamespace(m), Name: operatorv1alpha1.MeshConfigName}
	var config configv1alpha2.MeshConfig
	err := r.Client.Get(ctx, key, &config)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // not known, and no failure: it is made again
	}
	if err != nil {
		return nil, fmt.Errorf("reading MeshConfig %s: %w", key, err)
	}
	var revisions operatorv1alpha1.MeshRevisionList
	if err := r.Client.List(ctx, &revisions, client.MatchingLabels{operatorv1alpha1.LabelMesh: m.Name}); err != nil {
		return nil, fmt.Errorf("listing the revisions of Mesh %s: %w", m.Name, err)
	}
	now := map[string]string{}
	for i := range revisions.Items {
		spec := revisions.Items[i].Spec
		followed, _ := mesh.SettingsFrom(mesh.DefaultSettings(m.Name, spec.Namespace, identity.TrustDomain(spec.TrustDomain)), config.Spec)
		wide, _ := inject.MeshWideOf(config.Spec, followed.LeafLifetime)
		if now[spec.Revision], err = (inject.Config{OSMImage: spec.OSMImage, EnvoyImage: spec.EnvoyImage}).With(wide).Settings(); err != nil {
			return nil, err
		}
	}
	out := &status.PodSettings{Total: len(pods.All)}
	for _, p := range pods.All {
		if want, known := now[p.Revision]; known && p.Settings != "" && p.Settings != want {
			out.Outdated = append(out.Outdated, p.Namespace+"/"+p.Name)
		}
	}
	slices.Sort(out.Outdated)
	return out, nil
}
