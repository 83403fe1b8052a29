package e2e

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

// TestDriftIsRepaired deletes and edits what the operator owns, while requests flow:
// each comes back within seconds, an event says so, and no request fails.
func TestDriftIsRepaired(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	const ns = "e2e-drift"
	namespace(ctx, t, ns, true)
	running(ctx, t, echoes(ns)...)
	name := controlPlaneName(ctx, t)
	in := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name}
	}
	deleted := map[string]client.Object{
		"the webhook for pods":       &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: in("", "osm-webhook-"+meshName)},
		"the webhook for policies":   &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: in("", "osm-validator-mesh-"+meshName)},
		"the MeshConfig":             &configv1alpha2.MeshConfig{ObjectMeta: in(meshNamespace, operatorv1alpha1.MeshConfigName)},
		"the Service":                &corev1.Service{ObjectMeta: in(meshNamespace, name)},
		"the budget":                 &policyv1.PodDisruptionBudget{ObjectMeta: in(meshNamespace, name)},
		"the control plane's rights": &rbacv1.ClusterRoleBinding{ObjectMeta: in("", "osm-controller-"+meshName)},
		"the roots":                  &corev1.ConfigMap{ObjectMeta: in(meshNamespace, operatorv1alpha1.TrustBundleConfigMap)},
		"the MeshRevision":           &operatorv1alpha1.MeshRevision{ObjectMeta: in("", meshName+"-"+strings.TrimPrefix(name, "osm-controller-"))},
		"the Deployment":             &appsv1.Deployment{ObjectMeta: in(meshNamespace, name)},
	}
	underLoad(ctx, t, ns, func() {
		for what, object := range deleted {
			t.Run("deleted: "+what, func(t *testing.T) { deletedComesBack(ctx, t, object) })
		}
		t.Run("edited: the webhook for pods", func(t *testing.T) {
			hook := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: in("", "osm-webhook-"+meshName)}
			must(t, shared.Get(ctx, client.ObjectKeyFromObject(hook), hook))
			before := hook.DeepCopy()
			hook.Webhooks[0].FailurePolicy = new(admissionregistrationv1.Ignore)
			must(t, shared.Patch(ctx, hook, client.MergeFrom(before)))
			must(t, cluster.Until(ctx, "the field to be put back", func(ctx context.Context) (bool, error) {
				err := shared.Get(ctx, client.ObjectKeyFromObject(hook), hook)
				return err == nil && *hook.Webhooks[0].FailurePolicy == admissionregistrationv1.Fail, err
			}))
		})
		t.Run("edited: the label of the root", func(t *testing.T) {
			root := &corev1.Secret{ObjectMeta: in("osm-operator-system", "osm-root-"+meshName)}
			must(t, shared.Get(ctx, client.ObjectKeyFromObject(root), root))
			before := root.DeepCopy()
			delete(root.Labels, operatorv1alpha1.LabelMesh)
			must(t, shared.Patch(ctx, root, client.MergeFrom(before)))
			must(t, cluster.Until(ctx, "the label to be put back", func(ctx context.Context) (bool, error) {
				err := shared.Get(ctx, client.ObjectKeyFromObject(root), root)
				return err == nil && root.Labels[operatorv1alpha1.LabelMesh] == meshName, err
			}))
			if !bytes.Equal(before.Data[corev1.TLSCertKey], root.Data[corev1.TLSCertKey]) {
				t.Error("the root is another")
			}
		})
		must(t, shared.Deployment(ctx, meshNamespace, name))
	})
	must(t, cluster.Until(ctx, "events that tell of the repairs", func(ctx context.Context) (bool, error) {
		var events corev1.EventList
		if err := shared.List(ctx, &events); err != nil {
			return false, err
		}
		reasons := map[string]bool{}
		for _, e := range events.Items {
			if e.InvolvedObject.Kind == "Mesh" || e.InvolvedObject.Kind == "MeshRevision" {
				reasons[e.Reason] = true
			}
		}
		if !reasons["Recreated"] || !reasons["Repaired"] {
			return false, fmt.Errorf("reasons %v", reasons)
		}
		return true, nil
	}))
}

// deletedComesBack deletes an object and waits for another one of its name.
func deletedComesBack(ctx context.Context, t *testing.T, object client.Object) {
	t.Helper()
	key := client.ObjectKeyFromObject(object)
	bound, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	// What was deleted before may have taken this one with it.
	must(t, cluster.Until(bound, key.String()+" to be there", func(ctx context.Context) (bool, error) {
		err := shared.Get(ctx, key, object)
		return err == nil && object.GetDeletionTimestamp() == nil, err
	}))
	uid := object.GetUID()
	must(t, client.IgnoreNotFound(shared.Delete(ctx, object, client.PropagationPolicy(metav1.DeletePropagationBackground))))
	must(t, cluster.Until(bound, key.String()+" to be made again", func(ctx context.Context) (bool, error) {
		err := shared.Get(ctx, key, object)
		return err == nil && object.GetUID() != uid, client.IgnoreNotFound(err)
	}))
}

// TestMeshesThatAreRefused writes Meshes that cannot be followed: the answer says what to do.
func TestMeshesThatAreRefused(t *testing.T) {
	ctx := deadline(t, 2*time.Minute)
	other := func(change func(*operatorv1alpha1.Mesh)) *operatorv1alpha1.Mesh {
		m := &operatorv1alpha1.Mesh{ObjectMeta: metav1.ObjectMeta{Name: "e2e-other"}, Spec: operatorv1alpha1.MeshSpec{Namespace: "e2e-other-system"}}
		change(m)
		return m
	}
	for name, tc := range map[string]struct {
		mesh *operatorv1alpha1.Mesh
		want string
	}{
		"a version that the operator cannot install": {other(func(m *operatorv1alpha1.Mesh) { m.Spec.Version = "v9.9.9" }), "v9.9.9"},
		"a version that is none":                     {other(func(m *operatorv1alpha1.Mesh) { m.Spec.Version = "newest" }), "spec.version"},
		"a namespace that another Mesh holds":        {other(func(m *operatorv1alpha1.Mesh) { m.Spec.Namespace = meshNamespace }), "is held by"},
		"a namespace of Kubernetes":                  {other(func(m *operatorv1alpha1.Mesh) { m.Spec.Namespace = "kube-system" }), "a namespace of the mesh's own"},
		"a word that is no policy":                   {other(func(m *operatorv1alpha1.Mesh) { m.Spec.DeletionPolicy = "Whenever" }), "Orphan"},
		"a name that is too long":                    {other(func(m *operatorv1alpha1.Mesh) { m.Name = strings.Repeat("m", 41) }), "at most 40"},
	} {
		t.Run(name, func(t *testing.T) {
			err := shared.Create(ctx, tc.mesh)
			if err == nil {
				must(t, shared.Delete(ctx, tc.mesh))
				t.Fatal("it was taken")
			}
			if !strings.Contains(err.Error(), tc.want) || !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
				t.Errorf("refused with %v, want a refusal that says %q", err, tc.want)
			}
		})
	}
	t.Run("another namespace for a Mesh that has one", func(t *testing.T) {
		var m operatorv1alpha1.Mesh
		must(t, shared.Get(ctx, client.ObjectKey{Name: meshName}, &m))
		before := m.DeepCopy()
		m.Spec.Namespace = "e2e-other-system"
		if err := shared.Patch(ctx, &m, client.MergeFrom(before)); err == nil || !strings.Contains(err.Error(), "spec.namespace cannot be changed") {
			t.Errorf("answered %v", err)
		}
	})
}

// TestOperatorRestartsUnderLoad kills the operator: traffic does not need it, and the next
// one takes over.
func TestOperatorRestartsUnderLoad(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	const ns = "e2e-operator"
	namespace(ctx, t, ns, true)
	running(ctx, t, echoes(ns)...)
	underLoad(ctx, t, ns, func() {
		must(t, shared.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace("osm-operator-system"), client.GracePeriodSeconds(0)))
		must(t, shared.Deployment(ctx, "osm-operator-system", "osm-operator"))
		// The new leader acts.
		deletedComesBack(ctx, t, &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "osm-webhook-" + meshName}})
	})
}

// TestDeletionIsHeld has a second Mesh beside the first, and deletes it while a pod has
// its sidecar: the deletion waits and says for which pod, requests go on, and once the
// pod is gone nothing of that Mesh is left.
func TestDeletionIsHeld(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	const name, ns = "e2e-second", "e2e-held"
	m := &operatorv1alpha1.Mesh{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: operatorv1alpha1.MeshSpec{
		Namespace: "e2e-second-system", ControlPlane: &operatorv1alpha1.ControlPlane{Replicas: 1},
	}}
	must(t, client.IgnoreAlreadyExists(shared.Create(ctx, m)))
	t.Cleanup(func() { removeMesh(t, name) })
	must(t, cluster.Until(ctx, "the second mesh to be ready", func(ctx context.Context) (bool, error) {
		err := shared.Get(ctx, client.ObjectKeyFromObject(m), m)
		return err == nil && meta.IsStatusConditionTrue(m.Status.Conditions, operatorv1alpha1.ConditionReady), err
	}))
	namespace(ctx, t, ns, false)
	_, err := osm("namespace", "add", ns, "--mesh-name", name)
	must(t, err)
	caller, server := idle(ns, "caller"), workload{namespace: ns, name: "server", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}}
	running(ctx, t, caller, server)
	target := "http://server." + ns + ":8080/"
	allServed(t, "before the deletion", call(ctx, t, podOf(ctx, t, caller), 20, "-target", target))

	must(t, shared.Delete(ctx, m))
	must(t, cluster.Until(ctx, "the deletion to be held for two pods", func(ctx context.Context) (bool, error) {
		err := shared.Get(ctx, client.ObjectKeyFromObject(m), m)
		return err == nil && m.Status.Deletion != nil && m.Status.Deletion.BlockingPods == 2, err
	}))
	if pods := strings.Join(m.Status.Deletion.Pods, " "); !strings.Contains(pods, ns+"/caller-") || !strings.Contains(pods, ns+"/server-") {
		t.Errorf("the deletion is held by %q", pods)
	}
	if ready := meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionReady); ready == nil || ready.Reason != operatorv1alpha1.ReasonWaitingForWorkloads {
		t.Errorf("Ready is %+v", ready)
	}
	allServed(t, "while the deletion is held", call(ctx, t, podOf(ctx, t, caller), 50, "-target", target))

	must(t, shared.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}))
	must(t, cluster.Until(ctx, "nothing of the second mesh to be left", func(ctx context.Context) (bool, error) {
		for _, left := range []client.Object{
			&operatorv1alpha1.Mesh{ObjectMeta: metav1.ObjectMeta{Name: name}},
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "e2e-second-system"}},
			&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "osm-webhook-" + name}},
			&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "osm-validator-mesh-" + name}},
			&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "osm-controller-" + name}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "osm-operator-system", Name: "osm-root-" + name}},
		} {
			if err := shared.Get(ctx, client.ObjectKeyFromObject(left), left); !apierrors.IsNotFound(err) {
				return false, fmt.Errorf("%T %s: %w", left, left.GetName(), err)
			}
		}
		return true, nil
	}))
}

// removeMesh deletes a Mesh of a test, if it is still there, without waiting for pods.
func removeMesh(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:usetesting // the test's context is done by now
	defer cancel()
	m := &operatorv1alpha1.Mesh{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := shared.Get(ctx, client.ObjectKeyFromObject(m), m); err != nil {
		must(t, client.IgnoreNotFound(err))
		return
	}
	before := m.DeepCopy()
	m.Spec.DeletionPolicy = operatorv1alpha1.DeletionOrphan
	must(t, client.IgnoreNotFound(shared.Patch(ctx, m, client.MergeFrom(before))))
	must(t, client.IgnoreNotFound(shared.Delete(ctx, m)))
}
