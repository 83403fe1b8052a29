package serve_test

import (
	"context"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

func TestProxies(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", ""), listener("in", "1"), secret("trust-bundle", "roots-1")))
	p := h.pod("1", "a")
	before := time.Now()
	certificate := h.ca.workload(t, p, func(c *x509.Certificate) { c.NotAfter = before.Add(time.Hour).Truncate(time.Second).UTC() })
	c, err := h.open(t, p.node(), &certificate)
	if err != nil {
		t.Fatal(err)
	}
	if got := h.server.Proxies(); len(got) != 0 {
		t.Errorf("before its first request: %+v, want nobody", got)
	}
	state := func() serve.ProxyState {
		t.Helper()
		got := h.server.Proxies()
		if len(got) != 1 {
			t.Fatalf("got %d proxies, want 1", len(got))
		}
		return got[0]
	}
	c.ask(cds)
	r := c.want(t, "CDS +one")
	c.quiet(t)
	got := state()
	if since := got.ConnectedSince; since.Before(before) || since.After(time.Now()) {
		t.Errorf("connected since %s", since)
	}
	got.ConnectedSince = time.Time{}
	want := serve.ProxyState{
		ProxyInfo: serve.ProxyInfo{
			PodUID: "1", Namespace: "shop", Name: "pod-1", Class: "a", Revision: "v1",
			ServiceAccount: identity.ServiceAccount{Namespace: "shop", Name: "web"},
		},
		LeafSerial: certificate.Leaf.SerialNumber.Text(16), LeafIssuer: got.LeafIssuer, LeafNotAfter: certificate.Leaf.NotAfter, Pending: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("with clusters in flight (-want +got):\n%s", diff)
	}
	c.ack(r)
	c.quiet(t)
	if got := state(); got.InSync || got.Pending != 0 {
		t.Errorf("before it asks for listeners: %+v, want not in sync", got)
	}
	c.ask(lds)
	c.take(t, "LDS +in")
	c.ask(sds, "trust-bundle")
	r = c.want(t, "SDS +trust-bundle")
	c.quiet(t)
	if got := state(); got.InSync || got.Pending != 1 || got.TrustBundle != "" {
		t.Errorf("with roots in flight: %+v", got)
	}
	c.ack(r)
	c.quiet(t)
	if got := state(); !got.InSync || got.Pending != 0 || got.TrustBundle != "roots-1" {
		t.Errorf("with all acknowledged: %+v", got)
	}
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", ""), listener("in", "1"), secret("trust-bundle", "roots-2")))
	r = c.want(t, "SDS +trust-bundle")
	if got := state(); got.InSync || got.TrustBundle != "roots-1" {
		t.Errorf("with new roots in flight: %+v", got)
	}
	c.nack(r, "no")
	c.quiet(t)
	if got := state(); got.InSync || got.Pending != 1 || got.TrustBundle != "roots-1" || got.Rejected == nil {
		t.Errorf("with new roots rejected: %+v", got)
	}
	h.cache.Move("1", "b")
	if got := state(); got.Class != "b" || got.InSync {
		t.Errorf("of a class that is not compiled: %+v", got)
	}
}

// Endpoints come and go all the time; that one is under way is nothing that policies wait for.
func TestSettledButForEndpoints(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "eds")))
	h.cache.SetShared("eds", endpointsOf("eds", "1"))
	c := follow(t, h, h.pod("1", "a"), map[string][]string{eds: {"eds"}})
	h.cache.SetShared("eds", endpointsOf("eds", "2"))
	r := c.want(t, "EDS +eds")
	if got := h.server.Proxies()[0]; got.InSync || !got.Settled {
		t.Errorf("with endpoints in flight: %+v, want settled and not in sync", got)
	}
	c.ack(r)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "eds"), listener("in", "1")))
	r = c.want(t, "LDS +in")
	if got := h.server.Proxies()[0]; got.InSync || got.Settled {
		t.Errorf("with a listener in flight: %+v, want neither", got)
	}
	c.nack(r, "no")
	c.quiet(t)
	if got := h.server.Proxies()[0]; got.Settled {
		t.Errorf("with a listener rejected: %+v", got)
	}
}

// A new listener that the proxy rejects, and that its next class does not have, is
// no longer rejected.
func TestRejectedResourceThatGoes(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	h.cache.SetClass("b", set(t, cluster(t, "one", "1", "")))
	c := follow(t, h, h.pod("1", "a"), nil)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", ""), listener("new", "bad")))
	c.nack(c.want(t, "LDS +new"), "no")
	c.quiet(t)
	if got := h.server.Proxies(); got[0].Rejected == nil {
		t.Fatalf("before it goes: %+v, want something rejected", got)
	}
	h.cache.Move("1", "b")
	c.quiet(t)
	if got := h.server.Proxies(); got[0].Rejected != nil || !got[0].InSync {
		t.Errorf("after it went: %+v, want nothing rejected", got)
	}
}

func TestWatchingProxies(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	c := follow(t, h, h.pod("1", "a"), nil)

	var mu sync.Mutex
	now := map[string]serve.ProxyState{}
	first := true
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.server.Watch(ctx, 5*time.Millisecond, func(changed []serve.ProxyState, gone []string) {
			mu.Lock()
			defer mu.Unlock()
			if first && len(changed) != 1 {
				t.Errorf("at first %d were told of, want 1", len(changed))
			}
			first = false
			for _, p := range changed {
				now[p.PodUID] = p
			}
			for _, uid := range gone {
				delete(now, uid)
			}
		})
	}()
	is := func(so func() bool) func() bool {
		return func() bool { mu.Lock(); defer mu.Unlock(); return so() }
	}
	wait(t, "the first is known", is(func() bool { return now["1"].InSync }))
	d := follow(t, h, h.pod("2", "a"), nil)
	wait(t, "the second is known", is(func() bool { return now["2"].InSync }))
	h.cache.SetClass("a", set(t, cluster(t, "one", "2", "")))
	c.take(t, "CDS +one")
	wait(t, "one is behind", is(func() bool { return now["1"].InSync && !now["2"].InSync }))
	d.close()
	wait(t, "one is gone", is(func() bool { _, ok := now["2"]; return !ok }))
	cancel()
	<-done
}

func TestDraining(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *serve.Options) { o.Drain = 100 * time.Millisecond })
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	var all []*client
	for _, uid := range []string{"1", "2", "3"} {
		all = append(all, follow(t, h, h.pod(uid, "a"), nil))
	}
	stopped := make(chan error, 1)
	go func() { stopped <- h.stop() }()
	for _, c := range all {
		if err := c.finish(t); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v, want Unavailable", err)
		}
	}
	select {
	case err := <-stopped:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(patience):
		t.Error("Serve does not return")
	}
	if got := h.metric(t, "osm_proxy_connect_count", ""); got != 0 {
		t.Errorf("%v proxies are counted after all went", got)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	p := h.pod("1", "a")
	c := follow(t, h, p, nil)
	c.close()
	d := h.connect(t, p)
	d.resume(cds, c.has[cds])
	d.quiet(t)
	for name, want := range map[string]float64{
		"osm_proxy_reconnect_count": 1, "osm_proxy_connect_count": 1,
		"osm_proxy_response_send_success_count": 2, "osm_proxy_config_update_time": 2,
	} {
		wait(t, name+" is right", func() bool { return h.metric(t, name, "") == want })
	}
	if got := h.metric(t, "osm_proxy_last_response_timestamp_seconds", "CDS"); time.Since(time.Unix(int64(got), 0)) > time.Hour {
		t.Errorf("the last response was at %f", got)
	}
}
