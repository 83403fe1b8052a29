package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/openservicemesh/osm-operator/hack/cluster/addons"
	"github.com/openservicemesh/osm-operator/hack/cluster/api"
	"github.com/openservicemesh/osm-operator/hack/cluster/build"
	"github.com/openservicemesh/osm-operator/hack/cluster/host"
	"github.com/openservicemesh/osm-operator/hack/cluster/image"
	"github.com/openservicemesh/osm-operator/hack/cluster/pki"
	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

const defaultTimeout = 6 * time.Minute

type upOptions struct {
	cidr          netip.Prefix
	ipv6          bool
	rawGates      map[string]string
	featureGates  map[string]bool
	runtimeConfig map[string]string
	timeout       time.Duration
	// chosen tells a flag that was given from its default.
	chosen func(flag string) bool
}

// up brings the cluster from whatever state it is in to ready.
func (a *app) up(ctx context.Context, options upOptions) error {
	if err := checkHost(); err != nil {
		return err
	}
	started := time.Now()
	cluster := a.cluster()
	unlock, err := build.Lock(ctx, cluster.LockFile(), a.out)
	if err != nil {
		return err
	}
	defer unlock()

	s, err := a.settle(cluster, options)
	if err != nil {
		return err
	}
	if a.healthy(ctx, cluster, s) {
		fmt.Fprintf(a.out, "cluster %s runs already\n", a.name)
		return a.sayWhere(cluster)
	}
	parts, images, err := a.buildAll(ctx)
	if err != nil {
		return err
	}
	if err := a.bring(ctx, cluster, s, parts, images, options.timeout); err != nil {
		return fmt.Errorf("%w\nwhat runs is left for you to look at: status says how its programs fare, %s holds their logs",
			err, filepath.Dir(cluster.Tree.Log("node")))
	}
	fmt.Fprintf(a.out, "cluster %s is ready after %s\n", a.name, time.Since(started).Round(time.Second))
	return a.sayWhere(cluster)
}

// settle decides what the cluster is: what it was started with, or, for a new
// one, what the flags say.
func (a *app) settle(cluster *host.Cluster, options upOptions) (spec.Spec, error) {
	existing, err := cluster.Spec()
	if err == nil {
		return existing, a.unchanged(existing, options)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return spec.Spec{}, err
	}
	if !options.cidr.IsValid() {
		if options.cidr, err = host.FreeCIDR(a.dirs); err != nil {
			return spec.Spec{}, err
		}
	}
	s := spec.Spec{
		Name: a.name, CIDR: options.cidr, IPv6: options.ipv6 && host.HasIPv6(),
		FeatureGates: options.featureGates, RuntimeConfig: options.runtimeConfig,
	}
	return s, s.Check()
}

// unchanged refuses flags that contradict a cluster which is there.
func (a *app) unchanged(s spec.Spec, options upOptions) error {
	differs := map[string]bool{
		"cidr":           options.cidr != s.CIDR,
		"ipv6":           options.ipv6 != s.IPv6,
		"feature-gates":  !maps.Equal(options.featureGates, s.FeatureGates),
		"runtime-config": !maps.Equal(options.runtimeConfig, s.RuntimeConfig),
	}
	for flag, other := range differs {
		if options.chosen(flag) && other {
			return fmt.Errorf("cluster %s was started with another --%s: run down --name %s first", a.name, flag, a.name)
		}
	}
	return nil
}

// healthy reports whether there is nothing to do.
func (a *app) healthy(ctx context.Context, cluster *host.Cluster, s spec.Spec) bool {
	pid, err := cluster.PID()
	return err == nil && pid != 0 && firstProblem(ctx, cluster, s) == nil
}

// buildAll makes the programs and the two images of the cluster's own.
func (a *app) buildAll(ctx context.Context) (map[string]string, []image.Built, error) {
	cache, err := a.cache(a.out)
	if err != nil {
		return nil, nil, err
	}
	if err := build.Install(ctx, a.out, build.NodeNeeds()); err != nil {
		return nil, nil, err
	}
	wanted, err := build.Select(nil)
	if err != nil {
		return nil, nil, err
	}
	parts, err := cache.Ensure(ctx, wanted)
	if err != nil {
		return nil, nil, err
	}
	var images []image.Built
	for _, description := range addons.Images(parts, runtime.GOARCH) {
		built, err := image.Ensure(filepath.Join(a.dirs.Cache, "images"), description)
		if err != nil {
			return nil, nil, err
		}
		images = append(images, built)
	}
	return parts, images, nil
}

// bring waits for a node that lives, and starts one where there is none or where
// the one that lives stays silent. It is patient: a node in use must not be lost
// because the machine is busy.
func (a *app) bring(ctx context.Context, cluster *host.Cluster, s spec.Spec, parts map[string]string, images []image.Built, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pid, err := cluster.PID()
	if err != nil {
		return err
	}
	if pid != 0 && host.Plugged(s) {
		fmt.Fprintf(a.out, "the node of cluster %s lives: waiting for it\n", a.name)
		patience, cancel := context.WithTimeout(ctx, timeout/2)
		defer cancel()
		if err := a.awaitAPI(patience, cluster); err == nil {
			return a.finish(ctx, cluster, s, parts, images)
		}
		fmt.Fprintln(a.out, "its API server stays silent: starting it again")
	}
	if err := a.start(ctx, cluster, s, parts); err != nil {
		return err
	}
	return a.finish(ctx, cluster, s, parts, images)
}

func (a *app) awaitAPI(ctx context.Context, cluster *host.Cluster) error {
	client, err := api.Open(cluster.Tree.Kubeconfig())
	if err != nil {
		return err
	}
	return a.await(ctx, "the API server", client.Ready)
}

// start starts a node from what the folder holds, like a machine that is switched
// on again.
func (a *app) start(ctx context.Context, cluster *host.Cluster, s spec.Spec, parts map[string]string) error {
	if err := cluster.Stop(ctx); err != nil {
		return fmt.Errorf("clearing away the last run: %w", err)
	}
	if err := cluster.SaveSpec(s); err != nil {
		return err
	}
	if err := pki.Ensure(s, cluster.Tree, time.Now()); err != nil {
		return fmt.Errorf("making keys and certificates: %w", err)
	}
	fmt.Fprintf(a.out, "starting Kubernetes %s as cluster %s in %s\n", spec.KubernetesVersion, s.Name, s.CIDR)
	return cluster.Start(s, parts)
}

// finish waits for the node and puts into it what every cluster holds.
func (a *app) finish(ctx context.Context, cluster *host.Cluster, s spec.Spec, parts map[string]string, images []image.Built) error {
	loaded := make(chan error, 1)
	go func() { loaded <- loadOwn(ctx, cluster, images) }()

	if err := a.awaitAPI(ctx, cluster); err != nil {
		return err
	}
	client, err := api.Open(cluster.Tree.Kubeconfig())
	if err != nil {
		return err
	}
	if err := applyManifest(ctx, cluster, s, parts); err != nil {
		return err
	}
	err = a.await(ctx, "the node", func(ctx context.Context) error { return nodeReady(ctx, cluster, s, client) })
	if err != nil {
		return err
	}
	if err := <-loaded; err != nil {
		return err
	}
	return a.await(ctx, "CoreDNS", func(ctx context.Context) error { return dnsReady(ctx, s, client) })
}

// await asks until the answer is nil, and gives the last one when time is up.
func (a *app) await(ctx context.Context, what string, ask func(context.Context) error) error {
	started := time.Now()
	for {
		err := ask(ctx)
		if err == nil {
			fmt.Fprintf(a.out, "%s is ready (%s)\n", what, time.Since(started).Round(100*time.Millisecond))
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", what, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func loadOwn(ctx context.Context, cluster *host.Cluster, images []image.Built) error {
	runtime, err := cluster.Runtime()
	if err != nil {
		return err
	}
	_, err = runtime.Ensure(ctx, images)
	return err
}

func applyManifest(ctx context.Context, cluster *host.Cluster, s spec.Spec, parts map[string]string) error {
	manifest, err := addons.Manifest(s)
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, filepath.Join(parts["kube"], "kubectl"),
		"apply", "--server-side", "--force-conflicts", "--field-manager=osm-cluster", "--filename=-")
	command.Env = append(os.Environ(), "KUBECONFIG="+cluster.Tree.Kubeconfig())
	command.Stdin = strings.NewReader(string(manifest))
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("applying what every cluster holds: %w\n%s", err, output)
	}
	return nil
}

func (a *app) sayWhere(cluster *host.Cluster) error {
	fmt.Fprintf(a.out, "export KUBECONFIG=%s\n", cluster.Tree.Kubeconfig())
	return nil
}
