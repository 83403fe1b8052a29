// Package v1alpha1 holds the older version of the kinds of group config.openservicemesh.io, as Open Service Mesh served it.
// It holds types and their validation markers only, no behaviour.
//
// +kubebuilder:object:generate=true
// +groupName=config.openservicemesh.io
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of the kinds in this package.
var GroupVersion = schema.GroupVersion{Group: "config.openservicemesh.io", Version: "v1alpha1"}

// AddToScheme registers the kinds of this package with a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&MeshConfig{}, &MeshConfigList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
