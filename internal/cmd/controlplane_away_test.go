package cmd

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// gate is a way to the API server that can be shut.
type gate struct {
	mu sync.Mutex
	// Protected by mu.
	shut  bool
	conns []net.Conn
}

func (g *gate) dial(ctx context.Context, network, address string) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		g.conns = append(g.conns, conn)
	}
	return conn, err
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	if shut {
		for _, c := range g.conns {
			_ = c.Close()
		}
		g.conns = nil
	}
}

// TestTheAPIServerIsAway is longer away than a lease lasts.
func TestTheAPIServerIsAway(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var way gate
	p := startPlane(ctx, t, func(c *rest.Config) { c.Dial = way.dial })
	p.ready(ctx, t)
	web, buyer := p.pod(ctx, t, "web-1", "web", "10.0.0.2"), p.pod(ctx, t, "buyer-1", "buyer", "10.0.0.9")
	_, slice := p.serviceOf(ctx, t, "web", web)
	sidecar := p.sidecar(t, buyer)
	holds := func(want ...string) func() bool {
		return func() bool {
			got, _ := sidecar.addresses(webEndpoints)
			return slices.Equal(got, want)
		}
	}
	sidecar.until(t, "the endpoint of the Service", holds("10.0.0.2"))

	way.set(true)
	second := p.pod(ctx, t, "web-2", "web", "10.0.0.3")
	slice.Endpoints = append(slice.Endpoints, endpointAt(second))
	must(t, p.Update(ctx, slice))
	_, mark := sidecar.responses(0)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for range 20 {
		<-ticker.C
		for _, path := range []string{"/health/alive", "/health/ready"} {
			if code, body, err := get(ctx, p.options.httpPort, path); err != nil || code != http.StatusOK {
				t.Fatalf("%s answers %d %s %v while the API server is away", path, code, body, err)
			}
		}
	}
	if got, _ := sidecar.responses(mark); len(got) > 0 {
		t.Errorf("while the API server was away, the sidecar was sent %q", got)
	}
	late := p.sidecar(t, buyer)
	late.until(t, "what a sidecar gets that connects now", func() bool { got, _ := late.addresses(webEndpoints); return len(got) == 1 })
	if _, body, err := get(ctx, p.options.httpPort, "/metrics"); err != nil || strings.Contains(body, "osm_k8s_api_unreachable_seconds 0\n") {
		t.Errorf("the metrics do not tell that the API server is away (%v)", err)
	}

	way.set(false)
	back := time.Now()
	sidecar.until(t, "what happened meanwhile", holds("10.0.0.2", "10.0.0.3"))
	if took := time.Since(back); took > 5*time.Second {
		t.Errorf("it took %s to catch up", took)
	}
	select {
	case err := <-p.done:
		p.done <- err
		t.Fatalf("the control plane ended: %v", err)
	case err := <-sidecar.ended:
		t.Errorf("the stream ended: %v", err)
	default:
	}
	if got, _ := sidecar.responses(mark); len(got) != 1 {
		t.Errorf("reading everything again sent %q, want one load assignment", got)
	}
}
