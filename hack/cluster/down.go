package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/openservicemesh/osm-operator/hack/cluster/build"
	"github.com/openservicemesh/osm-operator/hack/cluster/host"
)

func newDown(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Ends the cluster and removes everything of it but the cache",
		Args:  cobra.NoArgs,
		RunE:  func(command *cobra.Command, _ []string) error { return a.down(command.Context()) },
	}
}

func (a *app) down(ctx context.Context) error {
	if err := checkHost(); err != nil {
		return err
	}
	cluster := a.cluster()
	unlock, err := build.Lock(ctx, cluster.LockFile(), a.out)
	if err != nil {
		return err
	}
	defer unlock()
	if err := cluster.Stop(ctx); err != nil {
		return err
	}
	if err := cluster.Remove(); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "cluster %s is gone\n", a.name)
	return nil
}

func newVerifyClean(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify-clean",
		Short: "Checks that nothing of the cluster is left on the machine",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			leftovers, err := host.Leftovers(a.dirs, a.name)
			if err != nil {
				return err
			}
			for _, leftover := range leftovers {
				fmt.Fprintln(a.out, "left:", leftover)
			}
			if len(leftovers) > 0 {
				return errors.New("the machine is not as it was before the cluster")
			}
			fmt.Fprintf(a.out, "nothing of cluster %s is left: no process, namespace, mount, link, route, firewall rule, control group or file\n", a.name)
			return nil
		},
	}
}
