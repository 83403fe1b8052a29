package translate_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
)

func TestTheSameRepresentationGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		p := drawProxy(rt)
		remembering := translate.New()
		first := proxy(rt, remembering, p)
		same(rt, first, proxy(rt, remembering, p))
		same(rt, first, proxy(rt, translate.New(), p))
		for typeURL, byName := range everything(first) {
			for n, r := range byName {
				if n != r.Name || typeURL != r.TypeURL {
					rt.Errorf("%s %q is kept as %s %q", r.TypeURL, r.Name, typeURL, n)
				}
			}
		}
	})
}

func TestEveryResourceIsValid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		set := proxy(rt, translate.New(), drawProxy(rt))
		for _, msg := range messages(rt, set) {
			if err := validateAll(msg); err != nil {
				rt.Error(err)
			}
		}
	})
}

// TestReferencesLeadSomewhere holds for every set: clusters, routes and load
// assignments that are named are there.
func TestReferencesLeadSomewhere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		set := proxy(rt, translate.New(), drawProxy(rt))
		for _, msg := range messages(rt, set) {
			if c, ok := msg.(*clusterv3.Cluster); ok && c.GetType() == clusterv3.Cluster_EDS {
				if !set.RefersTo(c.GetEdsClusterConfig().GetServiceName()) {
					rt.Errorf("cluster %s refers to endpoints %q", c.GetName(), c.GetEdsClusterConfig().GetServiceName())
				}
			}
			references(rt, set, msg)
		}
	})
}

// TestTakingAnAllowAwayAddsNobody compares who may send requests before and after.
func TestTakingAnAllowAwayAddsNobody(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		p := drawProxy(rt)
		p.Inbound = []ir.InboundPort{drawInbound(rt, 8080)}
		p.Inbound[0].Protocol, p.Inbound[0].Apart = ir.HTTP, nil
		before := whoMay(rt, proxy(rt, translate.New(), p))
		less := *p
		less.Inbound = []ir.InboundPort{p.Inbound[0]}
		less.Inbound[0].Routes = append([]ir.InboundRoute(nil), p.Inbound[0].Routes...)
		if len(less.Inbound[0].Routes) == 0 {
			return
		}
		i := rapid.IntRange(0, len(less.Inbound[0].Routes)-1).Draw(rt, "taken")
		less.Inbound[0].Routes[i].Allow, less.Inbound[0].Routes[i].Also = ir.Principals{}, nil
		after := whoMay(rt, proxy(rt, translate.New(), &less))
		for route, peers := range after {
			for peer := range peers {
				if !before[route][peer] {
					rt.Errorf("route %s allows %s since something was taken away", route, peer)
				}
			}
		}
		if len(after[fmt.Sprint("route-", i)]) != 0 {
			rt.Errorf("route %d still allows %v", i, after[fmt.Sprint("route-", i)])
		}
	})
}

// whoMay lists the principals of each route of the inbound port 8080.
func whoMay(rt *rapid.T, set *resource.Set) map[string]map[string]bool {
	var table routev3.RouteConfiguration
	if err := proto.Unmarshal(set.Get(resource.RouteType, "rds-inbound.8080").Body, &table); err != nil {
		rt.Fatal(err)
	}
	out := map[string]map[string]bool{}
	for _, host := range table.GetVirtualHosts() {
		for _, r := range host.GetRoutes() {
			var rules rbacv3.RBACPerRoute
			if err := r.GetTypedPerFilterConfig()["envoy.filters.http.rbac"].UnmarshalTo(&rules); err != nil {
				rt.Fatalf("route %s has no authorization: %v", r.GetName(), err)
			}
			if r.GetRoute() != nil && rules.GetRbac().GetRules().GetAction() != rbacconfigv3.RBAC_ALLOW {
				rt.Fatalf("route %s is open", r.GetName())
			}
			out[r.GetName()] = map[string]bool{}
			for _, policy := range rules.GetRbac().GetRules().GetPolicies() {
				for _, principal := range policy.GetPrincipals() {
					out[r.GetName()][principal.String()] = true
				}
			}
		}
	}
	return out
}

func proxy(rt *rapid.T, t *translate.Translator, p *ir.Proxy) *resource.Set {
	set, err := t.Proxy(p)
	if err != nil {
		rt.Fatal(err)
	}
	return set
}

func same(rt *rapid.T, a, b *resource.Set) {
	for typeURL, byName := range everything(a) {
		if len(byName) != len(everything(b)[typeURL]) {
			rt.Errorf("%d and %d of %s", len(byName), len(everything(b)[typeURL]), typeURL)
		}
		for n, r := range byName {
			other := b.Get(typeURL, n)
			if other == nil || !bytes.Equal(r.Body, other.Body) || r.Version != other.Version {
				rt.Errorf("%s %q differs", typeURL, n)
			}
		}
	}
	if diff := cmp.Diff(maps.Collect(a.References()), maps.Collect(b.References())); diff != "" {
		rt.Errorf("endpoints differ:\n%s", diff)
	}
}

// everything is all that is in a set, by type and name.
func everything(set *resource.Set) map[string]map[string]*resource.Resource {
	out := map[string]map[string]*resource.Resource{}
	for _, typeURL := range []string{resource.ListenerType, resource.RouteType, resource.ClusterType, resource.SecretType} {
		out[typeURL] = maps.Collect(set.All(typeURL))
	}
	return out
}

// messages reads all resources of a set back.
func messages(rt *rapid.T, set *resource.Set) []proto.Message {
	empty := map[string]func() proto.Message{
		resource.ListenerType: func() proto.Message { return &listenerv3.Listener{} },
		resource.RouteType:    func() proto.Message { return &routev3.RouteConfiguration{} },
		resource.ClusterType:  func() proto.Message { return &clusterv3.Cluster{} },
		resource.SecretType:   func() proto.Message { return &tlsv3.Secret{} },
	}
	var out []proto.Message
	for typeURL, byName := range everything(set) {
		for _, r := range byName {
			msg := empty[typeURL]()
			if err := proto.Unmarshal(r.Body, msg); err != nil {
				rt.Fatal(err)
			}
			out = append(out, msg)
		}
	}
	return out
}

// validateAll checks a message and everything that is packed inside it.
func validateAll(msg proto.Message) error {
	return protorange.Range(msg.ProtoReflect(), func(at protopath.Values) error {
		inner, ok := at.Index(-1).Value.Interface().(protoreflect.Message)
		if !ok {
			return nil
		}
		if v, ok := inner.Interface().(interface{ ValidateAll() error }); ok {
			return v.ValidateAll()
		}
		return nil
	})
}

// references looks for names of clusters and routes in a message.
func references(rt *rapid.T, set *resource.Set, msg proto.Message) {
	static := map[string]bool{"envoy-metrics-cluster": true}
	err := protorange.Range(msg.ProtoReflect(), func(at protopath.Values) error {
		step := at.Index(-1)
		if step.Step.Kind() != protopath.FieldAccessStep {
			return nil
		}
		field := step.Step.FieldDescriptor()
		if field.Kind() != protoreflect.StringKind || field.IsList() {
			return nil
		}
		n := step.Value.String()
		switch {
		case field.FullName() == "envoy.extensions.filters.network.http_connection_manager.v3.Rds.route_config_name":
			if set.Get(resource.RouteType, n) == nil {
				rt.Errorf("%s is no route", n)
			}
		case field.Name() == "cluster" || field.FullName() == "envoy.config.route.v3.WeightedCluster.ClusterWeight.name":
			if set.Get(resource.ClusterType, n) == nil && !static[n] {
				rt.Errorf("%s is no cluster", n)
			}
		}
		return nil
	})
	if err != nil {
		rt.Error(err)
	}
}

// drawProxy makes a proxy of anything that the representation can say and mean.
func drawProxy(rt *rapid.T) *ir.Proxy {
	p := &ir.Proxy{Class: "drawn", Shared: sharedSettings(), Passthrough: rapid.Bool().Draw(rt, "passthrough"), Metrics: rapid.Bool().Draw(rt, "metrics")}
	if rapid.Bool().Draw(rt, "servers") {
		p.Shared.Tracing = &ir.Tracing{Address: "jaeger", Port: 9411, Endpoint: "/api", OpenTelemetry: rapid.Bool().Draw(rt, "opentelemetry"), Sampled: rapid.Uint8Range(0, 100).Draw(rt, "sampled")}
		p.Shared.ExternalAuthorization = &ir.ExternalAuthorization{Address: "opa", Port: 9191, Timeout: time.Second}
	}
	for i := range rapid.IntRange(0, 3).Draw(rt, "inbound") {
		p.Inbound = append(p.Inbound, drawInbound(rt, uint16(9000+i)))
	}
	clusters := []*ir.Cluster{drawCluster(rt, "a"), drawCluster(rt, "b"), drawCluster(rt, "c")}
	for i := range rapid.IntRange(0, 4).Draw(rt, "outbound") {
		p.Outbound = append(p.Outbound, drawDestination(rt, i, clusters))
	}
	for i := range rapid.IntRange(0, 3).Draw(rt, "egress") {
		p.Egress = append(p.Egress, drawEgress(rt, uint16(80+i)))
	}
	return p
}

func drawInbound(rt *rapid.T, port uint16) ir.InboundPort {
	out := ir.InboundPort{
		Port: port, Protocol: rapid.SampledFrom([]ir.Protocol{ir.HTTP, ir.TCP}).Draw(rt, "protocol"),
		Service: servicePort("shop", "s", port), Allow: drawPrincipals(rt), Bounds: drawBounds(rt),
	}
	if rapid.Bool().Draw(rt, "ingress") {
		out.Ingress = ingressCase().Inbound[rapid.IntRange(0, 2).Draw(rt, "which ingress")].Ingress
	}
	for i := range rapid.IntRange(0, 4).Draw(rt, "routes") {
		out.Routes = append(out.Routes, ir.InboundRoute{
			Name: fmt.Sprint("route-", i), Match: drawMatch(rt), Allow: drawPrincipals(rt), Also: drawGrants(rt),
			Timeout:   rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(rt, "timeout"),
			RateLimit: rapid.SampledFrom([]*ir.LocalRateLimit{nil, {Rate: ir.Rate{Number: 2, Burst: 1, Interval: time.Minute}}}).Draw(rt, "limit"),
		})
	}
	for i := range rapid.IntRange(0, 2).Draw(rt, "apart") {
		out.Apart = append(out.Apart, ir.InboundService{
			ServerName: rapid.SampledFrom([]string{"", fmt.Sprint("s", i, ".shop.svc.cluster.local")}).Draw(rt, "server name"),
			Hosts:      rapid.SampledFrom([][]string{nil, {"s", "s.shop", "S.shop"}, {fmt.Sprint("s", i), "*.s"}}).Draw(rt, "hosts"),
			Bounds:     drawBounds(rt), Routes: out.Routes,
		})
	}
	return out
}

func drawBounds(rt *rapid.T) ir.InboundBounds {
	return ir.InboundBounds{
		Connections: rapid.SampledFrom([]*ir.Rate{nil, {Number: 3, Interval: time.Hour}}).Draw(rt, "connections"),
		Requests:    rapid.SampledFrom([]*ir.LocalRateLimit{nil, {Rate: ir.Rate{Number: 1, Interval: time.Second}, Status: 503}}).Draw(rt, "requests"),

		GlobalConnections: rapid.SampledFrom([]*ir.GlobalRateLimit{nil, globalLimits("a", 1).Inbound[2].Bounds.GlobalConnections}).Draw(rt, "global connections"),
		GlobalRequests:    rapid.SampledFrom([]*ir.GlobalRateLimit{nil, globalLimits("b", 2).Inbound[0].Bounds.GlobalRequests}).Draw(rt, "global requests"),
	}
}

func drawGrants(rt *rapid.T) []ir.Grant {
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) ir.Grant {
		g := ir.Grant{Match: drawMatch(rt), Allow: drawPrincipals(rt)}
		g.Match.QueryParams = nil
		return g
	}), 0, 2).Draw(rt, "grants")
}

func drawPrincipals(rt *rapid.T) ir.Principals {
	return ir.Principals{
		Any: rapid.Bool().Draw(rt, "any"),
		ServiceAccounts: rapid.SliceOfN(rapid.SampledFrom([]identity.ServiceAccount{
			account("shop", "a"), account("shop", "b.c-d"), account("data", "a"),
		}), 0, 3).Draw(rt, "accounts"),
	}
}

func drawMatch(rt *rapid.T) ir.HTTPMatch {
	value := rapid.Custom(func(rt *rapid.T) ir.ValueMatch {
		v := ir.ValueMatch{Name: rapid.SampledFrom([]string{"x-a", ":authority"}).Draw(rt, "name"), Invert: rapid.Bool().Draw(rt, "invert")}
		v.Kind = rapid.SampledFrom([]ir.MatchKind{ir.MatchAny, ir.MatchExact, ir.MatchPrefix, ir.MatchRegex}).Draw(rt, "kind")
		v.Value = rapid.StringMatching(`[a-z]{1,3}`).Draw(rt, "value")
		return v
	})
	path := ir.PathMatch{Kind: rapid.SampledFrom([]ir.MatchKind{ir.MatchAny, ir.MatchExact, ir.MatchPrefix, ir.MatchPathPrefix, ir.MatchRegex}).Draw(rt, "path kind")}
	if path.Kind != ir.MatchAny {
		path.Value = rapid.StringMatching(`/[a-z/]{0,4}`).Draw(rt, "path")
	}
	out := ir.HTTPMatch{
		Path:    path,
		Methods: rapid.SliceOfN(rapid.SampledFrom([]string{"GET", "PUT", "M-SEARCH"}), 0, 2).Draw(rt, "methods"),
		Headers: rapid.SliceOfN(value, 0, 2).Draw(rt, "headers"),
	}
	for _, q := range rapid.SliceOfN(value, 0, 2).Draw(rt, "query") {
		q.Invert = false
		out.QueryParams = append(out.QueryParams, q)
	}
	return out
}

func drawCluster(rt *rapid.T, n string) *ir.Cluster {
	c := cluster(servicePort("shop", n, 80), rapid.SampledFrom([]ir.Protocol{ir.HTTP, ir.TCP}).Draw(rt, "cluster protocol"))
	c.Peers = drawPrincipals(rt).ServiceAccounts
	c.Plaintext = rapid.Bool().Draw(rt, "plaintext")
	c.OriginalDestination = rapid.Bool().Draw(rt, "original destination")
	if rapid.Bool().Draw(rt, "limits") {
		c.Limits = &ir.Limits{MaxConnections: new(uint32), MaxRequestsPerConnection: new(uint32)}
	}
	c.Idle = rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(rt, "idle")
	c.Outliers = rapid.SampledFrom([]*ir.Outliers{nil, {}, {Errors: 1, Ejection: time.Hour}}).Draw(rt, "outliers")
	c.Balance = rapid.SampledFrom([]*ir.Balance{
		nil, {Kind: ir.RoundRobin, SlowStart: time.Second, LeastPercent: 1}, {Kind: ir.LeastRequest}, {Kind: ir.HashHeader, Name: "x"}, {Kind: ir.HashSource},
	}).Draw(rt, "balance")
	return c
}

func drawDestination(rt *rapid.T, i int, clusters []*ir.Cluster) *ir.Destination {
	d := &ir.Destination{
		Service:   servicePort("shop", fmt.Sprint("d", i), uint16(80+i/2)),
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}), netip.MustParseAddr(fmt.Sprint("fd00::", i))},
		Protocol:  rapid.SampledFrom([]ir.Protocol{ir.HTTP, ir.TCP}).Draw(rt, "destination protocol"),
	}
	if d.Headless = rapid.Bool().Draw(rt, "headless"); d.Headless {
		d.Addresses = nil
		d.Dialled = rapid.SliceOfNDistinct(rapid.Uint16Range(80, 84), 1, 2, rapid.ID[uint16]).Draw(rt, "dialled")
		d.Hosts = rapid.SliceOfN(rapid.SampledFrom([]string{"d", "d.shop", "*.d.shop"}), 0, 3).Draw(rt, "domains")
	}
	if d.Protocol == ir.TCP {
		d.Backends = drawBackends(rt, clusters, false)
		return d
	}
	for range rapid.IntRange(0, 3).Draw(rt, "http routes") {
		d.Routes = append(d.Routes, drawRoute(rt, clusters))
	}
	return d
}

func drawRoute(rt *rapid.T, clusters []*ir.Cluster) ir.HTTPRoute {
	r := ir.HTTPRoute{Name: "r", Match: drawMatch(rt), Filters: drawFilters(rt, clusters)}
	path := rapid.SampledFrom([]*string{nil, new(string)}).Draw(rt, "redirect path")
	if path != nil {
		*path = "/x"
	}
	// A regular expression has no prefix.
	prefix := rapid.Bool().Draw(rt, "prefix") && r.Match.Path.Kind != ir.MatchRegex
	switch rapid.IntRange(0, 4).Draw(rt, "action") {
	case 0:
		r.Redirect = &ir.Redirect{Host: "h", Path: path, Prefix: prefix, Status: rapid.SampledFrom([]uint32{0, 301, 302, 303, 307, 308}).Draw(rt, "status")}
	case 1:
		r.Respond = &ir.Response{Status: 418, Body: rapid.SampledFrom([]string{"", "b"}).Draw(rt, "body")}
	default:
		r.Backends = drawBackends(rt, clusters, true)
		r.Filters.Rewrite = rapid.SampledFrom([]*ir.Rewrite{nil, {Host: "h"}, {Path: path, Prefix: prefix}}).Draw(rt, "rewrite")
		r.Timeouts = rapid.SampledFrom([]ir.Timeouts{{}, {Request: time.Second}, {Backend: time.Second, Idle: time.Second}}).Draw(rt, "timeouts")
		r.Retry = rapid.SampledFrom([]*ir.Retry{nil, {On: "5xx", Attempts: 2}, {StatusCodes: []uint32{429}, Attempts: 40, BackoffBase: time.Millisecond}}).Draw(rt, "retry")
	}
	return r
}

func drawBackends(rt *rapid.T, clusters []*ir.Cluster, filters bool) []ir.WeightedBackend {
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) ir.WeightedBackend {
		b := ir.WeightedBackend{
			Cluster: rapid.SampledFrom(clusters).Draw(rt, "cluster"),
			Weight:  rapid.SampledFrom([]uint32{0, 1, 50, 1 << 31, 1<<32 - 1}).Draw(rt, "weight"),
		}
		if b.Unresolved = rapid.Bool().Draw(rt, "unresolved"); b.Unresolved {
			b.Cluster, b.Status = nil, rapid.SampledFrom([]uint32{0, 500}).Draw(rt, "unresolved status")
		}
		if filters {
			b.Filters = drawFilters(rt, clusters)
		}
		return b
	}), 0, 4).Draw(rt, "backends")
}

func drawFilters(rt *rapid.T, clusters []*ir.Cluster) ir.Filters {
	header := rapid.Custom(func(rt *rapid.T) ir.Header {
		return ir.Header{Name: rapid.SampledFrom([]string{"X-A", "x-b", "Host"}).Draw(rt, "header"), Value: rapid.SampledFrom([]string{"", "v", "%", "%REQ(x)%"}).Draw(rt, "header value")}
	})
	headers := rapid.SliceOfN(header, 0, 2)
	change := func() ir.HeaderChange {
		return ir.HeaderChange{
			Set: headers.Draw(rt, "set"), Add: headers.Draw(rt, "add"),
			Remove: rapid.SliceOfN(rapid.SampledFrom([]string{"X-A", "x-c", "host"}), 0, 2).Draw(rt, "remove"),
		}
	}
	out := ir.Filters{RequestHeaders: change(), ResponseHeaders: change()}
	if rapid.Bool().Draw(rt, "mirrored") {
		out.Mirrors = []ir.Mirror{{Cluster: clusters[0], Numerator: 1, Denominator: rapid.SampledFrom([]uint32{0, 3}).Draw(rt, "denominator")}}
	}
	return out
}
