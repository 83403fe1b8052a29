package bootstrap_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/xds/bootstrap"
)

// config returns a Config without probes.
func config(probes ...bootstrap.Probe) bootstrap.Config {
	return bootstrap.Config{
		ControlPlaneHost: "osm-controller.osm-system.svc.cluster.local",
		ControlPlanePort: 15128,
		ControlPlaneName: "osm-controller.osm-system.svc",
		Probes:           probes,
	}
}

func cases() map[string]bootstrap.Config {
	limited := config()
	limited.MaxConnections = 500
	return map[string]bootstrap.Config{
		"no-probes":      config(),
		"limited":        limited,
		"every-probe":    config(everyProbe()...),
		"shared-targets": config(sharedTargets()...),
	}
}

func everyProbe() []bootstrap.Probe {
	return []bootstrap.Probe{
		{ListenPort: 15901, Path: "/osm-liveness-probe", Kind: bootstrap.ProbeHTTP, TargetPort: 8080, TargetPath: "/healthz?full=1", Timeout: time.Second},
		{ListenPort: 15902, Path: "/osm-readiness-probe", Kind: bootstrap.ProbeHTTP, TargetPort: 8080, TargetPath: "/ready", Timeout: 3 * time.Second},
		{ListenPort: 15904, Path: "/osm-healthcheck/3306", Kind: bootstrap.ProbeTCPCheck, TargetPort: 3306, Timeout: time.Second},
		{ListenPort: 15906, Path: "/osm-lifecycle/pre-stop", Kind: bootstrap.ProbeHTTP, TargetPort: 8080, TargetPath: "/quit"},
		{ListenPort: 15910, Kind: bootstrap.ProbeTCPPass, TargetPort: 8443},
	}
}

func sharedTargets() []bootstrap.Probe {
	return []bootstrap.Probe{
		{ListenPort: 15901, Path: "/osm-liveness-probe", Kind: bootstrap.ProbeHTTP, TargetPort: 8080, TargetPath: "/a", Timeout: time.Second},
		{ListenPort: 15901, Path: "/osm-liveness-probe/second", Kind: bootstrap.ProbeHTTP, TargetPort: 8080, TargetPath: "/b", Timeout: time.Second},
		{ListenPort: 15904, Path: "/osm-healthcheck/8080", Kind: bootstrap.ProbeTCPCheck, TargetPort: 8080, Timeout: time.Second},
		{ListenPort: 15904, Path: "/osm-healthcheck/8081", Kind: bootstrap.ProbeTCPCheck, TargetPort: 8081, Timeout: 500 * time.Millisecond},
		{ListenPort: 15910, Kind: bootstrap.ProbeTCPPass, TargetPort: 8080},
	}
}

func TestBuild(t *testing.T) {
	t.Parallel()
	for name, c := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := bootstrap.Build(c)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".json", got)
		})
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	for file, build := range map[string]func() ([]byte, error){
		bootstrap.CertificateFile: bootstrap.CertificateDocument,
		bootstrap.ValidationFile:  bootstrap.ValidationDocument,
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			got, err := build()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, file, got)
		})
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	http := bootstrap.Probe{ListenPort: 15901, Path: "/a", Kind: bootstrap.ProbeHTTP, TargetPort: 80, TargetPath: "/"}
	with := func(change func(*bootstrap.Probe)) bootstrap.Probe {
		p := http
		change(&p)
		return p
	}
	nowhere := config()
	nowhere.ControlPlaneHost = ""
	anyone := config()
	anyone.ControlPlaneName = ""
	tests := map[string]bootstrap.Config{
		"no control plane":                   nowhere,
		"any control plane":                  anyone,
		"a probe without a port":             config(with(func(p *bootstrap.Probe) { p.ListenPort = 0 })),
		"a probe of no port":                 config(with(func(p *bootstrap.Probe) { p.TargetPort = 0 })),
		"a probe of an unknown kind":         config(with(func(p *bootstrap.Probe) { p.Kind = "icmp" })),
		"a probe without a path":             config(with(func(p *bootstrap.Probe) { p.Path = "" })),
		"a probe without a path to ask":      config(with(func(p *bootstrap.Probe) { p.TargetPath = "healthz" })),
		"two probes at one path":             config(http, http),
		"bytes and requests on one port":     config(http, with(func(p *bootstrap.Probe) { p.Kind, p.Path = bootstrap.ProbeTCPPass, "" })),
		"a path that no header value can be": config(with(func(p *bootstrap.Probe) { p.TargetPath = "/a\r\nb" })),
		"a check without a path":             config(with(func(p *bootstrap.Probe) { p.Kind, p.Path = bootstrap.ProbeTCPCheck, "" })),
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := bootstrap.Build(c); err == nil {
				t.Errorf("accepted: %s", got)
			}
		})
	}
}

func TestTheOrderOfProbesDoesNotMatter(t *testing.T) {
	t.Parallel()
	want, err := bootstrap.Build(config(append(everyProbe()[3:], sharedTargets()[:4]...)...))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		probes := rapid.Permutation(append(everyProbe()[3:], sharedTargets()[:4]...)).Draw(rt, "probes")
		got, err := bootstrap.Build(config(probes...))
		if err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			rt.Errorf("-want +got:\n%s", cmp.Diff(string(want), string(got)))
		}
	})
}

// TestEnvoyAcceptsEveryDocument starts the real Envoy in its validate mode.
func TestEnvoyAcceptsEveryDocument(t *testing.T) {
	t.Parallel()
	envoy := os.Getenv("OSM_TEST_ENVOY")
	if envoy == "" {
		t.Skip("OSM_TEST_ENVOY does not name an Envoy")
	}
	for name, c := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			dir := t.TempDir()
			write(t, dir, bootstrap.CertificateFile, bootstrap.CertificateDocument)
			write(t, dir, bootstrap.ValidationFile, bootstrap.ValidationDocument)
			write(t, dir, bootstrap.BootstrapFile, func() ([]byte, error) { return bootstrap.Build(c) })
			cmd := exec.CommandContext(ctx, envoy, "--mode", "validate", "--config-path", filepath.Join(dir, bootstrap.BootstrapFile),
				"--service-node", "uid.name.namespace", "--service-cluster", "sa.namespace", "--log-level", "error")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// write puts a document into dir, and makes it look for its files there.
func write(t *testing.T, dir, file string, build func() ([]byte, error)) {
	t.Helper()
	content, err := build()
	if err != nil {
		t.Fatal(err)
	}
	local := strings.NewReplacer(bootstrap.Dir+"/", dir+"/", bootstrap.IdentityDir, dir, bootstrap.TrustDir, dir).Replace(string(content))
	if err := os.WriteFile(filepath.Join(dir, file), []byte(local), 0o600); err != nil {
		t.Fatal(err)
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, got, "", "  "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	if updating() {
		if err := os.WriteFile(path, pretty.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		t.Errorf("%s: -want +got:\n%s", path, diff)
	}
}
