package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

// conditionOf returns the status of a condition of a TrafficTarget.
func conditionOf(ctx context.Context, ns, name, kind string) string {
	var target accessv1alpha3.TrafficTarget
	if err := shared.Get(ctx, client.ObjectKey{Namespace: ns, Name: name}, &target); err != nil {
		return err.Error()
	}
	for _, c := range target.Status.Conditions {
		if c.Type == kind {
			return string(c.Status)
		}
	}
	return ""
}

// echoes are the servers that underLoad calls.
func echoes(ns string) []workload {
	return []workload{
		{namespace: ns, name: "server", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}},
		{namespace: ns, name: "grpc", args: []string{"grpc-echo", "-addr", ":9000"}, ports: []string{"grpc:9000:grpc"}},
	}
}

// restartable are the same, two of each, that exit the moment they are told to.
func restartable(ns string) []workload {
	servers := echoes(ns)
	for i, port := range []int{8080, 9000} {
		servers[i].replicas, servers[i].probe = 2, tcpReadiness(port)
		servers[i].args = append(servers[i].args, "-exit-at-once")
	}
	return servers
}

// underLoad starts loads of several kinds, runs what is to be survived, and counts.
func underLoad(ctx context.Context, t *testing.T, ns string, fault func()) {
	t.Helper()
	underLoadFrom(ctx, t, ns, ns, fault)
}

// underLoadFrom does the same with the loads in a namespace of their own.
func underLoadFrom(ctx context.Context, t *testing.T, from, ns string, fault func()) {
	t.Helper()
	loads := startLoads(ctx, t, from, map[string][]string{
		"load-http": {"-target", "http://server." + ns + ":8080/", "-rate", "100", "-concurrency", "4"},
		"load-new":  {"-target", "http://server." + ns + ":8080/", "-rate", "50", "-keep-alive=false"},
		"load-grpc": {"-protocol", "grpc", "-target", "grpc." + ns + ":9000", "-rate", "50"},
	})
	fault()
	nothingLost(ctx, t, loads)
}

// startLoads starts clients with these flags, and has them count anew once they are served.
func startLoads(ctx context.Context, t *testing.T, ns string, flags map[string][]string) []*corev1.Pod {
	t.Helper()
	var workloads []workload
	for name, args := range flags {
		workloads = append(workloads, workload{namespace: ns, name: name, args: append([]string{"client", "-timeout", "10s"}, args...)})
	}
	running(ctx, t, workloads...)
	var pods []*corev1.Pod
	for _, w := range workloads {
		pods = append(pods, podOf(ctx, t, w))
	}
	for _, p := range pods {
		must(t, cluster.Until(ctx, "the load of "+p.Name, func(ctx context.Context) (bool, error) {
			r, err := shared.Counters(ctx, p, false)
			return err == nil && r.Succeeded > 50, err
		}))
		_, err := shared.Counters(ctx, p, true)
		must(t, err)
	}
	return pods
}

// enough is how many requests a load must have made for their success to tell something.
const enough = 100

// nothingLost waits until loads have asked often enough to tell, and holds them to have
// been served, all of it.
func nothingLost(ctx context.Context, t *testing.T, loads []*corev1.Pod) {
	t.Helper()
	for _, p := range loads {
		must(t, cluster.Until(ctx, fmt.Sprintf("%s to make %d requests", p.Labels["app"], enough), func(ctx context.Context) (bool, error) {
			r, err := shared.Counters(ctx, p, false)
			return err == nil && r.Sent >= enough, err
		}))
		r, err := shared.Counters(ctx, p, true)
		must(t, err)
		t.Logf("%s: %d requests, %d failed, %d sent again by the client, p99 %.1f ms", p.Labels["app"], r.Sent, r.Failed(), r.Retried, r.Latency.P99)
		allServed(t, p.Labels["app"], r)
	}
}

// TestRollingRestartLosesNothing restarts servers that exit the moment they are told to.
func TestRollingRestartLosesNothing(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	const ns = "e2e-restart"
	namespace(ctx, t, ns, true)
	servers := restartable(ns)
	running(ctx, t, servers...)
	underLoad(ctx, t, ns, func() {
		for _, w := range servers {
			restart(ctx, t, w.namespace, w.name)
		}
	})
}

func tcpReadiness(port int) string {
	return fmt.Sprintf("          readinessProbe: {tcpSocket: {port: %d}, periodSeconds: 1}", port)
}

// restart does what "kubectl rollout restart" does, and waits.
func restart(ctx context.Context, t *testing.T, ns, name string) {
	t.Helper()
	var d appsv1.Deployment
	must(t, shared.Get(ctx, client.ObjectKey{Namespace: ns, Name: name}, &d))
	before := d.DeepCopy()
	metav1.SetMetaDataAnnotation(&d.Spec.Template.ObjectMeta, "kubectl.kubernetes.io/restartedAt", time.Now().Format(time.RFC3339Nano))
	must(t, shared.Patch(ctx, &d, client.MergeFrom(before)))
	must(t, shared.Deployment(ctx, ns, name))
}

// TestControlPlaneAway kills the control plane under load, again and again until a
// thousand requests were made without it, and lets it come back.
func TestControlPlaneAway(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	const ns = "e2e-away"
	namespace(ctx, t, ns, true)
	running(ctx, t,
		workload{namespace: ns, name: "server", replicas: 2, args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}},
		workload{namespace: ns, name: "grpc", args: []string{"grpc-echo", "-addr", ":9000"}, ports: []string{"grpc:9000:grpc"}},
	)
	underLoad(ctx, t, ns, func() {
		load, err := shared.Pod(ctx, ns, "load-http")
		must(t, err)
		must(t, cluster.Until(ctx, "a thousand requests without a control plane", func(ctx context.Context) (bool, error) {
			var pods corev1.PodList
			if err := shared.List(ctx, &pods, client.InNamespace(meshNamespace), client.MatchingLabels{"app": "osm-controller"}); err != nil {
				return false, err
			}
			for i := range pods.Items {
				if err := client.IgnoreNotFound(shared.Delete(ctx, &pods.Items[i], client.GracePeriodSeconds(0))); err != nil {
					return false, err
				}
			}
			r, err := shared.Counters(ctx, &load, false)
			return err == nil && r.Sent >= 1000, err
		}))
		must(t, shared.Deployment(ctx, meshNamespace, controlPlaneName(ctx, t)))
	})
}

func controlPlaneName(ctx context.Context, t *testing.T) string {
	t.Helper()
	var list appsv1.DeploymentList
	must(t, shared.List(ctx, &list, client.InNamespace(meshNamespace), client.MatchingLabels{"app": "osm-controller"}))
	if len(list.Items) != 1 {
		t.Fatalf("%d control planes, want one", len(list.Items))
	}
	return list.Items[0].Name
}

// TestPlaintextIsRefused calls a meshed pod from outside the mesh, by Service and by address.
func TestPlaintextIsRefused(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	const inside, outside = "e2e-inside", "e2e-outside"
	namespace(ctx, t, inside, true)
	namespace(ctx, t, outside, false)
	server := workload{namespace: inside, name: "server", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}}
	plain := workload{namespace: outside, name: "plain", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}}
	stranger, member := idle(outside, "stranger"), idle(inside, "member")
	running(ctx, t, server, plain, stranger, member)
	from := podOf(ctx, t, stranger)
	address := at(podOf(ctx, t, server), 8080)
	for name, target := range map[string]string{
		"by Service": "http://server." + inside + ":8080/", "by address": "http://" + address + "/", "TLS without a certificate": "https://" + address + "/",
	} {
		noneServed(t, name, call(ctx, t, from, 10, "-target", target, "-insecure", "-timeout", "2s"))
	}
	// The control: the same client reaches what is not in the mesh, and the same server
	// serves a member of it.
	allServed(t, "outside to outside", call(ctx, t, from, 10, "-target", "http://plain."+outside+":8080/"))
	allServed(t, "inside to inside", call(ctx, t, podOf(ctx, t, member), 10, "-target", "http://server."+inside+":8080/"))
	allServed(t, "inside to outside, with egress on", call(ctx, t, podOf(ctx, t, member), 10, "-target", "http://plain."+outside+":8080/"))
}

// TestProbes holds pods with probes of every kind to their own answers.
func TestProbes(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	const ns = "e2e-probes"
	namespace(ctx, t, ns, true)
	running(ctx, t,
		workload{namespace: ns, name: "http", args: []string{"http-echo", "-addr", ":8080"}, probe: `          livenessProbe: {httpGet: {port: 8080, path: /healthz}, periodSeconds: 1}
          readinessProbe: {httpGet: {port: 8080, path: /healthz}, periodSeconds: 1}
          startupProbe: {httpGet: {port: 8080, path: /healthz}, periodSeconds: 1}`},
		workload{namespace: ns, name: "https", args: []string{"http-echo", "-addr", ":8443", "-tls"}, probe: `          readinessProbe: {httpGet: {port: 8443, path: /healthz, scheme: HTTPS}, periodSeconds: 1}`},
		workload{namespace: ns, name: "tcp", args: []string{"tcp-echo", "-addr", ":7000"}, probe: tcpReadiness(7000)},
		workload{namespace: ns, name: "grpc", args: []string{"grpc-echo", "-addr", ":9000"}, probe: `          readinessProbe: {grpc: {port: 9000}, periodSeconds: 1}`},
	)
	closed := workload{namespace: ns, name: "closed", args: []string{"tcp-echo", "-addr", ":7000"}, probe: tcpReadiness(7001)}
	closed.deploy(ctx, t)
	var pod corev1.Pod
	must(t, cluster.Until(ctx, "the pod with the closed port to have run", func(ctx context.Context) (bool, error) {
		var pods corev1.PodList
		if err := shared.List(ctx, &pods, client.InNamespace(ns), client.MatchingLabels{"app": "closed"}); err != nil || len(pods.Items) == 0 {
			return false, err
		}
		pod = pods.Items[0]
		var events corev1.EventList
		if err := shared.List(ctx, &events, client.InNamespace(ns), client.MatchingFields{"involvedObject.name": pod.Name}); err != nil {
			return false, err
		}
		for _, e := range events.Items {
			if e.Reason == "Unhealthy" && strings.Contains(e.Message, "Readiness probe failed") && e.Count >= 3 && strings.Contains(e.Message, "503") {
				return true, nil
			}
		}
		return false, nil
	}))
	if cluster.Ready(&pod) {
		t.Error("a pod is ready though the port that its TCP probe asks for is closed")
	}
}
