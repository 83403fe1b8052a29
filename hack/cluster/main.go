// Command cluster runs a real Kubernetes node on a bare Linux machine, with
// nothing but package registries in reach. It wires the packages beside it; each
// command is in a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/openservicemesh/osm-operator/hack/cluster/host"
	"github.com/openservicemesh/osm-operator/hack/cluster/node"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == host.NodeCommand {
		return code(node.Run(context.Background(), os.Stdin))
	}
	return code(newCommand().ExecuteContext(ctx))
}

// code is the exit code for an error. A command that ran in the node gives its
// own.
func code(err error) int {
	if err == nil {
		return 0
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	return 1
}
