package cmd

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/observe"
)

// TestStrippedPodsTellTheSame has what the operator's cache leaves out of a pod be what it
// does not look at.
func TestStrippedPodsTellTheSame(t *testing.T) {
	t.Parallel()
	whole := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-5d8f-1", UID: "1", CreationTimestamp: metav1.NewTime(time.Unix(1_800_000_000, 0)),
			Annotations: map[string]string{"large": "document", operatorv1alpha1.AnnotationSettings: "0123456789abcdef"},
			Labels: map[string]string{
				operatorv1alpha1.LabelInjectedBy: "osm", operatorv1alpha1.LabelInjectedRevision: "a", appsv1.DefaultDeploymentUniqueLabelKey: "5d8f",
			},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d8f", UID: "2", Controller: new(true)}},
		},
		Spec: corev1.PodSpec{NodeName: "one"},
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			PodIP:      "10.0.0.1",
			Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue, Message: "ready"}},
			InitContainerStatuses: []corev1.ContainerStatus{
				{Name: "osm-init", Image: "osm"},
				{Name: "envoy", RestartCount: 2, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off"}}},
			},
			ContainerStatuses: []corev1.ContainerStatus{
				{Name: "app", RestartCount: 1},
				{Name: "other", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}},
			},
		},
	}
	read := func(p *corev1.Pod) observe.Pods {
		pods, err := observe.ReadPods(t.Context(), fake.NewClientBuilder().WithObjects(p).Build(), "osm")
		if err != nil {
			t.Fatal(err)
		}
		return pods
	}
	want := read(whole.DeepCopy())
	stripped, err := stripPod(whole)
	if err != nil {
		t.Fatal(err)
	}
	pod, ok := stripped.(*corev1.Pod)
	if !ok || len(pod.Annotations) != 1 || pod.Spec.NodeName != "" || pod.Status.PodIP != "" || len(pod.Status.InitContainerStatuses) != 1 {
		t.Errorf("kept is %+v", stripped)
	}
	if diff := cmp.Diff(want, read(pod)); diff != "" {
		t.Errorf("a stripped pod tells something else (-whole +stripped):\n%s", diff)
	}
}
