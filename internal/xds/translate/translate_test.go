package translate_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
)

func TestProxiesShareWhatIsMadeOfSharedValues(t *testing.T) {
	t.Parallel()
	for n, first := range cases() {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			translator := translate.New()
			second := &ir.Proxy{Class: "second", Shared: first.Shared, Outbound: first.Outbound, Egress: first.Egress, Passthrough: first.Passthrough}
			a, b := translated(t, translator, first), translated(t, translator, second)
			for typeURL, byName := range everything(b) {
				for n, r := range byName {
					if a.Get(typeURL, n) != r {
						t.Errorf("%s %q was made twice", typeURL, n)
					}
				}
			}
		})
	}
}

func TestNewSettingsMakeNewResources(t *testing.T) {
	t.Parallel()
	translator, p := translate.New(), permissive()
	before := translated(t, translator, p)
	changed := *p
	changed.Shared = sharedSettings(func(s *ir.Shared) { s.TrustDomain, s.TrustBundle = "other.local", []byte("other roots") })
	after := translated(t, translator, &changed)
	for typeURL, n := range map[string]string{resource.ClusterType: "shop/cart|80", resource.SecretType: name.TrustBundle, resource.ListenerType: name.InboundListener} {
		if before.Get(typeURL, n).Version == after.Get(typeURL, n).Version {
			t.Errorf("%s %q is the same as before", typeURL, n)
		}
	}
	again := translated(t, translator, p)
	if a, b := before.Get(resource.ClusterType, "shop/cart|80").Version, again.Get(resource.ClusterType, "shop/cart|80").Version; a != b {
		t.Errorf("the old settings gave %s, then %s", a, b)
	}
}

func TestRetainForgetsWhatNobodyHolds(t *testing.T) {
	t.Parallel()
	translator := translate.New()
	kept := manyServices(10, sharedSettings())
	first := translated(t, translator, kept)
	for range 40 {
		translated(t, translator, manyServices(50, kept.Shared))
		translator.Retain(slices.Values([]*ir.Proxy{kept}), func(l *resource.Layer) bool { return l == first.Shared() })
	}
	second := translated(t, translator, kept)
	for typeURL, byName := range everything(first) {
		for n, r := range byName {
			inbound := strings.Contains(n, "inbound") || strings.HasSuffix(n, "|local")
			if second.Get(typeURL, n) != r && !inbound {
				t.Errorf("%s %q was forgotten", typeURL, n)
			}
		}
	}
	if n := translate.Remembered(translator); n > 1000 {
		t.Errorf("%d values are remembered for a proxy with 10 services", n)
	}
}

func TestAPolicyThatCannotBeMeantIsAnError(t *testing.T) {
	t.Parallel()
	s := servicePort("shop", "store", 80)
	route := func(change func(*ir.HTTPRoute)) *ir.Proxy {
		d := web(s, cluster(s, ir.HTTP, account("shop", "store")), "10.96.0.1")
		change(&d.Routes[0])
		return &ir.Proxy{Class: "c", Shared: sharedSettings(), Outbound: []*ir.Destination{d}}
	}
	inbound := func(change func(*ir.InboundRoute)) *ir.Proxy {
		r := ir.InboundRoute{Name: "r"}
		change(&r)
		return &ir.Proxy{Class: "c", Shared: sharedSettings(), Inbound: []ir.InboundPort{inboundWeb(80, "store", anyone(), r)}}
	}
	path := "/x"
	tests := map[string]*ir.Proxy{
		"no settings":                  {Class: "c"},
		"no roots":                     {Class: "c", Shared: sharedSettings(func(s *ir.Shared) { s.TrustBundle = nil })},
		"an unknown version of TLS":    {Class: "c", Shared: sharedSettings(func(s *ir.Shared) { s.TLS.MinVersion = "SSLv3" })},
		"a regular expression":         route(func(r *ir.HTTPRoute) { r.Match.Path = ir.PathMatch{Kind: ir.MatchRegex, Value: "("} }),
		"an unknown kind of path":      route(func(r *ir.HTTPRoute) { r.Match.Path = ir.PathMatch{Kind: "glob", Value: "/*"} }),
		"an unknown kind of header":    route(func(r *ir.HTTPRoute) { r.Match.Headers = []ir.ValueMatch{{Name: "x", Kind: "glob"}} }),
		"a path prefix in a header":    route(func(r *ir.HTTPRoute) { r.Match.Headers = []ir.ValueMatch{{Name: "x", Kind: ir.MatchPathPrefix}} }),
		"an inverted query parameter":  route(func(r *ir.HTTPRoute) { r.Match.QueryParams = []ir.ValueMatch{{Name: "x", Invert: true}} }),
		"a header that is no header":   route(func(r *ir.HTTPRoute) { r.Filters.RequestHeaders.Set = []ir.Header{{Name: "x\r\ny", Value: "1"}} }),
		"a value that splits a header": route(func(r *ir.HTTPRoute) { r.Filters.RequestHeaders.Set = []ir.Header{{Name: "x", Value: "1\r\ny: 2"}} }),
		"a prefix of a regular expression": route(func(r *ir.HTTPRoute) {
			r.Match.Path = ir.PathMatch{Kind: ir.MatchRegex, Value: "/a"}
			r.Filters.Rewrite = &ir.Rewrite{Path: &path, Prefix: true}
		}),
		"a status that redirects nowhere": route(func(r *ir.HTTPRoute) { r.Redirect = &ir.Redirect{Status: 200} }),
		"an inbound regular expression":   inbound(func(r *ir.InboundRoute) { r.Match.Path = ir.PathMatch{Kind: ir.MatchRegex, Value: "["} }),
		"a grant that compares a query": inbound(func(r *ir.InboundRoute) {
			r.Also = []ir.Grant{{Allow: anyone(), Match: ir.HTTPMatch{QueryParams: []ir.ValueMatch{{Name: "x"}}}}}
		}),
		"an unknown kind of path in a grant": inbound(func(r *ir.InboundRoute) {
			r.Also = []ir.Grant{{Allow: anyone(), Match: ir.HTTPMatch{Path: ir.PathMatch{Kind: "glob", Value: "/*"}}}}
		}),
		"a rate of nothing": inbound(func(r *ir.InboundRoute) { r.RateLimit = &ir.LocalRateLimit{Rate: ir.Rate{Interval: time.Second}} }),
		"a rate in no time": inbound(func(r *ir.InboundRoute) { r.RateLimit = &ir.LocalRateLimit{Rate: ir.Rate{Number: 1}} }),
		"a status that no limit answers": inbound(func(r *ir.InboundRoute) {
			r.RateLimit = &ir.LocalRateLimit{Rate: ir.Rate{Number: 1, Interval: time.Second}, Status: 7}
		}),
		"an interval that Envoy refuses": inbound(func(r *ir.InboundRoute) {
			r.RateLimit = &ir.LocalRateLimit{Rate: ir.Rate{Number: 1, Interval: time.Millisecond}}
		}),
		"a rate that its counter overruns": inbound(func(r *ir.InboundRoute) {
			r.RateLimit = &ir.LocalRateLimit{Rate: ir.Rate{Number: 1<<32 - 1, Burst: 1, Interval: time.Second}}
		}),
	}
	for n, p := range tests {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			if _, err := translate.New().Proxy(p); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestOneBadDestinationNamesItself(t *testing.T) {
	t.Parallel()
	p := manyServices(3, sharedSettings())
	p.Outbound[1].Routes[0].Match.Path = ir.PathMatch{Kind: ir.MatchRegex, Value: "("}
	_, err := translate.New().Proxy(p)
	if err == nil || !strings.Contains(err.Error(), "service-1 port 80") || strings.Contains(err.Error(), "service-2") {
		t.Errorf("got %v", err)
	}
}

func translated(t *testing.T, translator *translate.Translator, p *ir.Proxy) *resource.Set {
	t.Helper()
	set, err := translator.Proxy(p)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// manyServices is a proxy that may call that many services, a tenth of them headless.
func manyServices(n int, shared *ir.Shared) *ir.Proxy {
	p := &ir.Proxy{
		Class: "many", Shared: shared, Passthrough: true,
		Inbound: []ir.InboundPort{inboundWeb(8080, "own", anyone(), ir.InboundRoute{Name: "permissive", Allow: anyone()})},
	}
	for i := range n {
		s := servicePort(fmt.Sprint("ns-", i%20), fmt.Sprint("service-", i), 80)
		who := account(s.Namespace, s.Name)
		switch i % 10 {
		case 8:
			s.Port = 5432
			p.Outbound = append(p.Outbound, bytesTo(s, plaintext(cluster(s, ir.TCP, who)), fmt.Sprintf("10.96.%d.%d", i/250, i%250)))
		case 9:
			s.Port = 6379
			p.Outbound = append(p.Outbound, headless(bytesTo(s, plaintext(cluster(s, ir.TCP, who)))))
		default:
			p.Outbound = append(p.Outbound, web(s, plaintext(cluster(s, ir.HTTP, who)), fmt.Sprintf("10.96.%d.%d", i/250, i%250)))
		}
	}
	return p
}

// BenchmarkTranslate measures a proxy from scratch, as after a change of the settings;
// one of a class that shares all of its destinations with another; and one after a
// service changed.
func BenchmarkTranslate(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("services=%d/scratch", n), func(b *testing.B) {
			p := manyServices(n, sharedSettings())
			b.ReportAllocs()
			for b.Loop() {
				run1(b, translate.New(), p)
			}
		})
		b.Run(fmt.Sprintf("services=%d/shared", n), func(b *testing.B) {
			p, t := manyServices(n, sharedSettings()), translate.New()
			run1(b, t, p)
			b.ReportAllocs()
			for b.Loop() {
				run1(b, t, p)
			}
		})
		b.Run(fmt.Sprintf("services=%d/one-changed", n), func(b *testing.B) {
			p, t := manyServices(n, sharedSettings()), translate.New()
			run1(b, t, p)
			b.ReportAllocs()
			for b.Loop() {
				changed := *p.Outbound[0]
				p.Outbound[0] = &changed
				run1(b, t, p)
				t.Retain(slices.Values([]*ir.Proxy{p}), func(*resource.Layer) bool { return false })
			}
		})
	}
}

func run1(b *testing.B, t *translate.Translator, p *ir.Proxy) {
	b.Helper()
	if _, err := t.Proxy(p); err != nil {
		b.Fatal(err)
	}
}
