package serve_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

func TestWhoIsServed(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	p, victim := h.pod("1", "a"), h.pod("2", "a")
	h.mu.Lock()
	h.pods["3"] = pod{uid: "3", namespace: "shop", name: "pod-3", sa: "other", class: "a"}
	h.mu.Unlock()
	stranger := newAuthority(t)
	uri := p.id().URI()
	leaf := func(change func(*x509.Certificate)) *tls.Certificate {
		c := h.ca.workload(t, p, change)
		return &c
	}
	named := func(uid string, uris ...string) *tls.Certificate {
		c := h.ca.leaf(t, uid, uris)
		return &c
	}
	byStranger, good := stranger.workload(t, p), h.ca.workload(t, p)
	bySelf := selfSigned(t, p)
	byLeaf := (&authority{cert: good.Leaf, key: good.PrivateKey.(*ecdsa.PrivateKey)}).workload(t, p)

	tests := map[string]struct {
		certificate *tls.Certificate
		node        string
		want        codes.Code
	}{
		"the pod itself is":                               {&good, p.node(), codes.OK},
		"nobody without a certificate is":                 {nil, p.node(), codes.Unavailable},
		"nobody of another authority is":                  {&byStranger, p.node(), codes.Unavailable},
		"nobody who signed for himself is":                {&bySelf, p.node(), codes.Unavailable},
		"nobody whom a workload signed for is":            {&byLeaf, p.node(), codes.Unavailable},
		"an expired certificate is refused":               {leaf(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = ago(2*time.Hour), ago(time.Minute) }), p.node(), codes.Unavailable},
		"a certificate of tomorrow is refused":            {leaf(func(c *x509.Certificate) { c.NotBefore = ago(-time.Hour) }), p.node(), codes.Unavailable},
		"a certificate for servers only is refused":       {leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), p.node(), codes.Unavailable},
		"a certificate without a name is refused":         {named("1"), p.node(), codes.Unauthenticated},
		"a certificate with two names is refused":         {named("1", uri, victim.id().URI()), p.node(), codes.Unauthenticated},
		"a certificate that names no pod is refused":      {named("", uri), p.node(), codes.Unauthenticated},
		"the control plane's own certificate is refused":  {named("", identity.ControlPlane(trustDomain, "osm", "v1")), p.node(), codes.Unauthenticated},
		"another trust domain is refused":                 {named("1", strings.Replace(uri, "cluster.local", "other.local", 1)), p.node(), codes.PermissionDenied},
		"another pod's node id is refused":                {&good, victim.node(), codes.PermissionDenied},
		"another pod's name is refused":                   {&good, "1." + victim.name + ".shop", codes.PermissionDenied},
		"another namespace in the node id is refused":     {&good, "1.pod-1.bank", codes.PermissionDenied},
		"a node id that is none is refused":               {&good, "sidecar", codes.InvalidArgument},
		"a first request without a node is refused":       {&good, "", codes.InvalidArgument},
		"another ServiceAccount's certificate is refused": {named("3", uri), "3.pod-3.shop", codes.PermissionDenied},
		"a pod that is gone is refused":                   {named("4", uri), "4.pod-4.shop", codes.PermissionDenied},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := h.open(t, tt.node, tt.certificate)
			if err == nil {
				c.ask(cds)
				if tt.want == codes.OK {
					c.take(t, "CDS +one")
					return
				}
				select {
				case r := <-c.got:
					t.Fatalf("got %s", summary(r))
				case <-c.ended:
					err = c.err
				case <-time.After(patience):
					t.Fatal("neither served nor refused")
				}
			}
			if got := status.Code(err); got != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func ago(d time.Duration) time.Time { return time.Now().Add(-d) }

func TestNothingElseIsServed(t *testing.T) { //nolint:tparallel // the subtests follow one another
	t.Parallel()
	h := start(t)
	certificate := h.ca.workload(t, h.pod("1", "a"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dial := func(t *testing.T) *grpc.ClientConn {
		t.Helper()
		conn, err := h.dial(&certificate)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	t.Run("not the state of the world", func(t *testing.T) {
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(dial(t)).StreamAggregatedResources(ctx)
		if err == nil {
			_ = stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: cds})
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("got %v, want Unimplemented", err)
		}
	})
	t.Run("not the services of single types", func(t *testing.T) {
		stream, err := clusterv3.NewClusterDiscoveryServiceClient(dial(t)).DeltaClusters(ctx)
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("got %v, want Unimplemented", err)
		}
		_, err = clusterv3.NewClusterDiscoveryServiceClient(dial(t)).FetchClusters(ctx, &discoveryv3.DiscoveryRequest{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("fetching: got %v, want Unimplemented", err)
		}
	})
	t.Run("not in clear", func(t *testing.T) {
		conn, err := grpc.NewClient("passthrough:///"+h.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Unavailable {
			t.Errorf("got %v, want Unavailable", err)
		}
	})
	t.Run("not over TLS 1.2", func(t *testing.T) {
		conn, err := (&tls.Dialer{Config: &tls.Config{
			MaxVersion: tls.VersionTLS12, RootCAs: h.ca.pool(), ServerName: "osm-controller", Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"},
		}}).DialContext(ctx, "tcp", h.address)
		if err == nil {
			conn.Close()
			t.Error("the handshake succeeded")
		}
	})
}

func TestRoots(t *testing.T) { //nolint:tparallel // the subtests follow one another
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	p := h.pod("1", "a")
	old := h.ca.workload(t, p)
	c := h.connect(t, p)
	c.ask(cds)
	c.take(t, "CDS +one")
	if err := h.server.Recheck(); err != nil {
		t.Fatal(err)
	}
	c.quiet(t)

	next := newAuthority(t)
	h.mu.Lock()
	h.trusted = next.pool()
	h.mu.Unlock()
	t.Run("those of a root that is gone are refused", func(t *testing.T) {
		if d, err := h.open(t, p.node(), &old); err == nil && status.Code(d.finish(t)) != codes.Unavailable {
			t.Errorf("got %v, want to be refused at the handshake", d.err)
		}
	})
	t.Run("those of a root that came are served", func(t *testing.T) {
		certificate := next.workload(t, p)
		d, err := h.open(t, p.node(), &certificate)
		if err != nil {
			t.Fatal(err)
		}
		d.ask(cds)
		d.take(t, "CDS +one")
	})
	t.Run("those that are connected are looked at again", func(t *testing.T) {
		if err := h.server.Recheck(); err != nil {
			t.Fatal(err)
		}
		if err := c.finish(t); status.Code(err) != codes.Unauthenticated {
			t.Errorf("got %v, want Unauthenticated", err)
		}
	})
}

func TestAStreamEndsBeforeItsCertificate(t *testing.T) {
	t.Parallel()
	h := start(t)
	p := h.pod("1", "a")
	// Certificates count whole seconds.
	end := time.Now().Add(3 * time.Second).Truncate(time.Second)
	certificate := h.ca.workload(t, p, func(c *x509.Certificate) { c.NotAfter = end })
	c, err := h.open(t, p.node(), &certificate)
	if err != nil {
		t.Fatal(err)
	}
	c.ask(cds)
	if err := c.finish(t); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "newest certificate") {
		t.Errorf("got %v, want to be asked to connect again", err)
	}
	if now := time.Now(); now.After(end) {
		t.Errorf("the stream ended %s after the certificate", now.Sub(end))
	}
}

// A stream on the same connection would go on with the same certificate.
func TestAConnectionEndsWithItsStream(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := h.connect(t, h.pod("1", "a"))
	c.ask(cds)
	c.quiet(t)
	h.server.Disconnect("unknown", "the pod is gone")
	c.quiet(t)
	h.server.Disconnect("1", "the pod is gone")
	if err := c.finish(t); status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v, want PermissionDenied", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if !c.conn.WaitForStateChange(ctx, connectivity.Ready) {
		t.Error("the connection was not closed")
	}
}

func TestAConnectionWhoseStreamEndedServesNoOther(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := h.connect(t, h.pod("1", "a"))
	c.ask(cds)
	c.quiet(t)
	h.server.Disconnect("1", "a test")
	_ = c.finish(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(c.conn).DeltaAggregatedResources(ctx)
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
}

// A connection that is resumed would not show its certificate again.
func TestNoConnectionIsResumed(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.pod("1", "a")
	sessions := tls.NewLRUClientSessionCache(8)
	for range 2 {
		certificate := h.ca.workload(t, h.pod("1", "a"))
		conn, err := (&tls.Dialer{Config: &tls.Config{
			RootCAs: h.ca.pool(), ServerName: "osm-controller", Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}, ClientSessionCache: sessions,
		}}).DialContext(t.Context(), "tcp", h.address)
		if err != nil {
			t.Fatal(err)
		}
		// Tickets come with the first bytes that are read.
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if conn.(*tls.Conn).ConnectionState().DidResume {
			t.Error("the second connection was resumed")
		}
		conn.Close()
	}
}

func TestAPodThatTheLookUpFailsFor(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *serve.Options) {
		o.Authenticate = func(context.Context, identity.Peer, serve.NodeInfo) (serve.ProxyInfo, error) {
			return serve.ProxyInfo{}, status.Error(codes.Unavailable, "the API server does not answer")
		}
	})
	c := h.connect(t, h.pod("1", "a"))
	c.ask(cds)
	if err := c.finish(t); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want the look-up's own status", err)
	}
	if got := h.metric(t, "osm_proxy_refused_count", ""); got != 1 {
		t.Errorf("%v refusals are counted, want 1", got)
	}
}

func TestALookUpThatAnswersForAnotherPod(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *serve.Options) {
		o.Authenticate = func(context.Context, identity.Peer, serve.NodeInfo) (serve.ProxyInfo, error) {
			return serve.ProxyInfo{PodUID: "2", Namespace: "shop", Name: "pod-1", Class: "a", ServiceAccount: identity.ServiceAccount{Namespace: "shop", Name: "web"}}, nil
		}
	})
	c := h.connect(t, h.pod("1", "a"))
	c.ask(cds)
	if err := c.finish(t); status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v, want PermissionDenied", err)
	}
}

func TestAPanicEndsOneStream(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	p := h.pod("1", "a")
	c := h.connect(t, p)
	c.ask(cds)
	c.take(t, "CDS +one")
	h.mu.Lock()
	h.lookedUp = func() { panic("a mistake in a look-up") }
	h.mu.Unlock()
	d := h.connect(t, h.pod("2", "a"))
	d.ask(cds)
	if err := d.finish(t); status.Code(err) != codes.Internal || strings.Contains(err.Error(), "mistake") {
		t.Errorf("got %v, want Internal without the cause", err)
	}
	c.quiet(t)
}

func TestAServerNeedsItsOptions(t *testing.T) {
	t.Parallel()
	if _, err := serve.NewServer(serve.Options{}); err == nil {
		t.Error("a server without options was made")
	}
	h := start(t)
	_, err := serve.NewServer(serve.Options{
		Cache: h.cache, TrustDomain: trustDomain, Registerer: h.registry, Authenticate: h.authenticate,
		Credentials: func() (serve.Credentials, error) { return serve.Credentials{}, errors.New("none") },
	})
	if err == nil {
		t.Error("two servers registered the same metrics")
	}
}

func TestWithoutRootsNobodyIsServed(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.mu.Lock()
	h.trusted = nil
	h.mu.Unlock()
	certificate := h.ca.workload(t, h.pod("1", "a"))
	c, err := h.open(t, "", &certificate)
	if err == nil {
		err = c.finish(t)
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want to be refused at the handshake", err)
	}
}
