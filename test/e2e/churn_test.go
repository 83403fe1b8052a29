package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

// TestChurnUnderLoad has all that the control plane follows come, change and go while
// requests, streams and connections are under way, and loses none of them.
func TestChurnUnderLoad(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	const ns = "e2e-churn"
	namespace(ctx, t, ns, true)
	serves := func(name string) workload {
		return workload{
			namespace: ns, name: name, replicas: 2, probe: tcpReadiness(8080),
			args: []string{"http-echo", "-addr", ":8080", "-identity", name, "-exit-at-once"}, ports: []string{"http:8080"},
		}
	}
	one, two, stranger := serves("one"), serves("two"), idle(ns, "stranger")
	running(ctx, t, one, two, stranger,
		workload{namespace: ns, name: "grpc", args: []string{"grpc-echo", "-addr", ":9000"}, ports: []string{"grpc:9000:grpc"}},
		workload{namespace: ns, name: "tcp", args: []string{"tcp-echo", "-addr", ":7000"}, ports: []string{"tcp-echo:7000"}},
	)
	service(ctx, t, ns, "root", "one", false, "http:8080")
	split(ctx, t, ns, "root", "root", 50, 50)
	loads := startLoads(ctx, t, ns, map[string][]string{
		"load-http":   {"-target", "http://root." + ns + ":8080/", "-rate", "100", "-concurrency", "4"},
		"load-new":    {"-target", "http://root." + ns + ":8080/", "-rate", "50", "-keep-alive=false"},
		"load-stream": {"-protocol", "grpc", "-stream", "-target", "grpc." + ns + ":9000"},
		"load-tcp":    {"-protocol", "tcp", "-target", "tcp." + ns + ":7000", "-rate", "50"},
	})
	passes := egressSwitch(ctx, t)
	for round, weights := range [][2]int{{90, 10}, {0, 100}, {100, 0}, {50, 50}} {
		churn(ctx, t, ns, round, weights)
		passes(round%2 == 0)
		for w, replicas := range map[*workload]int32{&one: 1 + 2*int32(round%2), &two: 3 - 2*int32(round%2)} {
			must(t, scale(ctx, *w, replicas))
			must(t, shared.Deployment(ctx, w.namespace, w.name))
		}
	}
	nothingLost(ctx, t, loads)

	// Streams and connections end 30 s after the mode has changed; requests go on.
	requests := slices.DeleteFunc(loads, func(p *corev1.Pod) bool {
		return p.Labels["app"] == "load-stream" || p.Labels["app"] == "load-tcp"
	})
	for _, from := range []string{"load-http", "load-new"} {
		for _, to := range []string{"one", "two"} {
			allow(ctx, t, ns, from+"-"+to, from, to, "/.*")
		}
	}
	from := podOf(ctx, t, stranger)
	for _, mode := range []bool{false, true} {
		if mode {
			permissive(ctx, t, true)
		} else {
			enforce(ctx, t)
		}
		must(t, cluster.Until(ctx, fmt.Sprintf("the mode to change: permissive %v", mode), func(ctx context.Context) (bool, error) {
			r, err := shared.Call(ctx, from, "-target", "http://root."+ns+":8080/", "-rate", "10", "-duration", "500ms", "-timeout", "1s")
			return err == nil && r.Sent > 0 && r.Succeeded == map[bool]int64{true: r.Sent}[mode], err
		}))
		nothingLost(ctx, t, requests)
	}
}

// churn is one round of Services, weights and policies that come, change and go beside
// what is called.
func churn(ctx context.Context, t *testing.T, ns string, round int, weights [2]int) {
	t.Helper()
	split(ctx, t, ns, "root", "root", weights[0], weights[1])
	for i := range 5 {
		now, before := fmt.Sprintf("come-%d-%d", round, i), fmt.Sprintf("come-%d-%d", round-1, i)
		service(ctx, t, ns, now, []string{"one", "two", "nobody"}[i%3], false, "http:8080")
		must(t, client.IgnoreNotFound(shared.Delete(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: before}})))
	}
	remove := allow(ctx, t, ns, "beside", "stranger", "one", fmt.Sprintf("/round-%d", round))
	// A port more is an inbound listener more at what is called.
	service(ctx, t, ns, "two", "two", false, slices.Concat([]string{"http:8080"}, []string{"more:8081"}[:round%2])...)
	remove()
}

// egressSwitch returns what says whether calls to nowhere in the mesh pass; the test's end
// puts back what was there.
func egressSwitch(ctx context.Context, t *testing.T) func(on bool) {
	t.Helper()
	set := func(ctx context.Context, on *bool) error {
		return patchMeshConfig(ctx, func(spec *configv1alpha2.MeshConfigSpec) { spec.Traffic.EnableEgress = on })
	}
	var was *bool
	must(t, patchMeshConfig(ctx, func(spec *configv1alpha2.MeshConfigSpec) {
		if spec.Traffic == nil {
			spec.Traffic = &configv1alpha2.TrafficSpec{}
		}
		was = spec.Traffic.EnableEgress // absent is not off
	}))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := set(ctx, was); err != nil {
			t.Errorf("putting back whether calls pass: %v", err)
		}
	})
	return func(on bool) { t.Helper(); must(t, set(ctx, &on)) }
}
