package trust

import (
	"cmp"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/apply"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/plan"
)

// defaultKeyType is the kind of keys where nobody asks for another.
const defaultKeyType = ca.ECDSAP256

// keyType is the kind of keys that a Mesh asks for.
func keyType(m *operatorv1alpha1.Mesh) ca.KeyType {
	if a := m.Spec.CertificateAuthority; a != nil && a.BuiltIn != nil {
		return ca.KeyType(cmp.Or(a.BuiltIn.KeyType, string(defaultKeyType)))
	}
	return defaultKeyType
}

func ownerOf(kind string, o client.Object) metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion: operatorv1alpha1.GroupVersion.String(), Kind: kind, Name: o.GetName(), UID: o.GetUID(),
		Controller: new(true), BlockOwnerDeletion: new(true),
	}
}

// owned is the metadata of an object of a mesh.
func owned(key client.ObjectKey, mesh string, owner metav1.OwnerReference) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: key.Name, Namespace: key.Namespace,
		Labels: map[string]string{
			"app.kubernetes.io/name":        "openservicemesh.io",
			"app.kubernetes.io/instance":    mesh,
			operatorv1alpha1.LabelManagedBy: operatorv1alpha1.ManagedBy,
			operatorv1alpha1.LabelMesh:      mesh,
		},
		OwnerReferences: []metav1.OwnerReference{owner},
	}
}

// bundles are the roots: for the control plane, and for pods where the cluster has a
// kind for it.
func bundles(m *operatorv1alpha1.Mesh, root *anchor, clusterBundles bool) []apply.Object {
	owner := ownerOf("Mesh", m)
	out := []apply.Object{
		&corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: owned(client.ObjectKey{Namespace: plan.MeshNamespace(m), Name: operatorv1alpha1.TrustBundleConfigMap}, m.Name, owner),
			Data:       map[string]string{operatorv1alpha1.TrustBundleKey: string(root.pem())},
		},
	}
	if clusterBundles {
		out = append(out, &certificatesv1.ClusterTrustBundle{
			TypeMeta:   metav1.TypeMeta{APIVersion: certificatesv1.SchemeGroupVersion.String(), Kind: "ClusterTrustBundle"},
			ObjectMeta: owned(client.ObjectKey{Name: identity.TrustBundleName(m.Name)}, m.Name, owner),
			Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: identity.SignerName(m.Name), TrustBundle: string(root.pem())},
		})
	}
	return out
}
