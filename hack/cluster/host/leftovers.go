package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

// Leftovers lists, in words, everything on the machine that belongs to a cluster.
// After a stop and a removal there must be nothing.
func Leftovers(dirs spec.Dirs, name string) ([]string, error) {
	tree := dirs.Cluster(name)
	s := spec.Spec{Name: name}
	var all []string
	for _, look := range []func() ([]string, error){
		func() ([]string, error) { return leftFiles(string(tree)) },
		func() ([]string, error) { return leftMounts(string(tree)) },
		func() ([]string, error) { return leftProcesses(s, string(tree)) },
		func() ([]string, error) { return leftLink(s) },
		func() ([]string, error) { return leftCgroups(s.Cgroup()) },
		leftRules,
	} {
		found, err := look()
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func leftFiles(tree string) ([]string, error) {
	_, err := os.Lstat(tree)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return []string{"folder " + tree}, err
}

// leftMounts looks for mounts in this namespace that come from the cluster's
// folder or from its node's home.
func leftMounts(tree string) ([]string, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(content)) {
		if strings.Contains(line, tree+"/") || strings.Contains(line, "/run/osm-cluster") || strings.Contains(line, "/run/netns/cni-") {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	return found, nil
}

// leftProcesses finds the cluster's processes by their control group, by the
// cluster's folder in their command line, and by namespaces whose host name is
// the node's. A namespace lives only as long as a process or a mount holds it.
func leftProcesses(s spec.Spec, tree string) ([]string, error) {
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, process := range entries {
		// A process may end while it is looked at: then it is not left, nor is one
		// that has ended and waits for its parent to notice.
		groups, _ := os.ReadFile(filepath.Join(process, "cgroup"))
		arguments, _ := os.ReadFile(filepath.Join(process, "cmdline"))
		if len(arguments) == 0 {
			continue
		}
		if strings.Contains(string(groups), "/"+s.Cgroup()+"/") || strings.Contains(string(arguments), tree+"/") || runsNode(arguments, s.Name) {
			command := strings.ReplaceAll(string(arguments), "\x00", " ")
			found = append(found, fmt.Sprintf("process %s: %.120s", filepath.Base(process), command))
		}
	}
	return found, nil
}

func leftLink(s spec.Spec) ([]string, error) {
	_, err := netlink.LinkByName(s.Link())
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, nil
	}
	return []string{"network link " + s.Link()}, err
}

func leftCgroups(group string) ([]string, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, h := range all {
		dir := filepath.Join(h.mount, group)
		if _, err := os.Stat(dir); err == nil {
			found = append(found, "control group "+dir)
		}
	}
	return found, nil
}

// leftRules looks for kube-proxy's tables in the host's own firewall, where none
// of any local cluster must ever be.
func leftRules() ([]string, error) {
	output, err := exec.Command("nft", "list", "tables").CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing firewall tables: %w: %s", err, output)
	}
	var found []string
	for line := range strings.Lines(string(output)) {
		if strings.Contains(line, "kube-proxy") {
			found = append(found, "firewall "+strings.TrimSpace(line))
		}
	}
	return found, nil
}
