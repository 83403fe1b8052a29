package inject_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/inject"
	"github.com/openservicemesh/osm-operator/internal/testkit/golden"
)

func config() inject.Config {
	return inject.Config{
		Mesh: "osm", MeshNamespace: "osm-system", Revision: "v0-1-0",
		ControlPlane: "osm-controller-v0-1-0.osm-system.svc.cluster.local", ControlPlaneName: "osm-controller-v0-1-0.osm-system.svc",
		OSMImage: "osm:test", EnvoyImage: "envoy:test", PullPolicy: corev1.PullIfNotPresent,
		LeafLifetime: 48 * time.Hour,
	}
}

// byToken is a cluster without pod certificates.
func byToken(c *inject.Config) {
	c.Identity, c.Roots = operatorv1alpha1.WorkloadIdentityServiceAccountToken, "-----BEGIN CERTIFICATE-----\n"
	c.ControlPlaneID = "spiffe://cluster.local/mesh/osm/control-plane/v0-1-0"
}

func namespace() inject.Namespace {
	return inject.Namespace{
		Name:        "shop",
		Labels:      map[string]string{operatorv1alpha1.LabelMonitoredBy: "osm"},
		Annotations: map[string]string{operatorv1alpha1.AnnotationInjection: "enabled"},
	}
}

func pod(change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"},
		Spec: corev1.PodSpec{
			ServiceAccountName: "web",
			Containers:         []corev1.Container{{Name: "web", Image: "web:1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}},
		},
	}
	if change != nil {
		change(p)
	}
	return p
}

func httpProbe(port intstr.IntOrString, path string) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: port, Path: path}}}
}

// everyProbe has probes and hooks of every kind, on two containers.
func everyProbe(p *corev1.Pod) {
	web := &p.Spec.Containers[0]
	web.LivenessProbe = httpProbe(intstr.FromString("http"), "/healthz?full=1")
	web.ReadinessProbe = &corev1.Probe{TimeoutSeconds: 3, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}}
	web.StartupProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 9000}}}
	web.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(8080), Path: "/warm"}}}
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
		Name: "second", Image: "second:1",
		LivenessProbe: httpProbe(intstr.FromInt32(8081), "/live"),
		ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Port: intstr.FromInt32(8443), Path: "/ready", Scheme: corev1.URISchemeHTTPS,
		}}},
		Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/stop"}}}},
	})
	p.Spec.TerminationGracePeriodSeconds = new(int64(20))
}

func TestPodGolden(t *testing.T) {
	cases := map[string]struct {
		pod *corev1.Pod
		ns  func(*inject.Namespace)
		cfg func(*inject.Config)
	}{
		"a_plain_pod":                    {pod: pod(nil)},
		"probes_and_hooks_of_every_kind": {pod: pod(everyProbe)},
		"a_scraped_namespace":            {pod: pod(nil), ns: func(n *inject.Namespace) { n.Annotations[operatorv1alpha1.AnnotationMetrics] = "Yes" }},
		"identity_by_a_token":            {pod: pod(nil), cfg: byToken},
		"exclusions_of_mesh_and_pod_add_up": {
			pod: pod(func(p *corev1.Pod) {
				p.Annotations = map[string]string{
					operatorv1alpha1.AnnotationInboundPortExclusions:   "6379, 7070",
					operatorv1alpha1.AnnotationOutboundPortExclusions:  "5432",
					operatorv1alpha1.AnnotationOutboundRangeExclusions: "10.0.0.1/8",
					operatorv1alpha1.AnnotationDrainSeconds:            "0",
				}
			}),
			cfg: func(c *inject.Config) {
				c.Exclusions = inject.Exclusions{OutboundPorts: []int{5432, 1}, Interfaces: []string{"net1"}}
				c.PodIPMode = true
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			ns, cfg := namespace(), config()
			if tc.ns != nil {
				tc.ns(&ns)
			}
			if tc.cfg != nil {
				tc.cfg(&cfg)
			}
			got, err := inject.Pod(tc.pod, ns, cfg, "uuid-1")
			if err != nil {
				t.Fatal(err)
			}
			raw, err := yaml.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			golden.Compare(t, filepath.Join("testdata", name+".yaml"), raw)
		})
	}
}

func TestPodRefuses(t *testing.T) {
	cases := map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"A container that takes the sidecar's name": {
			func(p *corev1.Pod) { p.Spec.Containers[0].Name = "envoy" }, "give the container another name",
		},
		"A container that runs as the sidecar's user could go round the mesh": {
			func(p *corev1.Pod) {
				p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsUser: new(int64(1500))}
			}, "choose another runAsUser",
		},
		"A pod that runs as the sidecar's user could go round the mesh": {
			func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1500))} }, "choose another runAsUser",
		},
		"A port that the sidecar listens on": {
			func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = 15001 }, "choose another port",
		},
		"A volume that takes the identity's name": {
			func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "osm-identity"}} }, "give the volume another name",
		},
		"A list of ports with a word in it": {
			func(p *corev1.Pod) {
				p.Annotations = map[string]string{operatorv1alpha1.AnnotationInboundPortExclusions: "80,http"}
			}, `"http" is not a port`,
		},
		"A port that is none": {
			func(p *corev1.Pod) {
				p.Annotations = map[string]string{operatorv1alpha1.AnnotationOutboundPortExclusions: "80,65536"}
			}, "65536 is not a port",
		},
		"The sidecar's admin interface among the ports that are reached directly": {
			func(p *corev1.Pod) {
				p.Annotations = map[string]string{operatorv1alpha1.AnnotationInboundPortExclusions: "80, 15000"}
			}, "port 15000 is the sidecar's",
		},
		"The sidecar's outbound port among them": {
			func(p *corev1.Pod) {
				p.Annotations = map[string]string{operatorv1alpha1.AnnotationInboundPortExclusions: "15001"}
			}, "port 15001 is the sidecar's",
		},
		"The sidecar's inbound port among them": {
			func(p *corev1.Pod) {
				p.Annotations = map[string]string{operatorv1alpha1.AnnotationInboundPortExclusions: "15003"}
			}, "port 15003 is the sidecar's",
		},
		"A range of IPv4 addresses in IPv6's form": {
			func(p *corev1.Pod) {
				p.Annotations = map[string]string{operatorv1alpha1.AnnotationOutboundRangeExclusions: "::ffff:10.0.0.0/104"}
			}, "in IPv4's form",
		},
		"A range that is none": {
			func(p *corev1.Pod) {
				p.Annotations = map[string]string{operatorv1alpha1.AnnotationOutboundRangeInclusions: "10.0.0.1"}
			}, "is not a range",
		},
		"A probe of a port that nobody named": {
			func(p *corev1.Pod) { p.Spec.Containers[0].LivenessProbe = httpProbe(intstr.FromString("admin"), "/") }, `no port of the container is called "admin"`,
		},
		"A drain that is no number": {
			func(p *corev1.Pod) {
				p.Annotations = map[string]string{operatorv1alpha1.AnnotationDrainSeconds: "soon"}
			}, "whole seconds",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := inject.Pod(pod(tc.change), namespace(), config(), "uuid-1")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Pod: error %v, want one that says %q", err, tc.want)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	annotated := func(value string) *corev1.Pod {
		return pod(func(p *corev1.Pod) { p.Annotations = map[string]string{operatorv1alpha1.AnnotationInjection: value} })
	}
	silent := func(n *inject.Namespace) { delete(n.Annotations, operatorv1alpha1.AnnotationInjection) }
	cases := map[string]struct {
		pod     *corev1.Pod
		ns      func(*inject.Namespace)
		want    bool
		wantErr bool
	}{
		"The namespace asks":                        {pod: pod(nil), want: true},
		"The pod opts out":                          {pod: annotated("No")},
		"The pod asks where its namespace does not": {pod: annotated("TRUE"), ns: silent, want: true},
		"Nobody asks":                               {pod: pod(nil), ns: silent},
		"A word that means nothing is refused":      {pod: annotated("maybe"), wantErr: true},
		"A pod on the node's network is left alone": {pod: pod(func(p *corev1.Pod) { p.Spec.HostNetwork = true })},
		"An ignored namespace is left alone":        {pod: annotated("yes"), ns: func(n *inject.Namespace) { n.Labels[operatorv1alpha1.LabelIgnore] = "true" }},
		"A namespace of another mesh is left alone": {pod: annotated("yes"), ns: func(n *inject.Namespace) { n.Labels[operatorv1alpha1.LabelMonitoredBy] = "other" }},
		"The mesh's own namespace is left alone":    {pod: annotated("yes"), ns: func(n *inject.Namespace) { n.Name = "osm-system" }},
		"Kubernetes' own namespace is left alone":   {pod: annotated("yes"), ns: func(n *inject.Namespace) { n.Name = "kube-system" }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			ns := namespace()
			if tc.ns != nil {
				tc.ns(&ns)
			}
			got, err := inject.Decide(tc.pod, ns, config())
			if (err != nil) != tc.wantErr || got.Inject != tc.want {
				t.Errorf("Decide: %+v, %v; want inject %v, error %v", got, err, tc.want, tc.wantErr)
			}
			if err == nil && !got.Inject && got.Reason == "" {
				t.Error("Decide: left alone without a reason")
			}
		})
	}
}

// TestIdentityChanges has pods that were injected for one kind of identity injected for
// the other: nothing of the first is left.
func TestIdentityChanges(t *testing.T) {
	kubelet, token := config(), config()
	byToken(&token)
	for name, c := range map[string]struct{ from, to inject.Config }{"from the kubelet to a token": {kubelet, token}, "and back": {token, kubelet}} {
		t.Run(name, func(t *testing.T) {
			fresh, err := inject.Pod(pod(nil), namespace(), c.to, "uuid-1")
			if err != nil {
				t.Fatal(err)
			}
			before, err := inject.Pod(pod(nil), namespace(), c.from, "uuid-1")
			if err != nil {
				t.Fatal(err)
			}
			after, err := inject.Pod(before, namespace(), c.to, "uuid-2")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(fresh, after); diff != "" {
				t.Errorf("(-a fresh pod +one that was changed):\n%s", diff)
			}
		})
	}
	t.Run("without roots there is nothing to trust", func(t *testing.T) {
		token.Roots = ""
		if _, err := inject.Pod(pod(nil), namespace(), token, "uuid-1"); err == nil {
			t.Error("a pod is let in that can verify no control plane")
		}
	})
}

// TestTwiceIsOnce holds injection to what webhooks are called for more than once,
// and what the CLI may do to a file that was injected before.
func TestTwiceIsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, cfg := draw(t), config()
		if rapid.Bool().Draw(t, "by token") {
			byToken(&cfg)
		}
		once, err := inject.Pod(before, namespace(), cfg, "uuid-1")
		if err != nil {
			t.Fatal(err)
		}
		twice, err := inject.Pod(once, namespace(), cfg, "uuid-2")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(once, twice); diff != "" {
			t.Errorf("the second injection changed the pod (-once +twice):\n%s", diff)
		}
		back, err := inject.Remove(twice)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, back); diff != "" {
			t.Errorf("Remove does not give the pod back (-before +back):\n%s", diff)
		}
	})
}

// TestLaterContainersAreLookedAt has another webhook add a container between two calls.
func TestLaterContainersAreLookedAt(t *testing.T) {
	once, err := inject.Pod(pod(nil), namespace(), config(), "uuid-1")
	if err != nil {
		t.Fatal(err)
	}
	once.Spec.Containers = append(once.Spec.Containers, corev1.Container{Name: "late", LivenessProbe: httpProbe(intstr.FromInt32(9999), "/late")})
	twice, err := inject.Pod(once, namespace(), config(), "uuid-1")
	if err != nil {
		t.Fatal(err)
	}
	if got := twice.Spec.Containers[1].LivenessProbe.HTTPGet.Port.IntValue(); got == 9999 {
		t.Error("the probe of a container that came later still goes to a port that wants a client certificate")
	}
}

func draw(t *rapid.T) *corev1.Pod {
	return pod(func(p *corev1.Pod) {
		if rapid.Bool().Draw(t, "probes") {
			everyProbe(p)
		}
		if rapid.Bool().Draw(t, "annotated") {
			p.Annotations = map[string]string{"prometheus.io/scrape": "false", "own": "yes", operatorv1alpha1.AnnotationRevision: "wanted"}
		}
		if rapid.Bool().Draw(t, "labelled") {
			p.Labels = map[string]string{"app": "web", operatorv1alpha1.LabelProxyUUID: "copied"}
		}
		if rapid.Bool().Draw(t, "initialised") {
			p.Spec.InitContainers = []corev1.Container{
				{Name: "prepare"}, {Name: "helper", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), StartupProbe: httpProbe(intstr.FromInt32(7000), "")},
			}
		}
		if rapid.Bool().Draw(t, "volumes") {
			p.Spec.Volumes = []corev1.Volume{{Name: "data"}}
		}
	})
}
