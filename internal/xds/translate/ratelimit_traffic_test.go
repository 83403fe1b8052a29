package translate_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// hourly is a rate that no test outlasts.
func hourly(n uint32) ir.Rate { return ir.Rate{Number: n, Interval: time.Hour} }

func requestsHourly(n uint32) *ir.LocalRateLimit { return &ir.LocalRateLimit{Rate: hourly(n)} }

// limitedWorld is a sidecar of pods with limits: of services store, v1 with a root, and raw.
type limitedWorld struct {
	*world
	store, v1, raw uint16
	buyer, thief   tls.Certificate
}

func newLimitedWorld(t *testing.T) *limitedWorld {
	t.Helper()
	w := &limitedWorld{world: newWorld(t)}
	w.store, w.v1, w.raw = application(t, "127.0.0.1", 0), application(t, "127.0.0.1", 0), greeter(t, "127.0.0.1", 0)
	w.buyer, w.thief = w.ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/buyer"), w.ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/thief")
	p := rateLimits()
	p.Shared = w.shared()
	routes := func(limit *ir.LocalRateLimit) []ir.InboundRoute {
		buyer := allow(account("shop", "buyer"))
		return []ir.InboundRoute{
			{Name: "slow", Allow: buyer, RateLimit: limit, Match: ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchPrefix, Value: "/slow"}}},
			{Name: "rest", Allow: buyer, Match: ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchPrefix, Value: "/rest"}}},
		}
	}
	slow := requestsHourly(2)
	slow.Status, slow.Headers = 503, []ir.Header{{Name: "X-Why", Value: "100% busy"}}
	store, v1, raw := &p.Inbound[0], &p.Inbound[1], &p.Inbound[2]
	store.Port, store.Routes = w.store, routes(slow)
	store.Bounds = ir.InboundBounds{Requests: &ir.LocalRateLimit{Rate: ir.Rate{Number: 2, Burst: 3, Interval: time.Hour}}}
	v1.Port, v1.Ingress, v1.Routes = w.v1, nil, routes(nil)
	v1.Bounds = ir.InboundBounds{Requests: requestsHourly(3)}
	v1.Apart = []ir.InboundService{
		{ServerName: "v2.shop.svc.cluster.local", Hosts: []string{"v2", "v2.shop"}, Routes: routes(nil)},
		{Hosts: []string{"root", "root.shop", "*.root.shop"}, Bounds: ir.InboundBounds{Requests: requestsHourly(1)}, Routes: routes(nil)},
	}
	connections := hourly(4)
	raw.Port, raw.Bounds.Connections = w.raw, &connections
	w.start(t, p, "store", &mesh.Model{}, servePods([]string{storePod}, w.store, w.v1, w.raw))
	return w
}

// statuses counts the answers to requests over connections of their own.
func (w *limitedWorld) statuses(t *testing.T, n int, who tls.Certificate, port uint16, target, host string) map[int]int {
	t.Helper()
	out := map[int]int{}
	for range n {
		c, err := w.peer(storePod, port, []string{"http/1.1"}, who)
		if err != nil {
			t.Fatal(err)
		}
		got, err := request(t, c, "GET", target, host)
		_ = c.Close()
		if err != nil {
			t.Fatal(err)
		}
		if limited := got.status == 503; limited != (got.header.Get("X-Why") == "100% busy") {
			t.Errorf("%s of %s is answered %d with %v", target, host, got.status, got.header)
		}
		out[got.status]++
	}
	return out
}

func TestRequestsOverALimitAreAnswered(t *testing.T) {
	t.Parallel()
	w := newLimitedWorld(t)
	for _, step := range []struct {
		what         string
		n            int
		who          tls.Certificate
		port         uint16
		target, host string
		want         map[int]int
	}{
		{"who may not ask takes nothing from those who may", 20, w.thief, w.store, "/rest", "store", map[int]int{403: 20}},
		{"nor does what is not found", 20, w.buyer, w.store, "/nothing", "store", map[int]int{404: 20}},
		{"nor what is a route's own", 6, w.buyer, w.store, "/slow", "store", map[int]int{200: 2, 503: 4}},
		{"the rate and the burst get through, by any host", 3, w.buyer, w.store, "/rest", "store.shop:80", map[int]int{200: 3}},
		{"and no more", 5, w.buyer, w.store, "/rest", "10.96.0.1", map[int]int{200: 2, 429: 3}},
		{"a service without limit has none", 20, w.buyer, w.v1, "/rest", "V2.shop:80", map[int]int{200: 20}},
		{"a root has its own", 3, w.buyer, w.v1, "/rest", "root.shop.", map[int]int{200: 1, 429: 2}},
		{"on all routes together", 2, w.buyer, w.v1, "/slow", "a.root.shop", map[int]int{429: 2}},
		{"the rest counts for the first service", 5, w.buyer, w.v1, "/rest", "elsewhere", map[int]int{200: 3, 429: 2}},
		{"whatever it is called", 2, w.buyer, w.v1, "/slow", "v1", map[int]int{429: 2}},
	} {
		if got := w.statuses(t, step.n, step.who, step.port, step.target, step.host); fmt.Sprint(got) != fmt.Sprint(step.want) {
			t.Errorf("%s: %s of %s gives %v, want %v", step.what, step.target, step.host, got, step.want)
		}
	}
}

func TestConnectionsOverALimitAreClosed(t *testing.T) {
	t.Parallel()
	w := newLimitedWorld(t)
	for _, step := range []struct {
		server  string
		n, want int
	}{
		{"free.shop.svc.cluster.local", 9, 9},
		{"raw.shop.svc.cluster.local", 9, 4},
		{"free.shop.svc.cluster.local", 2, 2},
	} {
		if got := w.heard(t, step.server, step.n); got != step.want {
			t.Errorf("%d of %d connections to %s are served, want %d", got, step.n, step.server, step.want)
		}
	}
}

// heard counts the connections for a server on which the application greets.
func (w *limitedWorld) heard(t *testing.T, server string, n int) int {
	t.Helper()
	greeted := func() bool {
		d := &tls.Dialer{Config: &tls.Config{Certificates: []tls.Certificate{w.buyer}, ServerName: server, InsecureSkipVerify: true}}
		c, err := d.DialContext(w.ctx, "tcp", net.JoinHostPort(storePod, fmt.Sprint(w.raw)))
		if err != nil {
			return false
		}
		defer c.Close()
		deadline, _ := w.ctx.Deadline()
		_ = c.SetDeadline(deadline)
		line := make([]byte, 5)
		_, err = c.Read(line)
		return err == nil && string(line) == "hello"
	}
	out := 0
	for range n {
		if greeted() {
			out++
		}
	}
	return out
}
