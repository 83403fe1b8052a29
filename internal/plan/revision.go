package plan

import (
	"cmp"
	"fmt"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/release"
)

// DefaultNamespace is where the control plane runs when the Mesh does not say.
const DefaultNamespace = "osm-system"

// DefaultTrustDomain is the trust domain when the Mesh does not say.
const DefaultTrustDomain = "cluster.local"

// defaultReplicas is the number of control-plane pods when the Mesh does not say.
const defaultReplicas = 2

// MeshNamespace returns the namespace of a Mesh with its default.
func MeshNamespace(m *operatorv1alpha1.Mesh) string {
	return cmp.Or(m.Spec.Namespace, DefaultNamespace)
}

// RevisionObjectName is the name of the MeshRevision object of a mesh's revision.
func RevisionObjectName(mesh, revision string) string { return render.RevisionObject(mesh, revision) }

// Revision returns the settings of the control plane that a Mesh wants, with all
// defaults filled in, for a release.
func Revision(m *operatorv1alpha1.Mesh, r release.Release) operatorv1alpha1.MeshRevisionSpec {
	spec := operatorv1alpha1.MeshRevisionSpec{
		Mesh:        m.Name,
		Revision:    release.RevisionName(r.Version),
		Version:     r.Version,
		Namespace:   MeshNamespace(m),
		TrustDomain: cmp.Or(m.Spec.TrustDomain, DefaultTrustDomain),
		OSMImage:    r.Images.OSM,
		EnvoyImage:  r.Images.Envoy,
		PullPolicy:  "IfNotPresent",
		Replicas:    defaultReplicas,
		Resources:   render.DefaultResources(),
	}
	if images := m.Spec.Images; images != nil {
		spec.OSMImage = cmp.Or(images.OSM, spec.OSMImage)
		spec.EnvoyImage = cmp.Or(images.Envoy, spec.EnvoyImage)
		spec.PullPolicy = cmp.Or(images.PullPolicy, spec.PullPolicy)
		spec.PullSecrets = images.PullSecrets
	}
	if size := m.Spec.ControlPlane; size != nil {
		spec.Replicas = cmp.Or(size.Replicas, spec.Replicas)
		if size.Resources != nil {
			spec.Resources = *size.Resources
		}
		spec.Tolerations = size.Tolerations
		spec.NodeSelector = size.NodeSelector
	}
	return spec
}

// WorkloadIdentity returns where the certificates of a Mesh's workloads come from, given
// whether the cluster has pod certificates. The error wraps ErrNoPodCertificates.
func WorkloadIdentity(m *operatorv1alpha1.Mesh, podCertificates bool) (operatorv1alpha1.WorkloadIdentity, error) {
	switch wanted := m.Spec.WorkloadIdentity; {
	case wanted == operatorv1alpha1.WorkloadIdentityServiceAccountToken:
		return wanted, nil
	case podCertificates:
		return operatorv1alpha1.WorkloadIdentityPodCertificate, nil
	case wanted == operatorv1alpha1.WorkloadIdentityPodCertificate:
		return "", fmt.Errorf("spec.workloadIdentity: %w: set it to Auto or ServiceAccountToken", ErrNoPodCertificates)
	default:
		return operatorv1alpha1.WorkloadIdentityServiceAccountToken, nil
	}
}
