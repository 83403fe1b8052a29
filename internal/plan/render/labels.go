package render

import (
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// labels are on every object of a mesh.
func labels(mesh string, more map[string]string) map[string]string {
	out := map[string]string{
		"app.kubernetes.io/name":        "openservicemesh.io",
		"app.kubernetes.io/instance":    mesh,
		operatorv1alpha1.LabelManagedBy: operatorv1alpha1.ManagedBy,
		operatorv1alpha1.LabelMesh:      mesh,
	}
	maps.Copy(out, more)
	return out
}

// owner is the reference that makes an object go with its Mesh or MeshRevision.
func owner(kind, name string, uid metav1.Object) []metav1.OwnerReference {
	return []metav1.OwnerReference{{
		APIVersion:         operatorv1alpha1.GroupVersion.String(),
		Kind:               kind,
		Name:               name,
		UID:                uid.GetUID(),
		Controller:         new(true),
		BlockOwnerDeletion: new(true),
	}}
}

// meta returns the metadata of an object that a Mesh owns.
func (in MeshInput) meta(namespace, name string, more map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:            name,
		Namespace:       namespace,
		Labels:          labels(in.Mesh.Name, more),
		OwnerReferences: owner("Mesh", in.Mesh.Name, in.Mesh),
	}
}
