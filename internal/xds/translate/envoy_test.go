package translate_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/testkit/port"
	"github.com/openservicemesh/osm-operator/internal/xds/bootstrap"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
)

// realEnvoy returns the path of the Envoy that tests run, or skips the test.
func realEnvoy(t *testing.T) string {
	t.Helper()
	envoy := os.Getenv("OSM_TEST_ENVOY")
	if envoy == "" {
		t.Skip("OSM_TEST_ENVOY does not name an Envoy")
	}
	return envoy
}

// TestEnvoyAcceptsEveryCase loads what the golden files hold into the real Envoy.
func TestEnvoyAcceptsEveryCase(t *testing.T) {
	t.Parallel()
	envoy := realEnvoy(t)
	for n, p := range cases() {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			validate(t, envoy, p)
		})
	}
}

// validate gives a proxy real roots and a real certificate and has Envoy load all of it.
func validate(t *testing.T, envoy string, p *ir.Proxy) {
	t.Helper()
	ca := newAuthority(t)
	shared := *p.Shared
	shared.TrustBundle = ca.roots()
	trusting := *p
	trusting.Shared = &shared
	set, err := translate.New().Proxy(&trusting)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, bootstrap.CredentialsFile), bundle(t, ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/store")))
	document := filepath.Join(dir, "envoy.json")
	writeFile(t, document, inlined(t, set, everyService(set), dir, 15000, nil))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, envoy, "--mode", "validate", "--config-path", document, "--log-level", "error",
		"--service-node", "n", "--service-cluster", "c").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// everyService returns a model in which every service has an endpoint in the mesh and
// one outside.
func everyService(set *resource.Set) *mesh.Model {
	in := pod{address: "10.1.0.1", account: account("shop", "store"), meshed: true, serves: map[mesh.Key]map[uint16]uint16{}}
	out := pod{address: "10.1.0.2", account: account("shop", "outside"), serves: in.serves}
	for _, sets := range set.References() {
		for _, s := range sets {
			in.serves[mesh.Key{Namespace: s.Service.Namespace, Name: s.Service.Name}] = map[uint16]uint16{s.Service.Port: s.Service.Port}
		}
	}
	return modelOf(in, out)
}

// process is a running Envoy.
type process struct {
	admin uint16
	log   *syncBuffer
}

// run starts Envoy with a document and waits until it serves.
func run(ctx context.Context, t *testing.T, envoy, dir string, admin uint16, document []byte, args ...string) *process {
	t.Helper()
	path := filepath.Join(dir, "envoy.json")
	writeFile(t, path, document)
	p := &process{admin: admin, log: &syncBuffer{}}
	cmd := exec.CommandContext(ctx, envoy, append([]string{
		"--config-path", path, "--use-dynamic-base-id", "--concurrency", "1",
		"--service-node", "n", "--service-cluster", "c", "--log-level", "warning",
	}, args...)...)
	// As the injector sets it, for a pod whose sidecar is no other's.
	cmd.Env = append(os.Environ(), "POD_NAMESPACE=shop", "POD_NAME=buyer-v1-7d9f-x2x4z", "POD_CONTROLLER_KIND=Deployment", "POD_CONTROLLER_NAME=buyer-v1",
		"OTEL_RESOURCE_ATTRIBUTES=service.name=buyer.shop,k8s.namespace.name=shop,k8s.pod.name=buyer-v1-7d9f-x2x4z")
	cmd.Stdout, cmd.Stderr = p.log, p.log
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
			t.Log(p.log.String())
		}
	})
	for {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/ready", admin))
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p
			}
		}
		select {
		case <-done:
			t.Fatalf("Envoy ended: %s", p.log)
		case <-ctx.Done():
			t.Fatalf("Envoy does not become ready: %s", p.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
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

func freePort(t *testing.T) uint16 {
	t.Helper()
	return port.Free(t)
}

// TestEnvoyAcceptsWhatIsDrawn loads proxies of the property tests into the real Envoy.
func TestEnvoyAcceptsWhatIsDrawn(t *testing.T) {
	t.Parallel()
	envoy := realEnvoy(t)
	for seed := range 16 {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			validate(t, envoy, rapid.Custom(drawProxy).Example(seed))
		})
	}
}
