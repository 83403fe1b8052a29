// Package host is the outside of a cluster's node: it starts the node in
// namespaces of its own, plugs in its network, and takes everything away again.
// A spec and built parts come in; a running node comes out. It knows nothing of
// what runs inside.
package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openservicemesh/osm-operator/hack/cluster/node"
	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

// NodeCommand is the hidden command by which the program starts itself as a node.
const NodeCommand = "run-node"

// Cluster is one cluster on this host, running or not.
type Cluster struct {
	dirs spec.Dirs
	name string
	// Tree is the cluster's folder.
	Tree spec.Tree
}

// Open names a cluster. It need not exist.
func Open(dirs spec.Dirs, name string) *Cluster {
	return &Cluster{dirs: dirs, name: name, Tree: dirs.Cluster(name)}
}

// Names lists the clusters that have a folder.
func Names(dirs spec.Dirs) ([]string, error) {
	entries, err := os.ReadDir(dirs.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// Spec is what the cluster was started with. The error is fs.ErrNotExist when it
// never was.
func (c *Cluster) Spec() (spec.Spec, error) {
	content, err := os.ReadFile(c.Tree.SpecFile())
	if err != nil {
		return spec.Spec{}, err
	}
	var s spec.Spec
	if err := json.Unmarshal(content, &s); err != nil {
		return spec.Spec{}, fmt.Errorf("reading %s: %w", c.Tree.SpecFile(), err)
	}
	return s, s.Check()
}

// SaveSpec makes the cluster's folder and writes its spec there.
func (c *Cluster) SaveSpec(s spec.Spec) error {
	for _, dir := range []string{"", "etc", "logs", "pki", "var"} {
		if err := os.MkdirAll(c.Tree.Path(dir), 0o700); err != nil {
			return err
		}
	}
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.Tree.SpecFile(), content, 0o600)
}

// FreeCIDR finds a network that neither the host nor another cluster uses.
func FreeCIDR(dirs spec.Dirs) (netip.Prefix, error) {
	taken, err := takenNetworks()
	if err != nil {
		return netip.Prefix{}, err
	}
	names, err := Names(dirs)
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, name := range names {
		if other, err := Open(dirs, name).Spec(); err == nil {
			taken = append(taken, other.CIDR)
		}
	}
	return spec.FreeCIDR(taken)
}

// PID is the node's first process, or 0 when the node does not run.
func (c *Cluster) PID() (int, error) {
	content, err := os.ReadFile(c.Tree.PIDFile())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", c.Tree.PIDFile(), err)
	}
	if !isNode(pid, c.name) {
		return 0, nil
	}
	return pid, nil
}

// Started is when the node was started last.
func (c *Cluster) Started() (time.Time, error) {
	info, err := os.Stat(c.Tree.PIDFile())
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// isNode tells the node from another process that got its number later: it has
// the node's command line and has not ended.
func isNode(pid int, name string) bool {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	return runsNode(content, name)
}

// runsNode reads a command line as the kernel shows it.
func runsNode(commandLine []byte, name string) bool {
	arguments := strings.Split(string(commandLine), "\x00")
	return len(arguments) > 2 && arguments[1] == NodeCommand && arguments[2] == name
}

// Start runs the node in namespaces of its own. It outlives this program.
func (c *Cluster) Start(s spec.Spec, parts map[string]string) error {
	if err := raiseWatchLimit(c.dirs); err != nil {
		return fmt.Errorf("raising the limit of file watchers: %w", err)
	}
	log, err := os.OpenFile(c.Tree.Log("node"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command("/proc/self/exe", NodeCommand, c.name)
	command.Stdout, command.Stderr = log, log
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
	}
	boot, err := command.StdinPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("starting the node in its own namespaces: %w", err)
	}
	pid := command.Process.Pid
	if err := c.prepare(s, parts, pid, boot); err != nil {
		return errors.Join(err, command.Process.Kill(), command.Wait())
	}
	return command.Process.Release()
}

// prepare does for a waiting node what only the host can do, then lets it go.
func (c *Cluster) prepare(s spec.Spec, parts map[string]string, pid int, boot io.WriteCloser) error {
	if err := os.WriteFile(c.Tree.PIDFile(), []byte(strconv.Itoa(pid)), 0o644); err != nil {
		return err
	}
	if err := makeCgroups(s.Cgroup(), pid); err != nil {
		return err
	}
	if err := plugIn(s, pid); err != nil {
		return err
	}
	content, err := json.Marshal(node.Boot{
		Spec: s, State: string(c.Tree), Cache: c.dirs.Cache, Parts: parts, CgroupRoot: "/" + s.Cgroup(),
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.Tree.BootFile(), content, 0o600); err != nil {
		return err
	}
	_, err = boot.Write(content)
	return errors.Join(err, boot.Close())
}

// Running is the node's process and what it was booted with. The error says how
// to start a node that does not run.
func (c *Cluster) Running() (int, node.Boot, error) {
	pid, err := c.PID()
	if err != nil {
		return 0, node.Boot{}, err
	}
	if pid == 0 {
		return 0, node.Boot{}, fmt.Errorf("cluster %s does not run: start it with up --name %s", c.name, c.name)
	}
	file, err := os.Open(c.Tree.BootFile())
	if err != nil {
		return 0, node.Boot{}, err
	}
	defer file.Close()
	boot, err := node.ReadBoot(file)
	return pid, boot, err
}

// Stop ends the node and everything in it, and takes away what the host holds for
// it. The folder stays.
func (c *Cluster) Stop(ctx context.Context) error {
	pid, err := c.PID()
	if err != nil {
		return err
	}
	if pid != 0 {
		if err := kill(ctx, pid); err != nil {
			return err
		}
	}
	s := spec.Spec{Name: c.name}
	return errors.Join(unplug(s), removeCgroups(s.Cgroup()))
}

// kill ends the node's first process and waits. The kernel ends all others of the
// namespace before that one counts as ended.
func kill(ctx context.Context, pid int) error {
	process, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening process %d: %w", pid, err)
	}
	defer unix.Close(process)
	if err := unix.PidfdSendSignal(process, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing process %d: %w", pid, err)
	}
	for ctx.Err() == nil {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if ready > 0 {
			return nil
		}
	}
	return fmt.Errorf("process %d has not ended: %w", pid, ctx.Err())
}

// Remove takes away the cluster's folder, once it is stopped.
func (c *Cluster) Remove() error {
	if err := os.RemoveAll(string(c.Tree)); err != nil {
		return err
	}
	if err := restoreWatchLimit(c.dirs); err != nil {
		return fmt.Errorf("restoring the limit of file watchers: %w", err)
	}
	// The folder of all clusters goes with the last of them.
	err := os.Remove(filepath.Clean(c.dirs.State))
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	return err
}

// LockFile is what commands lock that change the cluster. It is in the cache,
// since the cluster's folder comes and goes.
func (c *Cluster) LockFile() string {
	return filepath.Join(c.dirs.Cache, "cluster-"+c.name+".lock")
}
