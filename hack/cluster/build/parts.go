// Package build makes the programs that a cluster consists of from their
// published Go modules. Module files come in; cached binaries go out, filed by
// the hash of everything that decides them, so that only the first start builds.
package build

import (
	"slices"
	"strings"

	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

// Part is one module below parts/, built into one folder of the cache.
type Part struct {
	// Name is the part's folder below parts/.
	Name string
	// Packages are built, each into a binary named by its last element; "."
	// is the module's own main, named by the part.
	Packages []string
	// Links are further names of the part's own binary.
	Links []string
	// Tags and LDFlags go to go build.
	Tags, LDFlags []string
	// CGO is set where the part links to a C library.
	CGO bool
	// Needs are what the machine must have to build the part.
	Needs []Need
	// Aside says that no cluster has the part: it is built where it is named.
	Aside bool
}

// Parts lists every part, the slowest first.
func Parts() []Part {
	return []Part{
		{
			Name:     "kube",
			Packages: []string{"."},
			Links: []string{
				"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl", "etcd",
			},
			LDFlags: versionFlags(spec.KubernetesVersion),
		},
		{
			Name: "containerd",
			Packages: []string{
				"github.com/containerd/containerd/v2/cmd/containerd",
				"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
				"github.com/containerd/containerd/v2/cmd/ctr",
			},
			Tags: []string{"no_btrfs", "no_devmapper", "no_zfs"},
		},
		{
			Name:     "runc",
			Packages: []string{"github.com/opencontainers/runc"},
			Tags:     []string{"seccomp"},
			CGO:      true,
			Needs:    []Need{compiler(), libcDev(), pkgConfig(), libseccomp()},
		},
		{
			Name: "cni",
			Packages: []string{
				"github.com/containernetworking/plugins/plugins/main/ptp",
				"github.com/containernetworking/plugins/plugins/ipam/host-local",
			},
		},
		{Name: "coredns", Packages: []string{"."}},
		{Name: "pause", Packages: []string{"."}},
		{Name: "vault", Packages: []string{"."}, Aside: true},
	}
}

// Select returns the parts of these names, or all of a cluster when none is given.
func Select(names []string) ([]Part, error) {
	if len(names) == 0 {
		return slices.DeleteFunc(Parts(), func(p Part) bool { return p.Aside }), nil
	}
	var selected []Part
	for _, name := range names {
		i := slices.IndexFunc(Parts(), func(p Part) bool { return p.Name == name })
		if i < 0 {
			return nil, &UnknownPartError{Name: name}
		}
		selected = append(selected, Parts()[i])
	}
	return selected, nil
}

// UnknownPartError says that no part has this name.
type UnknownPartError struct{ Name string }

// Error names the part, and those that there are.
func (e *UnknownPartError) Error() string {
	var known []string
	for _, p := range Parts() {
		known = append(known, p.Name)
	}
	return "no part is called " + e.Name + ": there are " + strings.Join(known, ", ")
}

// versionFlags tell Kubernetes its own version; without them clients cannot
// parse what the API server says it is.
func versionFlags(version string) []string {
	numbers := strings.Split(strings.TrimPrefix(version, "v"), ".")
	var flags []string
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags,
			"-X", pkg+".gitVersion="+version,
			"-X", pkg+".gitMajor="+numbers[0],
			"-X", pkg+".gitMinor="+numbers[1],
			"-X", pkg+".gitTreeState=clean")
	}
	return flags
}
