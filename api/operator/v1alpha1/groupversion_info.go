// Package v1alpha1 holds the kinds of group operator.openservicemesh.io: what a cluster administrator declares of a mesh.
// It holds types and their validation markers only, no behaviour.
//
// +kubebuilder:object:generate=true
// +groupName=operator.openservicemesh.io
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of the kinds in this package.
var GroupVersion = schema.GroupVersion{Group: "operator.openservicemesh.io", Version: "v1alpha1"}

// AddToScheme registers the kinds of this package with a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&Mesh{}, &MeshList{},
		&MeshRevision{}, &MeshRevisionList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
