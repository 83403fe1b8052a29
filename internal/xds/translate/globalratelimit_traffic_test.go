package translate_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	ratelimitcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// rateServer is a server of Envoy's rate limit protocol: of each descriptor it lets so
// many through, and of one that it does not know any number.
type rateServer struct {
	ratelimitv3.UnimplementedRateLimitServiceServer
	port  uint16
	limit map[string]int

	mu sync.Mutex
	// asked counts the descriptors; protected by mu.
	asked map[string]int
}

func newRateServer(t *testing.T, limit map[string]int) *rateServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rateServer{port: uint16(l.Addr().(*net.TCPAddr).Port), limit: limit, asked: map[string]int{}}
	server := grpc.NewServer()
	ratelimitv3.RegisterRateLimitServiceServer(server, s)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return s
}

// ShouldRateLimit counts.
func (s *rateServer) ShouldRateLimit(_ context.Context, req *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_OK}
	for _, d := range req.GetDescriptors() {
		key := spell(req.GetDomain(), d)
		s.asked[key]++
		status := &ratelimitv3.RateLimitResponse_DescriptorStatus{Code: ratelimitv3.RateLimitResponse_OK}
		if most, known := s.limit[key]; known {
			status.CurrentLimit = &ratelimitv3.RateLimitResponse_RateLimit{RequestsPerUnit: uint32(most), Unit: ratelimitv3.RateLimitResponse_RateLimit_HOUR}
			status.LimitRemaining = uint32(max(0, most-s.asked[key]))
			if s.asked[key] > most {
				status.Code, out.OverallCode = ratelimitv3.RateLimitResponse_OVER_LIMIT, ratelimitv3.RateLimitResponse_OVER_LIMIT
			}
		}
		out.Statuses = append(out.Statuses, status)
	}
	return out, nil
}

// spell writes a descriptor down: domain: key=value, key=value.
func spell(domain string, d *ratelimitcommonv3.RateLimitDescriptor) string {
	var entries []string
	for _, e := range d.GetEntries() {
		entries = append(entries, e.GetKey()+"="+e.GetValue())
	}
	return domain + ": " + strings.Join(entries, ", ")
}

// count is how often a server was asked about a descriptor.
func (s *rateServer) count(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[key]
}

// global asks a server.
func global(address string, port uint16, domain string, descriptors ...ir.RateDescriptor) *ir.GlobalRateLimit {
	return &ir.GlobalRateLimit{Address: address, Port: port, Domain: domain, Timeout: 5 * time.Second, Descriptors: descriptors}
}

func generic(key, value string) ir.RateEntry {
	return ir.RateEntry{Kind: ir.RateGeneric, Key: key, Value: value}
}

// globalLimits asks a server about a port of one service, and one of two that ask
// differently.
func globalLimits(server string, port uint16) *ir.Proxy {
	named := ir.RateDescriptor{generic("service", "store"), {Kind: ir.RateHeader, Key: "user", Header: "x-user"}}
	address := ir.RateDescriptor{{Kind: ir.RateAddress, Key: "remote_address"}}
	matching := ir.RateDescriptor{{
		Kind: ir.RateMatch, Key: "header_match", Value: "bots", Headers: []ir.ValueMatch{{Name: "user-agent", Kind: ir.MatchRegex, Value: ".*bot.*"}, {Name: "x-human", Invert: true}},
	}}
	humans := ir.RateDescriptor{{Kind: ir.RateMatch, Key: "header_match", Value: "humans", Otherwise: true, Headers: []ir.ValueMatch{{Name: "user-agent", Kind: ir.MatchPrefix, Value: "bot"}}}}
	buyer := allow(account("shop", "buyer"))
	routes := func(slow ...ir.RateDescriptor) []ir.InboundRoute {
		return []ir.InboundRoute{
			{Name: "slow", Allow: buyer, Descriptors: slow, Match: ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchPrefix, Value: "/slow"}}},
			{Name: "rest", Allow: buyer, Match: ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchPrefix, Value: "/rest"}}},
		}
	}
	store := inboundWeb(8080, "store", anyone(), routes(ir.RateDescriptor{generic("path", "slow")})...)
	store.Bounds.GlobalRequests = global(server, port, "shop", named, address, matching, humans)
	store.Bounds.GlobalRequests.Status, store.Bounds.GlobalRequests.Headers = 503, true
	v1 := inboundWeb(8081, "v1", anyone(), routes()...)
	v1.Apart = []ir.InboundService{
		{ServerName: "v2.shop.svc.cluster.local", Hosts: []string{"v2"}, Bounds: ir.InboundBounds{GlobalRequests: global(server, port, "v2", ir.RateDescriptor{generic("all", "v2")})}, Routes: routes()},
		{Hosts: []string{"away"}, Bounds: ir.InboundBounds{GlobalRequests: global(server, 1, "closed", ir.RateDescriptor{generic("a", "b")})}, Routes: routes()},
		{Hosts: []string{"open"}, Bounds: ir.InboundBounds{GlobalRequests: global(server, 1, "open", ir.RateDescriptor{generic("a", "b")})}, Routes: routes()},
	}
	v1.Apart[2].Bounds.GlobalRequests.FailOpen = true
	raw := ir.InboundPort{Port: 9000, Protocol: ir.TCP, Service: servicePort("shop", "raw", 9000), Allow: buyer}
	raw.Bounds.GlobalConnections = global(server, port, "bytes", ir.RateDescriptor{generic("all", "raw")})
	raw.Apart = []ir.InboundService{{ServerName: "free.shop.svc.cluster.local"}}
	return &ir.Proxy{Class: "global", Shared: sharedSettings(), Inbound: []ir.InboundPort{store, v1, raw}}
}

func TestAServerIsAskedAboutRates(t *testing.T) {
	t.Parallel()
	w := &limitedWorld{world: newWorld(t)}
	w.store, w.v1, w.raw = application(t, "127.0.0.1", 0), application(t, "127.0.0.1", 0), greeter(t, "127.0.0.1", 0)
	w.buyer, w.thief = w.ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/buyer"), w.ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/thief")
	server := newRateServer(t, map[string]int{
		"shop: service=store, user=ann": 3, "shop: path=slow": 1, "v2: all=v2": 2, "bytes: all=raw": 4, "shop: header_match=bots": 1,
	})
	p := globalLimits("127.0.0.1", server.port)
	p.Shared = w.shared()
	p.Inbound[0].Port, p.Inbound[1].Port, p.Inbound[2].Port = w.store, w.v1, w.raw
	w.start(t, p, "store", &mesh.Model{}, servePods([]string{storePod}, w.store, w.v1, w.raw))

	ask := func(who tls.Certificate, port uint16, target, host string, headers ...string) response {
		t.Helper()
		c, err := w.peer(storePod, port, []string{"http/1.1"}, who)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, err := request(t, c, "GET", target, host, headers...)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, step := range []struct {
		what         string
		n            int
		who          tls.Certificate
		port         uint16
		target, host string
		headers      []string
		want         map[int]int
	}{
		{"who may not ask is not counted", 5, w.thief, w.store, "/rest", "store", []string{"X-User: ann"}, map[int]int{403: 5}},
		{"nor is what is not found", 5, w.buyer, w.store, "/nothing", "store", []string{"X-User: ann"}, map[int]int{404: 5}},
		{"the server lets through what it likes", 5, w.buyer, w.store, "/rest", "store", []string{"X-User: ann"}, map[int]int{200: 3, 503: 2}},
		{"of another user any number", 5, w.buyer, w.store, "/rest", "store", []string{"X-User: bob"}, map[int]int{200: 5}},
		{"a route has its own descriptors, and no others", 3, w.buyer, w.store, "/slow", "store", []string{"X-User: ann"}, map[int]int{200: 1, 503: 2}},
		{"bots are told by their headers", 3, w.buyer, w.store, "/rest", "store", []string{"User-Agent: a bot"}, map[int]int{200: 1, 503: 2}},
		{"unless one says otherwise", 3, w.buyer, w.store, "/rest", "store", []string{"User-Agent: a bot", "X-Human: 1"}, map[int]int{200: 3}},
		{"the first service has no limit", 5, w.buyer, w.v1, "/rest", "v1", nil, map[int]int{200: 5}},
		{"the second has", 5, w.buyer, w.v1, "/slow", "v2", nil, map[int]int{200: 2, 429: 3}},
		{"a server that is away may mean no", 3, w.buyer, w.v1, "/rest", "away", nil, map[int]int{500: 3}},
		{"or yes", 3, w.buyer, w.v1, "/rest", "open", nil, map[int]int{200: 3}},
	} {
		got := map[int]int{}
		for range step.n {
			r := ask(step.who, step.port, step.target, step.host, append(step.headers, "X-Forwarded-For: 192.0.2.7")...)
			got[r.status]++
			if told := r.header.Get("X-RateLimit-Limit") != ""; step.host == "store" && r.status == 503 && !told {
				t.Errorf("%s: the answer tells of no limit: %v", step.what, r.header)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(step.want) {
			t.Errorf("%s: %s of %s gives %v, want %v", step.what, step.target, step.host, got, step.want)
		}
	}
	for key, want := range map[string]int{
		"shop: service=store, user=ann": 5, "shop: path=slow": 3, "shop: remote_address=192.0.2.7": 0, "shop: remote_address=127.0.0.1": 16,
		"shop: header_match=humans": 16, "shop: header_match=bots": 3,
	} {
		if got := server.count(key); got != want {
			t.Errorf("the server was asked %d times about %s, want %d", got, key, want)
		}
	}
	for server, want := range map[string]int{"raw.shop.svc.cluster.local": 4, "free.shop.svc.cluster.local": 9} {
		if got := w.heard(t, server, 9); got != want {
			t.Errorf("%d of 9 connections to %s are served, want %d", got, server, want)
		}
	}
}
