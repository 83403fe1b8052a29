// Command images builds this project's container images without Docker. Source
// and the official Envoy binary come in; archives go out, the same bytes for the
// same input, and into a local cluster if asked. What has not changed is neither
// written nor loaded again.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/openservicemesh/osm-operator/hack/cluster/host"
	"github.com/openservicemesh/osm-operator/hack/cluster/image"
	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// app is what every command needs.
type app struct {
	root    string
	version string
	out     string
	load    string
	only    []string
	dirs    spec.Dirs
	release release
}

func newCommand() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:           "images",
		Short:         "Builds the container images without Docker",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return a.complete()
		},
		RunE: func(command *cobra.Command, _ []string) error {
			return a.run(command.Context(), command.OutOrStdout())
		},
	}
	root.PersistentFlags().StringVar(&a.root, "root", "", "the repository (found from the working folder)")
	flags := root.Flags()
	flags.StringVar(&a.version, "version", "", "the tag of this project's images (the version in the source)")
	flags.StringVar(&a.out, "out", "", "the folder for the archives (dist/images of the repository)")
	flags.StringVar(&a.load, "load", "", "the local cluster to load the images into")
	flags.StringSliceVar(&a.only, "only", nil, "the images to build, of osm, envoy and bookstore-demo (all)")
	root.AddCommand(&cobra.Command{
		Use:   "envoy-path",
		Short: "Prints the path of the official Envoy binary, downloading it if need be",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			path, err := ensureEnvoy(command.Context(), command.ErrOrStderr(), a.dirs.Cache, a.release.envoy)
			if err != nil {
				return err
			}
			fmt.Fprintln(command.OutOrStdout(), path)
			return nil
		},
	})
	return root
}

// complete fills in what was not given.
func (a *app) complete() (err error) {
	if a.dirs, err = spec.HostDirs(os.Getenv); err != nil {
		return err
	}
	if a.root == "" {
		if a.root, err = findRoot(); err != nil {
			return err
		}
	}
	if a.release, err = readRelease(a.root); err != nil {
		return err
	}
	if a.version == "" {
		a.version = a.release.version
	}
	if a.out == "" {
		a.out = filepath.Join(a.root, "dist", "images")
	}
	return nil
}

// findRoot goes up from the working folder to the repository.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, releaseFile)); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run this inside the repository, or name it by --root")
		}
		dir = filepath.Dir(dir)
	}
}

// run builds the wanted images, and loads them if a cluster is named.
func (a *app) run(ctx context.Context, out io.Writer) error {
	var built []image.Built
	for _, recipe := range recipes() {
		if len(a.only) > 0 && !slices.Contains(a.only, recipe.name) {
			continue
		}
		description, err := recipe.describe(ctx, a, out)
		if errors.Is(err, errNothingToBuild) {
			fmt.Fprintf(out, "%s: skipped, %v\n", recipe.name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", recipe.name, err)
		}
		description.Architecture = runtime.GOARCH
		made, err := image.Ensure(a.out, description)
		if err != nil {
			return fmt.Errorf("image %s: %w", recipe.name, err)
		}
		built = append(built, made)
		fmt.Fprintf(out, "%s: %s %s\n", recipe.name, made.Name, word(made.Fresh, "built", "unchanged"))
	}
	if a.load == "" {
		return nil
	}
	return a.loadInto(ctx, out, built)
}

func (a *app) loadInto(ctx context.Context, out io.Writer, built []image.Built) error {
	node, err := host.Open(a.dirs, a.load).Runtime()
	if err != nil {
		return err
	}
	imported, err := node.Ensure(ctx, built)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "cluster %s: %d images loaded, %d were there\n", a.load, len(imported), len(built)-len(imported))
	return nil
}

func word(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}
