package cmd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/telemetry"
	"github.com/openservicemesh/osm-operator/internal/testkit/apiserver"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
	"github.com/openservicemesh/osm-operator/internal/testkit/port"
)

// plane is a control plane that runs on a real API server.
type plane struct {
	client.Client
	options   controlPlaneOptions
	authority *pki.Authority
	stop      context.CancelFunc
	done      chan error
}

func startPlane(ctx context.Context, t *testing.T, change ...func(*rest.Config)) *plane {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	config := apiserver.Start(t)
	scheme, err := controlPlaneScheme()
	must(t, err)
	c, err := client.New(config, client.Options{Scheme: scheme})
	must(t, err)
	p := &plane{Client: c, authority: pki.New(t), done: make(chan error, 1)}
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "osm-system"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: "shop", Labels: map[string]string{"openservicemesh.io/monitored-by": "osm"}, Annotations: map[string]string{"openservicemesh.io/sidecar-injection": "enabled"},
		}},
		&configv1alpha2.MeshConfig{ObjectMeta: metav1.ObjectMeta{Namespace: "osm-system", Name: "osm-mesh-config"}},
	} {
		must(t, c.Create(ctx, o))
	}
	p.options = controlPlaneOptions{
		mesh: "osm", namespace: "osm-system", revision: "v1", trustDomain: "cluster.local", podName: "osm-controller-1", logLevel: "debug",
		osmImage: "osm:test", envoyImage: "envoy:test", pullPolicy: "IfNotPresent",
		servingDir: t.TempDir(), issuerDir: t.TempDir(), trustDir: t.TempDir(),
		xdsPort: freePort(t), reportPort: freePort(t), identityPort: freePort(t), injectorPort: freePort(t), httpPort: freePort(t), debugPort: freePort(t), validatorPort: freePort(t),
		farewell: time.Second, drain: 100 * time.Millisecond,
	}
	serving := p.authority.ControlPlane(t, "osm", "v1", pki.DNSNames("osm-controller-v1.osm-system.svc", "osm-injector.osm-system.svc"))
	write(t, p.options.servingDir, "tls.crt", serving.ChainPEM())
	write(t, p.options.servingDir, "tls.key", serving.KeyPEM(t))
	write(t, p.options.issuerDir, "tls.crt", p.authority.Intermediate.ChainPEM())
	write(t, p.options.issuerDir, "tls.key", p.authority.Intermediate.KeyPEM(t))
	write(t, p.options.trustDir, "ca.pem", p.authority.RootsPEM())

	var out bytes.Buffer
	logger, level, err := telemetry.NewLogger(&out, p.options.logLevel)
	must(t, err)
	running, stop := context.WithCancel(logf.IntoContext(context.WithoutCancel(ctx), logger))
	p.stop = stop
	config = rest.CopyConfig(config)
	for _, c := range change {
		c(config)
	}
	go func() { p.done <- runControlPlane(running, p.options, config, level) }()
	t.Cleanup(func() {
		stop()
		if err := <-p.done; err != nil {
			t.Errorf("the control plane ended: %v", err)
		}
		if t.Failed() {
			t.Logf("its log:\n%s", out.String())
		}
	})
	return p
}

func write(t *testing.T, dir, file string, content []byte) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, file), content, 0o600))
}

func freePort(t *testing.T) int {
	t.Helper()
	return int(port.Free(t))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until check has nothing to say against what it looks at.
func eventually(ctx context.Context, t *testing.T, what string, check func(context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, last)
	}
}

// get asks one of the HTTP ports.
func get(ctx context.Context, port int, path string) (code int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), http.NoBody)
	if err != nil {
		return 0, "", err
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw), err
}

func (p *plane) ready(ctx context.Context, t *testing.T) {
	t.Helper()
	eventually(ctx, t, "the control plane becomes ready", func(ctx context.Context) error {
		code, body, err := get(ctx, p.options.httpPort, "/health/ready")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%d %s", code, body)
		}
		return err
	})
}

// pod makes a meshed pod run, with an address.
func (p *plane) pod(ctx context.Context, t *testing.T, name, account, address string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": account}},
		Spec: corev1.PodSpec{
			ServiceAccountName: account, NodeName: "n1", AutomountServiceAccountToken: new(false),
			Containers:     []corev1.Container{{Name: "app", Image: "app"}},
			InitContainers: []corev1.Container{{Name: "envoy", Image: "envoy", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}},
			Volumes: []corev1.Volume{{Name: "osm-identity", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{
					SignerName: "identity.openservicemesh.io/osm", KeyType: "ECDSAP256", CredentialBundlePath: "credentials.pem",
				}}},
			}}}},
		},
	}
	must(t, p.Create(ctx, pod))
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}}
	must(t, p.Status().Update(ctx, pod))
	return pod
}

// serviceOf makes a Service of a ServiceAccount's pods with endpoints.
func (p *plane) serviceOf(ctx context.Context, t *testing.T, name string, pods ...*corev1.Pod) (*corev1.Service, *discoveryv1.EndpointSlice) {
	t.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(80))}},
	}
	for _, pod := range pods {
		slice.Endpoints = append(slice.Endpoints, endpointAt(pod))
	}
	must(t, p.Create(ctx, service))
	must(t, p.Create(ctx, slice))
	return service, slice
}

func endpointAt(pod *corev1.Pod) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses: []string{pod.Status.PodIP}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name},
		Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
	}
}

// sidecar connects as the sidecar of a pod.
func (p *plane) sidecar(t *testing.T, pod *corev1.Pod) *proxy {
	t.Helper()
	return connectProxy(t, p.options.xdsPort, p.authority, p.authority.Workload(t, pod.Namespace, pod.Spec.ServiceAccountName, pki.PodUID(string(pod.UID))), nodeOf(pod))
}

func nodeOf(pod *corev1.Pod) string { return string(pod.UID) + "." + pod.Name + "." + pod.Namespace }
