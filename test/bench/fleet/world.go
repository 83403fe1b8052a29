package main

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/testkit/apiserver"
)

const (
	namespaces = 10 // of the mesh
	perService = 10 // pods, and so endpoints
	// perGroup is how many services call one another where policies are enforced: an
	// endpoint concerns the proxies of so many services, however large the mesh is.
	perGroup = 10
	writers  = 12 // at once
)

// podRef names a pod.
type podRef struct{ namespace, name, account, uid, address string }

func (p podRef) node() string { return p.uid + "." + p.name + "." + p.namespace }

// world is a cluster of an API server and etcd alone, and the mesh that is written to it.
type world struct {
	client.Client
	env        *envtest.Environment
	config     *rest.Config
	kubeconfig []byte

	services int
	pods     [][]podRef // by service
	made     int        // addresses given out
}

// startWorld starts an API server with an empty mesh.
func startWorld(ctx context.Context, permissive bool) (*world, error) {
	w := &world{env: apiserver.Environment()}
	w.env.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.96.0.0/16").
		Set("max-requests-inflight", "800").Set("max-mutating-requests-inflight", "400")
	var err error
	if w.config, err = w.env.Start(); err != nil {
		return nil, fmt.Errorf("starting an API server: %w", err)
	}
	w.config.QPS = -1
	user, err := w.env.AddUser(envtest.User{Name: "osm", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		return nil, err
	}
	if w.kubeconfig, err = user.KubeConfig(); err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, configv1alpha2.AddToScheme, accessv1alpha3.AddToScheme, specsv1alpha4.AddToScheme, splitv1alpha4.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	if w.Client, err = client.New(w.config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	err = w.empty(ctx, permissive)
	return w, err
}

func (w *world) stop() error { return w.env.Stop() }

func namespaceName(i int) string { return fmt.Sprintf("bench-%d", i%namespaces) }

// namespaceOf is where a service is: its group is in one namespace.
func namespaceOf(service int) string { return namespaceName(service / perGroup) }

func serviceName(i int) string { return fmt.Sprintf("s%d", i) }

func (w *world) empty(ctx context.Context, permissive bool) error {
	objects := []client.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: meshNamespace}}}
	for i := range namespaces {
		objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: namespaceName(i), Labels: map[string]string{"openservicemesh.io/monitored-by": meshName},
			Annotations: map[string]string{"openservicemesh.io/sidecar-injection": "enabled"},
		}}, &specsv1alpha4.HTTPRouteGroup{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespaceName(i), Name: "all"},
			Spec:       specsv1alpha4.HTTPRouteGroupSpec{Matches: []specsv1alpha4.HTTPMatch{{Name: "all", PathRegex: "/.*", Methods: []string{"*"}}}},
		})
	}
	objects = append(objects, &configv1alpha2.MeshConfig{
		ObjectMeta: metav1.ObjectMeta{Namespace: meshNamespace, Name: "osm-mesh-config"},
		Spec: configv1alpha2.MeshConfigSpec{
			Traffic:       &configv1alpha2.TrafficSpec{EnablePermissiveTrafficPolicyMode: &permissive},
			Observability: &configv1alpha2.ObservabilitySpec{EnableDebugServer: new(true)},
		},
	})
	for _, o := range objects {
		if err := w.Create(ctx, o); err != nil {
			return fmt.Errorf("making %T %s: %w", o, o.GetName(), err)
		}
	}
	return nil
}

// grow adds services with their pods until there are so many.
func (w *world) grow(ctx context.Context, services int) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	for i := w.services; i < services; i++ {
		refs := make([]podRef, perService)
		w.pods = append(w.pods, refs)
		for k := range refs {
			refs[k] = w.next(i, fmt.Sprintf("s%d-%d", i, k))
		}
		g.Go(func() error { return w.service(gctx, i, refs) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if w.services == 0 {
		root := clusterService(namespaceName(0), "root", "root")
		if err := w.Create(ctx, root); err != nil {
			return err
		}
		if err := w.Create(ctx, split(0)); err != nil {
			return err
		}
	}
	w.services = services
	return nil
}

// next names a pod that is not there yet.
func (w *world) next(service int, name string) podRef {
	w.made++
	return podRef{
		namespace: namespaceOf(service), account: serviceName(service), name: name,
		address: fmt.Sprintf("10.%d.%d.%d", 128+w.made>>16, w.made>>8&255, w.made&255),
	}
}

func (w *world) service(ctx context.Context, i int, pods []podRef) error {
	for k := range pods {
		if err := w.pod(ctx, &pods[k]); err != nil {
			return err
		}
	}
	for _, o := range []client.Object{clusterService(namespaceOf(i), serviceName(i), serviceName(i)), slice(i, pods, true), target(i, perGroup)} {
		if err := w.Create(ctx, o); err != nil {
			return fmt.Errorf("making %T %s: %w", o, o.GetName(), err)
		}
	}
	return nil
}

// pod makes a pod that runs, with a sidecar, and notes its UID.
func (w *world) pod(ctx context.Context, p *podRef) error {
	pod := podObject(*p)
	if err := w.Create(ctx, pod); err != nil {
		return fmt.Errorf("making pod %s: %w", p.name, err)
	}
	p.uid = string(pod.UID)
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: p.address, PodIPs: []corev1.PodIP{{IP: p.address}}}
	if err := w.Status().Update(ctx, pod); err != nil {
		return fmt.Errorf("running pod %s: %w", p.name, err)
	}
	return nil
}

func podObject(p podRef) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: p.name, Labels: map[string]string{"app": p.account}},
		Spec: corev1.PodSpec{
			ServiceAccountName: p.account, NodeName: "n1", AutomountServiceAccountToken: new(false),
			Containers:     []corev1.Container{{Name: "app", Image: "app", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}},
			InitContainers: []corev1.Container{{Name: "envoy", Image: "envoy", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}},
			Volumes: []corev1.Volume{{Name: "osm-identity", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{
					SignerName: "identity.openservicemesh.io/" + meshName, KeyType: "ECDSAP256", CredentialBundlePath: "credentials.pem",
				}}},
			}}}},
		},
	}
}

// pick chooses pods whose proxies connect, so that so many are connected with those that
// are: of each service the first, then of each the second, and so on.
func (w *world) pick(proxies int, already map[*proxy]struct{}) []podRef {
	known := map[string]bool{}
	for p := range already {
		known[p.pod.uid] = true
	}
	var out []podRef
	for k := range perService {
		for _, pods := range w.pods {
			if len(known)+len(out) < proxies && !known[pods[k].uid] {
				out = append(out, pods[k])
			}
		}
	}
	return out
}

func clusterService(namespace, name, app string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Name: "http", Port: 8080}}},
	}
}

// slice are the endpoints of a service; whether the first is ready is said.
func slice(i int, pods []podRef, ready bool) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespaceOf(i), Name: serviceName(i) + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: serviceName(i)},
		},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
	}
	for k, p := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{p.address}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: p.namespace, Name: p.name},
			Conditions: discoveryv1.EndpointConditions{Ready: new(k > 0 || ready)},
		})
	}
	return s
}

// target lets the first services of a service's group call it.
func target(i, callers int) *accessv1alpha3.TrafficTarget {
	subject := func(i int) accessv1alpha3.IdentityBindingSubject {
		return accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: namespaceOf(i), Name: serviceName(i)}
	}
	t := &accessv1alpha3.TrafficTarget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespaceOf(i), Name: serviceName(i)},
		Spec: accessv1alpha3.TrafficTargetSpec{
			Destination: subject(i), Rules: []accessv1alpha3.TrafficTargetRule{{Kind: "HTTPRouteGroup", Name: "all"}},
		},
	}
	first := i / perGroup * perGroup
	for k := range callers {
		t.Spec.Sources = append(t.Spec.Sources, subject(first+k))
	}
	return t
}

// split shares the requests to a service of its own among two.
func split(weight int) *splitv1alpha4.TrafficSplit {
	return &splitv1alpha4.TrafficSplit{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespaceName(0), Name: "root"},
		Spec: splitv1alpha4.TrafficSplitSpec{Service: "root", Backends: []splitv1alpha4.TrafficSplitBackend{
			{Service: serviceName(0), Weight: 50}, {Service: serviceName(1), Weight: float64(weight)},
		}},
	}
}
