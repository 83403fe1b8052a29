package controllers_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/inject"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/release"
)

// TestPodsWithOlderSettingsAreNamed changes settings that pods keep, and those that they
// follow, and makes pods anew.
func TestPodsWithOlderSettingsAreNamed(t *testing.T) {
	ctx, c := start(t)
	if err := c.Create(ctx, newMesh("osm", nil)); err != nil {
		t.Fatal(err)
	}
	var config configv1alpha2.MeshConfig
	var revision operatorv1alpha1.MeshRevision
	eventually(ctx, t, "the MeshConfig is made", func() error {
		if err := c.Get(ctx, client.ObjectKey{Name: plan.RevisionObjectName("osm", release.RevisionName(release.Current))}, &revision); err != nil {
			return err
		}
		return c.Get(ctx, client.ObjectKey{Namespace: "osm-system", Name: operatorv1alpha1.MeshConfigName}, &config)
	})
	// inject makes a pod as the webhook would now.
	injected := func(name string) {
		t.Helper()
		followed, _ := mesh.SettingsFrom(mesh.DefaultSettings("osm", "osm-system", "cluster.local"), config.Spec)
		wide, _ := inject.MeshWideOf(config.Spec, followed.LeafLifetime)
		settings := inject.Config{
			Mesh: "osm", MeshNamespace: "osm-system", Revision: revision.Spec.Revision, ControlPlane: "a.b", ControlPlaneName: "a.b",
			OSMImage: revision.Spec.OSMImage, EnvoyImage: revision.Spec.EnvoyImage,
		}
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web"}}},
		}
		pod, err := inject.Pod(pod, inject.Namespace{Name: "default"}, settings.With(wide), types.UID(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Create(ctx, pod); err != nil {
			t.Fatal(err)
		}
	}
	change := func(f func(*configv1alpha2.MeshConfigSpec)) {
		t.Helper()
		eventually(ctx, t, "the MeshConfig is written", func() error {
			if err := c.Get(ctx, client.ObjectKeyFromObject(&config), &config); err != nil {
				return err
			}
			f(&config.Spec)
			return c.Update(ctx, &config)
		})
	}
	says := func(what, reason, message string) {
		t.Helper()
		eventually(ctx, t, what, func() error {
			var m operatorv1alpha1.Mesh
			if err := c.Get(ctx, client.ObjectKey{Name: "osm"}, &m); err != nil {
				return err
			}
			got := meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionPodsCurrent)
			if got == nil || got.Reason != reason || !strings.Contains(got.Message, message) {
				return fmt.Errorf("the condition is %+v, want %s with %q", got, reason, message)
			}
			return nil
		})
	}
	older := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "silent", Labels: map[string]string{
			operatorv1alpha1.LabelInjectedBy: "osm", operatorv1alpha1.LabelInjectedRevision: revision.Spec.Revision,
		}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web"}}},
	}
	if err := c.Create(ctx, older); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		injected(fmt.Sprint("web-", i))
	}
	says("all are as new ones would be", operatorv1alpha1.ReasonPodsCurrent, "all pods")
	change(func(s *configv1alpha2.MeshConfigSpec) {
		s.Sidecar = &configv1alpha2.SidecarSpec{Resources: &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}}
	})
	says("those that tell are named", operatorv1alpha1.ReasonRestartNeeded,
		"6 of 7 pods keep older settings until they are restarted: default/web-0, default/web-1, default/web-2, default/web-3, default/web-4 and 1 more")
	injected("anew")
	for _, name := range []string{"web-0", "web-2", "web-3", "web-4", "web-5"} {
		if err := c.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}, client.GracePeriodSeconds(0)); err != nil {
			t.Fatal(err)
		}
	}
	says("one is left", operatorv1alpha1.ReasonRestartNeeded, "1 of 3 pods keep older settings until they are restarted: default/web-1")
	change(func(s *configv1alpha2.MeshConfigSpec) { s.Sidecar = nil })
	says("taken back, it is the new one", operatorv1alpha1.ReasonRestartNeeded, "1 of 3 pods keep older settings until they are restarted: default/anew")
	if err := c.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "anew"}}, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	change(func(s *configv1alpha2.MeshConfigSpec) {
		s.Traffic = &configv1alpha2.TrafficSpec{EnableEgress: new(false)}
	})
	says("what is followed needs no restart", operatorv1alpha1.ReasonPodsCurrent, "all pods")
}
