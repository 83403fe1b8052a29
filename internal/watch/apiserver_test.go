package watch_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/testkit/apiserver"
	"github.com/openservicemesh/osm-operator/internal/watch"
)

// cluster is a real API server and a Watcher on it.
type cluster struct {
	client.Client
	seen *seen
}

func startCluster(ctx context.Context, t *testing.T, before func(client.Client)) cluster {
	t.Helper()
	config := apiserver.Start(t)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, configv1alpha2.AddToScheme, policyv1alpha1.AddToScheme,
		accessv1alpha3.AddToScheme, specsv1alpha4.AddToScheme, splitv1alpha4.AddToScheme,
	} {
		must(t, add(scheme))
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	must(t, err)
	before(c)
	options := watch.CacheOptions("osm-system", &watch.Reach{})
	options.Scheme = scheme
	informers, err := cache.New(config, options)
	must(t, err)
	out := cluster{Client: c, seen: &seen{}}
	running, stop := context.WithCancel(logf.IntoContext(ctx, testr.New(t)))
	done := make(chan error, 2)
	go func() { done <- informers.Start(running) }()
	go func() {
		done <- watch.New(watch.Options{Cache: informers, Defaults: mesh.DefaultSettings("osm", "osm-system", "cluster.local")}).Run(running, out.seen.sink)
	}()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, <-done); err != nil {
			t.Errorf("the watcher ended: %v", err)
		}
	})
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for a Model that fits.
func (c cluster) until(ctx context.Context, t *testing.T, what string, fits func(*mesh.Model) bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		m := c.seen.last()
		return m != nil && fits(m), nil
	})
	if err != nil {
		t.Fatalf("%s: %v; the last of %d models is %+v", what, err, c.seen.count(), c.seen.last())
	}
}

func TestARealCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "tcproutes.specs.smi-spec.io"}}
	c := startCluster(ctx, t, func(c client.Client) {
		must(t, c.Get(ctx, client.ObjectKeyFromObject(crd), crd))
		must(t, c.Delete(ctx, crd.DeepCopy()))
		must(t, wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			err := c.List(ctx, &specsv1alpha4.TCPRouteList{})
			return err != nil, nil
		}))
		for _, o := range []client.Object{
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "osm-system"}}, monitored("shop"), meshConfig(false),
			&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "a"}}},
		} {
			must(t, c.Create(ctx, o))
		}
	})
	c.until(ctx, t, "a kind is not installed, and a Model comes out all the same", func(m *mesh.Model) bool {
		return m.Namespaces["shop"] != nil && !m.Settings.Permissive
	})

	service, slice, pod := shop()
	for _, o := range []client.Object{service, slice, pod} {
		must(t, c.Create(ctx, o))
	}
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.0.0.2"}}, PodIP: "10.0.0.2"}
	must(t, c.Status().Update(ctx, pod))
	c.until(ctx, t, "a Service with a meshed pod", func(m *mesh.Model) bool {
		w, e := m.Workloads[key("web-1")], m.Endpoints[key("web")]
		return w != nil && w.Meshed && len(w.Addresses) == 1 && w.Zone == "a" && w.UID == string(pod.UID) && m.Classes[w.Class] != nil && e != nil && len(e.Items) == 1 &&
			e.Items[0].Address == netip.MustParseAddr("10.0.0.2") && len(m.Services[key("web")].ClusterIPs) > 0
	})

	before := c.seen.count()
	service.Annotations = map[string]string{"note": "nothing that a proxy could see"}
	must(t, c.Update(ctx, service))
	slice.Endpoints[0].Conditions.Ready = new(false)
	must(t, c.Update(ctx, slice))
	c.until(ctx, t, "an endpoint that is not ready", func(m *mesh.Model) bool { return !m.Endpoints[key("web")].Items[0].Ready })
	if got := c.seen.count() - before; got != 1 {
		t.Errorf("an annotation and an endpoint made %d models, want 1", got)
	}
	if change := c.seen.changes[len(c.seen.changes)-1]; len(change.Endpoints) != 1 || len(change.Services)+len(change.Workloads)+len(change.Classes) != 0 {
		t.Errorf("an endpoint changed %+v", change)
	}

	must(t, c.Create(ctx, &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: crd.Name, Annotations: crd.Annotations}, Spec: crd.Spec}))
	route := &specsv1alpha4.TCPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db"}, Spec: specsv1alpha4.TCPRouteSpec{Matches: specsv1alpha4.TCPMatch{Ports: []int{3306}}}}
	must(t, wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) { return c.Create(ctx, route) == nil, nil }))
	c.until(ctx, t, "a kind that was installed later", func(m *mesh.Model) bool { return m.Policies.TCPRoutes[key("db")] != nil })

	must(t, c.Delete(ctx, pod, client.GracePeriodSeconds(0)))
	must(t, c.Delete(ctx, slice))
	must(t, c.Delete(ctx, service))
	c.until(ctx, t, "all is gone", func(m *mesh.Model) bool { return len(m.Services)+len(m.Workloads)+len(m.Endpoints)+len(m.Classes) == 0 })
	for _, m := range c.seen.models {
		if fmt.Sprint(m.Settings.Permissive) != "false" {
			t.Error("a Model came out that was more permissive than the MeshConfig")
		}
	}
}

// shop is a Service with one meshed pod.
func shop() (*corev1.Service, *discoveryv1.EndpointSlice, *corev1.Pod) {
	labels := map[string]string{"app": "web"}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(80))}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{"10.0.0.2"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "web-1"},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		}},
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: labels},
		Spec: corev1.PodSpec{
			ServiceAccountName: "web", NodeName: "n1", AutomountServiceAccountToken: new(false),
			Containers:     []corev1.Container{{Name: "app", Image: "app"}},
			InitContainers: []corev1.Container{{Name: "envoy", Image: "envoy", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}},
			Volumes: []corev1.Volume{{Name: "osm-identity", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{
					SignerName: "identity.openservicemesh.io/osm", KeyType: "ECDSAP256", CredentialBundlePath: "credentials.pem",
				}}},
			}}}},
		},
	}
	return service, slice, pod
}
