package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/observe"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/release"
	"github.com/openservicemesh/osm-operator/internal/status"
)

// nodes stand for what is not here: the controller manager, the kubelet, the webhook and
// the control planes. Deployments are rolled out as soon as they are looked at, their pods
// are replaced where their revision is another, and each pod has a proxy that reports.
type nodes struct {
	client client.Client

	mu sync.Mutex
	// Protected by mu.
	proxies map[string]map[string]observe.Proxy // by revision, by pod UID
	broken  bool                                // proxies of any revision but the first reject
	moved   []string                            // the workloads whose pods were replaced, in order
}

func (*nodes) Read(_, _ string, _ []observe.Replica) status.Proxies {
	return status.Proxies{Known: true}
}
func (*nodes) Forget(string) {}

func (n *nodes) Proxies(_, revision string) (map[string]observe.Proxy, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.proxies[revision]), true
}

func (n *nodes) order() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.moved)
}

// run plays until ctx is done.
func (n *nodes) run(ctx context.Context, t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := n.turn(ctx); err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				t.Errorf("playing the nodes: %v", err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func (n *nodes) turn(ctx context.Context) error {
	var m operatorv1alpha1.Mesh
	if err := n.client.Get(ctx, client.ObjectKey{Name: "osm"}, &m); err != nil {
		return client.IgnoreNotFound(err)
	}
	var deployments appsv1.DeploymentList
	if err := n.client.List(ctx, &deployments); err != nil {
		return err
	}
	for i := range deployments.Items {
		d := &deployments.Items[i]
		if d.Namespace != "osm-system" && m.Status.Revision != "" {
			asked := d.Spec.Template.Annotations[operatorv1alpha1.AnnotationRevision]
			if asked == "" {
				asked = m.Status.Revision
			}
			if err := n.pod(ctx, d, asked); err != nil {
				return err
			}
		}
		if err := n.rolledOut(ctx, d); err != nil {
			return err
		}
	}
	return n.report(ctx)
}

func (n *nodes) rolledOut(ctx context.Context, d *appsv1.Deployment) error {
	before, s := d.DeepCopy(), &d.Status
	s.ObservedGeneration, s.Replicas = d.Generation, *d.Spec.Replicas
	s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas = s.Replicas, s.Replicas, s.Replicas
	if before.Status.ObservedGeneration == s.ObservedGeneration && before.Status.AvailableReplicas == s.AvailableReplicas {
		return nil
	}
	return n.client.Status().Patch(ctx, d, client.MergeFrom(before))
}

// pod makes the one pod of a Deployment have a revision.
func (n *nodes) pod(ctx context.Context, d *appsv1.Deployment, revision string) error {
	var pods corev1.PodList
	if err := n.client.List(ctx, &pods, client.InNamespace(d.Namespace), client.MatchingLabels{"app": d.Name}); err != nil {
		return err
	}
	found := false
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.Labels[operatorv1alpha1.LabelInjectedRevision] == revision {
			found = true
			continue
		}
		if err := n.client.Delete(ctx, p, client.GracePeriodSeconds(0)); err != nil {
			return err
		}
		n.mu.Lock()
		n.moved = append(n.moved, d.Namespace+"/"+d.Name)
		n.mu.Unlock()
	}
	if found {
		return nil
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.Namespace, GenerateName: d.Name + "-",
			Labels: map[string]string{
				"app": d.Name, appsv1.DefaultDeploymentUniqueLabelKey: "5d8f",
				operatorv1alpha1.LabelInjectedBy: "osm", operatorv1alpha1.LabelInjectedRevision: revision,
			},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: d.Name + "-5d8f", UID: "1", Controller: new(true)}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	if err := n.client.Create(ctx, pod); err != nil {
		return err
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	return n.client.Status().Update(ctx, pod)
}

func (n *nodes) report(ctx context.Context) error {
	var pods corev1.PodList
	if err := n.client.List(ctx, &pods, client.MatchingLabels{operatorv1alpha1.LabelInjectedBy: "osm"}); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proxies = map[string]map[string]observe.Proxy{}
	for i := range pods.Items {
		revision := pods.Items[i].Labels[operatorv1alpha1.LabelInjectedRevision]
		if n.proxies[revision] == nil {
			n.proxies[revision] = map[string]observe.Proxy{}
		}
		proxy := observe.Proxy{Synced: true}
		if n.broken && revision != release.RevisionName(release.Current) {
			proxy = observe.Proxy{Rejected: "rejected a listener: no such filter"}
		}
		n.proxies[revision][string(pods.Items[i].UID)] = proxy
	}
	return nil
}

// meshed makes a namespace of the mesh with Deployments of one pod. Its label keeps the
// webhook away, which nobody serves here.
func meshed(ctx context.Context, t *testing.T, c client.Client, namespace string, names ...string) {
	t.Helper()
	objects := []client.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: namespace, Labels: map[string]string{operatorv1alpha1.LabelMonitoredBy: "osm", "control-plane": "none", "tier": namespace},
	}}}
	for _, name := range names {
		labels := map[string]string{"app": name}
		objects = append(objects, &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec: appsv1.DeploymentSpec{
				Replicas: new(int32(1)), Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: labels},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
				},
			},
		})
	}
	for _, o := range objects {
		if err := c.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
}

// upgradable makes a Mesh that upgrades in three waves, and seven workloads of it.
func upgradable(ctx context.Context, t *testing.T, c client.Client) *nodes {
	t.Helper()
	meshed(ctx, t, c, "canary", "one")
	meshed(ctx, t, c, "shop", "a", "b", "c", "d")
	meshed(ctx, t, c, "bank", "x", "y")
	err := c.Create(ctx, newMesh("osm", func(s *operatorv1alpha1.MeshSpec) {
		s.Upgrade = &operatorv1alpha1.UpgradePolicy{
			Strategy: operatorv1alpha1.UpgradeCanary, SoakSeconds: new(int32(1)), GraceSeconds: new(int32(1)), ConnectSeconds: 30, MaxUnavailable: 2,
			Waves: []operatorv1alpha1.UpgradeWave{
				{Name: "canary", NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "canary"}}},
				{Name: "shop", NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "shop"}}},
			},
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	n := &nodes{client: c}
	n.run(ctx, t)
	return n
}

// edit changes the image of the Mesh's sidecars, which no running control plane follows.
func edit(ctx context.Context, t *testing.T, c client.Client, envoy string) {
	t.Helper()
	m := newMesh("osm", nil)
	patch := fmt.Sprintf(`{"spec":{"images":{"envoy":%q}}}`, envoy)
	if envoy == "" {
		patch = `{"spec":{"images":null}}`
	}
	if err := c.Patch(ctx, m, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		t.Fatal(err)
	}
}

// all says that all workloads have pods of one revision.
func all(ctx context.Context, c client.Client, revision string) func() error {
	return func() error {
		var pods corev1.PodList
		if err := c.List(ctx, &pods, client.MatchingLabels{operatorv1alpha1.LabelInjectedBy: "osm"}); err != nil {
			return err
		}
		n := 0
		for i := range pods.Items {
			if got := pods.Items[i].Labels[operatorv1alpha1.LabelInjectedRevision]; got != revision {
				return fmt.Errorf("pod %s has revision %s, want %s", pods.Items[i].Name, got, revision)
			}
			n++
		}
		if n != 7 {
			return fmt.Errorf("%d pods, want 7", n)
		}
		return nil
	}
}

// atRest says that nothing of an upgrade is left but its result.
func atRest(ctx context.Context, c client.Client, want func(current string) error) func() error {
	return func() error {
		var m operatorv1alpha1.Mesh
		if err := c.Get(ctx, client.ObjectKey{Name: "osm"}, &m); err != nil {
			return err
		}
		if m.Status.Upgrade != nil {
			return fmt.Errorf("the upgrade is at %s: %s", m.Status.Upgrade.Phase, m.Status.Upgrade.Message)
		}
		var revisions operatorv1alpha1.MeshRevisionList
		var bindings rbacv1.RoleBindingList
		if err := errors.Join(c.List(ctx, &revisions), c.List(ctx, &bindings)); err != nil {
			return err
		}
		if len(revisions.Items) != 1 || revisions.Items[0].Spec.Revision != m.Status.Revision {
			return fmt.Errorf("%d MeshRevisions, current is %s", len(revisions.Items), m.Status.Revision)
		}
		for _, b := range bindings.Items {
			if b.Name == render.WorkloadsBinding("osm") {
				return fmt.Errorf("the right to restart workloads of %s is there still", b.Namespace)
			}
		}
		return want(m.Status.Revision)
	}
}

func installed(ctx context.Context, t *testing.T, c client.Client) (revision string) {
	t.Helper()
	revision = release.RevisionName(release.Current)
	eventually(ctx, t, "the mesh is installed", condition(ctx, c, "osm", operatorv1alpha1.ConditionReady, operatorv1alpha1.ReasonAllReady))
	eventually(ctx, t, "all workloads run", all(ctx, c, revision))
	return revision
}

// upgraded says that the Mesh ended at another revision, and that everything followed.
func upgraded(ctx context.Context, c client.Client, from string) func(string) error {
	return func(current string) error {
		if current == from {
			return fmt.Errorf("current is %s still", current)
		}
		var injector corev1.Service
		if err := c.Get(ctx, client.ObjectKey{Namespace: "osm-system", Name: render.InjectorService}, &injector); err != nil {
			return err
		}
		if got := injector.Spec.Selector[operatorv1alpha1.LabelRevision]; got != current {
			return fmt.Errorf("new pods are injected by %s, want %s", got, current)
		}
		return all(ctx, c, current)()
	}
}

func TestUpgradeInWaves(t *testing.T) {
	ctx, c, config := serve(t)
	n := upgradable(ctx, t, c)
	run(ctx, t, config, c.Scheme(), n)
	before := installed(ctx, t, c)

	edit(ctx, t, c, "envoy:next")
	eventually(ctx, t, "at rest with the next", atRest(ctx, c, upgraded(ctx, c, before)))
	order := n.order()
	if len(order) != 7 || order[0] != "canary/one" || slices.ContainsFunc(order[:5], func(w string) bool { return strings.HasPrefix(w, "bank/") }) {
		t.Errorf("workloads moved in the order %q, want canary, shop and bank", order)
	}
	var m operatorv1alpha1.Mesh
	if err := c.Get(ctx, client.ObjectKey{Name: "osm"}, &m); err != nil {
		t.Fatal(err)
	}
	if h := m.Status.History; len(h) != 1 || h[0].Outcome != operatorv1alpha1.UpgradeSucceeded || h[0].From != before || h[0].To != m.Status.Revision {
		t.Errorf("history is %+v", h)
	}

	t.Run("a size is followed where it stands", func(t *testing.T) {
		if err := c.Patch(ctx, &m, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"controlPlane":{"replicas":3}}}`))); err != nil {
			t.Fatal(err)
		}
		eventually(ctx, t, "three replicas", func() error {
			var d appsv1.Deployment
			if err := c.Get(ctx, client.ObjectKey{Namespace: "osm-system", Name: render.Deployment(m.Status.Revision)}, &d); err != nil {
				return err
			}
			if *d.Spec.Replicas != 3 {
				return fmt.Errorf("%d replicas", *d.Spec.Replicas)
			}
			return atRest(ctx, c, func(string) error { return nil })()
		})
		if got := len(n.order()); got != 7 {
			t.Errorf("%d workloads were restarted for it", got-7)
		}
	})
	t.Run("editing it back goes back by the same way", func(t *testing.T) {
		after := m.Status.Revision
		edit(ctx, t, c, "")
		eventually(ctx, t, "at rest with the first", atRest(ctx, c, upgraded(ctx, c, after)))
	})
}

func TestUpgradeThatFailsIsUndone(t *testing.T) {
	ctx, c, config := serve(t)
	n := upgradable(ctx, t, c)
	run(ctx, t, config, c.Scheme(), n)
	before := installed(ctx, t, c)
	n.mu.Lock()
	n.broken = true
	n.mu.Unlock()

	edit(ctx, t, c, "envoy:broken")
	eventually(ctx, t, "it is told", condition(ctx, c, "osm", operatorv1alpha1.ConditionDegraded, operatorv1alpha1.ReasonUpgradeFailed))
	eventually(ctx, t, "moved back", all(ctx, c, before))
	var m operatorv1alpha1.Mesh
	eventually(ctx, t, "given up", func() error {
		if err := c.Get(ctx, client.ObjectKey{Name: "osm"}, &m); err != nil {
			return err
		}
		if u := m.Status.Upgrade; u == nil || u.Phase != operatorv1alpha1.UpgradeFailed || !strings.Contains(u.Evidence, "no such filter") {
			return fmt.Errorf("the upgrade is %+v", u)
		}
		return nil
	})
	if ready := meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionReady); ready.Status != metav1.ConditionTrue {
		t.Errorf("the mesh is not ready though the old control plane serves: %+v", ready)
	}
	if m.Status.Revision != before || len(m.Status.History) != 1 || m.Status.History[0].Outcome != operatorv1alpha1.UpgradeUndone {
		t.Errorf("status is %+v", m.Status)
	}
	if got := slices.Compact(n.order()); !slices.Equal(got, []string{"canary/one"}) {
		t.Errorf("workloads %q were restarted, want those of the first wave alone", got)
	}
	var revisions operatorv1alpha1.MeshRevisionList
	if err := c.List(ctx, &revisions); err != nil || len(revisions.Items) != 2 {
		t.Errorf("%d MeshRevisions are kept, want both: %v", len(revisions.Items), err)
	}

	t.Run("once the spec has changed it is tried again", func(t *testing.T) {
		n.mu.Lock()
		n.broken = false
		n.mu.Unlock()
		edit(ctx, t, c, "envoy:mended")
		eventually(ctx, t, "at rest with the mended", atRest(ctx, c, upgraded(ctx, c, before)))
	})
}

func TestUpgradeRolledBackByHandHalfway(t *testing.T) {
	ctx, c, config := serve(t)
	n := upgradable(ctx, t, c)
	run(ctx, t, config, c.Scheme(), n)
	before := installed(ctx, t, c)
	edit(ctx, t, c, "envoy:next")
	eventually(ctx, t, "the second wave moves", func() error {
		if len(n.order()) < 3 {
			return fmt.Errorf("moved are %q", n.order())
		}
		return nil
	})
	edit(ctx, t, c, "")
	eventually(ctx, t, "at rest with the first", atRest(ctx, c, func(string) error { return all(ctx, c, before)() }))
	var m operatorv1alpha1.Mesh
	if err := c.Get(ctx, client.ObjectKey{Name: "osm"}, &m); err != nil {
		t.Fatal(err)
	}
	if h := m.Status.History; len(h) != 1 || h[0].Outcome != operatorv1alpha1.UpgradeRolledBack {
		t.Errorf("history is %+v", h)
	}
	if slices.ContainsFunc(n.order(), func(w string) bool { return strings.HasPrefix(w, "bank/") }) {
		t.Errorf("workloads %q were restarted, want none of the last wave", n.order())
	}
}

// TestOperatorStopsAtEachPhase stops the operator whenever the upgrade comes to another
// phase, and starts one that knows nothing but what is in the cluster.
func TestOperatorStopsAtEachPhase(t *testing.T) {
	ctx, c, config := serve(t)
	n := upgradable(ctx, t, c)
	stop := run(ctx, t, config, c.Scheme(), n)
	before := installed(ctx, t, c)
	edit(ctx, t, c, "envoy:next")
	seen := map[string]bool{}
	eventually(ctx, t, "at rest with the next", func() error {
		var m operatorv1alpha1.Mesh
		if err := c.Get(ctx, client.ObjectKey{Name: "osm"}, &m); err != nil {
			return err
		}
		if u := m.Status.Upgrade; u != nil && !seen[fmt.Sprint(u.Phase, u.Wave)] {
			seen[fmt.Sprint(u.Phase, u.Wave)] = true
			stop()
			stop = run(ctx, t, config, c.Scheme(), n)
		}
		return atRest(ctx, c, upgraded(ctx, c, before))()
	})
	if len(seen) < 6 {
		t.Errorf("only %d phases were seen: %v", len(seen), seen)
	}
	if order := n.order(); len(order) != 7 {
		t.Errorf("workloads were restarted %d times, want 7: %q", len(order), order)
	}
}
