package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openservicemesh/osm-operator/hack/cluster/image"
	"github.com/openservicemesh/osm-operator/hack/cluster/node"
)

// Runtime speaks to the container runtime of a running node.
type Runtime struct {
	ctr, socket string
}

// Runtime finds the node's container runtime. Its socket is in the node's file
// system, which the kernel shows below the node's process.
func (c *Cluster) Runtime() (*Runtime, error) {
	pid, boot, err := c.Running()
	if err != nil {
		return nil, err
	}
	return &Runtime{
		ctr:    filepath.Join(boot.Parts["containerd"], "ctr"),
		socket: fmt.Sprintf("/proc/%d/root%s", pid, node.RuntimeSocket),
	}, nil
}

// Ensure imports those of the images that the node does not have, and returns
// them.
func (r *Runtime) Ensure(ctx context.Context, images []image.Built) ([]image.Built, error) {
	if err := r.Await(ctx); err != nil {
		return nil, err
	}
	present, err := r.Digests(ctx)
	if err != nil {
		return nil, err
	}
	var imported []image.Built
	for _, built := range images {
		if present[built.Name] == built.Digest {
			continue
		}
		if err := r.Import(ctx, built.Archive); err != nil {
			return nil, err
		}
		imported = append(imported, built)
	}
	return imported, nil
}

// Await waits until the runtime answers.
func (r *Runtime) Await(ctx context.Context) error {
	var dialer net.Dialer
	for {
		connection, err := dialer.DialContext(ctx, "unix", r.socket)
		if err == nil {
			return connection.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for containerd: %w", errors.Join(ctx.Err(), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Digests are the images in the node, by name.
func (r *Runtime) Digests(ctx context.Context) (map[string]string, error) {
	output, err := r.run(ctx, "images", "list")
	if err != nil {
		return nil, fmt.Errorf("listing the node's images: %w", err)
	}
	digests := map[string]string{}
	for line := range strings.Lines(output) {
		if fields := strings.Fields(line); len(fields) > 2 && strings.HasPrefix(fields[2], "sha256:") {
			digests[fields[0]] = fields[2]
		}
	}
	return digests, nil
}

// Import puts an archive's images into the node under their public names. What
// had one of the names before is dropped; containers that run it keep it.
func (r *Runtime) Import(ctx context.Context, archive string) error {
	before, err := r.Digests(ctx)
	if err != nil {
		return err
	}
	if _, err := r.run(ctx, "images", "import", "--local", "--snapshotter", "overlayfs", archive); err != nil {
		return fmt.Errorf("importing %s: %w", archive, err)
	}
	after, err := r.Digests(ctx)
	if err != nil {
		return err
	}
	if dropped := superseded(before, after); len(dropped) > 0 {
		_, err = r.run(ctx, append([]string{"images", "remove"}, dropped...)...)
	}
	return err
}

// superseded are the nameless entries, which the runtime keeps for an image's
// configuration, whose image lost its last name.
func superseded(before, after map[string]string) []string {
	named := map[string]bool{}
	for name, digest := range after {
		if !strings.HasPrefix(name, "sha256:") {
			named[digest] = true
		}
	}
	var gone []string
	for name, digest := range before {
		if strings.HasPrefix(name, "sha256:") && !named[digest] {
			gone = append(gone, name)
		}
	}
	slices.Sort(gone)
	return gone
}

func (r *Runtime) run(ctx context.Context, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, r.ctr, append([]string{"--address", r.socket, "--namespace", "k8s.io"}, arguments...)...)
	var stderr strings.Builder
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("ctr %s: %w: %s", arguments[0], err, strings.TrimSpace(stderr.String()))
	}
	return string(output), nil
}
