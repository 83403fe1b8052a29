package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/release"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

// testLabel marks namespaces that tests made.
const testLabel = "openservicemesh.io/e2e"

// image is the image of the test applications.
const image = "docker.io/openservicemesh/bookstore-demo:" + release.Current

// namespace makes a namespace for a test, in the mesh or not, that goes with it.
func namespace(ctx context.Context, t *testing.T, name string, meshed bool) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{testLabel: "true"}}}
	must(t, client.IgnoreAlreadyExists(shared.Create(ctx, ns)))
	deleteAfter(t, name)
	if meshed {
		_, err := osm("namespace", "add", name)
		must(t, err)
	}
}

// deleteAfter has a namespace go with the test, which tells of it if it fails.
func deleteAfter(t *testing.T, name string) {
	t.Helper()
	t.Cleanup(func() {
		if os.Getenv("OSM_E2E_KEEP") != "" {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:usetesting // the test's context is done by now
		defer cancel()
		if t.Failed() {
			tellNamespace(ctx, name)
		}
		if err := client.IgnoreNotFound(shared.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})); err != nil {
			t.Errorf("deleting namespace %s: %v", name, err)
		}
	})
}

func deleteTestNamespaces(ctx context.Context) error {
	var list corev1.NamespaceList
	if err := shared.List(ctx, &list, client.HasLabels{testLabel}); err != nil {
		return fmt.Errorf("listing the tests' namespaces: %w", err)
	}
	for i := range list.Items {
		if err := client.IgnoreNotFound(shared.Delete(ctx, &list.Items[i])); err != nil {
			return fmt.Errorf("deleting namespace %s: %w", list.Items[i].Name, err)
		}
	}
	return cluster.Until(ctx, "the tests' namespaces to go", func(ctx context.Context) (bool, error) {
		err := shared.List(ctx, &list, client.HasLabels{testLabel})
		return err == nil && len(list.Items) == 0, err
	})
}

// workload is a Deployment of a test application with a ServiceAccount, and a Service
// if it has ports.
type workload struct {
	namespace, name string
	// app is the name that Services select; name when empty.
	app string
	// args are the application and its flags.
	args []string
	// ports are of the form name:number or name:number:appProtocol.
	ports    []string
	replicas int
	headless bool
	// annotations of the pods.
	annotations map[string]string
	// probe is YAML of the container's probes.
	probe string
}

const workloadManifest = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: NAME, namespace: SPACE}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: SPACE}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: APP, workload: NAME}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata:
      labels: {app: APP, workload: NAME}
      annotations: {ANNOTATIONS}
    spec:
      serviceAccountName: NAME
      terminationGracePeriodSeconds: 10
      containers:
        - name: app
          image: IMAGE
          imagePullPolicy: IfNotPresent
          args: [ARGS]
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            runAsNonRoot: true
            capabilities: {drop: [ALL]}
PROBE
`

// deploy writes a workload; running waits until it is ready.
func (w workload) deploy(ctx context.Context, t *testing.T) {
	t.Helper()
	var annotations []string
	for k, v := range w.annotations {
		annotations = append(annotations, fmt.Sprintf("%q: %q", k, v))
	}
	quoted := make([]string, 0, len(w.args))
	for _, a := range w.args {
		quoted = append(quoted, fmt.Sprintf("%q", a))
	}
	manifest := strings.NewReplacer(
		"NAME", w.name, "SPACE", w.namespace, "REPLICAS", fmt.Sprint(max(w.replicas, 1)), "APP", w.selects(), "IMAGE", image,
		"ARGS", strings.Join(quoted, ", "), "ANNOTATIONS", strings.Join(annotations, ", "), "PROBE", w.probe,
	).Replace(workloadManifest)
	must(t, shared.ApplyYAML(ctx, manifest, nil))
	if len(w.ports) > 0 {
		service(ctx, t, w.namespace, w.selects(), w.selects(), w.headless, w.ports...)
	}
}

func (w workload) selects() string {
	if w.app != "" {
		return w.app
	}
	return w.name
}

// running deploys workloads and waits until all of them are ready.
func running(ctx context.Context, t *testing.T, workloads ...workload) {
	t.Helper()
	for _, w := range workloads {
		w.deploy(ctx, t)
	}
	for _, w := range workloads {
		if err := shared.Deployment(ctx, w.namespace, w.name); err != nil {
			tellNamespace(ctx, w.namespace)
			t.Fatal(err)
		}
	}
}

// service writes a Service that selects the label app.
func service(ctx context.Context, t *testing.T, namespace, name, app string, headless bool, ports ...string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}\nspec:\n  selector: {app: %s}\n", name, namespace, app)
	if headless {
		b.WriteString("  clusterIP: None\n")
	}
	b.WriteString("  ports:\n")
	for _, p := range ports {
		parts := strings.Split(p, ":")
		fmt.Fprintf(&b, "  - {name: %s, port: %s", parts[0], parts[1])
		if len(parts) > 2 {
			fmt.Fprintf(&b, ", appProtocol: %s", parts[2])
		}
		b.WriteString("}\n")
	}
	must(t, shared.ApplyYAML(ctx, b.String(), nil))
}

// podOf returns a ready pod of a workload.
func podOf(ctx context.Context, t *testing.T, w workload) *corev1.Pod {
	t.Helper()
	pod, err := shared.Pod(ctx, w.namespace, w.selects())
	must(t, err)
	return &pod
}

// idle is a client that waits to be told what to call.
func idle(namespace, name string) workload {
	return workload{namespace: namespace, name: name, args: []string{"tcp-echo", "-addr", ":9999"}}
}

// tellState prints what a person would look at after a failure.
func tellState(ctx context.Context) {
	var m operatorv1alpha1.Mesh
	if err := shared.Get(ctx, client.ObjectKey{Name: meshName}, &m); err == nil {
		for _, c := range m.Status.Conditions {
			fmt.Printf("Mesh %s: %s=%s %s: %s\n", m.Name, c.Type, c.Status, c.Reason, c.Message)
		}
	}
	for _, ns := range []string{"osm-operator-system", meshNamespace} {
		tellNamespace(ctx, ns)
	}
}

// tellNamespace prints the pods of a namespace, their events and the ends of their logs.
func tellNamespace(ctx context.Context, namespace string) {
	var pods corev1.PodList
	if err := shared.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
		fmt.Println("listing pods:", err)
		return
	}
	for _, p := range pods.Items {
		fmt.Printf("Pod %s/%s: %s, ready %v\n", p.Namespace, p.Name, p.Status.Phase, cluster.Ready(&p))
		for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			fmt.Printf("  container %s: ready %v, restarts %d, state %+v\n", s.Name, s.Ready, s.RestartCount, s.State)
			raw, err := shared.Set.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: s.Name, TailLines: new(int64(30))}).DoRaw(ctx)
			if err == nil {
				fmt.Printf("    %s\n", strings.ReplaceAll(strings.TrimSpace(string(raw)), "\n", "\n    "))
			}
		}
	}
	var events corev1.EventList
	if err := shared.List(ctx, &events, client.InNamespace(namespace)); err != nil && !apierrors.IsNotFound(err) {
		return
	}
	for _, e := range events.Items {
		if e.Type == corev1.EventTypeWarning {
			fmt.Printf("Event %s %s/%s: %s: %s\n", e.InvolvedObject.Kind, e.InvolvedObject.Namespace, e.InvolvedObject.Name, e.Reason, e.Message)
		}
	}
}
