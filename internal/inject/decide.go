package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// Decision says whether a pod gets a sidecar, and why not.
type Decision struct {
	Inject bool
	// Reason is why the pod is left alone; empty if it is not.
	Reason string
}

// Decide says whether a pod gets the sidecar. The pod's annotation wins over its
// namespace's; neither of them is no. The error is about a value that means nothing.
func Decide(pod *corev1.Pod, ns Namespace, c Config) (Decision, error) {
	switch {
	case slices.Contains([]string{"kube-system", "kube-public", "kube-node-lease", c.MeshNamespace}, ns.Name):
		return Decision{Reason: "namespace " + ns.Name + " never gets sidecars"}, nil
	case ns.Labels[operatorv1alpha1.LabelMonitoredBy] != c.Mesh:
		return Decision{Reason: "namespace " + ns.Name + " does not belong to the mesh " + c.Mesh}, nil
	case has(ns.Labels, operatorv1alpha1.LabelIgnore):
		return Decision{Reason: "namespace " + ns.Name + " is ignored"}, nil
	case pod.Spec.HostNetwork:
		return Decision{Reason: "the pod uses the node's network"}, nil
	}
	fromNamespace, err := toggle(ns.Annotations, operatorv1alpha1.AnnotationInjection, "namespace "+ns.Name)
	if err != nil {
		return Decision{}, err
	}
	fromPod, err := toggle(pod.Annotations, operatorv1alpha1.AnnotationInjection, "the pod")
	if err != nil {
		return Decision{}, err
	}
	switch {
	case fromPod == on, fromPod == unset && fromNamespace == on:
		return Decision{Inject: true}, nil
	case fromPod == off:
		return Decision{Reason: "the pod opts out"}, nil
	default:
		return Decision{Reason: "neither the pod nor its namespace asks for injection"}, nil
	}
}

type state int

const (
	unset state = iota
	on
	off
)

func toggle(annotations map[string]string, key, where string) (state, error) {
	value, ok := annotations[key]
	if !ok {
		return unset, nil
	}
	switch strings.ToLower(value) {
	case "enabled", "yes", "true":
		return on, nil
	case "disabled", "no", "false":
		return off, nil
	default:
		return unset, fmt.Errorf("%s has annotation %s=%q: use enabled or disabled", where, key, value)
	}
}

// metricsEnabled reports whether the namespace's pods are scraped.
func metricsEnabled(ns Namespace) (bool, error) {
	if ns.Annotations[operatorv1alpha1.AnnotationMetrics] == "" {
		return false, nil
	}
	s, err := toggle(ns.Annotations, operatorv1alpha1.AnnotationMetrics, "namespace "+ns.Name)
	return s == on, err
}

func has(m map[string]string, key string) bool {
	_, ok := m[key]
	return ok
}
