package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

const healthManifest = `
apiVersion: policy.openservicemesh.io/v1alpha1
kind: UpstreamTrafficSetting
metadata: {name: store, namespace: SPACE}
spec:
  host: store.SPACE.svc.cluster.local
  healthCheck: {interval: 1s}
`

// TestPodsThatDoNotListenAreNotCalled has a Service of two pods that are ready, one of
// which listens on another port than the Service leads to.
func TestPodsThatDoNotListenAreNotCalled(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	const ns = "e2e-health"
	namespace(ctx, t, ns, true)
	buyer := idle(ns, "buyer")
	running(ctx, t, buyer,
		workload{namespace: ns, name: "hears", app: "store", args: []string{"http-echo", "-addr", ":8080"}},
		workload{namespace: ns, name: "deaf", app: "store", args: []string{"http-echo", "-addr", ":8081"}},
	)
	service(ctx, t, ns, "store", "store", false, "http:8080")
	from, target := podOf(ctx, t, buyer), "http://store."+ns+":8080/"
	must(t, cluster.Until(ctx, "both pods to be called", func(ctx context.Context) (bool, error) {
		r, err := shared.Call(ctx, from, "-target", target, "-rate", "20", "-duration", "1s", "-timeout", "5s")
		if err != nil || r.Succeeded == 0 || r.Succeeded == r.Sent {
			return false, fmt.Errorf("answered %v: %w", r.Status, err)
		}
		return true, nil
	}))
	must(t, shared.ApplyYAML(ctx, healthManifest, map[string]string{"SPACE": ns}))
	must(t, cluster.Until(ctx, "the pod that listens to be called alone", func(ctx context.Context) (bool, error) {
		r, err := shared.Call(ctx, from, "-target", target, "-rate", "20", "-duration", "1s", "-timeout", "5s")
		if err != nil || r.Succeeded != r.Sent {
			return false, fmt.Errorf("answered %v: %w", r.Status, err)
		}
		return true, nil
	}))
	if r := call(ctx, t, from, 100, "-target", target); r.Succeeded != r.Sent || r.Status["200"] != r.Sent {
		t.Errorf("answered %v, want 200 for all of %d", r.Status, r.Sent)
	}
}
