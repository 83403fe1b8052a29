package controllers_test

import (
	"errors"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/release"
)

// TestPausedMeshIsReportedAndNotWritten pauses a Mesh before it is installed, lets it
// go, and pauses it again while it runs.
func TestPausedMeshIsReportedAndNotWritten(t *testing.T) {
	ctx, c := start(t)
	m := newMesh("osm", func(s *operatorv1alpha1.MeshSpec) { s.Paused = true })
	if err := c.Create(ctx, m); err != nil {
		t.Fatal(err)
	}
	revision := release.RevisionName(release.Current)
	object := &operatorv1alpha1.MeshRevision{ObjectMeta: metav1.ObjectMeta{Name: plan.RevisionObjectName("osm", revision)}}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "osm-system", Name: render.Deployment(revision)}}
	replicas := func(want int32) func() error {
		return func() error {
			if err := c.Get(ctx, client.ObjectKeyFromObject(deployment), deployment); err != nil {
				return err
			}
			if got := *deployment.Spec.Replicas; got != want {
				return fmt.Errorf("%d replicas, want %d", got, want)
			}
			return nil
		}
	}
	pause := func(paused bool, replicas int32) {
		t.Helper()
		patch := fmt.Sprintf(`{"spec":{"paused":%t,"controlPlane":{"replicas":%d}}}`, paused, replicas)
		if err := c.Patch(ctx, m, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
			t.Fatal(err)
		}
	}
	told := condition(ctx, c, "osm", operatorv1alpha1.ConditionProgressing, operatorv1alpha1.ReasonPaused)

	eventually(ctx, t, "the pause is told before anything is installed", told)
	if err := c.Get(ctx, client.ObjectKeyFromObject(object), object); client.IgnoreNotFound(err) != nil || err == nil {
		t.Fatalf("the MeshRevision of a paused Mesh: %v, want none", err)
	}

	pause(false, 2)
	eventually(ctx, t, "installed once it is no longer paused", replicas(2))
	eventually(ctx, t, "followed", condition(ctx, c, "osm", operatorv1alpha1.ConditionReady, operatorv1alpha1.ReasonControlPlaneUnavailable))

	pause(true, 3)
	eventually(ctx, t, "the pause of a mesh that runs is told", told)
	if err := c.Patch(ctx, deployment, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":1}}`))); err != nil {
		t.Fatal(err)
	}
	// The status that speaks of a newer spec of the MeshRevision was written after the
	// operator had looked at the Deployment, and had left it.
	if err := c.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
		t.Fatal(err)
	}
	if object.Spec.Replicas != 2 {
		t.Errorf("the MeshRevision has %d replicas, though its Mesh is paused", object.Spec.Replicas)
	}
	if err := c.Patch(ctx, object, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":4}}`))); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "the revision is looked at", func() error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		if object.Status.ObservedGeneration != object.Generation {
			return errors.New("not yet")
		}
		return nil
	})
	if err := replicas(1)(); err != nil {
		t.Errorf("a paused Mesh had its Deployment written: %v", err)
	}
	if object.Spec.Replicas != 4 {
		t.Errorf("a paused Mesh had its MeshRevision put back to %d replicas", object.Spec.Replicas)
	}

	pause(false, 3)
	eventually(ctx, t, "what changed meanwhile is followed", replicas(3))
}
