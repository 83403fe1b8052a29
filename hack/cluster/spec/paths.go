package spec

import (
	"fmt"
	"path/filepath"
)

// Dirs are the two folders of the host that clusters use.
type Dirs struct {
	// Cache holds what can be built again: binaries and images.
	Cache string
	// State holds one folder per cluster.
	State string
}

// HostDirs finds the folders from the environment, as the XDG base directory
// specification has it.
func HostDirs(getenv func(string) string) (Dirs, error) {
	cache, err := xdg(getenv, "XDG_CACHE_HOME", ".cache")
	if err != nil {
		return Dirs{}, err
	}
	state, err := xdg(getenv, "XDG_STATE_HOME", ".local/state")
	if err != nil {
		return Dirs{}, err
	}
	return Dirs{Cache: filepath.Join(cache, "osm-cluster"), State: filepath.Join(state, "osm-cluster")}, nil
}

func xdg(getenv func(string) string, variable, fallback string) (string, error) {
	if dir := getenv(variable); filepath.IsAbs(dir) {
		return dir, nil
	}
	home := getenv("HOME")
	if !filepath.IsAbs(home) {
		return "", fmt.Errorf("neither %s nor HOME names a folder", variable)
	}
	return filepath.Join(home, fallback), nil
}

// Cluster is the folder of one cluster.
func (d Dirs) Cluster(name string) Tree { return Tree(filepath.Join(d.State, name)) }

// Tree is a cluster's state folder, as seen from wherever it is mounted: the host
// has it below its state folder, the node at one fixed place.
type Tree string

// Path is a file or folder in the tree.
func (t Tree) Path(elements ...string) string {
	return filepath.Join(append([]string{string(t)}, elements...)...)
}

// Kubeconfig is the administrator's kubeconfig.
func (t Tree) Kubeconfig() string { return t.Path("kubeconfig") }

// PKI is a file among the keys and certificates.
func (t Tree) PKI(name string) string { return t.Path("pki", name) }

// Etc is a configuration file of one of the node's programs.
func (t Tree) Etc(name string) string { return t.Path("etc", name) }

// Log is where the program of this name writes.
func (t Tree) Log(name string) string { return t.Path("logs", name+".log") }

// SpecFile holds the spec that the cluster was started with.
func (t Tree) SpecFile() string { return t.Path("spec.json") }

// BootFile is what the host told the node.
func (t Tree) BootFile() string { return t.Path("boot.json") }

// PIDFile names the node's first process, as the host counts.
func (t Tree) PIDFile() string { return t.Path("pid") }

// ProgramsFile is written by the node: how each of its programs fares.
func (t Tree) ProgramsFile() string { return t.Path("programs.json") }
