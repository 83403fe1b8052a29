package serve_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

func TestRejections(t *testing.T) {
	t.Parallel()
	t.Run("what is rejected alone is not sent again", func(t *testing.T) {
		t.Parallel()
		h := start(t)
		h.cache.SetClass("a", set(t, route("r", "good")))
		c := h.connect(t, h.pod("1", "a"))
		c.ask(rds, "r")
		c.take(t, "RDS +r")
		h.cache.SetClass("a", set(t, route("r", "bad")))
		c.nack(c.want(t, "RDS +r"), "it is bad")
		c.quiet(t)
		h.cache.SetClass("a", set(t, route("r", "bad"), route("q", "1")))
		c.ask(rds, "r") // not even if it is asked for
		c.quiet(t)
		h.cache.SetClass("a", set(t, route("r", "good")))
		c.take(t, "RDS +r") // it was asked for
		h.cache.SetClass("a", set(t, route("r", "better")))
		c.take(t, "RDS +r")
		h.cache.SetClass("a", set(t, route("r", "bad")))
		c.want(t, "RDS +r") // it has taken another since
	})
	t.Run("back to what it has, nothing is sent", func(t *testing.T) {
		t.Parallel()
		h := start(t)
		h.cache.SetClass("a", set(t, route("r", "good")))
		c := h.connect(t, h.pod("1", "a"))
		c.ask(rds, "r")
		c.take(t, "RDS +r")
		h.cache.SetClass("a", set(t, route("r", "bad")))
		c.nack(c.want(t, "RDS +r"), "it is bad")
		c.quiet(t)
		h.cache.SetClass("a", set(t, route("r", "good")))
		c.quiet(t)
	})
	t.Run("of several, the culprit is found", func(t *testing.T) {
		t.Parallel()
		h := start(t)
		h.cache.SetClass("a", set(t, route("a", "1"), route("b", "bad"), route("c", "1"), route("other", "1")))
		c := h.connect(t, h.pod("1", "a"))
		c.ask(rds, "other")
		c.take(t, "RDS +other")
		c.ask(rds, "a", "b", "c", "gone")
		c.nack(c.want(t, "RDS +a +b +c -gone"), "b is bad")
		c.take(t, "RDS +a")
		c.nack(c.want(t, "RDS +b"), "b is bad")
		h.cache.SetClass("a", set(t, route("a", "1"), route("b", "bad"), route("c", "2"), route("other", "2")))
		c.take(t, "RDS +c")
		c.take(t, "RDS +other")
		c.quiet(t)
		h.cache.SetClass("a", set(t, route("a", "1"), route("b", "good"), route("c", "2"), route("other", "2")))
		c.take(t, "RDS +b")
		c.quiet(t)
	})
	t.Run("a proxy that rejects everything is sent everything twice and no more", func(t *testing.T) {
		t.Parallel()
		h := start(t)
		h.cache.SetClass("a", set(t, cluster(t, "a", "1", ""), cluster(t, "b", "1", "")))
		c := h.connect(t, h.pod("1", "a"))
		c.ask(cds)
		for _, want := range []string{"CDS +a +b", "CDS +a", "CDS +b"} {
			c.nack(c.want(t, want), "no")
		}
		c.quiet(t)
	})
	t.Run("others of the class are not concerned", func(t *testing.T) {
		t.Parallel()
		h := start(t)
		h.cache.SetClass("a", set(t, route("r", "1")))
		c, d := h.connect(t, h.pod("1", "a")), h.connect(t, h.pod("2", "a"))
		c.ask(rds, "r")
		c.nack(c.want(t, "RDS +r"), "no")
		c.quiet(t)
		d.ask(rds, "r")
		d.take(t, "RDS +r")
	})
	t.Run("an answer to what was not sent is none", func(t *testing.T) {
		t.Parallel()
		h := start(t)
		h.cache.SetClass("a", set(t, route("r", "1")))
		c := h.connect(t, h.pod("1", "a"))
		c.ask(rds, "r")
		r := c.want(t, "RDS +r")
		r.Nonce += "0"
		c.nack(r, "stale")
		h.cache.SetClass("a", set(t, route("r", "2")))
		c.quiet(t)
		if got := len(h.server.NACKs()); got != 0 {
			t.Errorf("%d rejections are known, want none", got)
		}
	})
}

func TestRejectionsAreTold(t *testing.T) {
	t.Parallel()
	h := start(t)
	p := h.pod("1", "a")
	h.cache.SetClass("a", set(t, route("r", "bad"), route("q", "bad")))
	c := h.connect(t, p)
	c.ask(rds, "q", "r")
	c.nack(c.want(t, "RDS +q +r"), "no")
	c.nack(c.want(t, "RDS +q"), "no to q")
	c.nack(c.want(t, "RDS +r"), "no to r")
	c.quiet(t)
	want := func(message string, names ...string) serve.NACK {
		return serve.NACK{PodUID: "1", Namespace: p.namespace, Pod: p.name, Class: "a", TypeURL: rds, Resources: names, Message: message}
	}
	ignoreTime := cmpopts.IgnoreTypes(time.Time{})
	if diff := cmp.Diff([]serve.NACK{want("no", "q", "r"), want("no to q", "q"), want("no to r", "r")}, h.server.NACKs(), ignoreTime); diff != "" {
		t.Errorf("NACKs (-want +got):\n%s", diff)
	}
	last := want("no to r", "r")
	if diff := cmp.Diff(&last, h.server.Proxies()[0].Rejected, ignoreTime); diff != "" {
		t.Errorf("the proxy's state (-want +got):\n%s", diff)
	}
	if got := h.metric(t, "osm_proxy_nack_count", "RDS"); got != 3 {
		t.Errorf("the metric counts %v rejections, want 3", got)
	}

	h.cache.SetClass("a", set(t, route("r", "good"), route("q", "good")))
	c.take(t, "RDS +q +r")
	c.quiet(t)
	if got := h.server.Proxies()[0].Rejected; got != nil {
		t.Errorf("after another version was taken: %+v", got)
	}

	for range 200 {
		h.cache.SetClass("a", set(t, route("r", time.Now().String())))
		c.nack(c.next(t), "no")
	}
	c.quiet(t)
	if got := len(h.server.NACKs()); got > 128 {
		t.Errorf("%d rejections are kept, want no more than 128", got)
	}
}

// metric returns the sum of a metric's series that have a label of this value; of all
// if it is empty.
func (h *harness) metric(tb testing.TB, name, label string) float64 {
	tb.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			values := make([]string, 0, 2)
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if label != "" && !slices.Contains(values, label) {
				continue
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}
