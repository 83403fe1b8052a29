package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

// TestRejectedConfiguration asks a sidecar for what only Envoy can tell to be impossible, a
// listener on a port that the application has: the sidecar goes on with what it had,
// endpoints go on to follow, and everybody who looks is told.
func TestRejectedConfiguration(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	const ns, taken = "e2e-rejection", "15010"
	namespace(ctx, t, ns, true)
	server := workload{namespace: ns, name: "server", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}}
	member := workload{namespace: ns, name: "member", args: []string{"tcp-echo", "-addr", ":" + taken}}
	running(ctx, t, server, member)
	from, target := podOf(ctx, t, member), "http://server."+ns+":8080/"
	// Connections of old say nothing of the configuration that new ones meet.
	served := func(when string) {
		t.Helper()
		allServed(t, when, call(ctx, t, from, 25, "-target", target, "-keep-alive=false"))
	}
	must(t, cluster.Until(ctx, "the way to be there", func(ctx context.Context) (bool, error) {
		r, err := shared.Call(ctx, from, "-target", target, "-rate", "10", "-duration", "500ms", "-timeout", "2s")
		return err == nil && r.Sent > 0 && r.Failed() == 0, err
	}))
	served("before")
	way := egressOf(member)
	must(t, shared.Create(ctx, way))
	must(t, programmed(ctx, way, metav1.ConditionTrue, "acknowledged by 1 of 1 proxies"))

	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:usetesting // the test's context is done by now
		defer cancel()
		must(t, patchMeshConfig(ctx, func(spec *configv1alpha2.MeshConfigSpec) { spec.Observability = nil }))
		must(t, scrape(ctx, from, "false"))
		must(t, degraded(ctx, operatorv1alpha1.ReasonHealthy))
		must(t, programmed(ctx, way, metav1.ConditionTrue, "acknowledged by 1 of 1 proxies"))
	})
	must(t, patchMeshConfig(ctx, func(spec *configv1alpha2.MeshConfigSpec) {
		spec.Observability = &configv1alpha2.ObservabilitySpec{EnableDebugServer: new(true)}
	}))
	must(t, scrape(ctx, from, "true"))
	must(t, degraded(ctx, operatorv1alpha1.ReasonProxiesRejecting))
	served("with a configuration that was rejected")
	must(t, programmed(ctx, way, metav1.ConditionTrue, "acknowledged by 1 of 1 proxies"))
	before := way.DeepCopy()
	way.Spec.Hosts = append(way.Spec.Hosts, "another.example.invalid")
	must(t, shared.Patch(ctx, way, client.MergeFrom(before)))
	must(t, programmed(ctx, way, metav1.ConditionFalse, "acknowledged by 0 of 1 proxies; "+ns+"/"+from.Name+" rejected", taken))

	must(t, cluster.Until(ctx, "the rejection to be told", func(ctx context.Context) (bool, error) {
		log, metrics, debug, err := told(ctx)
		switch {
		case err != nil:
			return false, err
		case !strings.Contains(log, "A proxy rejected its configuration") || !strings.Contains(log, taken):
			return false, fmt.Errorf("the log does not tell of it")
		case !counts(metrics, "osm_proxy_nack_count"):
			return false, fmt.Errorf("the metric does not count it")
		case !strings.Contains(debug, taken) || !strings.Contains(debug, string(from.UID)):
			return false, fmt.Errorf("the debug page does not tell of it: %s", debug)
		}
		return true, nil
	}))
	// What nobody rejects goes on to follow.
	must(t, scale(ctx, server, 0))
	must(t, cluster.Until(ctx, "the endpoint to be gone", func(ctx context.Context) (bool, error) {
		r, err := shared.Call(ctx, from, "-target", target, "-rate", "10", "-duration", "500ms", "-timeout", "2s", "-keep-alive=false")
		if err != nil || r.Sent == 0 || r.Status["503"] != r.Sent {
			return false, fmt.Errorf("status %v and errors %v of %d requests: %w", r.Status, r.Errors, r.Sent, err)
		}
		return true, nil
	}))
}

// egressOf is an Egress for the pods of a workload.
func egressOf(w workload) *policyv1alpha1.Egress {
	return &policyv1alpha1.Egress{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: w.name},
		Spec: policyv1alpha1.EgressSpec{
			Sources: []policyv1alpha1.EgressSource{{Kind: "ServiceAccount", Namespace: w.namespace, Name: w.name}},
			Hosts:   []string{"one.example.invalid"},
			Ports:   []policyv1alpha1.PortSpec{{Number: 8099, Protocol: "http"}},
		},
	}
}

// programmed waits until an Egress says of its newest generation which proxies acknowledged it.
func programmed(ctx context.Context, e *policyv1alpha1.Egress, status metav1.ConditionStatus, words ...string) error {
	return cluster.Until(ctx, "the Egress to say "+strings.Join(words, ", "), func(ctx context.Context) (bool, error) {
		if err := shared.Get(ctx, client.ObjectKeyFromObject(e), e); err != nil {
			return false, err
		}
		c := meta.FindStatusCondition(e.Status.Conditions, "Programmed")
		said := c != nil && c.Status == status && c.ObservedGeneration == e.Generation
		for _, w := range words {
			said = said && strings.Contains(c.Message, w)
		}
		if !said {
			return false, fmt.Errorf("it says %+v", e.Status.Conditions)
		}
		return true, nil
	})
}

// scrape has a pod's sidecar listen for Prometheus, or not.
func scrape(ctx context.Context, pod *corev1.Pod, on string) error {
	var now corev1.Pod
	if err := shared.Get(ctx, client.ObjectKeyFromObject(pod), &now); err != nil {
		return fmt.Errorf("reading Pod %s: %w", pod.Name, err)
	}
	before := now.DeepCopy()
	metav1.SetMetaDataAnnotation(&now.ObjectMeta, "prometheus.io/scrape", on)
	return shared.Patch(ctx, &now, client.MergeFrom(before))
}

// scale sets the number of pods of a workload.
func scale(ctx context.Context, w workload, replicas int32) error {
	var d appsv1.Deployment
	if err := shared.Get(ctx, client.ObjectKey{Namespace: w.namespace, Name: w.name}, &d); err != nil {
		return fmt.Errorf("reading Deployment %s: %w", w.name, err)
	}
	before := d.DeepCopy()
	d.Spec.Replicas = &replicas
	return shared.Patch(ctx, &d, client.MergeFrom(before))
}

// degraded waits until the Mesh is, or is not, for this reason.
func degraded(ctx context.Context, reason string) error {
	return cluster.Until(ctx, "the Mesh to say "+reason, func(ctx context.Context) (bool, error) {
		var m operatorv1alpha1.Mesh
		if err := shared.Get(ctx, client.ObjectKey{Name: meshName}, &m); err != nil {
			return false, err
		}
		c := meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionDegraded)
		if c == nil || c.Reason != reason {
			return false, fmt.Errorf("it says %+v", c)
		}
		return true, nil
	})
}

// told returns what all replicas of the control plane tell.
func told(ctx context.Context) (log, metrics, debug string, err error) {
	var pods corev1.PodList
	if err := shared.List(ctx, &pods, client.InNamespace(meshNamespace), client.MatchingLabels{"app": render.ControllerService}); err != nil {
		return "", "", "", err
	}
	api := shared.Set.CoreV1().Pods(meshNamespace)
	for _, p := range pods.Items {
		lines, err := api.GetLogs(p.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
		if err != nil {
			return "", "", "", fmt.Errorf("reading the log of %s: %w", p.Name, err)
		}
		page := func(port int, path string) (string, error) {
			raw, err := api.ProxyGet("http", p.Name, strconv.Itoa(port), path, nil).DoRaw(ctx)
			if err != nil {
				return "", fmt.Errorf("reading %s of %s: %w", path, p.Name, err)
			}
			return string(raw), nil
		}
		counted, err := page(render.HTTPPort, "/metrics")
		if err != nil {
			return "", "", "", err
		}
		rejections, err := page(render.DebugPort, "/debug/nacks")
		if err != nil {
			return "", "", "", err
		}
		log, metrics, debug = log+string(lines), metrics+counted, debug+rejections
	}
	return log, metrics, debug, nil
}

// counts reports whether a metric has a series over 0.
func counts(metrics, name string) bool {
	for line := range strings.Lines(metrics) {
		if fields := strings.Fields(line); len(fields) == 2 && strings.HasPrefix(fields[0], name+"{") && fields[1] != "0" {
			return true
		}
	}
	return false
}
