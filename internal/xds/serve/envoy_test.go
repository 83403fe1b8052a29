package serve_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// TestEnvoyFollows has the real Envoy go through what delta clients are known to get
// stuck in. Like the mesh's own sidecars, it waits for endpoints without limit.
func TestEnvoyFollows(t *testing.T) {
	t.Parallel()
	envoy := os.Getenv("OSM_TEST_ENVOY")
	if envoy == "" {
		t.Skip("OSM_TEST_ENVOY does not name an Envoy")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	h := start(t)
	p := h.pod("1", "a")
	h.cache.SetClass("a", set(t, edsCluster(t, "one", 1, "e"), tcpListener(t, "in", "one")))
	h.cache.SetShared("e", loadAssignment(t, "e", "10.0.0.1"))
	link := newForwarder(t, h.address)
	e := h.runEnvoy(ctx, t, envoy, p, link.address)

	inSync := func() bool {
		all := h.server.Proxies()
		return len(all) == 1 && all[0].InSync
	}
	follows := func(what string) {
		t.Helper()
		if err := h.cache.Settled(ctx, cds, "a"); err != nil {
			t.Fatalf("%s: Envoy does not acknowledge: %v", what, err)
		}
		e.wait(ctx, t, what+": in sync", inSync)
		if warming := e.clusters(ctx, t, "dynamic_warming_clusters"); len(warming) > 0 {
			t.Errorf("%s: clusters %v are still warming", what, warming)
		}
	}
	follows("a start")

	h.cache.SetClass("a", set(t, edsCluster(t, "one", 2, "e"), tcpListener(t, "in", "one")))
	follows("a cluster that changes while its endpoints do not")

	h.cache.SetClass("a", set(t, edsCluster(t, "one", 2, "e"), edsCluster(t, "two", 1, "e"), tcpListener(t, "in", "two")))
	follows("a new cluster with the endpoints of another")

	h.cache.SetClass("a", set(t, edsCluster(t, "two", 1, "e"), tcpListener(t, "in", "two")))
	follows("a cluster that goes")
	h.cache.SetClass("a", set(t, edsCluster(t, "one", 2, "e"), edsCluster(t, "two", 1, "e"), tcpListener(t, "in", "two")))
	follows("a cluster that comes again")

	h.cache.SetShared("e", loadAssignment(t, "e", "10.0.0.2"))
	e.wait(ctx, t, "new endpoints arrive", func() bool { return strings.Contains(e.get(ctx, t, "/clusters"), "one::10.0.0.2") })

	bad := edsCluster(t, "bad", 0, "e") // Envoy refuses a connect timeout of zero
	h.cache.SetClass("a", set(t, edsCluster(t, "one", 3, "e"), edsCluster(t, "two", 1, "e"), bad, tcpListener(t, "in", "one")))
	e.wait(ctx, t, "the culprit is known", func() bool {
		all := h.server.Proxies()
		return len(all) == 1 && all[0].Rejected != nil && all[0].Pending == 1 && cmpNames(all[0].Rejected.Resources, "bad")
	})
	if got := e.clusters(ctx, t, "dynamic_active_clusters"); strings.Join(got, " ") != "one two" {
		t.Errorf("beside a bad cluster Envoy has %v, want one and two", got)
	}
	h.cache.SetClass("a", set(t, edsCluster(t, "one", 3, "e"), edsCluster(t, "two", 1, "e"), tcpListener(t, "in", "one")))
	follows("a bad cluster that is taken back")

	before := h.metric(t, "osm_proxy_response_send_success_count", "")
	h.server.Disconnect("1", "a test")
	e.wait(ctx, t, "it is gone", func() bool { return len(h.server.Proxies()) == 0 || !inSync() })
	e.wait(ctx, t, "it is back", inSync)
	if got := h.metric(t, "osm_proxy_response_send_success_count", ""); got != before {
		t.Errorf("connecting again with nothing changed took %v responses, want none", got-before)
	}
}

// TestEnvoyIsFreedFromWarming moves a real Envoy to a replica that has not all endpoints
// yet, so that a cluster warms there, and back: Envoy has the endpoints of old, says so,
// and still waits to get them.
func TestEnvoyIsFreedFromWarming(t *testing.T) {
	t.Parallel()
	envoy := os.Getenv("OSM_TEST_ENVOY")
	if envoy == "" {
		t.Skip("OSM_TEST_ENVOY does not name an Envoy")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	h, starting := start(t), start(t)
	starting.mu.Lock()
	starting.trusted = h.ca.pool()
	starting.mu.Unlock()
	starting.certify(h.ca.controlPlane(t))
	p := h.pod("1", "a")
	starting.pod("1", "a")
	h.cache.SetClass("a", set(t, edsCluster(t, "one", 1, "e"), tcpListener(t, "in", "one")))
	h.cache.SetShared("e", loadAssignment(t, "e", "10.0.0.1"))
	link := newForwarder(t, h.address)
	e := h.runEnvoy(ctx, t, envoy, p, link.address)
	in := func(h *harness) func() bool {
		return func() bool {
			all := h.server.Proxies()
			return len(all) == 1 && all[0].InSync
		}
	}
	e.wait(ctx, t, "it is in sync", in(h))

	changed := set(t, edsCluster(t, "one", 2, "e"), tcpListener(t, "in", "one"))
	starting.cache.SetClass("a", changed)
	link.to(starting.address)
	e.wait(ctx, t, "the cluster warms", func() bool { return len(e.clusters(ctx, t, "dynamic_warming_clusters")) == 1 })

	h.cache.SetClass("a", changed)
	link.to(h.address)
	e.wait(ctx, t, "it is in sync again", in(h))
	if warming := e.clusters(ctx, t, "dynamic_warming_clusters"); len(warming) > 0 {
		t.Errorf("clusters %v are still warming", warming)
	}
}

func cmpNames(got []string, want ...string) bool {
	return strings.Join(got, " ") == strings.Join(want, " ")
}

func edsCluster(tb testing.TB, name string, seconds int, endpoints string) *resource.Resource {
	tb.Helper()
	return made(tb, name, &clusterv3.Cluster{
		Name: name, ConnectTimeout: durationpb.New(time.Duration(seconds) * time.Second),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{ServiceName: endpoints, EdsConfig: &corev3.ConfigSource{
			ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
			ResourceApiVersion:    corev3.ApiVersion_V3, InitialFetchTimeout: durationpb.New(0),
		}},
	})
}

func loadAssignment(tb testing.TB, name, address string) *resource.Resource {
	tb.Helper()
	return made(tb, name, &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socket(address, 80)}}}},
	}}})
}

func tcpListener(tb testing.TB, name, cluster string) *resource.Resource {
	tb.Helper()
	proxy, err := anypb.New(&tcpproxyv3.TcpProxy{StatPrefix: name, ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster}})
	if err != nil {
		tb.Fatal(err)
	}
	return made(tb, name, &listenerv3.Listener{
		Name: name, Address: socket("127.0.0.1", 0),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{Name: "tcp", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: proxy}}}}},
	})
}

func socket(address string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}
}

func made(tb testing.TB, name string, m proto.Message) *resource.Resource {
	tb.Helper()
	r, err := resource.New(m, name)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// envoyProcess is a running Envoy.
type envoyProcess struct {
	admin string // host:port
}

const bootstrapFormat = `
node: {id: %q, cluster: test}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
dynamic_resources:
  ads_config: {api_type: DELTA_GRPC, transport_api_version: V3, set_node_on_first_message_only: true,
    grpc_services: [{envoy_grpc: {cluster_name: xds, retry_policy: {retry_back_off: {base_interval: 0.1s, max_interval: 0.5s}}}}]}
  cds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
  lds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
static_resources:
  clusters:
  - name: xds
    connect_timeout: 5s
    type: STATIC
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %q, port_value: %s}}}}]}]}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: osm-controller
        common_tls_context:
          tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}
          tls_certificates: [{certificate_chain: {filename: %q}, private_key: {filename: %q}}]
          validation_context: {trusted_ca: {filename: %q}}
`

// runEnvoy starts Envoy as a pod's proxy.
func (h *harness) runEnvoy(ctx context.Context, t *testing.T, envoy string, p pod, address string) *envoyProcess {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	certificate := h.ca.workload(t, p)
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	document := file("envoy.yaml", fmt.Appendf(nil, bootstrapFormat, p.node(), host, port,
		file("cert.pem", block("CERTIFICATE", certificate.Certificate[0])), file("key.pem", block("PRIVATE KEY", key)), file("ca.pem", block("CERTIFICATE", h.ca.cert.Raw))))
	where := filepath.Join(dir, "admin")
	var log syncBuffer
	cmd := exec.CommandContext(ctx, envoy, "--config-path", document, "--use-dynamic-base-id", "--concurrency", "1",
		"--admin-address-path", where, "--log-level", "warning", "--component-log-level", "upstream:debug,config:debug")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	e := &envoyProcess{}
	e.wait(ctx, t, "Envoy starts", func() bool {
		admin, err := os.ReadFile(where)
		e.admin = strings.TrimSpace(string(admin))
		return err == nil && e.admin != ""
	})
	return e
}

// wait returns once something is so.
func (*envoyProcess) wait(ctx context.Context, t *testing.T, what string, so func() bool) {
	t.Helper()
	for !so() {
		select {
		case <-ctx.Done():
			t.Fatalf("it never came to be that %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (e *envoyProcess) get(ctx context.Context, t *testing.T, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.admin+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// clusters lists the names of clusters in a state, in order.
func (e *envoyProcess) clusters(ctx context.Context, t *testing.T, state string) []string {
	t.Helper()
	var dump struct {
		Configs []struct {
			Cluster struct {
				Name string `json:"name"`
			} `json:"cluster"`
		} `json:"configs"`
	}
	if err := json.Unmarshal([]byte(e.get(ctx, t, "/config_dump?resource="+state)), &dump); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range dump.Configs {
		out = append(out, c.Cluster.Name)
	}
	return out
}

// forwarder passes connections to one replica or another.
type forwarder struct {
	address string
	mu      sync.Mutex
	target  string
	open    []net.Conn
}

func newForwarder(t *testing.T, target string) *forwarder {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{address: l.Addr().String(), target: target}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { f.forward(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); f.to(""); all.Wait() })
	return f
}

// to closes all connections and passes new ones to another replica.
func (f *forwarder) to(target string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = target
	for _, conn := range f.open {
		_ = conn.Close()
	}
	f.open = nil
}

func (f *forwarder) forward(conn net.Conn) {
	defer conn.Close()
	f.mu.Lock()
	target := f.target
	f.open = append(f.open, conn)
	f.mu.Unlock()
	if target == "" {
		return
	}
	peer, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer peer.Close()
	go func() { _, _ = io.Copy(peer, conn); _ = peer.Close() }()
	_, _ = io.Copy(conn, peer)
}

// syncBuffer is written by a process while a test reads it.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
