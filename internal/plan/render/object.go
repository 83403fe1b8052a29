package render

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Object is what a plan has written: any Kubernetes object. It is an alias, so that
// packages that must not know one another mean the same.
type Object = interface {
	metav1.Object
	runtime.Object
}
