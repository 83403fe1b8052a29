package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

// TestWorkloadIdentityChanges changes, under load, where pods get their certificates
// from, and back: pods of both kinds call each other meanwhile, and nothing fails.
func TestWorkloadIdentityChanges(t *testing.T) {
	ctx := deadline(t, 8*time.Minute)
	const ns = "e2e-identity"
	namespace(ctx, t, ns, true)
	servers := restartable(ns)
	running(ctx, t, servers...)
	byToken := func(ctx context.Context) bool {
		pods, err := shared.Pods(ctx, ns, "server")
		must(t, err)
		// Pods that are on their way out are of the time before.
		return slices.ContainsFunc(pods, func(pod corev1.Pod) bool {
			return pod.DeletionTimestamp == nil &&
				slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == "osm-identity" })
		})
	}
	if byToken(ctx) {
		t.Fatal("pods prove themselves with tokens though the cluster has pod certificates")
	}
	t.Cleanup(func() { leaveIdentity(t) })
	underLoad(ctx, t, ns, func() {
		useIdentity(ctx, t, operatorv1alpha1.WorkloadIdentityServiceAccountToken)
		for _, w := range servers {
			restart(ctx, t, w.namespace, w.name)
		}
		if !byToken(ctx) {
			t.Error("new pods do not prove themselves with tokens")
		}
		useIdentity(ctx, t, operatorv1alpha1.WorkloadIdentityPodCertificate)
		restart(ctx, t, ns, "server")
		if byToken(ctx) {
			t.Error("new pods still prove themselves with tokens")
		}
	})
}

// leaveIdentity leaves to the mesh what the test decided.
func leaveIdentity(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) //nolint:usetesting // the test's context is done by now
	defer cancel()
	useIdentity(ctx, t, "")
}

// useIdentity sets spec.workloadIdentity, and waits until the mesh follows.
func useIdentity(ctx context.Context, t *testing.T, wanted operatorv1alpha1.WorkloadIdentity) {
	t.Helper()
	var m operatorv1alpha1.Mesh
	must(t, shared.Get(ctx, client.ObjectKey{Name: meshName}, &m))
	before := m.DeepCopy()
	m.Spec.WorkloadIdentity = wanted
	must(t, shared.Patch(ctx, &m, client.MergeFrom(before)))
	must(t, cluster.Until(ctx, "the mesh to follow spec.workloadIdentity", func(ctx context.Context) (bool, error) {
		if err := shared.Get(ctx, client.ObjectKey{Name: meshName}, &m); err != nil {
			return false, err
		}
		ready := meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionReady)
		settled := meta.IsStatusConditionFalse(m.Status.Conditions, operatorv1alpha1.ConditionProgressing)
		return settled && ready != nil && ready.ObservedGeneration == m.Generation &&
			(wanted == "" || m.Status.WorkloadIdentity == wanted), nil
	}))
}
