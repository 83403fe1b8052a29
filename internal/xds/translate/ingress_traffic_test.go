package translate_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

const gatewayName = "gate.ingress.cluster.local"

// ingressCase has ports that gateways call in clear, by TLS with a certificate, and by
// TLS without; the last by both.
func ingressCase() *ir.Proxy {
	all := []ir.IngressRoute{{Name: "shop/ingress"}}
	plain := ir.Ingress{Sources: ranges("127.0.4.0/24", "2001:db8::/64"), Routes: all}
	status := []ir.IngressRoute{{Name: "shop/status", Match: ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchPrefix, Value: "/status"}, Methods: []string{"GET"}}}}
	named := ir.Ingress{TLS: &ir.IngressTLS{Names: []string{gatewayName}}, Routes: status}
	open := ir.Ingress{Sources: ranges("127.0.4.0/24"), TLS: &ir.IngressTLS{NoCertificate: true, ServerNames: []string{"gate.example", "both.shop.svc.cluster.local"}}, Routes: all}
	route := ir.InboundRoute{Name: "all", Allow: allow(account("shop", "buyer"))}
	p := &ir.Proxy{Class: "store", Shared: sharedSettings(), Inbound: []ir.InboundPort{
		inboundWeb(8080, "store", anyone(), route), inboundWeb(8081, "named", anyone(), route), inboundWeb(8082, "both", anyone(), route),
	}}
	p.Inbound[0].Ingress, p.Inbound[1].Ingress, p.Inbound[2].Ingress = []ir.Ingress{plain}, []ir.Ingress{named}, []ir.Ingress{plain, open}
	return p
}

// ingressAndServer has a server of external authorization asked about what gateways send.
func ingressAndServer(address string, port uint16) *ir.Proxy {
	p := ingressCase()
	p.Shared = sharedSettings(func(s *ir.Shared) {
		s.ExternalAuthorization = &ir.ExternalAuthorization{Address: address, Port: port, StatPrefix: "inboundExtAuthz", Timeout: time.Second}
	})
	return p
}

// ingressWorld is a sidecar with ports that gateways call.
type ingressWorld struct {
	*world
	clear, named, both uint16
}

func newIngressWorld(t *testing.T) *ingressWorld {
	t.Helper()
	w := &ingressWorld{world: newWorld(t)}
	w.serve(t, ingressCase())
	return w
}

func (w *ingressWorld) serve(t *testing.T, p *ir.Proxy) {
	t.Helper()
	w.clear, w.named, w.both = application(t, "127.0.0.1", 0), application(t, "127.0.0.1", 0), application(t, "127.0.0.1", 0)
	server := p.Shared.ExternalAuthorization
	p.Shared = w.shared()
	p.Shared.ExternalAuthorization = server
	for i, port := range []uint16{w.clear, w.named, w.both} {
		p.Inbound[i].Port = port
	}
	w.start(t, p, "store", &mesh.Model{}, servePods([]string{storePod}, w.clear, w.named, w.both))
}

func TestIngress(t *testing.T) {
	t.Parallel()
	w := newIngressWorld(t)
	gate := w.ca.leaf(t, "spiffe://cluster.local/gateway", func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{gatewayName} })
	kept := w.ca.leaf(t, identity.Gateway("cluster.local", "osm"), func(c *x509.Certificate) { c.DNSNames = []string{gatewayName} })
	other := w.ca.leaf(t, "spiffe://cluster.local/gateway", func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"other.cluster.local"} })
	stranger := newAuthority(t).leaf(t, "spiffe://cluster.local/gateway", func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{gatewayName} })
	buyer := w.ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/buyer")
	const inRange, outOfRange, sidecar = "127.0.4.7", "127.0.5.7", "store.shop.svc.cluster.local"
	tests := map[string]struct {
		from   string
		port   uint16
		tls    *tls.Config
		target string
		// status is 0 where there is no answer at all.
		status int
	}{
		"a gateway in the range is served":                     {inRange, w.clear, nil, "/", 200},
		"nobody else is, in clear":                             {outOfRange, w.clear, nil, "/", 0},
		"a sidecar goes on to be served":                       {outOfRange, w.clear, &tls.Config{ServerName: sidecar, Certificates: []tls.Certificate{buyer}}, "/", 200},
		"a gateway with the name is served":                    {outOfRange, w.named, &tls.Config{Certificates: []tls.Certificate{gate}}, "/status/1", 200},
		"with a certificate that the operator keeps, too":      {outOfRange, w.named, &tls.Config{Certificates: []tls.Certificate{kept}}, "/status/1", 200},
		"which is no workload's":                               {outOfRange, w.named, &tls.Config{ServerName: sidecar, Certificates: []tls.Certificate{kept}}, "/status/1", 0},
		"by TLS 1.2 too":                                       {outOfRange, w.named, &tls.Config{Certificates: []tls.Certificate{gate}, MaxVersion: tls.VersionTLS12}, "/status/1", 200},
		"whatever name it asks for":                            {outOfRange, w.named, &tls.Config{ServerName: "store.shop.cluster.local", Certificates: []tls.Certificate{gate}}, "/status/1", 200},
		"what it may not send is not found":                    {outOfRange, w.named, &tls.Config{Certificates: []tls.Certificate{gate}}, "/other", 404},
		"another name is refused":                              {outOfRange, w.named, &tls.Config{Certificates: []tls.Certificate{other}}, "/status/1", 403},
		"a workload of the mesh is no gateway":                 {outOfRange, w.named, &tls.Config{Certificates: []tls.Certificate{buyer}}, "/status/1", 403},
		"the name by another authority is none":                {outOfRange, w.named, &tls.Config{Certificates: []tls.Certificate{stranger}}, "/status/1", 0},
		"no certificate is none":                               {outOfRange, w.named, &tls.Config{}, "/status/1", 0},
		"in clear nobody is served there":                      {inRange, w.named, nil, "/status/1", 0},
		"a sidecar is served there as ever":                    {outOfRange, w.named, &tls.Config{ServerName: sidecar, Certificates: []tls.Certificate{buyer}}, "/other", 200},
		"a gateway that asks for a Service is no sidecar":      {outOfRange, w.named, &tls.Config{ServerName: sidecar, Certificates: []tls.Certificate{gate}}, "/status/1", 0},
		"without certificates the name asked for counts":       {inRange, w.both, &tls.Config{ServerName: "gate.example"}, "/", 200},
		"another name is not served":                           {inRange, w.both, &tls.Config{ServerName: "other.example"}, "/", 0},
		"nor another address":                                  {outOfRange, w.both, &tls.Config{ServerName: "gate.example"}, "/", 0},
		"a Service's name may be asked for":                    {inRange, w.both, &tls.Config{ServerName: "both.shop.svc.cluster.local"}, "/", 200},
		"a sidecar asks for it as ever":                        {outOfRange, w.both, &tls.Config{ServerName: "both.shop.svc.cluster.local", Certificates: []tls.Certificate{buyer}}, "/", 200},
		"and is held to its own rights":                        {outOfRange, w.both, &tls.Config{ServerName: "both.shop.svc.cluster.local"}, "/", 0},
		"in clear the same port is open to the range":          {inRange, w.both, nil, "/", 200},
		"and a sidecar in the range is held to its own rights": {inRange, w.both, &tls.Config{ServerName: sidecar, Certificates: []tls.Certificate{other}}, "/", 0},
	}
	for n, tt := range tests {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(tt.from)}}).DialContext(w.ctx, "tcp", net.JoinHostPort(storePod, fmt.Sprint(tt.port)))
			if err != nil {
				t.Fatal(err)
			}
			deadline, _ := w.ctx.Deadline()
			_ = c.SetDeadline(deadline)
			if tt.tls != nil {
				tt.tls.InsecureSkipVerify = true
				c = tls.Client(c, tt.tls)
			}
			defer c.Close()
			got, err := request(t, c, "GET", tt.target, "any.example", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Client-Cert: URI=spiffe://spoofed")
			if got.status != tt.status || (err == nil) != (tt.status != 0) {
				t.Fatalf("got %d, %v, want %d", got.status, err, tt.status)
			}
			if tt.status != 200 {
				return
			}
			if client := got.answer.Header.Get("X-Forwarded-For"); client != "192.0.2.1" {
				t.Errorf("the application is told of the client %q", client)
			}
			if certificate := got.answer.Header.Get("X-Forwarded-Client-Cert"); certificate == "URI=spiffe://spoofed" {
				t.Errorf("the application is told of the certificate %q", certificate)
			}
		})
	}
}

// TestGatewaysAreAskedAboutToo has a server of external authorization decide about what
// gateways send, after the mesh has: by their address, and by their certificate.
func TestGatewaysAreAskedAboutToo(t *testing.T) {
	t.Parallel()
	server := newAuthorizer(t)
	w := &ingressWorld{world: newWorld(t)}
	w.serve(t, ingressAndServer("127.0.0.1", server.port))
	gate := w.ca.leaf(t, identity.Gateway("cluster.local", "osm"), func(c *x509.Certificate) { c.DNSNames = []string{gatewayName} })
	buyer := w.ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/buyer")
	for _, step := range []struct {
		what, from string
		port       uint16
		tls        *tls.Config
		target     string
		status     int
	}{
		{"allowed, in clear", "127.0.4.7", w.clear, nil, "/open", 200},
		{"denied, in clear", "127.0.4.7", w.clear, nil, "/shut", 402},
		{"nobody's address", "127.0.5.7", w.clear, nil, "/open", 0},
		{"denied, by TLS", "127.0.5.7", w.named, &tls.Config{Certificates: []tls.Certificate{gate}}, "/status/1", 402},
		{"no gateway's certificate", "127.0.5.7", w.named, &tls.Config{Certificates: []tls.Certificate{buyer}}, "/status/1", 403},
		{"what has no route is asked about as well", "127.0.5.7", w.named, &tls.Config{Certificates: []tls.Certificate{gate}}, "/other", 402},
	} {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(step.from)}}).DialContext(w.ctx, "tcp", net.JoinHostPort(storePod, fmt.Sprint(step.port)))
		if err != nil {
			t.Fatal(err)
		}
		deadline, _ := w.ctx.Deadline()
		_ = c.SetDeadline(deadline)
		if step.tls != nil {
			step.tls.InsecureSkipVerify = true
			c = tls.Client(c, step.tls)
		}
		got, err := request(t, c, "GET", step.target, "any.example")
		_ = c.Close()
		if got.status != step.status || (err == nil) != (step.status != 0) {
			t.Errorf("%s: got %d, %v, want %d", step.what, got.status, err, step.status)
		}
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if want := map[string]int{"/open": 1, "/other": 1, "/shut": 1, "/status/1": 1}; fmt.Sprint(server.asked) != fmt.Sprint(want) {
		t.Errorf("the server was asked %v, want %v", server.asked, want)
	}
}

// TestIngressByAProxy puts a stock Envoy, which knows nothing of the mesh, before the
// sidecar.
func TestIngressByAProxy(t *testing.T) {
	t.Parallel()
	w := newIngressWorld(t)
	dir, admin := t.TempDir(), freePort(t)
	gate := w.ca.leaf(t, "spiffe://cluster.local/gateway", func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{gatewayName} })
	writeFile(t, filepath.Join(dir, "gate.pem"), bundle(t, gate))
	writeFile(t, filepath.Join(dir, "ca.pem"), w.ca.roots())
	port := freePort(t)
	file := map[string]any{"filename": filepath.Join(dir, "gate.pem")}
	document, err := json.Marshal(map[string]any{
		"admin": map[string]any{"address": at("127.0.0.1", admin)},
		"static_resources": map[string]any{
			"listeners": []any{map[string]any{
				"name": "edge", "address": at("127.0.0.1", port),
				"filter_chains": []any{map[string]any{"filters": []any{map[string]any{"name": "hcm", "typed_config": map[string]any{
					"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "edge",
					"http_filters": []any{map[string]any{"name": "router", "typed_config": map[string]any{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}},
					"route_config": map[string]any{"virtual_hosts": []any{map[string]any{"name": "all", "domains": []any{"*"}, "routes": []any{
						map[string]any{"match": map[string]any{"prefix": "/"}, "route": map[string]any{"cluster": "backend"}},
					}}}},
				}}}}},
			}},
			"clusters": []any{map[string]any{
				"name": "backend",
				"load_assignment": map[string]any{"cluster_name": "backend", "endpoints": []any{map[string]any{
					"lb_endpoints": []any{map[string]any{"endpoint": map[string]any{"address": at(storePod, w.named)}}},
				}}},
				"transport_socket": map[string]any{"name": "tls", "typed_config": map[string]any{
					"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
					"sni":   "store.shop.cluster.local",
					"common_tls_context": map[string]any{
						"tls_certificates": []any{map[string]any{"certificate_chain": file, "private_key": file}},
						"validation_context": map[string]any{"trusted_ca": map[string]any{"filename": filepath.Join(dir, "ca.pem")}, "match_typed_subject_alt_names": []any{
							map[string]any{"san_type": "URI", "matcher": map[string]any{"exact": "spiffe://cluster.local/ns/shop/sa/store"}},
						}},
					},
				}},
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	run(w.ctx, t, os.Getenv("OSM_TEST_ENVOY"), dir, admin, document)
	for target, want := range map[string]int{"/status/1": 200, "/other": 404} {
		for range 5 {
			c, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: edge\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			_ = c.Close()
			if resp.StatusCode != want {
				t.Errorf("%s: got %d, want %d", target, resp.StatusCode, want)
			}
		}
	}
}
