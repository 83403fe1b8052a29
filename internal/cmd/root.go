package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/openservicemesh/osm-operator/internal/cli"
)

// Streams are the standard streams of a process.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// ExitCoder is an error that chooses the exit code of the process.
type ExitCoder interface {
	error
	ExitCode() int
}

// Execute runs the verb that args name and returns the exit code. An interrupt or
// a termination signal cancels the verb's context; a second one kills the process.
func Execute(args []string, streams Streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRootCommand(streams)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(streams.Err, "Error: %v\n", err)
	if coder, ok := errors.AsType[ExitCoder](err); ok {
		return coder.ExitCode()
	}
	return 1
}

// newRootCommand returns the command with all verbs, each made by a function of
// its own file.
func newRootCommand(streams Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "osm",
		Short: "Install, run and look into Open Service Mesh",
		Long: `osm installs, runs and looks into Open Service Mesh.

The same binary runs in the cluster: as the operator, as the control plane of a
mesh and as the init container of a pod in it.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.AddCommand(
		newVersionCommand(),
		newOperatorCommand(),
		newControlPlaneCommand(),
		newInitCommand(),
		newIdentityCommand(),
	)
	root.AddCommand(cli.Commands(streams.In, streams.Out, streams.Err)...)
	return root
}
