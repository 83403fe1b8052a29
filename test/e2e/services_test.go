package e2e

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

const dualStackManifest = `
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: SPACE}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: APP}
  ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: NAME-pods, namespace: SPACE}
spec:
  clusterIP: None
  ipFamilyPolicy: RequireDualStack
  selector: {app: APP}
  ports: [{name: http, port: 8080}]
`

// TestBothAddressFamilies calls by IPv4 and IPv6: Services and single pods, within the
// mesh and in clear from outside.
func TestBothAddressFamilies(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	const inside, outside = "e2e-families", "e2e-families-out"
	namespace(ctx, t, inside, true)
	namespace(ctx, t, outside, false)
	echo := func(ns string) workload {
		return workload{namespace: ns, name: "server", args: []string{"http-echo", "-addr", ":8080"}}
	}
	member, stranger := idle(inside, "member"), idle(outside, "stranger")
	running(ctx, t, echo(inside), echo(outside), member, stranger)
	from, server := podOf(ctx, t, member), podOf(ctx, t, echo(inside))
	if len(server.Status.PodIPs) < 2 {
		t.Skip("the cluster gives pods addresses of one family only")
	}
	for _, ns := range []string{inside, outside} {
		must(t, shared.ApplyYAML(ctx, dualStackManifest, map[string]string{"NAME": "server", "SPACE": ns, "APP": "server"}))
	}
	url := func(ip string) string { return "http://" + net.JoinHostPort(ip, "8080") + "/" }
	// A Service that was made only now is on its way to the caller's sidecar, which passes
	// its calls on until then: in clear, and so in vain.
	reached := func(t *testing.T, what, ip string) {
		t.Helper()
		served(ctx, t, from, what, "-target", url(ip))
		allServed(t, what, call(ctx, t, from, 25, "-target", url(ip)))
	}
	for _, ip := range clusterIPs(ctx, t, inside, "server") {
		t.Run("a Service by "+ip, func(t *testing.T) { reached(t, "the Service", ip) })
	}
	for _, ip := range server.Status.PodIPs {
		t.Run("a pod of a headless Service by "+ip.IP, func(t *testing.T) { reached(t, "the pod", ip.IP) })
	}
	from = podOf(ctx, t, stranger)
	for _, ip := range server.Status.PodIPs {
		t.Run("in clear from outside to "+ip.IP, func(t *testing.T) {
			noneServed(t, "a stranger", call(ctx, t, from, 10, "-target", url(ip.IP), "-timeout", "2s"))
		})
	}
	for _, ip := range podOf(ctx, t, echo(outside)).Status.PodIPs {
		t.Run("outside to outside by "+ip.IP, func(t *testing.T) {
			allServed(t, "the control", call(ctx, t, from, 10, "-target", url(ip.IP)))
		})
	}
}

// clusterIPs returns the addresses of a Service of both families.
func clusterIPs(ctx context.Context, t *testing.T, ns, name string) []string {
	t.Helper()
	var s corev1.Service
	must(t, shared.Get(ctx, client.ObjectKey{Namespace: ns, Name: name}, &s))
	if len(s.Spec.ClusterIPs) != 2 {
		t.Fatalf("Service %s has the addresses %v, want two", name, s.Spec.ClusterIPs)
	}
	return s.Spec.ClusterIPs
}

// served waits until calls are answered well.
func served(ctx context.Context, t *testing.T, from *corev1.Pod, what string, args ...string) {
	t.Helper()
	must(t, cluster.Until(ctx, what+" to be served", func(ctx context.Context) (bool, error) {
		r, err := shared.Call(ctx, from, append([]string{"-rate", "10", "-duration", "500ms", "-timeout", "2s"}, args...)...)
		if err != nil {
			return false, err
		}
		if r.Sent == 0 || r.Failed() != 0 {
			return false, fmt.Errorf("status %v, errors %v", r.Status, r.LastError)
		}
		return true, nil
	}))
}

const externalNameManifest = `
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: SPACE}
spec:
  type: ExternalName
  externalName: TARGET
  ports: [{name: http, port: 8080}]
`

// TestExternalName calls other names of a Service in the mesh, and of one outside.
func TestExternalName(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	const inside, outside = "e2e-names", "e2e-names-out"
	namespace(ctx, t, inside, true)
	namespace(ctx, t, outside, false)
	echo := func(ns string) workload {
		return workload{namespace: ns, name: "server", args: []string{"http-echo", "-addr", ":8080", "-identity", ns}, ports: []string{"http:8080"}}
	}
	caller := idle(inside, "caller")
	running(ctx, t, echo(inside), echo(outside), caller)
	for name, target := range map[string]string{"near": inside, "far": outside} {
		must(t, shared.ApplyYAML(ctx, externalNameManifest, map[string]string{"NAME": name, "SPACE": inside, "TARGET": "server." + target + ".svc.cluster.local"}))
	}
	from := podOf(ctx, t, caller)
	for name, ns := range map[string]string{"near": inside, "far": outside} {
		target := fmt.Sprintf("http://%s.%s:8080/", name, inside)
		served(ctx, t, from, name, "-target", target)
		r := call(ctx, t, from, 25, "-target", target)
		allServed(t, name, r)
		if r.Identities[ns] != r.Sent {
			t.Errorf("%s: answered by %v, want %s", name, r.Identities, ns)
		}
	}
	egress(ctx, t, false)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:usetesting // the test's context is done by now
		defer cancel()
		egress(ctx, t, true)
	})
	target := "http://far." + inside + ":8080/"
	must(t, cluster.Until(ctx, "the way out to close", func(ctx context.Context) (bool, error) {
		r, err := shared.Call(ctx, from, "-target", target, "-rate", "10", "-duration", "500ms", "-timeout", "2s", "-keep-alive=false")
		return err == nil && r.Sent > 0 && r.Succeeded == 0, err
	}))
	noneServed(t, "a name for what is outside, without egress", call(ctx, t, from, 25, "-target", target, "-keep-alive=false"))
	allServed(t, "a name for what is inside, without egress", call(ctx, t, from, 25, "-target", "http://near."+inside+":8080/"))
}

// egress lets calls to outside the mesh pass, or not, as users do.
func egress(ctx context.Context, t *testing.T, on bool) {
	t.Helper()
	must(t, patchMeshConfig(ctx, func(spec *configv1alpha2.MeshConfigSpec) {
		if spec.Traffic == nil {
			spec.Traffic = &configv1alpha2.TrafficSpec{}
		}
		spec.Traffic.EnableEgress = &on
	}))
}

const movedPortManifest = `
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: SPACE}
spec:
  clusterIP: None
  selector: {app: APP}
  ports: [{name: PORT, port: 80, targetPort: TARGET}]
`

// TestHeadlessServices calls pods where they listen, though their Service says another
// port, and sends a share of a Service's requests to a headless one.
func TestHeadlessServices(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	const ns = "e2e-headless"
	namespace(ctx, t, ns, true)
	caller := idle(ns, "caller")
	echo := func(name string, headless bool) workload {
		return workload{namespace: ns, name: name, headless: headless, args: []string{"http-echo", "-addr", ":8080", "-identity", name}, ports: []string{"http:8080"}}
	}
	running(ctx, t, caller, echo("one", false), echo("two", true),
		workload{namespace: ns, name: "moved", args: []string{"http-echo", "-addr", ":8082"}},
		workload{namespace: ns, name: "moved-tcp", args: []string{"tcp-echo", "-addr", ":7001"}})
	for name, port := range map[string][2]string{"moved": {"http", "8082"}, "moved-tcp": {"tcp-a", "7001"}} {
		must(t, shared.ApplyYAML(ctx, movedPortManifest, map[string]string{"NAME": name, "SPACE": ns, "APP": name, "PORT": port[0], "TARGET": port[1]}))
	}
	from := podOf(ctx, t, caller)
	for what, args := range map[string][]string{
		"HTTP where the pods listen": {"-target", "http://moved." + ns + ":8082/"},
		"TCP where the pods listen":  {"-protocol", "tcp", "-target", "moved-tcp." + ns + ":7001"},
	} {
		served(ctx, t, from, what, args...)
		allServed(t, what, call(ctx, t, from, 25, args...))
	}
	split(ctx, t, ns, "one", "one", 50, 50)
	must(t, cluster.Until(ctx, "the headless back end to get its share", func(ctx context.Context) (bool, error) {
		r, err := shared.Call(ctx, from, "-target", "http://one."+ns+":8080/", "-rate", "50", "-duration", "1s", "-timeout", "5s")
		if err != nil {
			return false, err
		}
		allServed(t, "a split with a headless back end", r)
		return r.Identities["one"] > 0 && r.Identities["two"] > 0, nil
	}))
}

// TestMixedService has pods with a sidecar and pods without behind one Service.
func TestMixedService(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	const ns = "e2e-mixed"
	namespace(ctx, t, ns, true)
	echo := func(name string, annotations map[string]string) workload {
		return workload{
			namespace: ns, name: name, app: "mixed", annotations: annotations,
			args: []string{"http-echo", "-addr", ":8080", "-identity", name}, ports: []string{"http:8080"},
		}
	}
	caller := idle(ns, "caller")
	running(ctx, t, caller, echo("inside", nil), echo("outside", map[string]string{"openservicemesh.io/sidecar-injection": "disabled"}))
	from, target := podOf(ctx, t, caller), "http://mixed."+ns+":8080/"
	r := call(ctx, t, from, 100, "-target", target, "-keep-alive=false")
	allServed(t, "in permissive mode", r)
	if r.Identities["inside"] == 0 || r.Identities["outside"] == 0 {
		t.Errorf("answered by %v, want both", r.Identities)
	}
	enforce(ctx, t)
	allow(ctx, t, ns, "mixed", "caller", "inside", "/.*")
	must(t, cluster.Until(ctx, "the pods without a sidecar to get nothing", func(ctx context.Context) (bool, error) {
		r, err := shared.Call(ctx, from, "-target", target, "-rate", "50", "-duration", "1s", "-timeout", "2s")
		return err == nil && r.Succeeded == r.Sent && r.Identities["outside"] == 0, err
	}))
	r = call(ctx, t, from, 100, "-target", target)
	allServed(t, "enforced", r)
	if r.Identities["inside"] != r.Sent {
		t.Errorf("answered by %v, want the pods in the mesh alone", r.Identities)
	}
}

// enforce ends permissive mode until the test ends.
func enforce(ctx context.Context, t *testing.T) {
	t.Helper()
	permissive(ctx, t, false)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's own is done by now
		defer cancel()
		permissive(ctx, t, true)
	})
}
