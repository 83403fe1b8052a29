// Package v1alpha4 holds the kinds of group split.smi-spec.io: weighted back ends of a service with matches, as the Service Mesh Interface publishes it.
// It holds types and their validation markers only, no behaviour.
//
// +kubebuilder:object:generate=true
// +groupName=split.smi-spec.io
package v1alpha4

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of the kinds in this package.
var GroupVersion = schema.GroupVersion{Group: "split.smi-spec.io", Version: "v1alpha4"}

// AddToScheme registers the kinds of this package with a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&TrafficSplit{}, &TrafficSplitList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
