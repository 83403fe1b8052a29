package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

// targetManifest lets FROM call TO in SPACE by an HTTPRouteGroup of all requests to PATH.
const targetManifest = `
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: NAME, namespace: SPACE}
spec:
  matches: [{name: it, pathRegex: "PATH", methods: ["*"]}]
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: NAME, namespace: SPACE}
spec:
  destination: {kind: ServiceAccount, name: TO, namespace: SPACE}
  rules: [{kind: HTTPRouteGroup, name: NAME, matches: [it]}]
  sources: [{kind: ServiceAccount, name: FROM, namespace: SPACE}]
`

// allow writes a TrafficTarget; the function that it returns takes it away.
func allow(ctx context.Context, t *testing.T, ns, name, from, to, path string) func() {
	t.Helper()
	replace := map[string]string{"NAME": name, "SPACE": ns, "FROM": from, "TO": to, "PATH": path}
	must(t, shared.ApplyYAML(ctx, targetManifest, replace))
	return func() { must(t, shared.DeleteYAML(ctx, targetManifest, replace)) }
}

// tcpTargetManifest lets FROM connect to TO in SPACE.
const tcpTargetManifest = `
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: NAME, namespace: SPACE}
spec: {}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: NAME, namespace: SPACE}
spec:
  destination: {kind: ServiceAccount, name: TO, namespace: SPACE}
  rules: [{kind: TCPRoute, name: NAME}]
  sources: [{kind: ServiceAccount, name: FROM, namespace: SPACE}]
`

// allowTCP does for connections what allow does for requests.
func allowTCP(ctx context.Context, t *testing.T, ns, name, from, to string) func() {
	t.Helper()
	replace := map[string]string{"NAME": name, "SPACE": ns, "FROM": from, "TO": to}
	must(t, shared.ApplyYAML(ctx, tcpTargetManifest, replace))
	return func() { must(t, shared.DeleteYAML(ctx, tcpTargetManifest, replace)) }
}

// TestEnforcedAccess holds callers to TrafficTargets, live.
func TestEnforcedAccess(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	const ns = "e2e-access"
	namespace(ctx, t, ns, true)
	good, other, stranger := idle(ns, "good"), idle(ns, "other"), idle(ns, "stranger")
	server := workload{namespace: ns, name: "server", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}}
	running(ctx, t, good, other, stranger, server)
	enforce(ctx, t)
	allow(ctx, t, ns, "good", "good", "server", "/.*")
	allow(ctx, t, ns, "other", "other", "server", "/other")
	target := "http://server." + ns + ":8080"

	t.Run("an allowed caller is served", func(t *testing.T) {
		from := podOf(ctx, t, good)
		must(t, cluster.Until(ctx, "the allowed caller to be served", func(ctx context.Context) (bool, error) {
			r, err := shared.Call(ctx, from, "-target", target+"/any", "-rate", "10", "-duration", "500ms", "-timeout", "2s")
			return err == nil && r.Sent > 0 && r.Failed() == 0, err
		}))
		allServed(t, "allowed", call(ctx, t, from, 50, "-target", target+"/any"))
	})
	t.Run("another caller gets 403 outside its routes and is served on them", func(t *testing.T) {
		from := podOf(ctx, t, other)
		must(t, cluster.Until(ctx, "the other caller to be served on its route", func(ctx context.Context) (bool, error) {
			r, err := shared.Call(ctx, from, "-target", target+"/other", "-rate", "10", "-duration", "500ms", "-timeout", "2s")
			return err == nil && r.Sent > 0 && r.Failed() == 0, err
		}))
		r := call(ctx, t, from, 50, "-target", target+"/any")
		noneServed(t, "other path", r)
		if r.Status["403"] != r.Sent {
			t.Errorf("status %v of %d requests, want 403 for all", r.Status, r.Sent)
		}
	})
	t.Run("a caller that no target names gets nothing", func(t *testing.T) {
		noneServed(t, "stranger", call(ctx, t, podOf(ctx, t, stranger), 25, "-target", target+"/any", "-timeout", "1s"))
	})
	t.Run("a target that names what does not exist says so", func(t *testing.T) {
		allow(ctx, t, ns, "missing", "good", "nobody", "/.*")
		must(t, cluster.Until(ctx, "the status of the TrafficTarget", func(ctx context.Context) (bool, error) {
			return conditionOf(ctx, ns, "missing", "ResolvedRefs") == "False", nil
		}))
	})
}

// TestPolicyFlip gives and takes permission under load, by the mode and by TrafficTargets,
// on connections that were open before: none is answered once its end is in force.
func TestPolicyFlip(t *testing.T) {
	ctx := deadline(t, 8*time.Minute)
	const ns = "e2e-flip"
	namespace(ctx, t, ns, true)
	server := workload{namespace: ns, name: "server", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}}
	grpc := workload{namespace: ns, name: "grpc", args: []string{"grpc-echo", "-addr", ":9000"}, ports: []string{"grpc:9000:grpc"}}
	tcp := workload{namespace: ns, name: "tcp", args: []string{"tcp-echo", "-addr", ":7000"}, ports: []string{"tcp-echo:7000"}}
	loads := map[string]workload{}
	for name, args := range map[string][]string{
		"http": {"-target", "http://server." + ns + ":8080/"},
		"grpc": {"-protocol", "grpc", "-stream", "-target", "grpc." + ns + ":9000"},
		"tcp":  {"-protocol", "tcp", "-target", "tcp." + ns + ":7000"},
	} {
		loads[name] = workload{namespace: ns, name: "load-" + name, args: append([]string{"client", "-rate", "20", "-timeout", "1s"}, args...)}
	}
	running(ctx, t, server, grpc, tcp)
	running(ctx, t, loads["http"], loads["grpc"], loads["tcp"])
	for name, w := range loads {
		from := podOf(ctx, t, w)
		must(t, cluster.Until(ctx, "the "+name+" load to be served", func(ctx context.Context) (bool, error) {
			r, err := shared.Counters(ctx, from, false)
			return err == nil && r.Succeeded > 20, err
		}))
	}
	enforce(ctx, t)
	refused(ctx, t, loads, "permissive mode ended")

	remove := []func(){
		allow(ctx, t, ns, "http", "load-http", "server", "/.*"),
		allow(ctx, t, ns, "grpc", "load-grpc", "grpc", "/.*"),
		allowTCP(ctx, t, ns, "tcp", "load-tcp", "tcp"),
	}
	letThrough(ctx, t, loads, "by TrafficTargets")
	for _, r := range remove {
		r()
	}
	refused(ctx, t, loads, "the TrafficTargets went")

	permissive(ctx, t, true)
	letThrough(ctx, t, loads, "in permissive mode again")
}

// letThrough waits until all loads are answered well.
func letThrough(ctx context.Context, t *testing.T, loads map[string]workload, how string) {
	t.Helper()
	for name, w := range loads {
		from := podOf(ctx, t, w)
		must(t, cluster.Until(ctx, fmt.Sprintf("the %s load to be answered %s", name, how), func(ctx context.Context) (bool, error) {
			r, err := shared.Counters(ctx, from, true)
			return err == nil && r.Succeeded > 0 && r.Failed() == 0, err
		}))
	}
}

// refused holds all loads to what was decided: within its bound each is refused, and
// from then on not one request is answered.
func refused(ctx context.Context, t *testing.T, loads map[string]workload, since string) {
	t.Helper()
	for name, w := range loads {
		t.Run(name+" after "+since, func(t *testing.T) {
			from := podOf(ctx, t, w)
			bound := 15 * time.Second
			if name != "http" {
				// Streams and connections that are open already end with the drain of 30 s.
				bound = 60 * time.Second
			}
			flip, cancel := context.WithTimeout(ctx, bound)
			defer cancel()
			must(t, cluster.Until(flip, fmt.Sprintf("%s requests to be refused within %s", name, bound), func(ctx context.Context) (bool, error) {
				r, err := shared.Counters(ctx, from, true)
				if err != nil || r.Succeeded > 0 || r.Sent == 0 {
					return false, fmt.Errorf("%d of %d still answered: %w", r.Succeeded, r.Sent, err)
				}
				return true, nil
			}))
			_, err := shared.Counters(ctx, from, true)
			must(t, err)
			must(t, cluster.Until(ctx, "some more refusals", func(ctx context.Context) (bool, error) {
				r, err := shared.Counters(ctx, from, false)
				if r.Succeeded > 0 {
					t.Fatalf("%d requests were answered after %s was in force", r.Succeeded, since)
				}
				return err == nil && r.Sent >= 20, err
			}))
		})
	}
}
