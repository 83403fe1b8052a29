package serve_test

import (
	"fmt"
	"testing"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// TestAProxyThatIsUpToDateIsNotRemembered holds what is kept of a proxy to what differs
// from its class, through all that may happen to it. That proxies are still sent what they
// need, no more and no less, is what TestProxiesComeToHaveWhatIsSet says.
func TestAProxyThatIsUpToDateIsNotRemembered(t *testing.T) {
	t.Parallel()
	h := start(t)
	remembered := func(want int, when string) {
		t.Helper()
		if got := h.server.Remembered(); got != want {
			t.Errorf("%s, %d names and versions are kept, want %d", when, got, want)
		}
	}
	content := func(services int, version string) *resource.Set {
		var all []*resource.Resource
		for i := range services {
			name := fmt.Sprint(i)
			all = append(all, cluster(t, name, "1", name), listener(name, version), route(name, "1"))
		}
		return set(t, all...)
	}
	for i := range 3 {
		h.cache.SetShared(fmt.Sprint(i), endpointsOf(fmt.Sprint(i), "1"))
	}
	h.cache.SetClass("a", content(2, "1"))
	c := h.connect(t, h.pod("1", "a"))
	c.ask(cds)
	c.take(t, "CDS +0 +1")
	c.ask(eds, "0", "1")
	c.take(t, "EDS +0 +1")
	c.ask(lds)
	c.take(t, "LDS +0 +1")
	c.ask(rds, "0", "1")
	c.take(t, "RDS +0 +1")
	c.quiet(t)
	remembered(0, "up to date")

	h.cache.SetShared("0", endpointsOf("0", "2"))
	c.take(t, "EDS +0")
	c.quiet(t)
	remembered(0, "after endpoints have changed")

	h.cache.SetClass("a", content(2, "2"))
	c.take(t, "LDS +0 +1")
	c.quiet(t)
	remembered(0, "after a class has changed")

	h.cache.SetClass("a", content(3, "2"))
	c.take(t, "CDS +2")
	c.take(t, "LDS +2")
	c.quiet(t)
	remembered(2, "with endpoints and a route that were not asked for yet")
	c.ask(eds, "2")
	c.take(t, "EDS +2")
	c.ask(rds, "2")
	c.take(t, "RDS +2")
	c.quiet(t)
	remembered(0, "after a service has come")

	h.cache.SetClass("a", content(2, "2"))
	c.take(t, "LDS -2")
	c.take(t, "RDS -2")
	c.unask(rds, "2")
	c.take(t, "CDS -2")
	c.take(t, "EDS -2")
	c.unask(eds, "2")
	c.quiet(t)
	remembered(0, "after a service has gone")

	again := h.connect(t, h.pod("1", "a"))
	c.close()
	again.resume(cds, c.has[cds])
	again.resume(eds, c.has[eds], "0", "1")
	again.resume(lds, c.has[lds])
	again.resume(rds, c.has[rds], "0", "1")
	again.quiet(t)
	remembered(0, "after a proxy has come back")
}
