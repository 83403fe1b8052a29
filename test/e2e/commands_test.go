package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/release"
)

// TestCommands asks with the command what an administrator asks.
func TestCommands(t *testing.T) {
	ctx := deadline(t, 3*time.Minute)
	const ns = "e2e-commands"
	namespace(ctx, t, ns, true)
	server := workload{namespace: ns, name: "server", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}}
	running(ctx, t, server)

	t.Run("mesh list", func(t *testing.T) {
		out, err := osm("mesh", "list", "-o", "json")
		must(t, err)
		var meshes []struct {
			Name, Version, Ready string
			AddedNamespaces      []string
		}
		must(t, json.Unmarshal([]byte(out), &meshes))
		if len(meshes) != 1 || meshes[0].Name != meshName || meshes[0].Version != release.Current || meshes[0].Ready != "True" ||
			!slices.Contains(meshes[0].AddedNamespaces, ns) {
			t.Errorf("%s: want mesh %s, ready, with namespace %s", out, meshName, ns)
		}
	})
	t.Run("proxy get", func(t *testing.T) {
		pod := podOf(ctx, t, server).Name
		out, err := osm("proxy", "get", "listeners", pod, "-n", ns)
		must(t, err)
		if !strings.Contains(out, "inbound-listener::0.0.0.0:15003") {
			t.Errorf("%s: want the inbound listener", out)
		}
		if out, err := osm("proxy", "get", "listeners", "nobody", "-n", ns); err == nil || !strings.Contains(err.Error(), "nobody") {
			t.Errorf("of a pod that is not there: %q, %v; want an error that names it", out, err)
		}
	})
	t.Run("namespace list, ignore, remove", func(t *testing.T) {
		listed := func() bool {
			t.Helper()
			out, err := osm("namespace", "list")
			must(t, err)
			return strings.Contains(out, ns)
		}
		if !listed() {
			t.Error("a namespace of the mesh is not listed")
		}
		_, err := osm("namespace", "remove", ns)
		must(t, err)
		if listed() {
			t.Error("a namespace that was removed is listed")
		}
		_, err = osm("namespace", "ignore", ns)
		must(t, err)
		if _, err := osm("namespace", "add", ns); err == nil {
			t.Error("an ignored namespace was added")
		}
	})
	t.Run("version", func(t *testing.T) {
		out, err := osm("version", "-o", "json")
		must(t, err)
		if !strings.Contains(out, release.Current) {
			t.Errorf("%s: want %s", out, release.Current)
		}
	})
}
