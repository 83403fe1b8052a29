package bootstrap_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/testkit/port"
	"github.com/openservicemesh/osm-operator/internal/xds/bootstrap"
)

// TestEnvoyAnswersProbes runs the real Envoy, without a control plane, before an application.
func TestEnvoyAnswersProbes(t *testing.T) {
	t.Parallel()
	envoy := os.Getenv("OSM_TEST_ENVOY")
	if envoy == "" {
		t.Skip("OSM_TEST_ENVOY does not name an Envoy")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "the-application")
		if r.URL.Path == "/sick" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprintf(w, "%s %s", r.Host, r.RequestURI)
	}))
	defer app.Close()
	appPort := uint16(app.Listener.Addr().(*net.TCPAddr).Port)
	closed := freePort(t)
	alive, ready, tcp, pass := freePort(t), freePort(t), freePort(t), freePort(t)
	admin := runEnvoy(ctx, t, envoy, config(
		bootstrap.Probe{ListenPort: alive, Path: "/osm-liveness-probe", Kind: bootstrap.ProbeHTTP, TargetPort: appPort, TargetPath: "/healthz?full=1", Timeout: time.Second},
		bootstrap.Probe{ListenPort: ready, Path: "/osm-readiness-probe", Kind: bootstrap.ProbeHTTP, TargetPort: appPort, TargetPath: "/sick", Timeout: time.Second},
		bootstrap.Probe{ListenPort: tcp, Path: "/open", Kind: bootstrap.ProbeTCPCheck, TargetPort: appPort, Timeout: time.Second},
		bootstrap.Probe{ListenPort: tcp, Path: "/closed", Kind: bootstrap.ProbeTCPCheck, TargetPort: closed, Timeout: time.Second},
		bootstrap.Probe{ListenPort: pass, Kind: bootstrap.ProbeTCPPass, TargetPort: appPort},
	))

	for name, tt := range map[string]struct {
		port   uint16
		path   string
		status int
		body   string
	}{
		"an HTTP probe asks the application at its own path": {alive, "/osm-liveness-probe", 200, "kubelet.example /healthz?full=1"},
		"the application's own answer decides":               {ready, "/osm-readiness-probe", 500, "kubelet.example /sick"},
		"no other path of the application is open":           {alive, "/healthz", 404, ""},
		"bytes are passed as they are":                       {pass, "/anything", 200, "kubelet.example /anything"},
		"an open port is healthy":                            {tcp, "/open", 200, ""},
		"a closed port is not":                               {tcp, "/closed", 503, ""},
		"what is not checked is unknown":                     {tcp, "/other", 404, ""},
		"metrics are read on loopback":                       {admin, "/stats/prometheus?filter=server.live", 200, ""},
		"nobody stops the proxy through its admin interface": {admin, "/quitquitquit", 403, ""},
		"nobody drains it either":                            {admin, "/drain_listeners", 403, ""},
	} {
		status, body := get(ctx, t, tt.port, tt.path)
		if status != tt.status || tt.body != "" && body != tt.body {
			t.Errorf("%s: got %d %q, want %d %q", name, status, body, tt.status, tt.body)
		}
	}
}

// get asks once, as the kubelet would.
func get(ctx context.Context, t *testing.T, port uint16, path string) (code int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(int(port))+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "kubelet.example"
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// runEnvoy starts Envoy with the static part of a document, with ports of its own,
// waits until it serves, and returns the port of its admin interface.
func runEnvoy(ctx context.Context, t *testing.T, envoy string, c bootstrap.Config) uint16 {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, bootstrap.CertificateFile, bootstrap.CertificateDocument)
	write(t, dir, bootstrap.ValidationFile, bootstrap.ValidationDocument)
	admin, ready := freePort(t), freePort(t)
	write(t, dir, bootstrap.BootstrapFile, func() ([]byte, error) {
		content, err := bootstrap.Build(c)
		if err != nil {
			return nil, err
		}
		var document map[string]any
		if err := json.Unmarshal(content, &document); err != nil {
			return nil, err
		}
		delete(document, "dynamic_resources")
		static := document["static_resources"].(map[string]any)
		static["clusters"] = static["clusters"].([]any)[1:] // the control plane comes first
		content, err = json.Marshal(document)
		return []byte(strings.NewReplacer(
			fmt.Sprintf(`"port_value":%d}`, bootstrap.AdminPort), fmt.Sprintf(`"port_value":%d}`, admin),
			fmt.Sprintf(`"port_value":%d}`, bootstrap.ReadyPort), fmt.Sprintf(`"port_value":%d}`, ready),
		).Replace(string(content))), err
	})
	launch(ctx, t, envoy, dir)
	for {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/ready", ready))
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return admin
			}
		}
		select {
		case <-ctx.Done():
			t.Fatal("Envoy does not become ready")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// launch starts Envoy with the document in dir, until the test ends.
func launch(ctx context.Context, t *testing.T, envoy, dir string) {
	t.Helper()
	var log strings.Builder
	cmd := exec.CommandContext(ctx, envoy, "--config-path", filepath.Join(dir, bootstrap.BootstrapFile), "--use-dynamic-base-id",
		"--service-node", "uid.name.namespace", "--service-cluster", "sa.namespace", "--concurrency", "1", "--log-level", "warning")
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
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	return port.Free(t)
}
