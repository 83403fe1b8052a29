package builtin_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// TestEnvoyVerifiesAsGoDoes shows certificates of this authority to a real Envoy: what
// bounds an intermediate is worth nothing if sidecars do not look at it, and breaks the
// mesh if they read it in another way.
func TestEnvoyVerifiesAsGoDoes(t *testing.T) {
	envoy := os.Getenv("OSM_TEST_ENVOY")
	if envoy == "" {
		t.Skip("OSM_TEST_ENVOY does not name an Envoy")
	}
	root := newRoot(t, ca.ECDSAP256)
	issuer := newIntermediate(t, root, ca.ECDSAP256)
	thief := thiefOf(t, issuer)
	mesh := pki.New(t)
	silent := mesh.Workload(t, "shop", "db", pki.By(thief), pki.Template(func(c *x509.Certificate) { c.BasicConstraintsValid = false }))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	server := issue(t, issuer, "spiffe://cluster.local/ns/shop/sa/store")
	address := serve(ctx, t, envoy, server, root.RootsPEM())
	cases := map[string]struct {
		client pki.Credentials
		wantOK bool
	}{
		"A workload":           {client: issue(t, issuer, web, "web.shop.cluster.local"), wantOK: true},
		"A workload of a root": {client: issue(t, root, web), wantOK: true},
		"Another trust domain": {client: mesh.Certificate(t, "spiffe://other.local/ns/shop/sa/web", pki.By(thief))},
		"A name of the web":    {client: mesh.Workload(t, "shop", "web", pki.By(thief), pki.DNSNames("example.com"))},
		"An address":           {client: mesh.Workload(t, "shop", "web", pki.By(thief), pki.IPs(net.IPv4(10, 0, 0, 1)))},
		"Another authority":    {client: mesh.Workload(t, "shop", "web")},
		"By a workload whose certificate does not speak of authorities": {client: mesh.Workload(t, "shop", "web", pki.By(silent))},
	}
	for _, td := range oddDomains() {
		tc := cases["A workload"]
		tc.client = issue(t, newConfined(t, root, ca.ECDSAP256, td), "spiffe://"+string(td)+"/ns/shop/sa/web")
		cases["A workload of "+string(td)] = tc
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			body, err := get(ctx, address, &tls.Config{
				MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{tc.client.TLS()},
				InsecureSkipVerify: true, // this asks whether the server verifies
			})
			if ok := err == nil && body == "hello"; ok != tc.wantOK {
				t.Errorf("answered %q, %v; want an answer: %t", body, err, tc.wantOK)
			}
		})
	}
}

// TestEnvoyVerifiesEveryKindOfRoot asks Envoy about roots and intermediates of each kind.
func TestEnvoyVerifiesEveryKindOfRoot(t *testing.T) {
	envoy := os.Getenv("OSM_TEST_ENVOY")
	if envoy == "" {
		t.Skip("OSM_TEST_ENVOY does not name an Envoy")
	}
	for _, kind := range []ca.KeyType{ca.ECDSAP256, ca.ECDSAP384, ca.RSA2048, ca.RSA4096, ca.ED25519} {
		t.Run(string(kind), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			root := newRoot(t, kind)
			issuer := newIntermediate(t, root, kind)
			address := serve(ctx, t, envoy, issue(t, issuer, "spiffe://cluster.local/ns/shop/sa/store"), root.RootsPEM())
			body, err := get(ctx, address, &tls.Config{
				MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{issue(t, issuer, web).TLS()},
				InsecureSkipVerify: true, // this asks whether the server verifies
			})
			if err != nil || body != "hello" {
				t.Errorf("answered %q, %v", body, err)
			}
		})
	}
}

// issue has an authority certify a key, pod and all, and checks the chain.
func issue(t *testing.T, a ca.Authority, uri string, names ...string) pki.Credentials {
	t.Helper()
	key := pki.NewKey(t)
	req := request(t, uri, names...)
	req.PublicKey = key.Public()
	chain, err := a.Issue(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := a.Bundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Check(req, chain, roots); err != nil {
		t.Fatal(err)
	}
	return pki.Credentials{Chain: chain, Key: key}
}

func get(ctx context.Context, address string, config *tls.Config) (string, error) {
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/", http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// serve runs an Envoy that answers whoever has a certificate of the roots.
func serve(ctx context.Context, t *testing.T, envoy string, server pki.Credentials, roots []byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, raw := range map[string][]byte{"server.pem": server.BundlePEM(t), "roots.pem": roots} {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(envoyConfig, port, dir)
	var out output
	cmd := exec.CommandContext(ctx, envoy, "--config-yaml", config, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		if t.Failed() {
			t.Log(out.String())
		}
	})
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
			return address
		}
		select {
		case <-done:
			t.Fatalf("Envoy ended: %s", out.String())
		case <-ctx.Done():
			t.Fatalf("Envoy does not listen: %s", out.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

const envoyConfig = `
static_resources:
  listeners:
  - name: server
    address: {socket_address: {address: 127.0.0.1, port_value: %[1]d}}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            tls_params: {tls_minimum_protocol_version: TLSv1_3}
            tls_certificates:
            - {certificate_chain: {filename: "%[2]s/server.pem"}, private_key: {filename: "%[2]s/server.pem"}}
            validation_context: {trusted_ca: {filename: "%[2]s/roots.pem"}}
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: server
          http_filters:
          - {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - {match: {prefix: /}, direct_response: {status: 200, body: {inline_string: hello}}}
`

// output is written by a process while a test reads it.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
