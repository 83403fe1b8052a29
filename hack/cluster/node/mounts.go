package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

// mountAll gives the node its own view of the file system. The host's mounts are
// first cut off, so that nothing mounted here is ever seen there, then shared
// among the node's own namespaces, as the kubelet needs for volumes.
func mountAll(boot Boot) error {
	for _, propagation := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", unix.MS_REC|propagation, ""); err != nil {
			return fmt.Errorf("cutting off the host's mounts: %w", err)
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := mountHome(boot); err != nil {
		return err
	}
	// Everything that the node writes below /var goes to the cluster's folder.
	for _, dir := range []string{"lib/containerd", "lib/kubelet", "lib/etcd", "log", "tmp"} {
		if err := os.MkdirAll(filepath.Join(stateMount, "var", dir), 0o700); err != nil {
			return err
		}
	}
	if err := bind(stateMount+"/var", "/var"); err != nil {
		return err
	}
	if err := os.Symlink("/run", "/var/run"); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// mountHome replaces /run by an empty one with the cluster's two folders in it.
// They are opened first, since they may themselves be below /run.
func mountHome(boot Boot) error {
	state, err := os.Open(boot.State)
	if err != nil {
		return err
	}
	defer state.Close()
	cache, err := os.Open(boot.Cache)
	if err != nil {
		return err
	}
	defer cache.Close()
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	for target, folder := range map[string]*os.File{stateMount: state, cacheMount: cache} {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := bind(fmt.Sprintf("/proc/self/fd/%d", folder.Fd()), target); err != nil {
			return err
		}
	}
	return nil
}

// writeConfigs writes the programs' files and puts the two that every program
// looks for in /etc over the host's.
func writeConfigs(boot Boot) error {
	tree := spec.Tree(stateMount)
	files, err := Configs(boot)
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(tree.Etc(name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(tree.Etc(name), content, 0o644); err != nil {
			return err
		}
	}
	for _, name := range []string{"hosts", "resolv.conf"} {
		target, err := filepath.EvalSymlinks("/etc/" + name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := bind(tree.Etc(name), target); err != nil {
			return err
		}
	}
	return nil
}

// wantedSysctls are what the kubelet insists on, of settings that belong to the
// whole machine.
func wantedSysctls() map[string]string {
	return map[string]string{
		"vm/overcommit_memory":      "1",
		"vm/panic_on_oom":           "0",
		"kernel/panic":              "10",
		"kernel/panic_on_oops":      "1",
		"kernel/keys/root_maxkeys":  "1000000",
		"kernel/keys/root_maxbytes": "25000000",
	}
}

// shadowSysctls lets the kubelet read the settings that it wants without changing
// them: a file with the wanted value lies over each one that differs, in this
// node's /proc only.
func shadowSysctls() error {
	for name, wanted := range wantedSysctls() {
		target := filepath.Join("/proc/sys", name)
		current, err := os.ReadFile(target)
		if err != nil || strings.TrimSpace(string(current)) == wanted {
			continue
		}
		shadow := filepath.Join(home, "sysctl", name)
		if err := os.MkdirAll(filepath.Dir(shadow), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(shadow, []byte(wanted+"\n"), 0o644); err != nil {
			return err
		}
		if err := bind(shadow, target); err != nil {
			return err
		}
	}
	return nil
}

func bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s over %s: %w", source, target, err)
	}
	return nil
}

// inNode is where a built part is inside the node.
func (b Boot) inNode(part string) (string, error) {
	dir, built := b.Parts[part]
	if !built {
		return "", fmt.Errorf("part %s is not built", part)
	}
	below, err := filepath.Rel(b.Cache, dir)
	if err != nil {
		return "", err
	}
	return filepath.Join(cacheMount, below), nil
}

// raiseFileLimit lets every program open as many files as the machine allows;
// what starts a node from a shell has often less.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}
