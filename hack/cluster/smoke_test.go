package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/hack/cluster/build"
	"github.com/openservicemesh/osm-operator/hack/cluster/host"
	"github.com/openservicemesh/osm-operator/hack/cluster/image"
	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

// TestClusterFromNothingToNothing starts a cluster of its own beside any other,
// uses what the mesh depends on, and compares the machine before and after. It
// needs root and some minutes, so it runs only where it is asked for.
func TestClusterFromNothingToNothing(t *testing.T) {
	if os.Getenv("OSM_CLUSTER_TEST") == "" {
		t.Skip("OSM_CLUSTER_TEST is not set")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	dirs, err := spec.HostDirs(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	c := &smoke{app: app{name: "check", dirs: dirs, out: t.Output()}}
	before := c.machine(ctx, t)
	if err := c.app.down(ctx); err != nil {
		t.Fatalf("clearing away an earlier run: %v", err)
	}
	t.Cleanup(func() { _ = c.app.down(context.WithoutCancel(ctx)) })

	options := upOptions{ipv6: true, timeout: defaultTimeout, chosen: func(string) bool { return false }}
	if err := c.app.up(ctx, options); err != nil {
		t.Fatal(err)
	}
	if err := c.app.up(ctx, options); err != nil {
		t.Errorf("a second start of a running cluster: %v", err)
	}
	c.deploy(ctx, t)
	c.askFromInside(ctx, t)
	c.survivesDamage(ctx, t, options)

	if err := c.app.down(ctx); err != nil {
		t.Fatal(err)
	}
	leftovers, err := host.Leftovers(dirs, c.app.name)
	if err != nil || len(leftovers) > 0 {
		t.Errorf("left on the machine: %q, %v", leftovers, err)
	}
	after := c.machine(ctx, t)
	for what := range after {
		for line := range after[what] {
			if !before[what][line] {
				t.Errorf("the machine has new %s: %s", what, line)
			}
		}
	}
}

type smoke struct {
	app            app
	kubectl, probe string
}

// machine is what a cluster could leave behind, as sets of lines.
func (c *smoke) machine(ctx context.Context, t *testing.T) map[string]map[string]bool {
	t.Helper()
	commands := map[string][]string{
		"mounts":         {"cat", "/proc/self/mountinfo"},
		"routes":         {"ip", "route"},
		"IPv6 routes":    {"ip", "-6", "route"},
		"firewall rules": {"nft", "--stateless", "list", "ruleset"},
		"settings":       {"sysctl", "vm.overcommit_memory", "kernel.panic", "kernel.panic_on_oops", "net.ipv4.ip_forward", "fs.inotify.max_user_instances", "kernel.keys.root_maxkeys"},
		"host names":     {"cat", "/etc/hosts", "/etc/resolv.conf"},
	}
	found := map[string]map[string]bool{}
	for what, command := range commands {
		output, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, output)
		}
		found[what] = map[string]bool{}
		for line := range strings.Lines(string(output)) {
			found[what][strings.TrimSpace(line)] = true
		}
	}
	return found
}

// deploy puts a server with a native sidecar and an identity into the cluster, and
// signs what its kubelet asks for.
func (c *smoke) deploy(ctx context.Context, t *testing.T) {
	t.Helper()
	cache, err := c.app.cache(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	parts, err := build.Select([]string{"kube"})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := cache.Dir(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	c.kubectl = filepath.Join(dir, "kubectl")
	c.load(ctx, t)

	ca := newAuthority(t)
	manifest, err := os.ReadFile("testdata/smoke.yaml")
	if err != nil {
		t.Fatal(err)
	}
	indented := "    " + strings.ReplaceAll(strings.TrimSpace(string(ca.pem)), "\n", "\n    ")
	c.run(ctx, t, strings.ReplaceAll(string(manifest), "TRUST_BUNDLE", indented), "apply", "-f", "-")
	c.sign(ctx, t, ca)
	c.run(ctx, t, "", "wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s")
}

func (c *smoke) load(ctx context.Context, t *testing.T) {
	t.Helper()
	c.probe = filepath.Join(t.TempDir(), "probe")
	command := exec.CommandContext(ctx, "go", "build", "-o", c.probe, "./probe")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("building the probe: %v: %s", err, output)
	}
	built, err := image.Ensure(t.TempDir(), image.Image{
		Name: "example.org/probe:test", Architecture: runtime.GOARCH, Entrypoint: []string{"/probe"},
		Files: []image.File{{Path: "/probe", From: c.probe, Mode: 0o755}},
	})
	if err != nil {
		t.Fatal(err)
	}
	node, err := c.app.cluster().Runtime()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} {
		imported, err := node.Ensure(ctx, []image.Built{built})
		if err != nil || len(imported) != want {
			t.Fatalf("loading imported %d images (%v), want %d", len(imported), err, want)
		}
	}
}

// askFromInside asks what only a real cluster can answer.
func (c *smoke) askFromInside(ctx context.Context, t *testing.T) {
	t.Helper()
	services := c.run(ctx, t, "", "get", "service", "server", "-o", "jsonpath={.spec.clusterIPs[1]}")
	questions := map[string]struct {
		pod  string
		ask  []string
		want string
	}{
		"DNS knows a service":                     {"client", []string{"lookup", "server.default.svc.cluster.local"}, "10."},
		"DNS follows the search path":             {"client", []string{"lookup", "kubernetes.default"}, "10."},
		"a service answers by name":               {"client", []string{"get", "http://server/"}, "server seen from"},
		"a service answers over IPv6":             {"client", []string{"get", "http://[" + services + "]/"}, "server seen from"},
		"a pod reaches itself through a service":  {"server", []string{"get", "http://server.default/"}, "server seen from"},
		"the kubelet projects a pod certificate":  {"server", []string{"cat", "/identity/bundle.pem"}, "BEGIN CERTIFICATE"},
		"the kubelet projects a trust bundle":     {"server", []string{"cat", "/identity/roots.pem"}, "BEGIN CERTIFICATE"},
		"the native sidecar was there before all": {"server", []string{"cat", "/shared/sidecar"}, "here"},
	}
	for name, q := range questions {
		t.Run(name, func(t *testing.T) {
			got := c.run(ctx, t, "", append([]string{"exec", q.pod, "--", "/probe"}, q.ask...)...)
			if !strings.Contains(got, q.want) {
				t.Errorf("%s in %s says %q, want it to hold %q", q.ask, q.pod, got, q.want)
			}
		})
	}
	t.Run("a name outside does not exist, at once", func(t *testing.T) {
		started := time.Now()
		output, err := c.try(ctx, "", "exec", "client", "--", "/probe", "lookup", "example.com")
		if err == nil || time.Since(started) > 3*time.Second {
			t.Errorf("the look-up said %q (%v) after %s", output, err, time.Since(started))
		}
	})
	t.Run("the node itself reaches a service, as the API server must reach webhooks", func(t *testing.T) {
		pid, _, err := c.app.cluster().Running()
		if err != nil {
			t.Fatal(err)
		}
		address := strings.TrimSpace(c.run(ctx, t, "", "get", "service", "server", "-o", "jsonpath={.spec.clusterIP}"))
		output, err := exec.CommandContext(ctx, "nsenter", "--target", strconv.Itoa(pid), "--net", "--",
			c.probe, "get", "http://"+address+"/").CombinedOutput()
		if err != nil || !strings.Contains(string(output), "server seen from") {
			t.Errorf("got %s, %v", output, err)
		}
	})
	t.Run("the host reaches a pod by its address", func(t *testing.T) {
		address := strings.TrimSpace(c.run(ctx, t, "", "get", "pod", "server", "-o", "jsonpath={.status.podIP}"))
		output, err := exec.CommandContext(ctx, c.probe, "get", "http://"+address+":8080/").CombinedOutput()
		if err != nil || !strings.Contains(string(output), "server seen from") {
			t.Errorf("got %s, %v", output, err)
		}
	})
}

// survivesDamage kills the node as a power cut would, and starts it again.
func (c *smoke) survivesDamage(ctx context.Context, t *testing.T, options upOptions) {
	t.Helper()
	if err := c.app.cluster().Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.app.status(ctx); err == nil {
		t.Error("status of a dead cluster says that all is well")
	}
	if err := c.app.up(ctx, options); err != nil {
		t.Fatalf("repairing: %v", err)
	}
	c.run(ctx, t, "", "wait", "pod", "client", "--for=condition=Ready", "--timeout=90s")
}

func (c *smoke) run(ctx context.Context, t *testing.T, stdin string, arguments ...string) string {
	t.Helper()
	output, err := c.try(ctx, stdin, arguments...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
	return output
}

func (c *smoke) try(ctx context.Context, stdin string, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, c.kubectl, append([]string{"--kubeconfig", c.app.cluster().Tree.Kubeconfig()}, arguments...)...)
	command.Stdin = strings.NewReader(stdin)
	output, err := command.CombinedOutput()
	return string(output), err
}

// sign answers the one request that the server's pod makes.
func (c *smoke) sign(ctx context.Context, t *testing.T, ca authority) {
	t.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct {
				PodName           string
				StubPKCS10Request []byte
			}
		}
	}
	for len(list.Items) == 0 {
		if err := json.Unmarshal([]byte(c.run(ctx, t, "", "get", "podcertificaterequests", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			t.Fatal("the kubelet asked for no certificate")
		case <-time.After(200 * time.Millisecond):
		}
	}
	request := list.Items[0]
	if request.Spec.PodName != "server" {
		t.Fatalf("the request names pod %q", request.Spec.PodName)
	}
	patch, err := json.Marshal(map[string]any{"status": ca.answer(t, request.Spec.StubPKCS10Request)})
	if err != nil {
		t.Fatal(err)
	}
	c.run(ctx, t, "", "patch", "podcertificaterequest", request.Metadata.Name, "--subresource=status", "--type=merge", "--patch", string(patch))
}

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(48 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{certificate: certificate, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (a authority) answer(t *testing.T, request []byte) map[string]any {
	t.Helper()
	stub, err := x509.ParseCertificateRequest(request)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: now, NotAfter: now.Add(2 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames: []string{"server.example.org"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, stub.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	var chain bytes.Buffer
	fmt.Fprintf(&chain, "%s", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return map[string]any{
		"certificateChain": chain.String(),
		"notBefore":        now.Format(time.RFC3339),
		"beginRefreshAt":   now.Add(time.Hour).Format(time.RFC3339),
		"notAfter":         now.Add(2 * time.Hour).Format(time.RFC3339),
		"conditions": []map[string]any{{
			"type": "Issued", "status": "True", "reason": "Test", "message": "signed by the test",
			"lastTransitionTime": now.Format(time.RFC3339),
		}},
	}
}
