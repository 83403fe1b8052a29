package e2e

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

const splitManifest = `
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: NAME, namespace: SPACE}
spec:
  service: ROOT
  backends: [{service: one, weight: FIRST}, {service: two, weight: SECOND}]
`

// split writes a TrafficSplit of a root Service among the back ends one and two.
func split(ctx context.Context, t *testing.T, ns, name, root string, first, second int) {
	t.Helper()
	must(t, shared.ApplyYAML(ctx, splitManifest, map[string]string{
		"NAME": name, "SPACE": ns, "ROOT": root, "FIRST": strconv.Itoa(first), "SECOND": strconv.Itoa(second),
	}))
}

// TestTrafficSplit measures shares, edits them live, and writes splits that cannot be
// followed: they say so, and touch nothing else.
func TestTrafficSplit(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	const ns = "e2e-split"
	namespace(ctx, t, ns, true)
	echo := func(name string) workload {
		return workload{namespace: ns, name: name, args: []string{"http-echo", "-addr", ":8080", "-identity", name}, ports: []string{"http:8080"}}
	}
	caller := idle(ns, "caller")
	running(ctx, t, caller, echo("one"), echo("two"))
	service(ctx, t, ns, "root", "one", false, "http:8080")
	from, target := podOf(ctx, t, caller), "http://root."+ns+":8080/"

	for _, weights := range [][2]int{{90, 10}, {50, 50}, {0, 100}} {
		t.Run(fmt.Sprintf("%d to %d", weights[0], weights[1]), func(t *testing.T) {
			split(ctx, t, ns, "root", "root", weights[0], weights[1])
			must(t, cluster.Until(ctx, "the shares to be measured", func(ctx context.Context) (bool, error) {
				r, err := shared.Call(ctx, from, "-target", target, "-rate", "400", "-duration", "1s", "-timeout", "5s")
				if err != nil {
					return false, err
				}
				if r.Failed() != 0 {
					t.Errorf("%d of %d requests failed while weights changed: %v %v", r.Failed(), r.Sent, r.Status, r.Errors)
				}
				n, share := float64(r.Succeeded), float64(weights[0])/100
				one := float64(r.Identities["one"])
				// Five standard deviations: by chance, one run in a million is further away.
				if bound := 5 * math.Sqrt(n*share*(1-share)); math.Abs(one-n*share) > bound {
					return false, fmt.Errorf("%v of %v requests went to the first: %v", one, n, r.Identities)
				}
				return n >= 200, nil
			}))
		})
	}
	split(ctx, t, ns, "root", "root", 50, 50)
	t.Run("a root that does not exist", func(t *testing.T) {
		split(ctx, t, ns, "bad", "nowhere", 50, 50)
		splitSays(ctx, t, ns, "bad", func(c metav1.Condition) bool { return c.Type == "ResolvedRefs" && c.Status == metav1.ConditionFalse })
	})
	t.Run("weights that are all 0", func(t *testing.T) {
		service(ctx, t, ns, "zero", "one", false, "http:8080")
		split(ctx, t, ns, "zero", "zero", 0, 0)
		splitSays(ctx, t, ns, "zero", func(c metav1.Condition) bool { return c.Type == "Accepted" && c.Reason == "NoTraffic" })
		r := call(ctx, t, from, 20, "-target", "http://zero."+ns+":8080/")
		noneServed(t, "a split that gives nobody anything", r)
	})
	allServed(t, "beside splits that cannot be followed", call(ctx, t, from, 100, "-target", target))
}

// splitSays waits until a TrafficSplit has a condition.
func splitSays(ctx context.Context, t *testing.T, ns, name string, says func(metav1.Condition) bool) {
	t.Helper()
	must(t, cluster.Until(ctx, "the status of the TrafficSplit", func(ctx context.Context) (bool, error) {
		var s splitv1alpha4.TrafficSplit
		if err := shared.Get(ctx, client.ObjectKey{Namespace: ns, Name: name}, &s); err != nil {
			return false, err
		}
		if !slices.ContainsFunc(s.Status.Conditions, says) {
			return false, fmt.Errorf("conditions %+v", s.Status.Conditions)
		}
		return true, nil
	}))
}

// TestServiceWithoutEndpoints answers at once, rather than keeping the caller waiting.
func TestServiceWithoutEndpoints(t *testing.T) {
	ctx := deadline(t, 3*time.Minute)
	const ns = "e2e-nobody"
	namespace(ctx, t, ns, true)
	caller := idle(ns, "caller")
	running(ctx, t, caller)
	service(ctx, t, ns, "nobody", "nobody", false, "http:8080")
	from := podOf(ctx, t, caller)
	must(t, cluster.Until(ctx, "503 for a Service without endpoints", func(ctx context.Context) (bool, error) {
		r, err := shared.Call(ctx, from, "-target", "http://nobody."+ns+":8080/", "-rate", "20", "-duration", "1s", "-timeout", "5s")
		if err != nil {
			return false, err
		}
		if r.Sent == 0 || r.Status["503"] != r.Sent {
			return false, fmt.Errorf("status %v, errors %v", r.Status, r.Errors)
		}
		if r.Latency.P99 > 500 {
			t.Errorf("the answer took %.0f ms", r.Latency.P99)
		}
		return true, nil
	}))
}
