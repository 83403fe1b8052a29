package serve_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

// follow connects a proxy that has everything of its class.
func follow(t *testing.T, h *harness, p pod, names map[string][]string) *client {
	t.Helper()
	c := h.connect(t, p)
	for _, typeURL := range []string{cds, eds, sds, lds, rds} {
		if typeURL != cds && typeURL != lds && names[typeURL] == nil {
			continue
		}
		c.ask(typeURL, names[typeURL]...)
		c.ack(c.next(t))
	}
	c.quiet(t)
	return c
}

func TestMakeBeforeBreak(t *testing.T) {
	t.Parallel()
	prepare := func(t *testing.T, l serve.Limits) (*harness, *client) {
		t.Helper()
		h := start(t, limits(l))
		h.cache.SetShared("e", endpointsOf("e", "1"))
		h.cache.SetShared("f", endpointsOf("f", "1"))
		h.cache.SetClass("a", set(t, cluster(t, "old", "1", "e"), listener("in", "1"), route("r", "1"), secret("s", "1")))
		c := follow(t, h, h.pod("1", "a"), map[string][]string{eds: {"e"}, rds: {"r"}, sds: {"s"}})
		h.cache.SetClass("a", set(t, cluster(t, "new", "1", "f"), listener("in", "2"), route("r", "2"), secret("s", "2")))
		return h, c
	}
	t.Run("clusters come first and go last", func(t *testing.T) {
		t.Parallel()
		_, c := prepare(t, serve.Limits{})
		made := c.want(t, "CDS +new")
		c.take(t, "SDS +s")
		c.ask(eds, "f")
		warm := c.want(t, "EDS +f") // before the cluster is acknowledged: Envoy waits for them
		c.quiet(t)
		c.ack(made)
		c.quiet(t) // the endpoints that the cluster waits for are not acknowledged
		c.ack(warm)
		in := c.want(t, "LDS +in")
		c.quiet(t)
		c.ack(in)
		r := c.want(t, "RDS +r")
		c.quiet(t)
		c.ack(r)
		gone := c.want(t, "CDS -old")
		c.quiet(t)
		c.ack(gone)
		c.take(t, "EDS -e") // Envoy no longer asks for them by now
		c.quiet(t)
	})
	t.Run("a proxy that never acknowledges clusters gets the rest", func(t *testing.T) {
		t.Parallel()
		_, c := prepare(t, serve.Limits{Hold: 50 * time.Millisecond})
		c.want(t, "CDS +new")
		c.take(t, "SDS +s")
		if diff := cmp.Diff([]string{"EDS -e", "LDS +in", "RDS +r"}, slices.Sorted(slices.Values([]string{summary(c.next(t)), summary(c.next(t)), summary(c.next(t))}))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("clusters that are never let go of go all the same", func(t *testing.T) {
		t.Parallel()
		_, c := prepare(t, serve.Limits{Hold: 50 * time.Millisecond})
		c.take(t, "CDS +new")
		c.take(t, "SDS +s")
		c.want(t, "LDS +in") // never answered
		if diff := cmp.Diff([]string{"CDS -old", "EDS -e", "RDS +r"}, slices.Sorted(slices.Values([]string{summary(c.next(t)), summary(c.next(t)), summary(c.next(t))}))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("a cluster that comes back in time stays", func(t *testing.T) {
		t.Parallel()
		h, c := prepare(t, serve.Limits{})
		made := c.want(t, "CDS +new")
		h.cache.SetClass("a", set(t, cluster(t, "old", "1", "e"), cluster(t, "new", "1", "f"), listener("in", "2"), route("r", "2"), secret("s", "2")))
		c.ack(made)
		for _, got := range c.rest(t) {
			if strings.HasPrefix(got, "CDS") {
				t.Errorf("got %q", got)
			}
		}
	})
	t.Run("endpoints do not wait for clusters", func(t *testing.T) {
		t.Parallel()
		h := start(t)
		h.cache.SetShared("e", endpointsOf("e", "1"))
		h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e"), listener("in", "1")))
		c := follow(t, h, h.pod("1", "a"), map[string][]string{eds: {"e"}})
		h.cache.SetClass("a", set(t, cluster(t, "one", "2", "e"), listener("in", "1")))
		c.want(t, "CDS +one")
		c.take(t, "EDS +e")
		h.cache.SetShared("e", endpointsOf("e", "2"))
		c.take(t, "EDS +e")
	})
	t.Run("a cluster that goes while its next form warms has its endpoints", func(t *testing.T) {
		t.Parallel()
		h := start(t)
		h.cache.SetShared("e", endpointsOf("e", "1"))
		h.cache.SetShared("f", endpointsOf("f", "1"))
		h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e"), listener("in", "1"), route("r", "1")))
		c := follow(t, h, h.pod("1", "a"), map[string][]string{eds: {"e"}, rds: {"r"}})
		h.cache.SetShared("e", endpointsOf("e", "2"))
		before := c.want(t, "EDS +e") // so that those that it warms with are owed
		h.cache.SetClass("a", set(t, cluster(t, "one", "2", "e"), listener("in", "1"), route("r", "1")))
		warming := c.want(t, "CDS +one")
		h.cache.SetClass("a", set(t, cluster(t, "two", "1", "f"), listener("in", "1"), route("r", "2")))
		h.cache.SetShared("e", nil)
		c.ack(before)
		c.take(t, "EDS +e") // told that there are none, Envoy would put nothing in place of what serves
		c.quiet(t)
		c.ack(warming)
		c.take(t, "CDS +two")
		c.take(t, "RDS +r")
		c.take(t, "CDS -one")
		c.take(t, "EDS -e")
		c.quiet(t)
	})
	t.Run("a proxy that comes back and asks for clusters last gets them first", func(t *testing.T) {
		t.Parallel()
		h := start(t)
		h.cache.SetShared("e", endpointsOf("e", "1"))
		h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e"), listener("in", "1"), route("r", "2")))
		c := h.connect(t, h.pod("1", "a"))
		c.resume(eds, map[string]string{"e": "1"}, "e")
		c.take(t, "EDS +e")
		c.resume(lds, map[string]string{"in": "1"})
		c.resume(rds, map[string]string{"r": "1"}, "r")
		c.quiet(t)
		c.resume(cds, map[string]string{"gone": "1"})
		c.take(t, "CDS +one")
		c.take(t, "EDS +e") // which the new cluster may wait for
		c.take(t, "RDS +r")
		c.take(t, "CDS -gone")
		c.quiet(t)
	})
	t.Run("endpoints that change do not keep listeners waiting", func(t *testing.T) {
		t.Parallel()
		h := start(t)
		h.cache.SetShared("e", endpointsOf("e", "1"))
		h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e"), listener("in", "1")))
		c := follow(t, h, h.pod("1", "a"), map[string][]string{eds: {"e"}})
		h.cache.SetShared("e", endpointsOf("e", "2"))
		c.want(t, "EDS +e")
		h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e"), listener("in", "2")))
		c.take(t, "LDS +in")
	})
}

func TestSettled(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	c := follow(t, h, h.pod("1", "a"), nil)
	d := follow(t, h, h.pod("2", "a"), nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.cache.Settled(ctx, cds, "a", "unknown"); err != nil {
		t.Errorf("before a change: %v", err)
	}

	h.cache.SetClass("a", set(t, cluster(t, "one", "2", "")))
	short, cancelShort := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancelShort()
	if err := h.cache.Settled(short, cds, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a response in flight: %v, want to wait", err)
	}
	done := make(chan error, 1)
	go func() { done <- h.cache.Settled(ctx, cds, "a") }()
	c.take(t, "CDS +one")
	d.nack(d.want(t, "CDS +one"), "no")
	if err := <-done; err != nil {
		t.Errorf("after all answered: %v", err)
	}

	h.cache.SetClass("a", set(t, cluster(t, "one", "3", "")))
	go func() { done <- h.cache.Settled(ctx, cds, "a") }()
	c.take(t, "CDS +one")
	d.close()
	if err := <-done; err != nil {
		t.Errorf("after the last one went: %v", err)
	}
}

func TestMove(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", ""), cluster(t, "both", "1", ""), listener("in", "1")))
	h.cache.SetClass("b", set(t, cluster(t, "two", "1", ""), cluster(t, "both", "1", ""), listener("in", "2")))
	c := follow(t, h, h.pod("1", "a"), nil)
	h.cache.Move("unknown", "b")
	h.cache.Move("1", "a")
	c.quiet(t)
	h.cache.Move("1", "b")
	c.take(t, "CDS +two")
	c.take(t, "LDS +in")
	c.take(t, "CDS -one")
	h.cache.SetClass("a", set(t))
	c.quiet(t)
	h.cache.Move("1", "uncompiled")
	c.quiet(t)
	h.cache.SetClass("uncompiled", set(t, cluster(t, "two", "1", ""), listener("in", "2")))
	c.take(t, "CDS -both")
}
