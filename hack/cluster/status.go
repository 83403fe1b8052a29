package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/openservicemesh/osm-operator/hack/cluster/api"
	"github.com/openservicemesh/osm-operator/hack/cluster/host"
	"github.com/openservicemesh/osm-operator/hack/cluster/node"
	"github.com/openservicemesh/osm-operator/hack/cluster/pki"
	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

// fresh is how long ago a program's end still counts as trouble.
const fresh = time.Minute

func newStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Says whether the cluster is well, and what is wrong if it is not",
		Args:  cobra.NoArgs,
		RunE:  func(command *cobra.Command, _ []string) error { return a.status(command.Context()) },
	}
}

func (a *app) status(ctx context.Context) error {
	cluster := a.cluster()
	s, err := cluster.Spec()
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no cluster %s: start it with up --name %s", a.name, a.name)
	}
	if err != nil {
		return err
	}
	bad := 0
	for _, check := range checks(cluster, s) {
		problem := check.ask(ctx)
		if problem == nil {
			fmt.Fprintf(a.out, "ok     %s\n", check.what)
			continue
		}
		bad++
		fmt.Fprintf(a.out, "wrong  %s: %v\n", check.what, problem)
		if check.rest {
			break
		}
	}
	if bad > 0 {
		return fmt.Errorf("cluster %s is not well: up --name %s repairs it, %s holds the logs", a.name, a.name, cluster.Tree.Path("logs"))
	}
	return a.sayWhere(cluster)
}

// check is one question about a cluster.
type check struct {
	what string
	// rest is set when nothing after it can be well if it is not.
	rest bool
	ask  func(context.Context) error
}

func checks(cluster *host.Cluster, s spec.Spec) []check {
	ask := func(question func(context.Context, *api.Client) error) func(context.Context) error {
		return func(ctx context.Context) error {
			client, err := api.Open(cluster.Tree.Kubeconfig())
			if err != nil {
				return err
			}
			return question(ctx, client)
		}
	}
	return []check{
		{"the node's process", true, func(context.Context) error { return processLives(cluster) }},
		{"the network cable " + s.Link(), false, func(context.Context) error { return plugged(s) }},
		{"the programs in the node", false, func(context.Context) error { return programsRun(cluster) }},
		{"the API server at " + pki.Server(s), true, ask(func(ctx context.Context, c *api.Client) error { return c.Ready(ctx) })},
		{"the node " + s.NodeName(), false, ask(func(ctx context.Context, c *api.Client) error {
			return nodeReady(ctx, cluster, s, c)
		})},
		{"CoreDNS", false, ask(func(ctx context.Context, c *api.Client) error { return dnsReady(ctx, s, c) })},
	}
}

// firstProblem is the first check that fails.
func firstProblem(ctx context.Context, cluster *host.Cluster, s spec.Spec) error {
	for _, check := range checks(cluster, s) {
		if err := check.ask(ctx); err != nil {
			return fmt.Errorf("%s: %w", check.what, err)
		}
	}
	return nil
}

func nodeReady(ctx context.Context, cluster *host.Cluster, s spec.Spec, client *api.Client) error {
	started, err := cluster.Started()
	if err != nil {
		return err
	}
	return client.NodeReady(ctx, s.NodeName(), started)
}

func dnsReady(ctx context.Context, s spec.Spec, client *api.Client) error {
	if err := client.DeploymentReady(ctx, "kube-system", "coredns"); err != nil {
		return err
	}
	return api.DNSAnswers(ctx, s.V4().DNS, s.V4().API)
}

func processLives(cluster *host.Cluster) error {
	pid, err := cluster.PID()
	if err != nil {
		return err
	}
	if pid == 0 {
		return errors.New("it has ended; the machine may have been restarted")
	}
	return nil
}

func plugged(s spec.Spec) error {
	if !host.Plugged(s) {
		return errors.New("someone has removed it, or set it down")
	}
	return nil
}

func programsRun(cluster *host.Cluster) error {
	content, err := os.ReadFile(cluster.Tree.ProgramsFile())
	if err != nil {
		return err
	}
	var programs []node.Condition
	if err := json.Unmarshal(content, &programs); err != nil {
		return err
	}
	return programTrouble(programs, time.Now())
}

// programTrouble names each program that does not run, or that has just been
// started again after it ended.
func programTrouble(programs []node.Condition, now time.Time) error {
	var troubles []error
	for _, p := range programs {
		switch {
		case p.PID == 0 && p.LastExit == "":
			troubles = append(troubles, fmt.Errorf("%s waits for another program", p.Name))
		case p.PID == 0:
			troubles = append(troubles, fmt.Errorf("%s %s and is about to be started again", p.Name, p.LastExit))
		case p.Restarts > 1 && now.Sub(p.Started) < fresh:
			troubles = append(troubles, fmt.Errorf("%s %s and was started again %d times", p.Name, p.LastExit, p.Restarts))
		}
	}
	return errors.Join(troubles...)
}
