package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/openservicemesh/osm-operator/hack/cluster/build"
	"github.com/openservicemesh/osm-operator/hack/cluster/host"
)

func newLoad(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "load ARCHIVE...",
		Short: "Imports image archives, of OCI's or docker's form, under the names in them",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, archives []string) error {
			runtime, err := a.runtime()
			if err != nil {
				return err
			}
			for _, archive := range archives {
				if err := runtime.Import(command.Context(), archive); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "loaded %s\n", archive)
			}
			return nil
		},
	}
}

// runtime reaches the container runtime of the running node.
func (a *app) runtime() (*host.Runtime, error) {
	cache, err := a.cache(a.out)
	if err != nil {
		return nil, err
	}
	parts, err := build.Select([]string{"containerd"})
	if err != nil {
		return nil, err
	}
	dir, err := cache.Dir(parts[0])
	if err != nil {
		return nil, err
	}
	return a.cluster().Runtime(dir)
}

func newExec(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "exec -- COMMAND [ARGUMENT...]",
		Short: "Runs a command in the node's namespaces",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, arguments []string) error {
			pid, err := a.cluster().PID()
			if err != nil {
				return err
			}
			if pid == 0 {
				return fmt.Errorf("cluster %s does not run: start it with up --name %s", a.name, a.name)
			}
			enter := []string{"--target", strconv.Itoa(pid), "--mount", "--net", "--pid", "--ipc", "--uts", "--"}
			inside := exec.CommandContext(command.Context(), "nsenter", append(enter, arguments...)...)
			inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
			inside.Env = append(os.Environ(), "KUBECONFIG=/run/osm-cluster/state/kubeconfig", a.nodePath())
			return inside.Run()
		},
	}
}

// nodePath finds the cluster's own programs inside the node.
func (a *app) nodePath() string {
	path := "PATH=" + os.Getenv("PATH")
	cache, err := a.cache(a.out)
	if err != nil {
		return path
	}
	for _, part := range build.Parts() {
		if dir, err := cache.Dir(part); err == nil {
			path += ":" + filepath.Join("/run/osm-cluster/cache", filepath.Base(dir))
		}
	}
	return path
}
