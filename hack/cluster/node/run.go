package node

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Run is the life of the node's first process.
func Run(ctx context.Context, in io.Reader) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("the node runs only as the first process of its own namespaces; use up")
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT)
	boot, err := ReadBoot(in)
	if err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(boot.Spec.NodeName())); err != nil {
		return fmt.Errorf("naming the node: %w", err)
	}
	if err := raiseFileLimit(); err != nil {
		return fmt.Errorf("raising the limit of open files: %w", err)
	}
	for _, step := range []func() error{
		func() error { return mountAll(boot) },
		func() error { return writeConfigs(boot) },
		shadowSysctls,
		func() error { return configureNetwork(boot.Spec) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	supervisor, err := newSupervisor(boot, signals)
	if err != nil {
		return err
	}
	return supervisor.run(ctx)
}
