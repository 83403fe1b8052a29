package serve_test

import (
	"maps"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

func unmarshal(body []byte, into proto.Message) error { return proto.Unmarshal(body, into) }

func TestWildcardsGetAllOfTheClass(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", ""), cluster(t, "two", "1", ""), listener("in", "1")))
	h.cache.SetClass("b", set(t, cluster(t, "three", "1", "")))
	c := h.connect(t, h.pod("1", "a"))
	c.ask(cds)
	c.take(t, "CDS +one +two")
	c.ask(lds)
	c.take(t, "LDS +in")
	c.quiet(t)

	h.cache.SetClass("a", set(t, cluster(t, "one", "2", ""), cluster(t, "four", "1", ""), listener("in", "1")))
	c.take(t, "CDS +four +one -two")
	c.quiet(t)
}

func TestNothingIsSentForAChangeThatIsNone(t *testing.T) {
	t.Parallel()
	h := start(t)
	made := func() *resource.Set {
		return set(t, cluster(t, "one", "1", "e"), listener("in", "1"), route("r", "1"), secret("s", "1"))
	}
	h.cache.SetClass("a", made())
	h.cache.SetShared("e", endpointsOf("e", "1"))
	c := h.connect(t, h.pod("1", "a"))
	for _, typeURL := range []string{cds, lds} {
		c.ask(typeURL)
		c.ack(c.next(t))
	}
	c.ask(eds, "e")
	c.take(t, "EDS +e")
	h.cache.SetClass("a", made())
	h.cache.SetShared("e", endpointsOf("e", "1"))
	h.cache.SetShared("unused", endpointsOf("unused", "1"))
	h.cache.SetClass("b", made())
	h.cache.Move("1", "b") // another class with the same contents
	c.quiet(t)
}

func TestOnlyTheClassesOwnNamesAreServed(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "mine", "1", "e"), route("r", "1"), secret("s", "1")))
	h.cache.SetClass("b", set(t, cluster(t, "theirs", "1", "f"), route("q", "1"), secret("key", "1")))
	h.cache.SetShared("e", endpointsOf("e", "1"))
	h.cache.SetShared("f", endpointsOf("f", "1"))
	c := h.connect(t, h.pod("1", "a"))
	c.ask(cds, "*", "theirs")
	c.take(t, "CDS +mine -theirs")
	c.ask(eds, "e", "f", "*")
	c.take(t, "EDS +e -* -f")
	c.ask(rds, "q", "r")
	c.take(t, "RDS +r -q")
	c.ask(sds, "key", "s")
	c.take(t, "SDS +s -key")
	h.cache.SetShared("f", endpointsOf("f", "2"))
	c.quiet(t)
}

func TestNamesFollowTheClass(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, route("r", "1")))
	c := h.connect(t, h.pod("1", "a"))
	c.ask(rds, "r", "later")
	c.take(t, "RDS +r -later")
	h.cache.SetClass("a", set(t, route("later", "1")))
	c.take(t, "RDS +later -r")
	h.cache.SetClass("a", set(t, route("later", "2"), route("r", "1"), route("unasked", "1")))
	c.take(t, "RDS +later +r")
	c.unask(rds, "later")
	c.quiet(t)
	h.cache.SetClass("a", set(t, route("later", "3"), route("r", "2")))
	c.take(t, "RDS +r")
	c.quiet(t)
}

func TestAProxyThatAsksAgainIsAnswered(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e"), route("r", "1")))
	h.cache.SetShared("e", endpointsOf("e", "1"))
	c := h.connect(t, h.pod("1", "a"))
	c.ask(rds, "r")
	c.take(t, "RDS +r")
	c.ask(rds, "r")
	c.take(t, "RDS +r")
	c.ask(cds)
	c.take(t, "CDS +one")
	c.ask(eds, "e")
	c.take(t, "EDS +e")
	c.unask(eds, "e")
	c.ask(eds, "e")
	c.take(t, "EDS +e")
}

func TestAnEmptyClassAnswersTheFirstWildcard(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t))
	c := h.connect(t, h.pod("1", "a"))
	c.ask(cds)
	c.take(t, "CDS")
	c.ask(lds)
	c.take(t, "LDS")
	c.quiet(t)
	h.cache.SetClass("a", set(t, listener("in", "1")))
	c.take(t, "LDS +in")
}

func TestAnUnknownClassWaits(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := h.connect(t, h.pod("1", "a"))
	c.ask(cds)
	c.ask(rds, "r", "q")
	c.quiet(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", ""), route("r", "1")))
	c.take(t, "CDS +one")
	c.take(t, "RDS +r -q")
	h.cache.DeleteClass("a")
	c.ask(rds, "q")
	c.quiet(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", ""), route("r", "1"), route("q", "1")))
	c.take(t, "RDS +q")
}

func TestEndpointsThatWereNeverSetWait(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e")))
	c := h.connect(t, h.pod("1", "a"))
	c.ask(eds, "e")
	c.quiet(t)
	h.cache.SetShared("e", endpointsOf("e", "1"))
	c.take(t, "EDS +e")
	h.cache.SetShared("e", nil)
	c.take(t, "EDS -e")
	h.cache.SetShared("e", nil)
	c.quiet(t)
	c.ask(eds, "e")
	c.take(t, "EDS -e")
	h.cache.SetShared("e", endpointsOf("e", "1"))
	c.take(t, "EDS +e")
}

func TestExplicitWildcards(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", ""), cluster(t, "two", "1", "")))
	c := h.connect(t, h.pod("1", "a"))
	c.ask(cds, "*", "one")
	c.take(t, "CDS +one +two")
	c.unask(cds, "one") // still wanted by the wildcard: told again
	c.take(t, "CDS +one")
	c.ask(cds, "one")
	c.take(t, "CDS +one")
	c.unask(cds, "*")
	c.quiet(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "2", ""), cluster(t, "two", "2", "")))
	c.take(t, "CDS +one")
	c.quiet(t)
	c.ask(cds, "*")
	c.take(t, "CDS +two")
}

func TestANameThatIsUnaskedAndGoneIsRemoved(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	c := h.connect(t, h.pod("1", "a"))
	c.ask(cds, "*", "gone")
	c.take(t, "CDS +one -gone")
	c.unask(cds, "gone")
	c.take(t, "CDS -gone")
	c.quiet(t)
}

func TestChangesInFlightAreGathered(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e"), cluster(t, "two", "1", "f")))
	h.cache.SetShared("e", endpointsOf("e", "1"))
	h.cache.SetShared("f", endpointsOf("f", "1"))
	c := h.connect(t, h.pod("1", "a"))
	c.ask(eds, "e", "f")
	first := c.want(t, "EDS +e +f")
	for _, v := range []string{"2", "3", "4"} {
		h.cache.SetShared("e", endpointsOf("e", v))
	}
	h.cache.SetShared("f", endpointsOf("f", "2"))
	h.cache.SetShared("f", endpointsOf("f", "1")) // back as it was
	c.quiet(t)
	c.ack(first)
	r := c.want(t, "EDS +e")
	if got := r.GetResources()[0].GetVersion(); got != "4" {
		t.Errorf("got version %s, want the newest", got)
	}
}

func TestLargeAnswersComeInPieces(t *testing.T) {
	t.Parallel()
	h := start(t, limits(small()))
	h.cache.SetClass("a", set(t, route("a", "1"), route("b", "1"), route("c", "1")))
	c := h.connect(t, h.pod("1", "a"))
	c.ask(rds, "a", "b", "c", "d")
	c.take(t, "RDS +a")
	c.take(t, "RDS +b")
	c.take(t, "RDS +c")
	c.take(t, "RDS -d")
	c.quiet(t)
}

func TestReconnecting(t *testing.T) { //nolint:tparallel // the subtests follow one another
	t.Parallel()
	h := start(t)
	p := h.pod("1", "a")
	before := set(t, cluster(t, "one", "1", "e"), cluster(t, "two", "1", "f"), listener("in", "1"), route("r", "1"), secret("s", "1"))
	h.cache.SetClass("a", before)
	h.cache.SetShared("e", endpointsOf("e", "1"))
	h.cache.SetShared("f", endpointsOf("f", "1"))
	c := h.connect(t, p)
	names := map[string][]string{eds: {"e", "f"}, rds: {"r"}, sds: {"s"}}
	all := func(c *client, versions map[string]map[string]string, order ...string) {
		for _, typeURL := range order {
			c.resume(typeURL, versions[typeURL], names[typeURL]...)
		}
	}
	all(c, nil, cds, eds, sds, lds, rds)
	for range 5 {
		c.ack(c.next(t))
	}
	c.close()

	t.Run("an unchanged configuration is not sent again", func(t *testing.T) {
		c2 := h.connect(t, p)
		all(c2, c.has, cds, eds, sds, lds, rds)
		c2.quiet(t)
	})
	t.Run("without versions everything is sent again", func(t *testing.T) {
		c2 := h.connect(t, p)
		all(c2, nil, cds, eds, sds, lds, rds)
		c2.take(t, "CDS +one +two")
		for range 4 {
			c2.ack(c2.next(t))
		}
		c2.quiet(t)
	})
	t.Run("a wildcard is one after reconnecting", func(t *testing.T) {
		c2 := h.connect(t, p)
		all(c2, c.has, cds, eds, sds, lds, rds)
		c2.quiet(t)
		h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e"), cluster(t, "two", "1", "f"), cluster(t, "new", "1", ""), listener("in", "1"), route("r", "1"), secret("s", "1")))
		c2.take(t, "CDS +new")
		h.cache.SetClass("a", before)
		c2.take(t, "CDS -new")
	})
	t.Run("what changed meanwhile is sent, with the endpoints of clusters that did", func(t *testing.T) {
		h.cache.SetClass("a", set(t, cluster(t, "one", "2", "e"), listener("in", "2"), route("r", "1"), secret("s", "1")))
		defer h.cache.SetClass("a", before)
		c2 := h.connect(t, p)
		all(c2, c.has, cds, eds, sds, lds, rds)
		c2.take(t, "CDS +one")
		c2.take(t, "EDS +e -f")
		c2.take(t, "LDS +in")
		c2.take(t, "CDS -two")
		c2.quiet(t)
	})
	t.Run("a proxy whose clusters are warming gets endpoints that it may have", func(t *testing.T) {
		c2 := h.connect(t, p)
		all(c2, c.has, eds, lds) // Envoy does not ask for clusters until they are warm
		c2.take(t, "EDS +e +f")
		all(c2, c.has, cds)
		c2.quiet(t)
	})
	t.Run("versions are believed at the beginning of a stream only", func(t *testing.T) {
		c2 := h.connect(t, p)
		c2.ask(rds)
		c2.resume(rds, maps.Clone(c.has[rds]), "r")
		c2.take(t, "RDS +r")
	})
}

func TestClustersThatWarmGetTheirEndpoints(t *testing.T) {
	t.Parallel()
	prepare := func(t *testing.T) (*harness, *client) {
		t.Helper()
		h := start(t)
		h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e")))
		h.cache.SetShared("e", endpointsOf("e", "1"))
		c := h.connect(t, h.pod("1", "a"))
		c.ask(cds)
		c.take(t, "CDS +one")
		c.ask(eds, "e")
		c.take(t, "EDS +e")
		c.quiet(t)
		return h, c
	}
	t.Run("a cluster that changes gets the same again", func(t *testing.T) {
		t.Parallel()
		h, c := prepare(t)
		h.cache.SetClass("a", set(t, cluster(t, "one", "2", "e")))
		r := c.want(t, "CDS +one")
		c.take(t, "EDS +e") // though the cluster is not acknowledged: it is not before
		c.ack(r)
		c.quiet(t)
	})
	t.Run("a cluster that goes and comes again gets them, asked for or not", func(t *testing.T) {
		t.Parallel()
		h, c := prepare(t)
		h.cache.SetClass("a", set(t))
		c.take(t, "CDS -one")
		c.take(t, "EDS -e")
		h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e")))
		c.take(t, "CDS +one")
		c.take(t, "EDS +e")
		c.unask(eds, "e")
		c.ask(eds, "e")
		c.take(t, "EDS +e")
	})
	t.Run("a new cluster with the endpoints of another gets them", func(t *testing.T) {
		t.Parallel()
		h, c := prepare(t)
		h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e"), cluster(t, "two", "1", "e")))
		c.take(t, "CDS +two")
		c.take(t, "EDS +e")
		c.quiet(t)
	})
	t.Run("a proxy that cannot have any yet gets nothing twice", func(t *testing.T) {
		t.Parallel()
		h, c := prepare(t)
		h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e"), cluster(t, "two", "1", "f")))
		h.cache.SetShared("f", endpointsOf("f", "1"))
		c.take(t, "CDS +two")
		c.ask(eds, "f")
		c.take(t, "EDS +f")
		c.quiet(t)
	})
}
