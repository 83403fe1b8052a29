package translate_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/bootstrap"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
)

// drain is how long Envoy may take to end what came in by a chain that is gone; it is
// 30 seconds in a sidecar.
const drain = 2 * time.Second

// revocation is a sidecar whose listeners and routes come from files that a test
// writes again.
type revocation struct {
	*world
	dir              string
	web, shut, other uint16
	shared           *ir.Shared
}

func newRevocation(t *testing.T) *revocation {
	t.Helper()
	r := &revocation{world: newWorld(t), dir: t.TempDir()}
	r.shared = r.world.shared()
	r.web, r.shut, r.other = stream(t), greeter(t, "127.0.0.1", 0), greeter(t, "127.0.0.1", 0)
	leaf := r.ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/store")
	writeFile(t, filepath.Join(r.dir, bootstrap.CredentialsFile), bundle(t, leaf))
	return r
}

// publish writes what the sidecar must do with these rules.
func (r *revocation) publish(t *testing.T, web, shut ir.Principals) document {
	t.Helper()
	set, err := translate.New().Proxy(&ir.Proxy{Class: "store", Shared: r.shared, Inbound: []ir.InboundPort{
		{Port: r.web, Protocol: ir.HTTP, Service: servicePort("shop", "store", 80), Allow: anyone(), Routes: []ir.InboundRoute{{Name: "all", Allow: web}}},
		{Port: r.shut, Protocol: ir.TCP, Service: servicePort("shop", "shut", 90), Allow: shut},
		{Port: r.other, Protocol: ir.TCP, Service: servicePort("shop", "other", 90), Allow: anyone()},
	}})
	if err != nil {
		t.Fatal(err)
	}
	d := write(t, set)
	for _, l := range d.Listeners {
		servePods([]string{storePod}, r.web, r.shut, r.other)(l.(map[string]any))
		fromFile(l, filepath.Join(r.dir, "routes.json"))
	}
	forgetSources(d.Listeners)
	r.put(t, "routes.json", "envoy.config.route.v3.RouteConfiguration", d.Routes)
	r.put(t, "listeners.json", "envoy.config.listener.v3.Listener", d.Listeners)
	return d
}

// put moves a file into place, which is what Envoy looks for.
func (r *revocation) put(t *testing.T, file, kind string, resources []any) {
	t.Helper()
	for _, resource := range resources {
		resource.(map[string]any)["@type"] = "type.googleapis.com/" + kind
	}
	content, err := json.Marshal(map[string]any{"resources": resources})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(r.dir, "new"), content)
	if err := os.Rename(filepath.Join(r.dir, "new"), filepath.Join(r.dir, file)); err != nil {
		t.Fatal(err)
	}
}

// fromFile makes references to routes look into a file.
func fromFile(value any, path string) {
	switch v := value.(type) {
	case []any:
		for _, inner := range v {
			fromFile(inner, path)
		}
	case map[string]any:
		if rds, ok := v["rds"].(map[string]any); ok {
			rds["config_source"] = map[string]any{"path_config_source": map[string]any{"path": path}, "resource_api_version": "V3"}
		}
		for _, inner := range v {
			fromFile(inner, path)
		}
	}
}

func (r *revocation) begin(t *testing.T, web, shut ir.Principals) {
	t.Helper()
	d, admin := r.publish(t, web, shut), freePort(t)
	content, err := json.Marshal(map[string]any{
		"admin": map[string]any{"address": at("127.0.0.1", admin)},
		"node":  map[string]any{"id": "n", "cluster": "c"},
		"dynamic_resources": map[string]any{"lds_config": map[string]any{
			"path_config_source": map[string]any{"path": filepath.Join(r.dir, "listeners.json")}, "resource_api_version": "V3",
		}},
		"static_resources": map[string]any{"clusters": d.Clusters, "secrets": append(d.Secrets, workloadCertificate(r.dir))},
	})
	if err != nil {
		t.Fatal(err)
	}
	run(r.ctx, t, r.envoy, r.dir, admin, content, "--drain-time-s", strconv.Itoa(int(drain.Seconds())), "--drain-strategy", "immediate")
}

// TestPermissionsThatShrink takes a permission away from who is using it.
func TestPermissionsThatShrink(t *testing.T) {
	t.Parallel()
	r := newRevocation(t)
	buyer, looker := account("shop", "buyer"), account("shop", "looker")
	r.begin(t, allow(buyer, looker), allow(buyer, looker))
	who := r.ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/buyer")
	open := func(port uint16) net.Conn {
		c, err := r.peer(storePod, port, []string{"http/1.1"}[:boolToInt(port == r.web)], who)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	kept, streaming, shut, other := open(r.web), open(r.web), open(r.shut), open(r.other)
	if got, err := request(t, kept, "GET", "/", "store"); err != nil || got.status != 200 {
		t.Fatalf("got %v, %v", got, err)
	}
	if _, err := io.WriteString(streaming, "GET /stream HTTP/1.1\r\nHost: store\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	flow := bufio.NewReader(streaming)
	resp, err := http.ReadResponse(flow, nil) //nolint:bodyclose // it is, below
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %v, %v", resp, err)
	}
	defer resp.Body.Close()
	for _, c := range []net.Conn{shut, other} {
		if got, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatalf("heard %q, %v", got, err)
		}
	}

	r.publish(t, allow(looker), allow(looker))
	start := time.Now()
	waitFor(t, r.world, "a new connection to be refused", func() bool {
		got, err := request(t, open(r.web), "GET", "/", "store")
		return err == nil && got.status == http.StatusForbidden
	})
	if got, err := request(t, kept, "GET", "/", "store"); err != nil || got.status != http.StatusForbidden {
		t.Errorf("on the connection that was there before: %d, %v, want 403", got.status, err)
	}
	for what, end := range map[string]func() error{
		"the stream": func() error { _, err := io.Copy(io.Discard, resp.Body); return err },
		"the connection": func() error {
			_, err := io.ReadAll(shut)
			return err
		},
	} {
		_ = end()
		if took := time.Since(start); took > drain+3*time.Second {
			t.Errorf("%s ended after %s", what, took)
		}
	}
	if _, err := io.WriteString(other, "still there\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := bufio.NewReader(other).ReadString('\n'); err != nil || got != "still there\n" {
		t.Errorf("what nothing changed for said %q, %v", got, err)
	}
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// stream is an application that answers at once, or goes on for ever.
func stream(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.URL.Path == "/stream" {
			if _, err := fmt.Fprintln(w, name.InboundListener); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
		_, _ = io.WriteString(w, "{}")
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return uint16(l.Addr().(*net.TCPAddr).Port)
}
