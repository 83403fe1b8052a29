package translate_test

import (
	"net/netip"
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// roots stands for a trust bundle where nothing is verified with it.
const roots = "-----BEGIN CERTIFICATE-----\ngolden files hold no real one\n-----END CERTIFICATE-----\n"

func sharedSettings(changes ...func(*ir.Shared)) *ir.Shared {
	s := &ir.Shared{
		TrustDomain: "cluster.local",
		TrustBundle: []byte(roots),
		TLS:         ir.TLS{MinVersion: "TLSv1_3", MaxVersion: "TLSv1_3", Curves: []string{"X25519MLKEM768", "X25519", "P-256"}},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

func account(namespace, n string) identity.ServiceAccount {
	return identity.ServiceAccount{Namespace: namespace, Name: n}
}

func allow(accounts ...identity.ServiceAccount) ir.Principals {
	return ir.Principals{ServiceAccounts: accounts}
}

func anyone() ir.Principals { return ir.Principals{Any: true} }

func servicePort(namespace, service string, port uint16) ir.ServicePort {
	return ir.ServicePort{Namespace: namespace, Name: service, Port: port}
}

// cluster is the cluster of a service's port.
func cluster(s ir.ServicePort, protocol ir.Protocol, peers ...identity.ServiceAccount) *ir.Cluster {
	return &ir.Cluster{
		Name:      name.Cluster(s.Namespace, s.Name, s.Port),
		Endpoints: []ir.EndpointSet{{Service: s}},
		SNI:       s.Name + "." + s.Namespace + ".svc.cluster.local",
		Peers:     peers,
		Protocol:  protocol,
	}
}

func addresses(all ...string) []netip.Addr {
	out := make([]netip.Addr, 0, len(all))
	for _, a := range all {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func to(c *ir.Cluster, weight uint32) ir.WeightedBackend {
	return ir.WeightedBackend{Cluster: c, Weight: weight}
}

// web is an HTTP service, bytes one that is not, each with one cluster.
func web(s ir.ServicePort, c *ir.Cluster, at ...string) *ir.Destination {
	return &ir.Destination{
		Service: s, Addresses: addresses(at...), Protocol: ir.HTTP,
		Routes: []ir.HTTPRoute{{Name: "default", Backends: []ir.WeightedBackend{to(c, 1)}}},
	}
}

func bytesTo(s ir.ServicePort, c *ir.Cluster, at ...string) *ir.Destination {
	return &ir.Destination{Service: s, Addresses: addresses(at...), Protocol: ir.TCP, Backends: []ir.WeightedBackend{to(c, 1)}}
}

// headless makes a destination that is called by the addresses of its endpoints.
func headless(d *ir.Destination, hosts ...string) *ir.Destination {
	d.Headless, d.Dialled, d.Addresses, d.Hosts = true, []uint16{d.Service.Port}, nil, hosts
	for c := range backendClusters(d) {
		c.OriginalDestination = true
	}
	return d
}

func backendClusters(d *ir.Destination) map[*ir.Cluster]struct{} {
	out := map[*ir.Cluster]struct{}{}
	for _, b := range d.Backends {
		out[b.Cluster] = struct{}{}
	}
	for _, r := range d.Routes {
		for _, b := range r.Backends {
			out[b.Cluster] = struct{}{}
		}
	}
	return out
}

func plaintext(c *ir.Cluster) *ir.Cluster {
	c.Plaintext = true
	return c
}

func inboundWeb(port uint16, service string, who ir.Principals, routes ...ir.InboundRoute) ir.InboundPort {
	return ir.InboundPort{Port: port, Protocol: ir.HTTP, Service: servicePort("shop", service, 80), Allow: who, Routes: routes}
}

func cases() map[string]*ir.Proxy {
	return map[string]*ir.Proxy{
		"nothing-to-do":      {Class: "nothing", Shared: sharedSettings()},
		"ingress-and-server": ingressAndServer("opa.opa.svc.cluster.local", 9191),
		"permissive":         permissive(),
		"enforced":           enforced(),
		"every-route":        everyRoute(),
		"headless":           headlessCase(false),
		"headless-and-open":  headlessCase(true),
		"servers-and-limits": serversAndLimits(),
		"open-telemetry":     openTelemetry(),
		"rate-limits":        rateLimits(),
		"global-rate-limits": globalLimits("limits.example", 8081),
		"upstreams":          upstreams(),
		"ingress":            ingressCase(),
		"egress":             egressCase(false),
		"egress-and-open":    egressCase(true),
	}
}

// permissive lets everyone call everything, in clear what is outside the mesh.
func permissive() *ir.Proxy {
	cart, books, db := servicePort("shop", "cart", 80), servicePort("shop", "books", 80), servicePort("data", "mysql", 3306)
	return &ir.Proxy{
		Class: "permissive", Shared: sharedSettings(func(s *ir.Shared) { s.RequestMetrics = true }), Passthrough: true, Metrics: true,
		Inbound: []ir.InboundPort{
			inboundWeb(8080, "cart", anyone(), ir.InboundRoute{Name: "permissive", Allow: anyone()}),
			{Port: 9000, Protocol: ir.TCP, Service: servicePort("shop", "cart-tcp", 9000), Allow: anyone()},
		},
		Outbound: []*ir.Destination{
			bytesTo(db, plaintext(cluster(db, ir.TCP, account("data", "mysql"))), "10.96.0.3"),
			web(books, plaintext(cluster(books, ir.HTTP, account("shop", "books"))), "10.96.0.2"),
			web(cart, plaintext(cluster(cart, ir.HTTP, account("shop", "cart-v1"), account("shop", "cart-v2"))), "10.96.0.1", "fd00::1"),
		},
	}
}

// enforced allows some accounts some requests.
func enforced() *ir.Proxy {
	books := servicePort("shop", "books", 80)
	buyer, thief := account("shop", "buyer"), account("shop", "thief.with.dots")
	return &ir.Proxy{
		Class: "enforced", Shared: sharedSettings(),
		Inbound: []ir.InboundPort{
			{
				Port: 8080, Protocol: ir.HTTP, Service: servicePort("shop", "store", 80), Allow: anyone(),
				Routes: []ir.InboundRoute{
					{
						Name: "buy", Allow: allow(buyer), Timeout: 5 * time.Second,
						Match: ir.HTTPMatch{
							Path: ir.PathMatch{Kind: ir.MatchRegex, Value: "/books/[0-9]+"}, Methods: []string{"GET", "HEAD"},
							Headers: []ir.ValueMatch{{Name: "User-Agent", Kind: ir.MatchRegex, Value: ".*bot.*", Invert: true}, {Name: ":authority", Kind: ir.MatchExact, Value: "store"}},
						},
					},
					{
						Name: "look", Allow: allow(buyer), Match: ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchRegex, Value: ".*"}, Methods: []string{"GET"}},
						Also: []ir.Grant{
							{Allow: allow(thief), Match: ir.HTTPMatch{
								Path: ir.PathMatch{Kind: ir.MatchPathPrefix, Value: "/free/"}, Methods: []string{"GET", "PUT"},
								Headers: []ir.ValueMatch{{Name: "x-free", Kind: ir.MatchExact, Value: "1"}},
							}},
							{Allow: allow(thief), Match: ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchExact, Value: "/"}}},
							{Match: ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchExact, Value: "/nobody"}}},
						},
					},
					{Name: "nobody", Match: ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchPathPrefix, Value: "/admin"}}},
				},
			},
			inboundWeb(8081, "empty", ir.Principals{}, ir.InboundRoute{Name: "closed", Allow: anyone()}),
			{Port: 9000, Protocol: ir.TCP, Service: servicePort("shop", "store-tcp", 9000), Allow: allow(buyer)},
			{Port: 9001, Protocol: ir.TCP, Service: servicePort("shop", "closed-tcp", 9001)},
		},
		Outbound: []*ir.Destination{web(books, cluster(books, ir.HTTP, account("shop", "books"), account("shop", "books-v2")), "10.96.0.2")},
	}
}

func everyRoute() *ir.Proxy {
	s := servicePort("shop", "store", 80)
	v1, v2 := cluster(servicePort("shop", "v1", 80), ir.HTTP, account("shop", "v1")), cluster(servicePort("shop", "v2", 80), ir.HTTP, account("shop", "v2"))
	slash, elsewhere := "/", "/elsewhere"
	changes := ir.HeaderChange{
		Set: []ir.Header{{Name: "X-Set", Value: "100%"}, {Name: "gone", Value: "1"}}, Add: []ir.Header{{Name: "X-Add", Value: "a"}}, Remove: []string{"Gone"},
	}
	prefixed := func(value string) ir.HTTPMatch {
		return ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchPathPrefix, Value: value}}
	}
	d := &ir.Destination{
		Service: s, Addresses: addresses("10.96.0.1"), Protocol: ir.HTTP,
		Routes: []ir.HTTPRoute{
			{Name: "redirect", Match: prefixed("/old"), Redirect: &ir.Redirect{Scheme: "https", Host: "example.com", Port: 8443, Path: &elsewhere, Prefix: true, Status: 301}},
			{Name: "redirect-to-slash", Match: prefixed("/up"), Redirect: &ir.Redirect{Path: &slash, Prefix: true}},
			{Name: "redirect-whole", Match: prefixed("/whole"), Redirect: &ir.Redirect{Path: &elsewhere, Status: 308}},
			{Name: "respond", Match: prefixed("/teapot"), Respond: &ir.Response{Status: 418, Body: "short and stout"}},
			{Name: "rewrite", Match: prefixed("/a"), Backends: []ir.WeightedBackend{to(v1, 1)}, Filters: ir.Filters{
				RequestHeaders: changes, ResponseHeaders: changes, Rewrite: &ir.Rewrite{Host: "other.example", Path: &elsewhere, Prefix: true},
			}},
			{Name: "rewrite-to-slash", Match: prefixed("/b/"), Backends: []ir.WeightedBackend{to(v1, 1)}, Filters: ir.Filters{Rewrite: &ir.Rewrite{Path: &slash, Prefix: true}}},
			{Name: "rewrite-whole", Match: prefixed("/c"), Backends: []ir.WeightedBackend{to(v1, 1)}, Filters: ir.Filters{Rewrite: &ir.Rewrite{Path: &elsewhere}}},
			{Name: "mirror", Match: prefixed("/mirror"), Backends: []ir.WeightedBackend{to(v1, 1)}, Filters: ir.Filters{Mirrors: []ir.Mirror{{Cluster: v2, Numerator: 1, Denominator: 3}, {Cluster: v1}}}},
			{Name: "split", Match: prefixed("/split"), Backends: []ir.WeightedBackend{
				{Cluster: v1, Weight: 90, Filters: ir.Filters{RequestHeaders: changes, Rewrite: nil}}, to(v2, 10), to(v2, 0),
			}, Timeouts: ir.Timeouts{Request: 5 * time.Second, Backend: time.Second, Idle: time.Minute}},
			{Name: "split-apart", Match: prefixed("/apart"), Backends: []ir.WeightedBackend{
				{Weight: 50, Unresolved: true, Status: 500}, to(v1, 25), {Cluster: v2, Weight: 25, Filters: ir.Filters{Rewrite: &ir.Rewrite{Host: "v2.example"}}},
			}},
			{Name: "unresolved", Match: prefixed("/unresolved"), Backends: []ir.WeightedBackend{{Weight: 1, Unresolved: true}}},
			{Name: "no-weight", Match: prefixed("/none"), Backends: []ir.WeightedBackend{to(v1, 0)}},
			{Name: "retry", Match: prefixed("/retry"), Backends: []ir.WeightedBackend{to(v1, 1)}, Retry: &ir.Retry{
				On: "5xx", StatusCodes: []uint32{429}, Attempts: 5, PerTry: time.Second, BackoffBase: 50 * time.Millisecond, BackoffMax: 500 * time.Millisecond,
			}},
			{Name: "match", Backends: []ir.WeightedBackend{to(v1, 1)}, Match: ir.HTTPMatch{
				Path: ir.PathMatch{Kind: ir.MatchPrefix, Value: "/pre"}, Methods: []string{"POST"},
				Headers:     []ir.ValueMatch{{Name: "x-there"}, {Name: "x-pre", Kind: ir.MatchPrefix, Value: "a"}},
				QueryParams: []ir.ValueMatch{{Name: "q"}, {Name: "v", Kind: ir.MatchRegex, Value: "[0-9]+"}, {Name: "w", Kind: ir.MatchExact, Value: "1"}},
			}},
			{Name: "default", Match: prefixed("/"), Backends: []ir.WeightedBackend{to(v1, 1)}},
		},
	}
	split := servicePort("shop", "split-tcp", 9000)
	tcp := bytesTo(split, cluster(split, ir.TCP, account("shop", "v1")), "10.96.0.9")
	tcp.Backends = append(tcp.Backends, ir.WeightedBackend{Weight: 3, Unresolved: true}, to(cluster(servicePort("shop", "tcp2", 9000), ir.TCP, account("shop", "v2")), 7))
	none := &ir.Destination{Service: servicePort("shop", "none-tcp", 9001), Addresses: addresses("10.96.0.10"), Protocol: ir.TCP}
	return &ir.Proxy{Class: "routes", Shared: sharedSettings(), Outbound: []*ir.Destination{none, tcp, d}}
}

// headlessCase has two headless web services and two others on ports that they share.
func headlessCase(passthrough bool) *ir.Proxy {
	one, two := servicePort("shop", "one", 8080), servicePort("shop", "two", 8080)
	raw, db, zoo := servicePort("shop", "raw", 8080), servicePort("data", "db", 5432), servicePort("data", "zoo", 2181)
	retried := headless(web(one, cluster(one, ir.HTTP, account("shop", "one"))), "one", "one.shop", "*.one.shop")
	retried.Routes[0].Retry = &ir.Retry{On: "5xx", Attempts: 2}
	// The pods of db listen on two ports that are not the Service's.
	moved := headless(bytesTo(db, cluster(db, ir.TCP, account("data", "db"))))
	moved.Dialled = []uint16{15432, 25432}
	openZoo := plaintext(cluster(zoo, ir.TCP, account("data", "zoo"), account("data", "keeper")))
	return &ir.Proxy{
		Class: "headless", Shared: sharedSettings(), Passthrough: passthrough,
		Outbound: []*ir.Destination{
			moved,
			headless(bytesTo(zoo, openZoo)),
			retried,
			headless(bytesTo(raw, cluster(raw, ir.TCP, account("shop", "raw")))),
			headless(web(two, cluster(two, ir.HTTP, account("shop", "two"))), "two", "two.shop", "one.shop"),
		},
	}
}

// openTelemetry sends spans of one in a hundred traces by OTLP.
func openTelemetry() *ir.Proxy {
	s := servicePort("shop", "store", 80)
	return &ir.Proxy{
		Class: "traced",
		Shared: sharedSettings(func(s *ir.Shared) {
			s.Tracing = &ir.Tracing{OpenTelemetry: true, Address: "collector.tracing.svc.cluster.local", Port: 4317, Sampled: 1}
		}),
		Inbound:  []ir.InboundPort{inboundWeb(8080, "store", anyone(), ir.InboundRoute{Name: "all", Allow: anyone()})},
		Outbound: []*ir.Destination{web(s, cluster(s, ir.HTTP, account("shop", "store")), "10.96.0.1")},
	}
}

func serversAndLimits() *ir.Proxy {
	bound := uint32(7)
	s := servicePort("shop", "store", 80)
	c := cluster(s, ir.HTTP, account("shop", "store"))
	c.ConnectTimeout = time.Second
	c.Limits = &ir.Limits{MaxConnections: &bound, MaxRetries: new(uint32), MaxRequestsPerConnection: &bound}
	return &ir.Proxy{
		Class: "servers",
		Shared: sharedSettings(func(s *ir.Shared) {
			s.TLS = ir.TLS{MinVersion: "TLSv1_2", MaxVersion: "TLS_AUTO", CipherSuites: []string{"ECDHE-ECDSA-AES128-GCM-SHA256"}}
			s.Tracing = &ir.Tracing{Address: "jaeger.osm-system.svc.cluster.local", Port: 9411, Endpoint: "/api/v2/spans", Sampled: 100}
			s.ExternalAuthorization = &ir.ExternalAuthorization{Address: "opa.opa.svc.cluster.local", Port: 9191, StatPrefix: "inboundExtAuthz", Timeout: time.Second, FailureModeAllow: true}
		}),
		Inbound:  []ir.InboundPort{inboundWeb(8080, "store", anyone(), ir.InboundRoute{Name: "all", Allow: anyone()})},
		Outbound: []*ir.Destination{web(s, c, "10.96.0.1")},
	}
}

// rateLimits bounds a port of one service, one of several services with bounds of their
// own, and one of bytes.
func rateLimits() *ir.Proxy {
	path := func(p string) ir.HTTPMatch {
		return ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchExact, Value: p}}
	}
	host := &ir.LocalRateLimit{Rate: ir.Rate{Number: 10, Burst: 5, Interval: time.Minute}, Status: 503, Headers: []ir.Header{{Name: "X-Why", Value: "slow 1%"}}}
	own := &ir.LocalRateLimit{Rate: ir.Rate{Number: 1, Interval: time.Second}}
	connections := &ir.Rate{Number: 100, Interval: time.Hour}
	routes := func(limit *ir.LocalRateLimit) []ir.InboundRoute {
		return []ir.InboundRoute{{Name: "a", Allow: anyone(), RateLimit: limit, Match: path("/a")}, {Name: "b", Allow: allow(account("shop", "buyer")), Match: path("/b")}}
	}
	one, several := inboundWeb(8080, "store", anyone(), routes(own)...), inboundWeb(8081, "v1", anyone(), routes(nil)...)
	one.Bounds = ir.InboundBounds{Requests: host, Connections: connections}
	several.Bounds.Requests = own
	several.Apart = []ir.InboundService{
		{ServerName: "v2.shop.svc.cluster.local", Hosts: []string{"v2", "v2.shop"}, Bounds: ir.InboundBounds{Connections: connections}, Routes: routes(nil)},
		{Hosts: []string{"root", "Root.shop", "v2"}, Bounds: ir.InboundBounds{Requests: host}, Routes: routes(own)},
	}
	several.Ingress = []ir.Ingress{{TLS: &ir.IngressTLS{Names: []string{"gate"}}, Routes: []ir.IngressRoute{{Name: "gate"}}}}
	raw := ir.InboundPort{Port: 9000, Protocol: ir.TCP, Service: servicePort("shop", "raw", 9000), Allow: anyone(), Bounds: ir.InboundBounds{Connections: connections}}
	raw.Apart = []ir.InboundService{{ServerName: "free.shop.svc.cluster.local"}}
	return &ir.Proxy{Class: "limits", Shared: sharedSettings(), Inbound: []ir.InboundPort{one, several, raw}}
}

// upstreams calls services each in a way of its own, in the mesh and outside.
func upstreams() *ir.Proxy {
	p := &ir.Proxy{Class: "upstreams", Shared: sharedSettings()}
	for i, b := range []*ir.Balance{
		{Kind: ir.LeastRequest, SlowStart: time.Minute, LeastPercent: 20},
		{Kind: ir.RoundRobin},
		{Kind: ir.HashHeader, Name: "x-user"},
		{Kind: ir.HashCookie, Name: "user"},
		{Kind: ir.HashSource},
	} {
		s := servicePort("shop", "by-"+string(b.Kind), 80)
		c := cluster(s, ir.HTTP, account("shop", "store"))
		c.Upstream = ir.Upstream{Idle: time.Minute, Balance: b, Outliers: &ir.Outliers{Errors: 7, Interval: time.Second, Ejection: 10 * time.Minute, MostPercent: 30}}
		d := web(s, c, netip.AddrFrom4([4]byte{10, 96, 1, byte(i)}).String())
		d.Routes[0].Timeouts.Request = 3 * time.Second
		p.Outbound = append(p.Outbound, d)
	}
	raw := servicePort("shop", "raw", 90)
	c := cluster(raw, ir.TCP, account("shop", "raw"))
	c.Upstream = ir.Upstream{Balance: &ir.Balance{Kind: ir.HashSource}, Outliers: &ir.Outliers{}}
	d := bytesTo(raw, c, "10.96.2.1")
	d.Idle = time.Hour
	pets := servicePort("shop", "pets", 8080)
	dialled := cluster(pets, ir.HTTP, account("shop", "pets"))
	dialled.Upstream = ir.Upstream{Balance: &ir.Balance{Kind: ir.RoundRobin}, Outliers: &ir.Outliers{MostPercent: 100}}
	fish := servicePort("shop", "fish", 8081)
	swimming := cluster(fish, ir.TCP, account("shop", "pets"))
	for _, asked := range []*ir.Cluster{c, dialled, swimming} {
		asked.HealthCheck = &ir.HealthCheck{Interval: 10 * time.Second, Timeout: time.Second, Unhealthy: 3, Healthy: 1}
	}
	p.Inbound = []ir.InboundPort{inboundWeb(8080, "store", anyone(), ir.InboundRoute{Name: "all", Allow: anyone()})}
	p.Inbound[0].Watched = 5 * time.Second
	p.Outbound = append(p.Outbound, d, headless(web(pets, dialled), "pets"), headless(bytesTo(fish, swimming)))
	outside := ir.EgressUpstream{
		Name: "shop/outside", Request: 2 * time.Second, Silence: time.Minute,
		Upstream: ir.Upstream{Idle: time.Second, Outliers: &ir.Outliers{}, Balance: &ir.Balance{Kind: ir.RoundRobin}},
	}
	named, wild := egressHost("example.com"), egressHost("*.wild.example")
	named.Upstream, wild.Upstream = outside, outside
	p.Egress = []*ir.EgressPort{{Port: 443, Ways: []ir.EgressWay{
		{Kind: ir.EgressHTTP, Hosts: []ir.EgressHost{named, wild}},
		{Kind: ir.EgressTLS, ServerNames: []string{"example.com"}, Upstream: outside},
	}}}
	return p
}
