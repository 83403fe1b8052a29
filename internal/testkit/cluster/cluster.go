// Package cluster is a real cluster as tests and the demo use it: it writes
// manifests, waits for conditions, runs commands in pods and reads the counters of
// the test applications. It asserts nothing; what it could not do is an error.
package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/test/apps/load"
)

// fieldOwner is whom tests write as.
const fieldOwner = "osm-test"

// Cluster is a cluster that KUBECONFIG names.
type Cluster struct {
	client.Client
	Config *rest.Config
	Set    kubernetes.Interface
}

// New connects to the cluster of KUBECONFIG.
func New() (*Cluster, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	config.QPS, config.Burst = 100, 200
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, operatorv1alpha1.AddToScheme, configv1alpha2.AddToScheme, policyv1alpha1.AddToScheme,
		accessv1alpha3.AddToScheme, specsv1alpha4.AddToScheme, splitv1alpha4.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building the scheme: %w", err)
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	return &Cluster{Client: c, Config: config, Set: set}, nil
}

// ApplyYAML writes the objects of a manifest. What replace maps is replaced in its text first.
func (c *Cluster) ApplyYAML(ctx context.Context, manifest string, replace map[string]string) error {
	objects, err := decode(manifest, replace)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(fieldOwner), client.ForceOwnership); err != nil {
			return fmt.Errorf("applying %s %s: %w", o.GetKind(), client.ObjectKeyFromObject(o), err)
		}
	}
	return nil
}

// DeleteYAML deletes the objects of a manifest; what is gone already is fine.
func (c *Cluster) DeleteYAML(ctx context.Context, manifest string, replace map[string]string) error {
	objects, err := decode(manifest, replace)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := c.Delete(ctx, o); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting %s %s: %w", o.GetKind(), client.ObjectKeyFromObject(o), err)
		}
	}
	return nil
}

func decode(manifest string, replace map[string]string) ([]*unstructured.Unstructured, error) {
	for from, to := range replace {
		manifest = strings.ReplaceAll(manifest, from, to)
	}
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), 4096)
	var out []*unstructured.Unstructured
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("decoding a manifest: %w", err)
		}
		if len(o.Object) > 0 {
			out = append(out, o)
		}
	}
}

// Until calls check every 250 ms until it is true. The error says what was waited
// for and what check said last.
func Until(ctx context.Context, what string, check func(ctx context.Context) (bool, error)) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, 250*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		done, err := check(ctx)
		if err != nil && ctx.Err() == nil {
			last = err
		}
		return done && err == nil, nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("waiting for %s: %w", what, err), last)
	}
	return nil
}

// Deployment returns when a Deployment is rolled out.
func (c *Cluster) Deployment(ctx context.Context, namespace, name string) error {
	return Until(ctx, "Deployment "+namespace+"/"+name, func(ctx context.Context) (bool, error) {
		var d appsv1.Deployment
		if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &d); err != nil {
			return false, err
		}
		wanted := int32(1)
		if d.Spec.Replicas != nil {
			wanted = *d.Spec.Replicas
		}
		s := d.Status
		if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != wanted || s.Replicas != wanted || s.AvailableReplicas != wanted {
			return false, fmt.Errorf("%d of %d pods are updated, %d in all, %d available", s.UpdatedReplicas, wanted, s.Replicas, s.AvailableReplicas)
		}
		return true, nil
	})
}

// Pods returns the running, ready pods with a label app.
func (c *Cluster) Pods(ctx context.Context, namespace, app string) ([]corev1.Pod, error) {
	var list corev1.PodList
	if err := c.List(ctx, &list, client.InNamespace(namespace), client.MatchingLabels{"app": app}); err != nil {
		return nil, fmt.Errorf("listing pods %s of %s: %w", app, namespace, err)
	}
	var out []corev1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp.IsZero() && Ready(&p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// Pod returns a running, ready pod with a label app, and waits until there is one.
func (c *Cluster) Pod(ctx context.Context, namespace, app string) (corev1.Pod, error) {
	var pod corev1.Pod
	err := Until(ctx, "a ready pod "+app+" in "+namespace, func(ctx context.Context) (bool, error) {
		pods, err := c.Pods(ctx, namespace, app)
		if err != nil || len(pods) == 0 {
			return false, err
		}
		pod = pods[0]
		return true, nil
	})
	return pod, err
}

// Ready reports whether a pod is ready.
func Ready(p *corev1.Pod) bool {
	for _, condition := range p.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Exec runs a command in a container and returns its standard output. The error
// holds the standard error.
func (c *Cluster) Exec(ctx context.Context, namespace, pod, container string, command ...string) (string, error) {
	req := c.Set.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stdout: true, Stderr: true}, clientgoscheme.ParameterCodec)
	executor, err := remotecommand.NewSPDYExecutor(c.Config, "POST", req.URL())
	if err != nil {
		return "", fmt.Errorf("preparing to run %q in %s/%s: %w", command, namespace, pod, err)
	}
	var out, errOut bytes.Buffer
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut}); err != nil {
		return out.String(), fmt.Errorf("running %q in %s/%s: %w: %s", command, namespace, pod, err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// App is where the test applications are in their image.
const App = "/bookstore-demo"

// Call runs the counting client in a pod of a test application, with the arguments
// given, and returns its report.
func (c *Cluster) Call(ctx context.Context, pod *corev1.Pod, args ...string) (load.Report, error) {
	command := append([]string{App, "client", "-serve=false"}, args...)
	out, err := c.Exec(ctx, pod.Namespace, pod.Name, pod.Spec.Containers[0].Name, command...)
	if err != nil {
		return load.Report{}, err
	}
	return report(out)
}

// Counters returns what a test application has counted, and has it count anew.
func (c *Cluster) Counters(ctx context.Context, pod *corev1.Pod, reset bool) (load.Report, error) {
	command := []string{App, "counters"}
	if reset {
		command = append(command, "-reset")
	}
	out, err := c.Exec(ctx, pod.Namespace, pod.Name, pod.Spec.Containers[0].Name, command...)
	if err != nil {
		return load.Report{}, err
	}
	return report(out)
}

func report(out string) (load.Report, error) {
	var r load.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return load.Report{}, fmt.Errorf("decoding a report: %w: %s", err, out)
	}
	return r, nil
}
