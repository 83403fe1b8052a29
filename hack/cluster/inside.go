package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/openservicemesh/osm-operator/hack/cluster/node"
)

func newLoad(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "load ARCHIVE...",
		Short: "Imports image archives, of OCI's or docker's form, under the names in them",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, archives []string) error {
			runtime, err := a.cluster().Runtime()
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

func newExec(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "exec -- COMMAND [ARGUMENT...]",
		Short: "Runs a command in the node's namespaces",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, arguments []string) error {
			pid, boot, err := a.cluster().Running()
			if err != nil {
				return err
			}
			enter := []string{"--target", strconv.Itoa(pid), "--mount", "--net", "--pid", "--ipc", "--uts", "--"}
			inside := exec.CommandContext(command.Context(), "nsenter", append(enter, arguments...)...)
			inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
			inside.Env = node.ShellEnvironment(boot)
			return inside.Run()
		},
	}
}
