// Package v1alpha3 holds the kinds of group access.smi-spec.io: who may call whom, as the Service Mesh Interface publishes it.
// It holds types and their validation markers only, no behaviour.
//
// +kubebuilder:object:generate=true
// +groupName=access.smi-spec.io
package v1alpha3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of the kinds in this package.
var GroupVersion = schema.GroupVersion{Group: "access.smi-spec.io", Version: "v1alpha3"}

// AddToScheme registers the kinds of this package with a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&TrafficTarget{}, &TrafficTargetList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
