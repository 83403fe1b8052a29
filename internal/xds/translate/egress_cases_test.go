package translate_test

import (
	"net/netip"

	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/ir"
)

func ranges(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range all {
		out = append(out, netip.MustParsePrefix(r))
	}
	return out
}

// egressHost is a host without limits.
func egressHost(host string) ir.EgressHost {
	return ir.EgressHost{Host: host, Routes: []ir.HTTPRoute{{Name: "shop/" + host}}}
}

// egressCase has every kind of way out, beside a headless service on one of the ports.
func egressCase(passthrough bool) *ir.Proxy {
	bounded := ir.EgressUpstream{Name: "shop/bounds", Upstream: ir.Upstream{Limits: &ir.Limits{MaxConnections: new(uint32(3)), MaxRequestsPerConnection: new(uint32(2))}}}
	limited := egressHost("api.example.com")
	limited.Upstream = bounded
	limited.Routes = []ir.HTTPRoute{{Name: "shop/status", Match: ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchPrefix, Value: "/status"}, Methods: []string{"GET"}}}}
	pets := headless(web(servicePort("shop", "pets", 8080), cluster(servicePort("shop", "pets", 8080), ir.HTTP, account("shop", "pets"))), "pets", "*.pets")
	return &ir.Proxy{
		Class: "buyer", Shared: sharedSettings(), Passthrough: passthrough, Outbound: []*ir.Destination{pets},
		Egress: []*ir.EgressPort{
			{Port: 80, Ways: []ir.EgressWay{
				{Kind: ir.EgressHTTP, Hosts: []ir.EgressHost{limited, egressHost("example.com"), egressHost("*.wild.example")}},
				{Kind: ir.EgressHTTP, Ranges: ranges("192.0.2.0/24", "2001:db8::/32"), Hosts: []ir.EgressHost{egressHost("example.com"), egressHost("*")}},
				{Kind: ir.EgressBytes, Ranges: ranges("192.0.2.7/32"), ServerFirst: true},
			}},
			{Port: 443, Ways: []ir.EgressWay{
				{Kind: ir.EgressTLS, ServerNames: []string{"example.com", "*.wild.example"}},
				{Kind: ir.EgressTLS, Ranges: ranges("192.0.2.0/24"), Upstream: bounded},
			}},
			{Port: 5432, Ways: []ir.EgressWay{{Kind: ir.EgressBytes, Ranges: ranges("198.51.100.0/24")}}},
			{Port: 8080, Ways: []ir.EgressWay{
				{Kind: ir.EgressHTTP, Hosts: []ir.EgressHost{egressHost("example.com")}},
				{Kind: ir.EgressBytes, Ranges: ranges("198.51.100.0/24")},
			}},
		},
	}
}

// drawEgress draws ways that have nothing in common: each kind once anywhere, and once
// in ranges of its own.
func drawEgress(rt *rapid.T, port uint16) *ir.EgressPort {
	out := &ir.EgressPort{Port: port}
	for _, kind := range []ir.EgressKind{ir.EgressHTTP, ir.EgressTLS, ir.EgressBytes} {
		for _, within := range [][]netip.Prefix{nil, ranges("192.0.2.0/24"), ranges("192.0.2.0/25", "2001:db8::/32")} {
			if !rapid.Bool().Draw(rt, "way") {
				continue
			}
			way := ir.EgressWay{Kind: kind, Ranges: within, ServerFirst: rapid.Bool().Draw(rt, "server first")}
			upstream := ir.EgressUpstream{}
			if rapid.Bool().Draw(rt, "bounded") {
				upstream = ir.EgressUpstream{Name: "shop/bounds", Upstream: ir.Upstream{Limits: &ir.Limits{MaxRequestsPerConnection: new(uint32(1))}}}
			}
			switch kind {
			case ir.EgressHTTP:
				for _, h := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a.example", "*.a.example", "*", "b"}), 0, 4, rapid.ID).Draw(rt, "hosts") {
					way.Hosts = append(way.Hosts, ir.EgressHost{Host: h, Upstream: upstream, Routes: []ir.HTTPRoute{{Name: "r", Match: drawMatch(rt)}}})
				}
			case ir.EgressTLS:
				way.ServerNames = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a.example", "*.a.example", "b"}), 0, 3, rapid.ID).Draw(rt, "names")
				way.Upstream = upstream
			default:
				way.Upstream = upstream
			}
			out.Ways = append(out.Ways, way)
		}
	}
	return out
}
