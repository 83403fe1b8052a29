package inject_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openservicemesh/osm-operator/internal/inject"
)

// TestMetricsKnowTheWorkload holds what the sidecar's metrics call the workload of a pod.
func TestMetricsKnowTheWorkload(t *testing.T) {
	t.Parallel()
	made := func(kind, name string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{
				{Kind: "Watcher", Name: "looks-on"}, {Kind: kind, Name: name, Controller: new(true)},
			}
		}
	}
	for name, tc := range map[string]struct {
		change     func(*corev1.Pod)
		kind, want string
	}{
		"a Deployment's pod": {func(p *corev1.Pod) {
			made("ReplicaSet", "web-v1-7d9f8c")(p)
			p.Labels = map[string]string{"pod-template-hash": "7d9f8c"}
		}, "Deployment", "web-v1"},
		"a ReplicaSet's own pod":     {made("ReplicaSet", "web-v1"), "ReplicaSet", "web-v1"},
		"a StatefulSet's pod":        {made("StatefulSet", "db"), "StatefulSet", "db"},
		"a Job's pod":                {made("Job", "nightly-1"), "Job", "nightly-1"},
		"a pod that nothing made":    {nil, "Pod", "$(POD_NAME)"},
		"a pod that is only watched": {func(p *corev1.Pod) { p.OwnerReferences = []metav1.OwnerReference{{Kind: "Watcher", Name: "x"}} }, "Pod", "$(POD_NAME)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := inject.Pod(pod(tc.change), namespace(), config(), "uuid-1")
			if err != nil {
				t.Fatal(err)
			}
			env, before := map[string]string{}, false
			for _, c := range got.Spec.InitContainers {
				for _, e := range c.Env {
					// A value refers to variables that come before it only.
					before = before || e.Name == "POD_NAME" && env["POD_CONTROLLER_NAME"] == ""
					env[e.Name] = e.Value
				}
			}
			if env["POD_CONTROLLER_KIND"] != tc.kind || env["POD_CONTROLLER_NAME"] != tc.want || !before {
				t.Errorf("metrics know %s %s, want %s %s", env["POD_CONTROLLER_KIND"], env["POD_CONTROLLER_NAME"], tc.kind, tc.want)
			}
		})
	}
}
