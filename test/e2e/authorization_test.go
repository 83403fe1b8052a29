package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
	"github.com/openservicemesh/osm-operator/test/apps/authz"
)

// externalAuthorization has sidecars ask a server about inbound requests; nil asks nobody.
func externalAuthorization(ctx context.Context, t *testing.T, ask *configv1alpha2.ExternalAuthzSpec) {
	t.Helper()
	must(t, patchMeshConfig(ctx, func(spec *configv1alpha2.MeshConfigSpec) {
		if spec.Traffic == nil {
			spec.Traffic = &configv1alpha2.TrafficSpec{}
		}
		spec.Traffic.InboundExternalAuthorization = ask
	}))
}

// TestExternalAuthorization has a server decide about requests, counts what it was asked,
// and has it be slow and away, with failureModeAllow and without.
func TestExternalAuthorization(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	const inside, outside = "e2e-authz", "e2e-authz-out"
	namespace(ctx, t, inside, true)
	namespace(ctx, t, outside, false)
	buyer := idle(inside, "buyer")
	store := workload{namespace: inside, name: "store", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}}
	server := workload{namespace: outside, name: "authorizer", args: []string{"authorizer", "-addr", ":9000"}, ports: []string{"grpc:9000"}}
	running(ctx, t, buyer, server, store)
	from, target := podOf(ctx, t, buyer), "http://store."+inside+":8080/"
	ask := configv1alpha2.ExternalAuthzSpec{
		Enable: new(true), Address: "authorizer." + outside + ".svc.cluster.local", Port: 9000, StatPrefix: "e2e", Timeout: "500ms", FailureModeAllow: new(false),
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:usetesting // the test's context is done by now
		defer cancel()
		externalAuthorization(ctx, t, nil)
	})
	args := func(decide string) []string {
		if decide == "" {
			return []string{"-target", target}
		}
		return []string{"-target", target, "-header", authz.Header + "=" + decide}
	}
	gets := func(what, decide, status string) {
		t.Helper()
		must(t, cluster.Until(ctx, what, func(ctx context.Context) (bool, error) {
			r, err := shared.Call(ctx, from, append([]string{"-rate", "10", "-duration", "500ms", "-timeout", "5s"}, args(decide)...)...)
			if err != nil || r.Sent == 0 || r.Status[status] != r.Sent {
				return false, fmt.Errorf("%v of %d: %w", r.Status, r.Sent, err)
			}
			return true, nil
		}))
	}
	// settled waits until no connection has the settings of before: each of them may carry
	// one request more.
	settled := func() {
		t.Helper()
		store := podOf(ctx, t, store)
		must(t, cluster.Until(ctx, "connections of before to end", func(context.Context) (bool, error) {
			out, err := osm("proxy", "get", "stats", store.Name, "-n", store.Namespace)
			if err != nil {
				return false, err
			}
			for _, kind := range []string{"filter_chains", "listeners"} {
				if !strings.Contains(out, "listener_manager.total_"+kind+"_draining: 0\n") {
					return false, fmt.Errorf("there are %s that drain", kind)
				}
			}
			return true, nil
		}))
	}
	// all makes n requests and compares what they get with what the server says of them.
	all := func(what string, n int, decide, status, decided string) {
		t.Helper()
		_, err := shared.Counters(ctx, podOf(ctx, t, server), true)
		must(t, err)
		r := call(ctx, t, from, n, args(decide)...)
		asked, err := shared.Counters(ctx, podOf(ctx, t, server), false)
		must(t, err)
		if r.Status[status] != r.Sent || asked.Status[decided] != r.Sent || asked.Sent != r.Sent {
			t.Errorf("%s: %d requests were answered %v, and the server says %v; want %s and %s for all", what, r.Sent, r.Status, asked.Status, status, decided)
		}
	}
	gets("requests to be served before anybody is asked", authz.Deny, "200")
	externalAuthorization(ctx, t, &ask)
	gets("the server to be asked", authz.Deny, "402")
	settled()
	all("allowed", 50, "", "200", "allowed")
	all("denied", 50, authz.Deny, "402", "denied")
	all("no answer in time", 10, authz.Wait, "403", "waited")
	if r := call(ctx, t, from, 10, args(authz.Wait)...); r.Latency.P50 < 400 || r.Latency.P50 > 3000 {
		t.Errorf("half of the requests without a decision took %v ms, want little more than the timeout of 500", r.Latency.P50)
	}

	ask.FailureModeAllow = new(true)
	externalAuthorization(ctx, t, &ask)
	gets("no answer in time to be a yes", authz.Wait, "200")
	settled()
	all("no answer in time, failing open", 10, authz.Wait, "200", "waited")
	all("a no is a no, failing open", 50, authz.Deny, "402", "denied")

	must(t, scale(ctx, server, 0))
	gets("requests to be served while the server is away, failing open", authz.Deny, "200")
	allServed(t, "while the server is away, failing open", call(ctx, t, from, 50, args("")...))
	ask.FailureModeAllow = new(false)
	externalAuthorization(ctx, t, &ask)
	gets("requests to be refused while the server is away, failing closed", "", "403")
	settled()
	noneServed(t, "while the server is away, failing closed", call(ctx, t, from, 50, args("")...))

	must(t, scale(ctx, server, 1))
	gets("the server to be asked again", "", "200")
	all("allowed again", 50, "", "200", "allowed")
	externalAuthorization(ctx, t, nil)
	gets("nobody to be asked any more", authz.Deny, "200")
}
