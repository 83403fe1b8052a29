package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// built are the smallest manifests that make a bundle.
const built = `
kind: Deployment
metadata: {name: osm-operator, namespace: system, labels: {app: osm-operator}}
spec: {template: {spec: {containers: [{name: manager, image: "docker.io/openservicemesh/osm:v1.2.3", env: [{name: A, value: b}]}]}}}
---
kind: ClusterRole
metadata: {name: osm-operator}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
---
kind: ClusterRole
metadata: {name: osm-controller}
rules: []
---
kind: Role
metadata: {name: osm-operator, namespace: system}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get]}]
---
kind: Service
metadata: {name: osm-operator-webhook, namespace: system}
---
kind: CustomResourceDefinition
metadata: {name: meshes.example.org}
spec:
  group: example.org
  names: {kind: Mesh, plural: meshes}
  versions:
  - {name: v1, schema: {openAPIV3Schema: {description: "Mesh is one. And more."}}}
  - {name: v2, schema: {openAPIV3Schema: {description: "Mesh is\ntwo."}}}
`

// setUp writes the files that a run reads and returns its options.
func setUp(t *testing.T) options {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"base.yaml":              "kind: ClusterServiceVersion\nmetadata: {annotations: {}}\nspec: {displayName: x}\n",
		"samples/mesh.yaml":      "kind: Mesh\nmetadata: {name: example}\n",
		"samples/kustom.yaml":    "kind: Kustomization\n",
		"release.go":             "package release\n\nconst Current = \"v1.2.3\"\n\nconst EnvoyVersion = \"v9.9.9\"\n",
		"out/manifests/old.yaml": "stale",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return options{
		base: filepath.Join(dir, "base.yaml"), samples: filepath.Join(dir, "samples"),
		release: filepath.Join(dir, "release.go"), out: filepath.Join(dir, "out"),
	}
}

func TestBundle(t *testing.T) {
	t.Parallel()
	o := setUp(t)
	if err := run(strings.NewReader(built), o); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(o.out, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f))
	}
	want := "example.org_meshes.yaml osm-controller_clusterrole.yaml osm-operator.clusterserviceversion.yaml annotations.yaml"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("the bundle has %s, want %s", got, want)
	}
	csv, err := readFile(filepath.Join(o.out, "manifests", "osm-operator.clusterserviceversion.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if text(csv, "metadata", "name") != "osm-operator.v1.2.3" || text(csv, "spec", "version") != "1.2.3" {
		t.Errorf("named %s %s", text(csv, "metadata", "name"), text(csv, "spec", "version"))
	}
	if got := len(list(csv, "spec", "customresourcedefinitions", "owned")); got != 2 {
		t.Errorf("owns %d versions, want 2", got)
	}
	if examples := text(csv, "metadata", "annotations", "alm-examples"); !strings.Contains(examples, `"example"`) || strings.Contains(examples, "Kustomization") {
		t.Errorf("the examples are %s", examples)
	}
	container := list(list(csv, "spec", "install", "spec", "deployments")[0], "spec", "template", "spec", "containers")[0]
	env := list(container, "env")
	if len(env) != 3 || text(env[2], "value") != "docker.io/envoyproxy/envoy:distroless-v9.9.9" {
		t.Errorf("the operator's environment is %v", env)
	}
}

func TestBundleRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ old, new, want string }{
		"another image than the release's": {"osm:v1.2.3", "osm:v1.2.4", "v1.2.4"},
		"no role":                          {"kind: Role\n", "kind: Other\n", "Role"},
		"two containers":                   {"containers: [", "containers: [{name: b}, ", "2 containers"},
		"no YAML":                          {"kind: Deployment", "kind: [", "yaml"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := run(strings.NewReader(strings.Replace(built, tt.old, tt.new, 1)), setUp(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one about %q", err, tt.want)
			}
		})
	}
}

// TestVerify holds the project's bundle to the validators, and a worse one too.
func TestVerify(t *testing.T) {
	const own = "../../../bundle"
	if err := verify(own); err != nil {
		t.Error(err)
	}
	worse := t.TempDir()
	if err := os.CopyFS(worse, os.DirFS(own)); err != nil {
		t.Fatal(err)
	}
	csv := filepath.Join(worse, "manifests", "osm-operator.clusterserviceversion.yaml")
	raw, err := os.ReadFile(csv)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(csv, []byte(strings.Replace(string(raw), `"kind": "Egress"`, `"kind": "Other"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := verify(worse); err == nil || !strings.Contains(err.Error(), "Kind=Egress: provided API should have an example") {
		t.Errorf("without an example of Egress: %v, want that it lacks one", err)
	}
}
