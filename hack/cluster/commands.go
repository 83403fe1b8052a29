package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/openservicemesh/osm-operator/hack/cluster/build"
	"github.com/openservicemesh/osm-operator/hack/cluster/host"
	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

// app is what every command needs.
type app struct {
	name   string
	source string
	out    io.Writer
	dirs   spec.Dirs
}

func newCommand() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:           "cluster",
		Short:         "Runs a real Kubernetes node on a bare Linux machine",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(command *cobra.Command, _ []string) (err error) {
			a.out = command.OutOrStdout()
			a.dirs, err = spec.HostDirs(os.Getenv)
			return err
		},
	}
	root.PersistentFlags().StringVar(&a.name, "name", spec.DefaultName, "the cluster's name")
	root.PersistentFlags().StringVar(&a.source, "source", "", "the folder with parts/ (found from the working folder)")
	root.AddCommand(
		newUp(a), newDown(a), newStatus(a), newLoad(a), newExec(a), newKubeconfig(a),
		newBuild(a), newBinPath(a), newDeleteCache(a), newVerifyClean(a),
	)
	return root
}

func newUp(a *app) *cobra.Command {
	options := upOptions{}
	var cidr string
	command := &cobra.Command{
		Use:   "up",
		Short: "Starts the cluster, or repairs it, and waits until it is ready",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) (err error) {
			if cidr != "" {
				if options.cidr, err = netip.ParsePrefix(cidr); err != nil {
					return fmt.Errorf("--cidr %s: %w", cidr, err)
				}
			}
			if options.featureGates, err = parseGates(options.rawGates); err != nil {
				return err
			}
			options.chosen = command.Flags().Changed
			return a.up(command.Context(), options)
		},
	}
	flags := command.Flags()
	flags.StringVar(&cidr, "cidr", "", "the cluster's IPv4 network (the first free one from 10.213.0.0/16 on)")
	flags.BoolVar(&options.ipv6, "ipv6", true, "give node, pods and services IPv6 addresses too")
	flags.StringToStringVar(&options.rawGates, "feature-gates", nil, "Kubernetes feature gates, as Name=true|false")
	flags.StringToStringVar(&options.runtimeConfig, "runtime-config", nil, "API groups and versions, as group/version=true|false")
	flags.DurationVar(&options.timeout, "timeout", defaultTimeout, "how long to wait until the cluster is ready, once all is built")
	return command
}

func parseGates(raw map[string]string) (map[string]bool, error) {
	gates := map[string]bool{}
	for name, value := range raw {
		on, err := strconv.ParseBool(value)
		if err != nil {
			return nil, fmt.Errorf("--feature-gates %s=%s: the value is true or false", name, value)
		}
		gates[name] = on
	}
	return gates, nil
}

func newKubeconfig(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "kubeconfig",
		Short: "Prints the path of the cluster's kubeconfig",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path := a.cluster().Tree.Kubeconfig()
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("cluster %s does not run: start it with up --name %s", a.name, a.name)
			}
			fmt.Fprintln(a.out, path)
			return nil
		},
	}
}

func newBuild(a *app) *cobra.Command {
	var only []string
	command := &cobra.Command{
		Use:   "build",
		Short: "Builds the cluster's programs without starting anything",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			parts, err := build.Select(only)
			if err != nil {
				return err
			}
			cache, err := a.cache(a.out)
			if err != nil {
				return err
			}
			dirs, err := cache.Ensure(command.Context(), parts)
			if err != nil {
				return err
			}
			for _, part := range parts {
				fmt.Fprintln(a.out, dirs[part.Name])
			}
			return nil
		},
	}
	command.Flags().StringSliceVar(&only, "only", nil, "the parts to build (all of a cluster)")
	return command
}

func newBinPath(a *app) *cobra.Command {
	var part string
	command := &cobra.Command{
		Use:   "bin-path",
		Short: "Prints the folder of kubectl, kube-apiserver and etcd, or of another part, building it if need be",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			parts, err := build.Select([]string{part})
			if err != nil {
				return err
			}
			// Only the folder goes to standard output, which a script reads.
			cache, err := a.cache(command.ErrOrStderr())
			if err != nil {
				return err
			}
			dirs, err := cache.Ensure(command.Context(), parts)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, dirs[part])
			return nil
		},
	}
	command.Flags().StringVar(&part, "part", "kube", "the part")
	return command
}

func newDeleteCache(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "delete-cache",
		Short: "Removes the built programs and images",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			names, err := host.Names(a.dirs)
			if err != nil {
				return err
			}
			if len(names) > 0 {
				return fmt.Errorf("clusters still use the cache: run down --name %s first", names[0])
			}
			return os.RemoveAll(a.dirs.Cache)
		},
	}
}

func (a *app) cluster() *host.Cluster { return host.Open(a.dirs, a.name) }

func (a *app) cache(progress io.Writer) (*build.Cache, error) {
	source, err := findSource(a.source)
	if err != nil {
		return nil, err
	}
	return &build.Cache{Root: a.dirs.Cache, Source: source, Out: progress}, nil
}

// findSource looks for the folder with parts/ from the working folder upwards,
// where it may be hack/cluster of a folder too.
func findSource(chosen string) (string, error) {
	if chosen != "" {
		return filepath.Abs(chosen)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		for _, candidate := range []string{dir, filepath.Join(dir, "hack", "cluster")} {
			if _, err := os.Stat(filepath.Join(candidate, "parts", "kube", "go.mod")); err == nil {
				return candidate, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run this inside the repository, or name hack/cluster by --source")
		}
		dir = filepath.Dir(dir)
	}
}

// checkHost says what this program cannot do without.
func checkHost() error {
	if runtime.GOOS != "linux" {
		return errors.New("a local cluster needs Linux: set KUBECONFIG to use another cluster instead")
	}
	if os.Geteuid() != 0 {
		return errors.New("a local cluster needs root, for namespaces and mounts: run this as root, or set KUBECONFIG to use another cluster instead")
	}
	return nil
}
