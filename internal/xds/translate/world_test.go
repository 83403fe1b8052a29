package translate_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/xds/bootstrap"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
)

// patience ends what hangs. A test's cases wait for those of all others in it, where
// processors are few.
const patience = 5 * time.Minute

// Addresses that stand for pods: all of 127/8 is on loopback.
const (
	storePod  = "127.0.1.1"
	firstPod  = "127.0.1.11"
	secondPod = "127.0.1.12"
	stranger  = "127.0.1.99"
)

// world is an authority and what runs for one test.
type world struct {
	envoy string
	ca    *authority
	ctx   context.Context //nolint:containedctx // the deadline of one test
}

func newWorld(t *testing.T) *world {
	t.Helper()
	envoy := realEnvoy(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &world{envoy: envoy, ca: newAuthority(t), ctx: ctx}
}

func (w *world) shared() *ir.Shared {
	return sharedSettings(func(s *ir.Shared) { s.TrustBundle = w.ca.roots() })
}

// start runs an Envoy for a proxy with the certificate of a ServiceAccount.
func (w *world) start(t *testing.T, p *ir.Proxy, serviceAccount string, m *mesh.Model, change func(map[string]any)) *process {
	t.Helper()
	set, err := translate.New().Proxy(p)
	if err != nil {
		t.Fatal(err)
	}
	dir, admin := t.TempDir(), freePort(t)
	leaf := w.ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/"+serviceAccount)
	writeFile(t, filepath.Join(dir, bootstrap.CredentialsFile), bundle(t, leaf))
	return run(w.ctx, t, w.envoy, dir, admin, inlined(t, set, m, dir, admin, change))
}

// servePods binds the inbound listener to addresses of pods, where a redirection would
// bring connections that were made to them.
func servePods(pods []string, ports ...uint16) func(map[string]any) {
	return func(l map[string]any) {
		if l["name"] != name.InboundListener {
			return
		}
		var all []any
		for _, pod := range pods {
			for _, port := range ports {
				all = append(all, map[string]any{"address": at(pod, port)})
			}
		}
		l["address"] = all[0].(map[string]any)["address"]
		l["additional_addresses"] = all[1:]
	}
}

// redirectTo binds the outbound listener to a port, where connections say by the PROXY
// protocol what a redirection would have the kernel say: where they were made to.
func redirectTo(port uint16) func(map[string]any) {
	return func(l map[string]any) {
		if l["name"] != name.OutboundListener {
			return
		}
		l["address"] = at("127.0.0.1", port)
		delete(l, "additional_addresses")
		l["listener_filters"] = []any{map[string]any{
			"name":         "envoy.filters.listener.proxy_protocol",
			"typed_config": map[string]any{"@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"},
		}}
	}
}

func at(address string, port uint16) map[string]any {
	return map[string]any{"socket_address": map[string]any{"address": address, "port_value": port}}
}

// dial connects to where an application would, through the outbound listener.
func (w *world) dial(t *testing.T, outbound uint16, address string, port uint16) (net.Conn, error) {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(w.ctx, "tcp", "127.0.0.1:"+strconv.Itoa(int(outbound)))
	if err != nil {
		return nil, err
	}
	deadline, _ := w.ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(c, "PROXY TCP4 127.0.0.9 %s 4321 %d\r\n", address, port)
	return c, err
}

// application answers with what it was asked.
func application(t *testing.T, address string, port uint16) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(int(port))))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "application")
		//nolint:errchkjson // the values are all text
		_ = json.NewEncoder(w).Encode(answer{Pod: address, Path: r.RequestURI, Host: r.Host, Protocol: r.Proto, Header: r.Header})
	})}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// answer is what the application saw.
type answer struct {
	Pod, Path, Host, Protocol string
	Header                    http.Header
}

// greeter speaks first, then says everything back, and ends when the client does.
func greeter(t *testing.T, address string, port uint16) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(int(port))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := fmt.Fprintf(c, "hello from %s\n", address); err != nil {
					return
				}
				if n, err := io.Copy(c, c); err == nil {
					_, _ = fmt.Fprintf(c, "bye after %d\n", n)
				}
			}()
		}
	}()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// response is the beginning of what came back.
type response struct {
	status int
	header http.Header
	answer answer
}

// request sends one request, as it is written, over a connection.
func request(t *testing.T, c net.Conn, method, target, host string, headers ...string) (response, error) {
	t.Helper()
	lines := append([]string{method + " " + target + " HTTP/1.1", "Host: " + host}, headers...)
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		return response{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return response{}, err
	}
	out := response{status: resp.StatusCode, header: resp.Header}
	if resp.StatusCode == http.StatusOK && len(body) > 0 {
		if err := json.Unmarshal(body, &out.answer); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
	return out, nil
}

// peer connects to a pod as another sidecar would; without certificates it presents none.
func (w *world) peer(address string, port uint16, protocols []string, certificates ...tls.Certificate) (*tls.Conn, error) {
	d := &tls.Dialer{Config: &tls.Config{
		Certificates: certificates, NextProtos: protocols, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true,
	}}
	c, err := d.DialContext(w.ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(int(port))))
	if err != nil {
		return nil, err
	}
	deadline, _ := w.ctx.Deadline()
	return c.(*tls.Conn), c.SetDeadline(deadline)
}

// askTwice sends two requests over a connection that stays, which one pod must answer.
func askTwice(ctx context.Context, client *http.Client, pod string) error {
	for range 2 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://some.host/", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		var got answer
		err = json.NewDecoder(resp.Body).Decode(&got)
		_ = resp.Body.Close()
		if err != nil {
			return fmt.Errorf("asking %s: status %d: %w", pod, resp.StatusCode, err)
		}
		if got.Pod != pod {
			return fmt.Errorf("asked %s, answered by %s", pod, got.Pod)
		}
	}
	return nil
}
