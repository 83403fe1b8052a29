package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

// TestCanaryUpgrade changes, under load, what a running control plane cannot follow: once
// to what no pod can run, which is undone in the first wave, and once to what works. Not
// one request fails.
func TestCanaryUpgrade(t *testing.T) {
	ctx := deadline(t, 10*time.Minute)
	const first, rest, loads = "e2e-up-first", "e2e-up-rest", "e2e-up-loads"
	for _, ns := range []string{first, rest, loads} {
		namespace(ctx, t, ns, true)
	}
	// The loads count in memory: they are not to be restarted.
	must(t, label(ctx, loads, operatorv1alpha1.LabelUpgrade, "disabled"))
	running(ctx, t, append(restartable(first), restartable(rest)...)...)
	t.Cleanup(func() { leaveUpgrade(t) })
	before := revisionOf(ctx, t)

	underLoadFrom(ctx, t, loads, first, func() {
		setMesh(ctx, t, func(m *operatorv1alpha1.Mesh) {
			m.Spec.Upgrade = &operatorv1alpha1.UpgradePolicy{
				Strategy: operatorv1alpha1.UpgradeCanary, SoakSeconds: new(int32(2)), GraceSeconds: new(int32(2)), DeadlineSeconds: 60,
				Waves: []operatorv1alpha1.UpgradeWave{{
					Name: "first", NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: first}},
				}},
			}
			m.Spec.Images = &operatorv1alpha1.Images{Envoy: "docker.io/envoyproxy/envoy:nowhere"}
		})
		m := upgraded(ctx, t, "the upgrade that no pod can run to be undone", operatorv1alpha1.UpgradeFailed)
		if u := m.Status.Upgrade; !strings.Contains(u.Evidence, first+"/") || !strings.Contains(u.Evidence, "Pull") || m.Status.Revision != before {
			t.Errorf("revision %s, evidence %q: want revision %s, and the image that cannot be pulled", m.Status.Revision, u.Evidence, before)
		}
		if c := meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionDegraded); c == nil || c.Reason != "UpgradeFailed" {
			t.Errorf("Degraded is %+v, want reason UpgradeFailed", c)
		}
		if got := templateRevision(ctx, t, rest); got != "" {
			t.Errorf("what is behind the wave that failed was given revision %s", got)
		}
		setMesh(ctx, t, func(m *operatorv1alpha1.Mesh) {
			m.Spec.Images = nil
			m.Spec.WorkloadIdentity = operatorv1alpha1.WorkloadIdentityServiceAccountToken
		})
		m = upgraded(ctx, t, "the upgrade to succeed", operatorv1alpha1.UpgradeRetiring)
		if last := m.Status.History[0]; m.Status.Revision == before || last.To != m.Status.Revision || last.Outcome != operatorv1alpha1.UpgradeSucceeded {
			t.Errorf("revision %s, last in the history %+v: want another than %s, that succeeded", m.Status.Revision, last, before)
		}
		for _, ns := range []string{first, rest} {
			if got := templateRevision(ctx, t, ns); got != m.Status.Revision {
				t.Errorf("the server in %s was given revision %q, want %s", ns, got, m.Status.Revision)
			}
			must(t, shared.Deployment(ctx, ns, "server"))
		}
	})
	// The loads are the last that use the old control plane.
	must(t, shared.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: loads}}))
	upgraded(ctx, t, "the old control plane to go", "")
	var revisions operatorv1alpha1.MeshRevisionList
	must(t, shared.List(ctx, &revisions))
	if len(revisions.Items) != 1 || revisions.Items[0].Spec.Revision == before {
		t.Errorf("control planes: %+v, want the new one alone", revisions.Items)
	}
}

// upgraded waits until an upgrade is in a phase, or has ended.
func upgraded(ctx context.Context, t *testing.T, what string, phase operatorv1alpha1.UpgradePhase) *operatorv1alpha1.Mesh {
	t.Helper()
	m := &operatorv1alpha1.Mesh{}
	must(t, cluster.Until(ctx, what, func(ctx context.Context) (bool, error) {
		if err := shared.Get(ctx, client.ObjectKey{Name: meshName}, m); err != nil {
			return false, err
		}
		u := m.Status.Upgrade
		if u == nil {
			return phase == "", nil
		}
		if u.Phase != phase {
			return false, fmt.Errorf("%s: %s", u.Phase, u.Message)
		}
		return true, nil
	}))
	return m
}

// leaveUpgrade leaves the mesh as it was before the test: changed where it stands.
func leaveUpgrade(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute) //nolint:usetesting // the test's context is done by now
	defer cancel()
	setMesh(ctx, t, func(m *operatorv1alpha1.Mesh) { m.Spec.Upgrade, m.Spec.Images, m.Spec.WorkloadIdentity = nil, nil, "" })
	must(t, cluster.Until(ctx, "the mesh to settle", func(ctx context.Context) (bool, error) {
		var m operatorv1alpha1.Mesh
		if err := shared.Get(ctx, client.ObjectKey{Name: meshName}, &m); err != nil {
			return false, err
		}
		ready := meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionReady)
		return meta.IsStatusConditionFalse(m.Status.Conditions, operatorv1alpha1.ConditionProgressing) &&
			ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == m.Generation, nil
	}))
}

func setMesh(ctx context.Context, t *testing.T, change func(*operatorv1alpha1.Mesh)) {
	t.Helper()
	var m operatorv1alpha1.Mesh
	must(t, shared.Get(ctx, client.ObjectKey{Name: meshName}, &m))
	before := m.DeepCopy()
	change(&m)
	must(t, shared.Patch(ctx, &m, client.MergeFrom(before)))
}

func revisionOf(ctx context.Context, t *testing.T) string {
	t.Helper()
	var m operatorv1alpha1.Mesh
	must(t, shared.Get(ctx, client.ObjectKey{Name: meshName}, &m))
	return m.Status.Revision
}

// templateRevision is the revision that the pods of Deployment server ask for.
func templateRevision(ctx context.Context, t *testing.T, ns string) string {
	t.Helper()
	var d appsv1.Deployment
	must(t, shared.Get(ctx, client.ObjectKey{Namespace: ns, Name: "server"}, &d))
	return d.Spec.Template.Annotations[operatorv1alpha1.AnnotationRevision]
}

// label labels a namespace.
func label(ctx context.Context, ns, key, value string) error {
	var n corev1.Namespace
	if err := shared.Get(ctx, client.ObjectKey{Name: ns}, &n); err != nil {
		return fmt.Errorf("labelling namespace %s: %w", ns, err)
	}
	before := n.DeepCopy()
	metav1.SetMetaDataLabel(&n.ObjectMeta, key, value)
	return shared.Patch(ctx, &n, client.MergeFrom(before))
}
