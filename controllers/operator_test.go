// Package controllers_test runs the reconcilers of the operator together, against a real
// API server.
package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/controllers/mesh"
	"github.com/openservicemesh/osm-operator/controllers/revision"
	"github.com/openservicemesh/osm-operator/controllers/trust"
	"github.com/openservicemesh/osm-operator/internal/observe"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/release"
	"github.com/openservicemesh/osm-operator/internal/status"
	"github.com/openservicemesh/osm-operator/internal/testkit/apiserver"
)

const operatorNamespace = "osm-operator-system"

// noReports stands for control planes that nobody can read, since none runs here.
type noReports struct{}

func (noReports) Read(_, _ string, replicas []observe.Replica) status.Proxies {
	return status.Proxies{Known: len(replicas) == 0}
}
func (noReports) Forget(string)                                           {}
func (noReports) Proxies(string, string) (map[string]observe.Proxy, bool) { return nil, false }

// start runs the operator's reconcilers against a real API server. There is no
// kubelet and no controller manager: pods never run, and nothing is garbage collected.
func start(t *testing.T) (context.Context, client.Client) {
	t.Helper()
	ctx, c, config := serve(t)
	run(ctx, t, config, c.Scheme(), noReports{})
	return ctx, c
}

// reports stand for what control planes tell of their proxies.
type reports interface {
	revision.Reports
	mesh.Reports
}

// serve runs an API server for the operator.
func serve(t *testing.T) (context.Context, client.Client, *rest.Config) {
	t.Helper()
	config := apiserver.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, operatorv1alpha1.AddToScheme, configv1alpha2.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}); err != nil {
		t.Fatal(err)
	}
	return ctx, c, config
}

// run runs an operator until the test ends, or it is stopped.
func run(ctx context.Context, t *testing.T, config *rest.Config, scheme *runtime.Scheme, told reports) (stop func()) {
	t.Helper()
	return runCounted(ctx, t, config, scheme, told, &trust.Expiry{}, prometheus.NewRegistry())
}

// runCounted is run, with what is told of certificates and of repairs as metrics.
func runCounted(ctx context.Context, t *testing.T, config *rest.Config, scheme *runtime.Scheme, told reports, expiry *trust.Expiry, registry *prometheus.Registry) (stop func()) {
	t.Helper()
	repairs, err := mesh.NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	mgr, err := ctrl.NewManager(config, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)}, // each test has a manager
		Client:     client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	catalogue, recorder := release.NewCatalogue(nil), mgr.GetEventRecorder("test")
	err = errors.Join(
		trust.New(trust.Options{
			Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), Recorder: recorder, Namespace: operatorNamespace, ServiceAccount: "osm-operator", Catalogue: catalogue, Expiry: expiry, Now: time.Now,
		}).SetupWithManager(mgr),
		revision.New(revision.Options{
			Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), Recorder: recorder, Reports: told,
		}).SetupWithManager(mgr, make(chan event.GenericEvent)),
		mesh.New(mesh.Options{
			Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), Recorder: recorder, Catalogue: catalogue,
			Namespace: operatorNamespace, ServiceAccount: "osm-operator", Reports: told, Metrics: repairs, Now: time.Now,
		}).SetupWithManager(mgr),
	)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the manager ended: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// eventually fails the test if check does not become true.
func eventually(ctx context.Context, t *testing.T, what string, check func() error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		last = check()
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, last)
	}
}

func newMesh(name string, change func(*operatorv1alpha1.MeshSpec)) *operatorv1alpha1.Mesh {
	m := &operatorv1alpha1.Mesh{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if change != nil {
		change(&m.Spec)
	}
	return m
}

func condition(ctx context.Context, c client.Client, name, kind, reason string) func() error {
	return func() error {
		var m operatorv1alpha1.Mesh
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &m); err != nil {
			return err
		}
		got := meta.FindStatusCondition(m.Status.Conditions, kind)
		if got == nil || got.Reason != reason || got.ObservedGeneration != m.Generation {
			return fmt.Errorf("%s is %+v, want reason %s", kind, got, reason)
		}
		return nil
	}
}

// owned are objects of every kind that a Mesh makes.
func owned() map[string]client.Object {
	const ns = "osm-system"
	at := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: ns, Name: name} }
	revision := release.RevisionName(release.Current)
	return map[string]client.Object{
		"MeshConfig":         &configv1alpha2.MeshConfig{ObjectMeta: at(operatorv1alpha1.MeshConfigName)},
		"ServiceAccount":     &corev1.ServiceAccount{ObjectMeta: at(render.ServiceAccount)},
		"ClusterRoleBinding": &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: render.ControllerBinding("osm")}},
		"RoleBinding":        &rbacv1.RoleBinding{ObjectMeta: at(render.ControllerNamespaceRole)},
		"NetworkPolicy":      &networkingv1.NetworkPolicy{ObjectMeta: at(render.ControllerService)},
		"Service":            &corev1.Service{ObjectMeta: at(render.InjectorService)},
		"MeshRevision":       &operatorv1alpha1.MeshRevision{ObjectMeta: metav1.ObjectMeta{Name: "osm-" + revision}},
		"Deployment":         &appsv1.Deployment{ObjectMeta: at(render.Deployment(revision))},
		"MutatingWebhook":    &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: render.MutatingWebhook("osm")}},
		"ValidatingWebhook":  &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: render.ValidatingWebhook("osm")}},
		"serving Secret":     &corev1.Secret{ObjectMeta: at(render.ServingSecret(revision))},
		"issuing Secret":     &corev1.Secret{ObjectMeta: at(render.IssuerSecret(revision))},
		"roots":              &corev1.ConfigMap{ObjectMeta: at(operatorv1alpha1.TrustBundleConfigMap)},
	}
}

// TestMeshIsFollowedAndRepaired creates a Mesh, and then spoils what it made.
func TestMeshIsFollowedAndRepaired(t *testing.T) {
	ctx, c, config := serve(t)
	registry := prometheus.NewRegistry()
	runCounted(ctx, t, config, c.Scheme(), noReports{}, &trust.Expiry{}, registry)
	if err := c.Create(ctx, newMesh("osm", nil)); err != nil {
		t.Fatal(err)
	}
	for name, object := range owned() {
		eventually(ctx, t, name+" is made", func() error { return c.Get(ctx, client.ObjectKeyFromObject(object), object) })
	}
	eventually(ctx, t, "the Mesh waits for its control plane", condition(ctx, c, "osm", operatorv1alpha1.ConditionReady, operatorv1alpha1.ReasonControlPlaneUnavailable))

	for name, object := range owned() {
		t.Run(name+" that is deleted is made again", func(t *testing.T) {
			live := object.DeepCopyObject().(client.Object) //nolint:forcetypeassert // it was one
			if err := c.Get(ctx, client.ObjectKeyFromObject(object), live); err != nil {
				t.Fatal(err)
			}
			if err := c.Delete(ctx, live); err != nil {
				t.Fatal(err)
			}
			eventually(ctx, t, "made again", func() error {
				if err := c.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
					return err
				}
				if object.GetUID() == live.GetUID() {
					return errors.New("still the one that was deleted")
				}
				return nil
			})
		})
	}
	t.Run("a field that is changed is put back", func(t *testing.T) {
		var webhook admissionregistrationv1.MutatingWebhookConfiguration
		key := client.ObjectKey{Name: render.MutatingWebhook("osm")}
		if err := c.Get(ctx, key, &webhook); err != nil {
			t.Fatal(err)
		}
		webhook.Webhooks[0].FailurePolicy = new(admissionregistrationv1.Ignore)
		if err := c.Update(ctx, &webhook); err != nil {
			t.Fatal(err)
		}
		eventually(ctx, t, "put back", func() error {
			if err := c.Get(ctx, key, &webhook); err != nil {
				return err
			}
			if got := *webhook.Webhooks[0].FailurePolicy; got != admissionregistrationv1.Fail {
				return fmt.Errorf("failurePolicy is %s", got)
			}
			return nil
		})
	})
	t.Run("what was put back is counted", func(t *testing.T) {
		eventually(ctx, t, "counted", func() error {
			families, err := registry.Gather()
			if err != nil {
				return err
			}
			for _, f := range families {
				for _, m := range f.GetMetric() {
					if f.GetName() == "osm_reconciliation_total" && m.GetLabel()[0].GetValue() == "MutatingWebhookConfiguration" && m.GetCounter().GetValue() > 0 {
						return nil
					}
				}
			}
			return fmt.Errorf("the metrics are %v", families)
		})
	})
	t.Run("labels of the root are put back, and the root stays", func(t *testing.T) {
		var secret corev1.Secret
		key := client.ObjectKey{Namespace: operatorNamespace, Name: trust.RootSecret("osm")}
		if err := c.Get(ctx, key, &secret); err != nil {
			t.Fatal(err)
		}
		before := string(secret.Data[corev1.TLSCertKey])
		secret.Labels = nil
		if err := c.Update(ctx, &secret); err != nil {
			t.Fatal(err)
		}
		eventually(ctx, t, "put back", func() error {
			if err := c.Get(ctx, key, &secret); err != nil {
				return err
			}
			if secret.Labels[operatorv1alpha1.LabelMesh] != "osm" {
				return errors.New("no label")
			}
			return nil
		})
		if string(secret.Data[corev1.TLSCertKey]) != before {
			t.Error("the root was replaced")
		}
	})
}

// TestMeshConfigIsItsUsers holds the operator to the fields that the Mesh sets.
func TestMeshConfigIsItsUsers(t *testing.T) {
	ctx, c := start(t)
	m := newMesh("osm", func(s *operatorv1alpha1.MeshSpec) {
		s.MeshConfig = &configv1alpha2.MeshConfigSpec{Traffic: &configv1alpha2.TrafficSpec{EnableEgress: new(false)}}
	})
	if err := c.Create(ctx, m); err != nil {
		t.Fatal(err)
	}
	var config configv1alpha2.MeshConfig
	key := client.ObjectKey{Namespace: "osm-system", Name: operatorv1alpha1.MeshConfigName}
	eventually(ctx, t, "the MeshConfig is made", func() error { return c.Get(ctx, key, &config) })
	config.Spec.Traffic.EnablePermissiveTrafficPolicyMode = new(false)
	config.Spec.Traffic.EnableEgress = new(true)
	if err := c.Update(ctx, &config); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "the enforced field is put back", func() error {
		if err := c.Get(ctx, key, &config); err != nil {
			return err
		}
		if *config.Spec.Traffic.EnableEgress {
			return errors.New("enableEgress is still true")
		}
		return nil
	})
	if p := config.Spec.Traffic.EnablePermissiveTrafficPolicyMode; p == nil || *p {
		t.Error("the user's field was taken away")
	}
}

// TestRefusals hold bad Meshes off with a sentence, at admission or in status.
func TestRefusals(t *testing.T) {
	ctx, c := start(t)
	if err := c.Create(ctx, newMesh("older", nil)); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "the older is followed", condition(ctx, c, "older", operatorv1alpha1.ConditionReady, operatorv1alpha1.ReasonControlPlaneUnavailable))

	t.Run("the younger of two in one namespace touches nothing", func(t *testing.T) {
		// Creation times have whole seconds.
		eventually(ctx, t, "a second to pass", func() error {
			var older operatorv1alpha1.Mesh
			if err := c.Get(ctx, client.ObjectKey{Name: "older"}, &older); err != nil {
				return err
			}
			if time.Since(older.CreationTimestamp.Time) < 2*time.Second {
				return errors.New("too early")
			}
			return nil
		})
		if err := c.Create(ctx, newMesh("a-younger", nil)); err != nil {
			t.Fatal(err)
		}
		eventually(ctx, t, "refused", condition(ctx, c, "a-younger", operatorv1alpha1.ConditionDegraded, operatorv1alpha1.ReasonNamespaceTaken))
		var webhook admissionregistrationv1.MutatingWebhookConfiguration
		err := c.Get(ctx, client.ObjectKey{Name: render.MutatingWebhook("a-younger")}, &webhook)
		if !apierrors.IsNotFound(err) {
			t.Errorf("its webhook: %v, want none", err)
		}
		var younger operatorv1alpha1.Mesh
		if err := c.Get(ctx, client.ObjectKey{Name: "a-younger"}, &younger); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(ctx, &younger); err != nil {
			t.Fatal(err)
		}
		eventually(ctx, t, "it can be deleted", func() error {
			if err := c.Get(ctx, client.ObjectKey{Name: "a-younger"}, &younger); !apierrors.IsNotFound(err) {
				return fmt.Errorf("still there: %w", err)
			}
			return nil
		})
	})
	t.Run("an unknown version is told", func(t *testing.T) {
		m := newMesh("future", func(s *operatorv1alpha1.MeshSpec) { s.Version, s.Namespace = "v99.0.0", "future" })
		if err := c.Create(ctx, m); err != nil {
			t.Fatal(err)
		}
		eventually(ctx, t, "refused", condition(ctx, c, "future", operatorv1alpha1.ConditionDegraded, operatorv1alpha1.ReasonUnknownVersion))
	})
	refused := map[string]struct {
		change func(*operatorv1alpha1.Mesh)
		want   string
	}{
		"a version that is none":             {func(m *operatorv1alpha1.Mesh) { m.Spec.Version = "latest" }, "spec.version"},
		"a namespace of Kubernetes":          {func(m *operatorv1alpha1.Mesh) { m.Spec.Namespace = "kube-system" }, "a namespace of the mesh's own"},
		"a policy that is none":              {func(m *operatorv1alpha1.Mesh) { m.Spec.DeletionPolicy = "Never" }, "WaitForWorkloads"},
		"a name that is too long for labels": {func(m *operatorv1alpha1.Mesh) { m.Name = strings.Repeat("m", 41) }, "at most 40"},
	}
	for name, tc := range refused {
		t.Run(name+" is refused at admission", func(t *testing.T) {
			m := newMesh("bad", nil)
			tc.change(m)
			if err := c.Create(ctx, m); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("created: %v, want an error that says %q", err, tc.want)
			}
		})
	}
	t.Run("an edit of an immutable field is refused with what to do", func(t *testing.T) {
		var m operatorv1alpha1.Mesh
		if err := c.Get(ctx, client.ObjectKey{Name: "older"}, &m); err != nil {
			t.Fatal(err)
		}
		m.Spec.Namespace = "elsewhere"
		if err := c.Update(ctx, &m); err == nil || !strings.Contains(err.Error(), "delete the Mesh and create it") {
			t.Errorf("updated: %v, want a refusal that says what to do", err)
		}
	})
}

// TestForeignObjectsAreLeftAlone has an object of someone else under a name that the mesh needs.
func TestForeignObjectsAreLeftAlone(t *testing.T) {
	ctx, c := start(t)
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "osm-system", Labels: map[string]string{"team": "platform"}}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "osm-system", Name: render.ServiceAccount, Labels: map[string]string{"team": "shop"}}},
	} {
		if err := c.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Create(ctx, newMesh("osm", nil)); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "told", condition(ctx, c, "osm", operatorv1alpha1.ConditionDegraded, operatorv1alpha1.ReasonForeignObject))
	var account corev1.ServiceAccount
	if err := c.Get(ctx, client.ObjectKey{Namespace: "osm-system", Name: render.ServiceAccount}, &account); err != nil {
		t.Fatal(err)
	}
	if account.Labels["team"] != "shop" || len(account.OwnerReferences) != 0 {
		t.Errorf("the foreign object was changed: %+v", account.ObjectMeta)
	}
	var ns corev1.Namespace
	if err := c.Get(ctx, client.ObjectKey{Name: "osm-system"}, &ns); err != nil {
		t.Fatal(err)
	}
	if len(ns.OwnerReferences) != 0 {
		t.Error("a namespace that was there before the mesh would go with it")
	}
}

// TestDeletionWaitsForWorkloads holds the deletion while a pod has the sidecar.
func TestDeletionWaitsForWorkloads(t *testing.T) {
	ctx, c := start(t)
	m := newMesh("osm", nil)
	if err := c.Create(ctx, m); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "followed", condition(ctx, c, "osm", operatorv1alpha1.ConditionReady, operatorv1alpha1.ReasonControlPlaneUnavailable))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Labels: map[string]string{operatorv1alpha1.LabelInjectedBy: "osm"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web"}}},
	}
	if err := c.Create(ctx, pod); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(ctx, m); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "held", func() error {
		if err := c.Get(ctx, client.ObjectKey{Name: "osm"}, m); err != nil {
			return err
		}
		if d := m.Status.Deletion; d == nil || d.BlockingPods != 1 || d.Pods[0] != "default/web" {
			return fmt.Errorf("status.deletion is %+v", d)
		}
		return nil
	})
	if err := c.Delete(ctx, pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "gone", func() error {
		if err := c.Get(ctx, client.ObjectKey{Name: "osm"}, m); !apierrors.IsNotFound(err) {
			return fmt.Errorf("still there: %w", err)
		}
		return nil
	})
	var webhook admissionregistrationv1.MutatingWebhookConfiguration
	if err := c.Get(ctx, client.ObjectKey{Name: render.MutatingWebhook("osm")}, &webhook); !apierrors.IsNotFound(err) {
		t.Errorf("the webhook outlives its mesh: %v", err)
	}
}
