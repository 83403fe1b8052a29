package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
)

// endpoint has an endpoint of the first service become unready, and ready again.
func (w *world) endpoint(times int) action {
	return action{name: "one endpoint", kind: "EndpointSlice", times: times, do: func(ctx context.Context, n int) error {
		return w.apply(ctx, slice(0, w.pods[0], n%2 == 1))
	}}
}

// apply replaces an object, whatever it was.
func (w *world) apply(ctx context.Context, o client.Object) error {
	o.SetResourceVersion("")
	return w.Update(ctx, o)
}

// nothing writes what no proxy could see: a label of a Service.
func (w *world) nothing(times int) action {
	return action{name: "a label that nobody reads", kind: "Service", times: times, do: func(ctx context.Context, n int) error {
		o := clusterService(namespaceOf(0), serviceName(0), serviceName(0))
		return w.Patch(ctx, o, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{"note":"%d"}}}`, n)))
	}}
}

// newService makes a Service whose endpoints there are already, in front of the pods of
// the first.
func (w *world) newService(times int) action {
	objects := func(n int) (service, endpoints client.Object) {
		name := fmt.Sprintf("more-%d", n)
		s := slice(0, w.pods[0], true)
		s.ObjectMeta = metav1.ObjectMeta{Namespace: s.Namespace, Name: name, Labels: map[string]string{"kubernetes.io/service-name": name}}
		return clusterService(namespaceOf(0), name, serviceName(0)), s
	}
	return action{
		name: "one new Service", kind: "Service", times: times,
		do: func(ctx context.Context, n int) error {
			service, endpoints := objects(n)
			if err := w.Create(ctx, endpoints); err != nil {
				return err
			}
			return w.Create(ctx, service)
		},
		undo: func(ctx context.Context, n int) error {
			service, endpoints := objects(n)
			if err := w.Delete(ctx, service); err != nil {
				return err
			}
			return w.Delete(ctx, endpoints)
		},
	}
}

// targets takes one of its callers from the first service, and gives it back.
func (w *world) targets(times int) action {
	return action{name: "one TrafficTarget", kind: "TrafficTarget", times: times, echoes: true, do: func(ctx context.Context, n int) error {
		t := target(0, perGroup-1+n%2)
		patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"sources":%s}}`, mustJSON(t.Spec.Sources)))
		return w.Patch(ctx, t, patch)
	}}
}

// weights changes a weight of the TrafficSplit.
func (w *world) weights(times int) action {
	return action{name: "one TrafficSplit weight", kind: "TrafficSplit", times: times, echoes: true, do: func(ctx context.Context, n int) error {
		s := split(1 + n%2)
		return w.Patch(ctx, s, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"backends":%s}}`, mustJSON(s.Spec.Backends))))
	}}
}

// egress switches global egress, which each sidecar's outbound listener shows.
func (w *world) egress(times int) action {
	return action{name: "one MeshConfig switch (egress)", kind: "MeshConfig", times: times, echoes: true, do: func(ctx context.Context, n int) error {
		o := &configv1alpha2.MeshConfig{ObjectMeta: metav1.ObjectMeta{Namespace: meshNamespace, Name: "osm-mesh-config"}}
		return w.Patch(ctx, o, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"traffic":{"enableEgress":%t}}}`, n%2 == 0)))
	}}
}

// rollOut replaces pods of the first services, service by service as Deployments do: a new
// pod runs and its proxy connects, it takes the place of an old one among the endpoints,
// and the old pod goes.
func (s *subject) rollOut(ctx context.Context, setup string, w *world, pods int) (row, error) {
	out := row{Setup: setup, What: fmt.Sprintf("roll-out of %d pods", pods), Events: 1}
	byPod := map[string]*proxy{}
	for p := range s.fleet.each() {
		byPod[p.pod.uid] = p
	}
	before := s.fleet.counts.tally()
	cpu, err := s.cpu()
	if err != nil {
		return out, err
	}
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(10)
	services := pods / perService
	next := make([][]podRef, services)
	for i := range services {
		for k := range perService {
			next[i] = append(next[i], w.next(i, fmt.Sprintf("s%d-%d-r%d", i, k, w.made)))
		}
	}
	connect := func(pod podRef) error { return s.fleet.add(ctx, pod) } // proxies outlive the group
	disconnect := func(pod podRef) {
		if gone := byPod[pod.uid]; gone != nil {
			s.fleet.remove(gone)
		}
	}
	for i := range services {
		g.Go(func() error { return w.replace(gctx, i, next[i], connect, disconnect) })
	}
	if err := g.Wait(); err != nil {
		return out, err
	}
	all := len(s.fleet.each())
	if err := await(ctx, "all new proxies have everything", func() bool { return s.fleet.insync() == all }); err != nil {
		return out, err
	}
	out.Took = time.Since(began)
	if err := s.quiet(ctx, 300*time.Millisecond); err != nil {
		return out, err
	}
	after, err := s.cpu()
	if err != nil {
		return out, err
	}
	got := s.fleet.counts.tally().minus(before)
	out.Proxies, out.CPU = all, after-cpu
	out.Responses, out.Resources, out.Bytes = float64(got.responses), float64(got.resources), float64(got.bytes)
	out.Note = fmt.Sprintf("%.1f ms of CPU a pod", (after-cpu).Seconds()*1e3/float64(pods))
	return out, nil
}

// replace puts others in the place of a service's pods, one after another.
func (w *world) replace(ctx context.Context, service int, next []podRef, connect func(podRef) error, disconnect func(podRef)) error {
	for k := range next {
		if err := w.pod(ctx, &next[k]); err != nil {
			return err
		}
		if err := connect(next[k]); err != nil {
			return err
		}
		old := w.pods[service][k]
		w.pods[service][k] = next[k]
		if err := w.apply(ctx, slice(service, w.pods[service], true)); err != nil {
			return err
		}
		if err := w.deletePod(ctx, old); err != nil {
			return err
		}
		disconnect(old)
	}
	return nil
}

func (w *world) deletePod(ctx context.Context, p podRef) error {
	return w.Delete(ctx, podObject(p), client.GracePeriodSeconds(0))
}

func mustJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // a plain struct of this program
	}
	return raw
}
