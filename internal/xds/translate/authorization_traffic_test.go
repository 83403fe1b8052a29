package translate_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// authorizer is a server of Envoy's ext_authz protocol: it allows /open, never
// answers about /slow, and denies the rest with an answer of its own.
type authorizer struct {
	authv3.UnimplementedAuthorizationServer
	port uint16
	done chan struct{}

	mu sync.Mutex
	// asked counts the requests, by path; principals are who sent them. Protected by mu.
	asked      map[string]int
	principals map[string]bool
}

func newAuthorizer(t *testing.T) *authorizer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &authorizer{port: uint16(l.Addr().(*net.TCPAddr).Port), done: make(chan struct{}), asked: map[string]int{}, principals: map[string]bool{}}
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, s)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		close(s.done)
		server.Stop()
	})
	return s
}

// Check allows what is open.
func (s *authorizer) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	path := req.GetAttributes().GetRequest().GetHttp().GetPath()
	s.mu.Lock()
	s.asked[path]++
	s.principals[req.GetAttributes().GetSource().GetPrincipal()] = true
	s.mu.Unlock()
	switch path {
	case "/slow":
		select {
		case <-ctx.Done():
		case <-s.done:
		}
		return nil, ctx.Err()
	case "/open":
		return &authv3.CheckResponse{Status: &rpcstatus.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-allowed-by", Value: "the server"}}},
		}}}, nil
	default:
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.PermissionDenied)}, HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode_PaymentRequired},
			Headers: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-denied-by", Value: "the server"}}},
		}}}, nil
	}
}

// TestAServerIsAskedAboutRequests counts what a server of ext_authz is asked, and what it
// decides; and what becomes of requests while it does not answer, or is away.
func TestAServerIsAskedAboutRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := newAuthorizer(t)
	buyer, thief := w.ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/buyer"), w.ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/thief")
	start := func(pod string, port uint16, failOpen bool) uint16 {
		t.Helper()
		app := application(t, "127.0.0.1", 0)
		shared := w.shared()
		shared.ExternalAuthorization = &ir.ExternalAuthorization{Address: "127.0.0.1", Port: port, StatPrefix: "s", Timeout: 500 * time.Millisecond, FailureModeAllow: failOpen}
		routes := []ir.InboundRoute{{Name: "all", Allow: allow(account("shop", "buyer")), Match: ir.HTTPMatch{Methods: []string{"GET"}}}}
		p := &ir.Proxy{Class: "store", Shared: shared, Inbound: []ir.InboundPort{inboundWeb(app, "store", anyone(), routes...)}}
		w.start(t, p, "store", &mesh.Model{}, servePods([]string{pod}, app))
		return app
	}
	// No process listens on the port of a server that is away.
	away := freePort(t)
	closed, open := start(storePod, server.port, false), start(firstPod, server.port, true)
	awayClosed, awayOpen := start(secondPod, away, false), start(stranger, away, true)
	for _, step := range []struct {
		what    string
		pod     string
		port    uint16
		byThief bool
		path    string
		n, want int
		allowed bool
		denied  bool
	}{
		{what: "what it allows is served, with what it adds", pod: storePod, port: closed, path: "/open", n: 5, want: 200, allowed: true},
		{what: "what it denies is answered as it says", pod: storePod, port: closed, path: "/shut", n: 5, want: 402, denied: true},
		{what: "who may not ask at all is not asked about", pod: storePod, port: closed, byThief: true, path: "/thief", n: 5, want: 403},
		{what: "no answer in time is no, where it fails closed", pod: storePod, port: closed, path: "/slow", n: 2, want: 403},
		{what: "and yes, where it fails open", pod: firstPod, port: open, path: "/slow", n: 2, want: 200},
		{what: "what it denies stays denied, where it fails open", pod: firstPod, port: open, path: "/shut", n: 5, want: 402, denied: true},
		{what: "a server that is away means no, where it fails closed", pod: secondPod, port: awayClosed, path: "/open", n: 3, want: 403},
		{what: "and yes, where it fails open", pod: stranger, port: awayOpen, path: "/shut", n: 3, want: 200},
		{what: "and yet the mesh's own no stays, where it fails open", pod: stranger, port: awayOpen, byThief: true, path: "/shut", n: 3, want: 403},
	} {
		who := buyer
		if step.byThief {
			who = thief
		}
		got := map[int]int{}
		for range step.n {
			c, err := w.peer(step.pod, step.port, []string{"http/1.1"}, who)
			if err != nil {
				t.Fatal(err)
			}
			r, err := request(t, c, "GET", step.path, "store")
			_ = c.Close()
			if err != nil {
				t.Fatal(err)
			}
			got[r.status]++
			if allowed := r.answer.Header.Get("X-Allowed-By") != ""; allowed != step.allowed {
				t.Errorf("%s: the application hears who allowed it: %t", step.what, allowed)
			}
			if denied := r.header.Get("X-Denied-By") != ""; denied != step.denied {
				t.Errorf("%s: the client hears who denied it: %t", step.what, denied)
			}
		}
		if want := map[int]int{step.want: step.n}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", step.what, got, want)
		}
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if want := map[string]int{"/open": 5, "/shut": 10, "/slow": 4}; fmt.Sprint(server.asked) != fmt.Sprint(want) {
		t.Errorf("the server was asked %v, want %v", server.asked, want)
	}
	if want := map[string]bool{"spiffe://cluster.local/ns/shop/sa/buyer": true}; fmt.Sprint(server.principals) != fmt.Sprint(want) {
		t.Errorf("the server heard of %v, want %v", server.principals, want)
	}
}
