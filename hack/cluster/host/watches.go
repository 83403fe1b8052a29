package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

// watchLimit is a limit of the whole machine that no namespace can have its own
// of: how many file watchers one user may have. A usual default is 128, and each
// Envoy needs several.
const (
	watchLimit  = "/proc/sys/fs/inotify/max_user_instances"
	enoughWatch = 8192
)

// raiseWatchLimit raises the limit if it is too low, and remembers what it was.
func raiseWatchLimit(dirs spec.Dirs) error {
	content, err := os.ReadFile(watchLimit)
	if err != nil {
		return err
	}
	current, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil || current >= enoughWatch {
		return err
	}
	if err := os.MkdirAll(dirs.State, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(rememberedLimit(dirs), []byte(strconv.Itoa(current)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(watchLimit, []byte(strconv.Itoa(enoughWatch)), 0o644)
}

// restoreWatchLimit puts the limit back when no cluster is left.
func restoreWatchLimit(dirs spec.Dirs) error {
	names, err := Names(dirs)
	if err != nil || len(names) > 0 {
		return err
	}
	content, err := os.ReadFile(rememberedLimit(dirs))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.WriteFile(watchLimit, content, 0o644); err != nil {
		return err
	}
	return os.Remove(rememberedLimit(dirs))
}

func rememberedLimit(dirs spec.Dirs) string {
	return filepath.Join(dirs.State, "inotify-limit-before")
}
