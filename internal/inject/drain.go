package inject

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// defaultDrainSeconds is how long a stopping container goes on serving. Its callers
// learn that the endpoint goes while it still answers.
const defaultDrainSeconds = 5

// defaultGracePeriod is Kubernetes' when a pod does not say.
const defaultGracePeriod = 30

// drain has every container without a preStop hook of its own go on serving for a
// while after the pod was told to stop, and gives the pod that much more time.
func drain(pod *corev1.Pod) error {
	seconds, err := drainSeconds(pod)
	if err != nil || seconds == 0 {
		return err
	}
	grace := int64(defaultGracePeriod)
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		grace = *pod.Spec.TerminationGracePeriodSeconds
	}
	pod.Spec.TerminationGracePeriodSeconds = new(grace + seconds)
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
			continue
		}
		if c.Lifecycle == nil {
			c.Lifecycle = &corev1.Lifecycle{}
		}
		c.Lifecycle.PreStop = &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds}}
	}
	return nil
}

func drainSeconds(pod *corev1.Pod) (int64, error) {
	value, ok := pod.Annotations[operatorv1alpha1.AnnotationDrainSeconds]
	if !ok {
		return defaultDrainSeconds, nil
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 0 || n > 600 {
		return 0, fmt.Errorf("annotation %s=%q: give whole seconds from 0 to 600", operatorv1alpha1.AnnotationDrainSeconds, value)
	}
	return n, nil
}
