// Package v1alpha1 holds the kinds of group policy.openservicemesh.io: the policies of mesh users, as Open Service Mesh published them.
// It holds types and their validation markers only, no behaviour.
//
// +kubebuilder:object:generate=true
// +groupName=policy.openservicemesh.io
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of the kinds in this package.
var GroupVersion = schema.GroupVersion{Group: "policy.openservicemesh.io", Version: "v1alpha1"}

// AddToScheme registers the kinds of this package with a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&Egress{}, &EgressList{},
		&IngressBackend{}, &IngressBackendList{},
		&Retry{}, &RetryList{},
		&UpstreamTrafficSetting{}, &UpstreamTrafficSettingList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
