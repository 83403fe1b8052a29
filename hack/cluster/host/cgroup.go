package host

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// hierarchy is one mounted tree of control groups: version 2 has one of them,
// version 1 one for each controller.
type hierarchy struct {
	mount   string
	unified bool
	options []string
}

// hierarchies lists the mounted ones.
func hierarchies() ([]hierarchy, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []hierarchy
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		if h, is := parseHierarchy(scanner.Text()); is {
			all = append(all, h)
		}
	}
	return all, scanner.Err()
}

// parseHierarchy reads one line of mountinfo: fixed fields, " - ", then type,
// source and options.
func parseHierarchy(line string) (hierarchy, bool) {
	before, after, found := strings.Cut(line, " - ")
	fields, rest := strings.Fields(before), strings.Fields(after)
	if !found || len(fields) < 5 || len(rest) < 3 {
		return hierarchy{}, false
	}
	switch rest[0] {
	case "cgroup2":
		return hierarchy{mount: fields[4], unified: true}, true
	case "cgroup":
		return hierarchy{mount: fields[4], options: strings.Split(rest[2], ",")}, true
	}
	return hierarchy{}, false
}

// makeCgroups makes the cluster's group in each hierarchy, with a leaf in it for
// the node's own processes, and moves the process there.
func makeCgroups(group string, pid int) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return errors.New("no control groups are mounted below /sys/fs/cgroup")
	}
	for _, h := range all {
		if err := h.make(group, pid); err != nil {
			return fmt.Errorf("making control group %s below %s: %w", group, h.mount, err)
		}
	}
	return nil
}

func (h hierarchy) make(group string, pid int) error {
	parent := filepath.Join(h.mount, group)
	leaf := filepath.Join(parent, "node")
	for _, dir := range []string{parent, leaf} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := h.open(dir); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
}

// open makes a new group usable: in version 1 a cpuset starts empty, in version 2
// a parent hands its controllers down only when told to.
func (h hierarchy) open(dir string) error {
	parent := filepath.Dir(dir)
	if slices.Contains(h.options, "cpuset") {
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(parent, file))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
				return err
			}
		}
	}
	if !h.unified {
		return nil
	}
	available, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for controller := range strings.FieldsSeq(string(available)) {
		// A controller that is bound elsewhere or cannot be had is not fatal: the
		// kubelet says which ones it misses.
		_ = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
	}
	return nil
}

// removeCgroups removes the cluster's groups, the deepest first. A group whose
// last process has just ended may be busy for a moment.
func removeCgroups(group string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	var failures []error
	for _, h := range all {
		failures = append(failures, removeTree(filepath.Join(h.mount, group)))
	}
	return errors.Join(failures...)
}

func removeTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := removeBusy(dir); err != nil {
			return err
		}
	}
	return nil
}

func removeBusy(dir string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := syscall.Rmdir(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("removing control group %s: %w", dir, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
