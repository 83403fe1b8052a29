package serve_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

const (
	cds = resource.ClusterType
	eds = resource.EndpointType
	lds = resource.ListenerType
	rds = resource.RouteType
	sds = resource.SecretType
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// harness is a server with all that it stands on, and the pods that exist.
type harness struct {
	cache    *serve.Cache
	server   *serve.Server
	registry *prometheus.Registry
	address  string
	stop     func() error // ends the server and returns what Serve did

	mu sync.Mutex
	// Protected by mu.
	ca       *authority // that signs pods and the server
	trusted  *x509.CertPool
	shown    tls.Certificate
	pods     map[string]pod
	lookedUp func() // called in each look-up
}

// start runs a server; options are changed before it is made.
func start(tb testing.TB, changes ...func(*serve.Options)) *harness {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return startOn(tb, l, changes...)
}

// startOn runs a server on a listener.
func startOn(tb testing.TB, l net.Listener, changes ...func(*serve.Options)) *harness {
	tb.Helper()
	h := &harness{cache: serve.NewCache(), registry: prometheus.NewRegistry(), ca: newAuthority(tb), pods: map[string]pod{}}
	h.trusted = h.ca.pool()
	h.certify(h.ca.controlPlane(tb))
	options := serve.Options{
		Cache: h.cache, TrustDomain: trustDomain, Registerer: h.registry, Authenticate: h.authenticate, TrustBundle: "trust-bundle",
		Credentials: func() (serve.Credentials, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return serve.Credentials{Certificate: h.shown, Roots: h.trusted}, nil
		},
	}
	for _, change := range changes {
		change(&options)
	}
	var err error
	if h.server, err = serve.NewServer(options); err != nil {
		tb.Fatal(err)
	}
	h.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- h.server.Serve(ctx, l) }()
	h.stop = sync.OnceValue(func() error { cancel(); return <-done })
	tb.Cleanup(func() {
		if err := h.stop(); err != nil {
			tb.Errorf("Serve: %v", err)
		}
	})
	return h
}

func limits(l serve.Limits) func(*serve.Options) {
	return func(o *serve.Options) { o.Limits = l }
}

// authenticate is the Authenticator over the pods.
func (h *harness) authenticate(_ context.Context, _ identity.Peer, node serve.NodeInfo) (serve.ProxyInfo, error) {
	h.mu.Lock()
	p, ok := h.pods[node.PodUID]
	lookedUp := h.lookedUp
	h.mu.Unlock()
	if lookedUp != nil {
		lookedUp()
	}
	if !ok {
		return serve.ProxyInfo{}, errors.New("there is no such pod")
	}
	return serve.ProxyInfo{
		PodUID: p.uid, Namespace: p.namespace, Name: p.name, Class: p.class, Revision: "v1",
		ServiceAccount: identity.ServiceAccount{Namespace: p.namespace, Name: p.sa},
	}, nil
}

// certify gives the server another certificate.
func (h *harness) certify(c tls.Certificate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shown = c
}

// pod makes a pod of a class exist.
func (h *harness) pod(uid, class string) pod {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := pod{uid: uid, namespace: "shop", name: "pod-" + uid, sa: "web", class: class}
	h.pods[uid] = p
	return p
}

// connect opens a stream as a pod, with a good certificate.
func (h *harness) connect(tb testing.TB, p pod) *client {
	tb.Helper()
	certificate := h.ca.workload(tb, p)
	c, err := h.open(tb, p.node(), &certificate)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// open opens a stream with a certificate, or with none.
func (h *harness) open(tb testing.TB, node string, certificate *tls.Certificate) (*client, error) {
	tb.Helper()
	conn, err := h.dial(certificate)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 2*time.Minute)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		cancel()
		_ = conn.Close()
		return nil, err
	}
	c := &client{
		conn: conn, stream: stream, node: node, got: make(chan *discoveryv3.DeltaDiscoveryResponse, 64), ended: make(chan struct{}),
		has: map[string]map[string]string{cds: {}, eds: {}, lds: {}, rds: {}, sds: {}},
	}
	c.close = sync.OnceFunc(func() { cancel(); _ = conn.Close(); <-c.ended })
	tb.Cleanup(c.close)
	go c.receive(ctx)
	return c, nil
}

func (h *harness) dial(certificate *tls.Certificate) (*grpc.ClientConn, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: h.ca.pool(), ServerName: "osm-controller"}
	if certificate != nil {
		config.Certificates = []tls.Certificate{*certificate}
	}
	return grpc.NewClient("passthrough:///"+h.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
}

// failer is a test, or one case of a property.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Logf(string, ...any)
}

// wait returns once something is so.
func wait(tb failer, what string, so func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("it never came to be that %s", what)
		}
	}
}

// client is a proxy's end of a stream. It is used by one goroutine.
type client struct {
	conn   *grpc.ClientConn
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	node   string
	got    chan *discoveryv3.DeltaDiscoveryResponse
	ended  chan struct{} // closed after err is set
	err    error
	close  func()
	// has is what the client accepted, by type and name: versions.
	has map[string]map[string]string
}

func (c *client) receive(ctx context.Context) {
	defer close(c.ended)
	for {
		response, err := c.stream.Recv()
		if err != nil {
			c.err = err
			return
		}
		select {
		case c.got <- response:
		case <-ctx.Done():
			c.err = ctx.Err()
			return
		}
	}
}

// send sends a request; the first bears the node's id.
func (c *client) send(req *discoveryv3.DeltaDiscoveryRequest) {
	if c.node != "" {
		req.Node = &corev3.Node{Id: c.node}
		c.node = ""
	}
	_ = c.stream.Send(req) // what went wrong is the stream's end, that receive sees
}

// ask subscribes to names; none at first is a wildcard.
func (c *client) ask(typeURL string, names ...string) {
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names})
}

// resume subscribes at the beginning of a stream, with what is held from before.
func (c *client) resume(typeURL string, versions map[string]string, names ...string) {
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names, InitialResourceVersions: versions})
}

func (c *client) unask(typeURL string, names ...string) {
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesUnsubscribe: names})
}

// ack accepts a response.
func (c *client) ack(r *discoveryv3.DeltaDiscoveryResponse) {
	has := c.has[r.GetTypeUrl()]
	for _, x := range r.GetResources() {
		has[x.GetName()] = x.GetVersion()
	}
	for _, name := range r.GetRemovedResources() {
		delete(has, name)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
}

// nack rejects a response.
func (c *client) nack(r *discoveryv3.DeltaDiscoveryResponse, message string) {
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ErrorDetail: &status.Status{Code: 13, Message: message}})
}

// next returns the next response.
func (c *client) next(tb failer) *discoveryv3.DeltaDiscoveryResponse {
	tb.Helper()
	select {
	case r := <-c.got:
		return r
	case <-c.ended:
		tb.Fatalf("the stream ended: %v", c.err)
	case <-time.After(patience):
		tb.Fatal("no response came")
	}
	return nil
}

// want checks the next response: "type +added -removed", names in order.
func (c *client) want(tb failer, want string) *discoveryv3.DeltaDiscoveryResponse {
	tb.Helper()
	r := c.next(tb)
	if got := summary(r); got != want {
		tb.Fatalf("got %q, want %q", got, want)
	}
	return r
}

// take checks the next response and accepts it.
func (c *client) take(tb failer, want string) {
	tb.Helper()
	c.ack(c.want(tb, want))
}

// quiet checks that nothing comes, though the server has taken all that was sent: a
// type that is not served is answered after what came before it.
func (c *client) quiet(tb failer) {
	tb.Helper()
	const probe = "type.googleapis.com/probe"
	c.ask(probe, "probe")
	if r := c.next(tb); r.GetTypeUrl() != probe {
		tb.Fatalf("got %q, want nothing", summary(r))
	}
}

// rest accepts all that comes and returns it.
func (c *client) rest(tb failer) []string {
	tb.Helper()
	const probe = "type.googleapis.com/probe"
	var out []string
	for {
		c.ask(probe, "probe")
		n := len(out)
		r := c.next(tb)
		for ; r.GetTypeUrl() != probe; r = c.next(tb) {
			out = append(out, summary(r))
			c.ack(r)
		}
		if len(out) == n {
			return out
		}
	}
}

// finish returns the error that the stream ends with.
func (c *client) finish(tb failer) error {
	tb.Helper()
	for {
		select {
		case <-c.ended:
			return c.err
		case r := <-c.got:
			tb.Logf("before the end came %s", summary(r))
		case <-time.After(patience):
			tb.Fatal("the stream does not end")
		}
	}
}

// summary writes a response as "CDS +a +b -c".
func summary(r *discoveryv3.DeltaDiscoveryResponse) string {
	out := map[string]string{cds: "CDS", eds: "EDS", lds: "LDS", rds: "RDS", sds: "SDS"}[r.GetTypeUrl()]
	if out == "" {
		out = r.GetTypeUrl()
	}
	for _, x := range r.GetResources() {
		out += " +" + x.GetName()
	}
	for _, name := range r.GetRemovedResources() {
		out += " -" + name
	}
	return out
}

// set makes what a class is sent, with the load assignments that its clusters wait for:
// a part of it in a layer that other classes may have as well.
func set(tb failer, resources ...*resource.Resource) *resource.Set {
	tb.Helper()
	own, below := resource.NewSet(), resource.NewSet()
	for _, r := range resources {
		out := own
		if r.Name[len(r.Name)-1]%2 == 0 {
			out = below
		}
		out.Add(r)
		if r.TypeURL == cds {
			var c clusterv3.Cluster
			if err := unmarshal(r.Body, &c); err != nil {
				tb.Fatal(err)
			}
			if c.GetType() == clusterv3.Cluster_EDS {
				out.Refer(c.GetEdsClusterConfig().GetServiceName(), []ir.EndpointSet{})
			}
		}
	}
	return own.Over(below)
}

// cluster makes a cluster; with endpoints, it waits for the load assignment of that name.
func cluster(tb failer, name, version, endpoints string) *resource.Resource {
	tb.Helper()
	c := &clusterv3.Cluster{Name: name, AltStatName: version}
	if endpoints != "" {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{ServiceName: endpoints}
	}
	r, err := resource.New(c, name)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// other makes a resource of another type, of any bytes.
func other(typeURL, name, version string) *resource.Resource {
	return resource.Of(typeURL, name, version, fmt.Appendf(nil, "%s of %s", version, name))
}

func endpointsOf(name, version string) *resource.Resource { return other(eds, name, version) }
func listener(name, version string) *resource.Resource    { return other(lds, name, version) }
func route(name, version string) *resource.Resource       { return other(rds, name, version) }
func secret(name, version string) *resource.Resource      { return other(sds, name, version) }

// small makes every resource fill a response.
func small() serve.Limits { return serve.Limits{ResponseBytes: 1} }

func anyOf(r *resource.Resource) *anypb.Any { return &anypb.Any{TypeUrl: r.TypeURL, Value: r.Body} }
