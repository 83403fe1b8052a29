package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

func TestParseHierarchyReadsBothVersions(t *testing.T) {
	tests := map[string]struct {
		line string
		want hierarchy
		is   bool
	}{
		"version 2":              {"35 24 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 none rw,nsdelegate", hierarchy{mount: "/sys/fs/cgroup", unified: true}, true},
		"version 1":              {"36 30 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup none rw,cpuset", hierarchy{mount: "/sys/fs/cgroup/cpuset", options: []string{"rw", "cpuset"}}, true},
		"with optional fields":   {"36 30 0:31 / /sys/fs/cgroup/cpu rw shared:9 master:1 - cgroup none rw,cpu", hierarchy{mount: "/sys/fs/cgroup/cpu", options: []string{"rw", "cpu"}}, true},
		"another file system":    {"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw", hierarchy{}, false},
		"a line that is cut off": {"22 1 254:0 / /", hierarchy{}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, is := parseHierarchy(test.line)
			if is != test.is {
				t.Fatalf("parseHierarchy() says %t, want %t", is, test.is)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(hierarchy{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A folder stands in for a hierarchy: what the kernel would do with the files is
// its business, which ones are written is ours.
func TestGroupsAreOpenedAsTheirVersionNeeds(t *testing.T) {
	put := func(t *testing.T, dir, name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	get := func(t *testing.T, path string) string {
		t.Helper()
		content, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return string(content)
	}
	t.Run("a cpuset of version 1 inherits its processors", func(t *testing.T) {
		root := t.TempDir()
		put(t, root, "cpuset.cpus", "0-1")
		put(t, root, "cpuset.mems", "0")
		h := hierarchy{mount: root, options: []string{"rw", "cpuset"}}
		if err := h.make("osm-cluster-x", 42); err != nil {
			t.Fatal(err)
		}
		for file, want := range map[string]string{"cpuset.cpus": "0-1", "node/cpuset.mems": "0", "node/cgroup.procs": "42"} {
			if got := get(t, filepath.Join(root, "osm-cluster-x", file)); got != want {
				t.Errorf("%s says %q, want %q", file, got, want)
			}
		}
	})
	t.Run("version 2 hands its controllers down", func(t *testing.T) {
		root := t.TempDir()
		put(t, root, "cgroup.controllers", "memory pids")
		h := hierarchy{mount: root, unified: true}
		group := filepath.Join(root, "osm-cluster-x")
		if err := os.Mkdir(group, 0o755); err != nil {
			t.Fatal(err)
		}
		put(t, group, "cgroup.controllers", "memory pids")
		if err := h.make("osm-cluster-x", 42); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{root, group} {
			if got := get(t, filepath.Join(dir, "cgroup.subtree_control")); got != "+pids" {
				t.Errorf("%s hands down %q last, want +pids", dir, got)
			}
		}
		if got := get(t, filepath.Join(group, "node", "cgroup.procs")); got != "42" {
			t.Errorf("the node's process went elsewhere: %q", got)
		}
	})
}

func TestANodeIsKnownByItsCommandLine(t *testing.T) {
	tests := map[string]struct {
		line string
		want bool
	}{
		"the node":           {"/proc/self/exe\x00run-node\x00osm\x00", true},
		"another's node":     {"/proc/self/exe\x00run-node\x00other\x00", false},
		"a longer name":      {"/proc/self/exe\x00run-node\x00osm2\x00", false},
		"another program":    {"vim\x00run-node\x00", false},
		"a dead one":         {"", false},
		"the name as a path": {"cat\x00x\x00osm\x00", false},
	}
	for name, test := range tests {
		if got := runsNode([]byte(test.line), "osm"); got != test.want {
			t.Errorf("%s: runsNode() = %t, want %t", name, got, test.want)
		}
	}
}

func TestOnlyNamelessLeftoversOfReplacedImagesAreDropped(t *testing.T) {
	before := map[string]string{
		"example/a:1": "sha256:a1", "sha256:config-a1": "sha256:a1",
		"example/b:1": "sha256:b1", "sha256:config-b1": "sha256:b1",
		"sha256:config-old": "sha256:old",
	}
	after := map[string]string{
		"example/a:1": "sha256:a2", "sha256:config-a1": "sha256:a1", "sha256:config-a2": "sha256:a2",
		"example/b:1": "sha256:b1", "sha256:config-b1": "sha256:b1",
		"sha256:config-old": "sha256:old",
	}
	want := []string{"sha256:config-a1", "sha256:config-old"}
	if diff := cmp.Diff(want, superseded(before, after)); diff != "" {
		t.Errorf("superseded() (-want +got):\n%s", diff)
	}
}

func TestAClusterThatNeverWasIsNotRunning(t *testing.T) {
	c := Open(spec.Dirs{State: t.TempDir(), Cache: t.TempDir()}, "none")
	if _, err := c.Spec(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Spec() = %v, want that it does not exist", err)
	}
	if _, _, err := c.Running(); err == nil || !strings.Contains(err.Error(), "up --name none") {
		t.Errorf("Running() = %v, want what to do", err)
	}
}
