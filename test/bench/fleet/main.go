// Command fleet measures what a mesh costs its control plane: a real kube-apiserver holds
// Services, EndpointSlices, pods and policies; "osm control-plane" runs in a process of
// its own, whose CPU and memory are read from /proc; and a fleet of delta clients with
// certificates of their own, in this process, asks for what sidecars ask for and
// acknowledges it. The same fleet then measures go-control-plane's caches with the same
// resources. It prints one table.
//
// It needs Linux and KUBEBUILDER_ASSETS, a folder with kube-apiserver and etcd.
//
//	go run ./test/bench/fleet
//	go run ./test/bench/fleet -large -plot docs/performance.svg
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/openservicemesh/osm-operator/test/bench/machine"
)

// options are the flags.
type options struct {
	osm, plot, json, profiles string
	large                     bool
	sizes                     string
	services, proxies         int
	times                     int
	only                      string

	baseline, resources, serving, trust string
}

func main() {
	var o options
	flag.StringVar(&o.osm, "osm", "", "path of the binary osm; it is built if empty")
	flag.StringVar(&o.plot, "plot", "", "file for the plot of a growing mesh, an SVG image")
	flag.StringVar(&o.json, "json", "", "file for the figures")
	flag.StringVar(&o.profiles, "profiles", "", "folder for CPU and heap profiles of the control plane")
	flag.BoolVar(&o.large, "large", false, "a mesh of 10,000 proxies and 1,000 services, policies enforced")
	flag.StringVar(&o.sizes, "sizes", "10,30,100", "numbers of services of the growing mesh, ten pods each, all connected")
	flag.IntVar(&o.services, "services", 300, "services of the mesh in which everybody may call everybody, ten pods each")
	flag.IntVar(&o.proxies, "proxies", 500, "proxies of that mesh")
	flag.IntVar(&o.times, "times", 30, "how often one endpoint changes; other events happen a fifth as often")
	flag.StringVar(&o.only, "only", "", "only this part: permissive or enforced")
	flag.StringVar(&o.baseline, "baseline", "", "for this program itself: serve as one of the caches that are compared with")
	flag.StringVar(&o.resources, "resources", "", "for this program itself")
	flag.StringVar(&o.serving, "serving", "", "for this program itself")
	flag.StringVar(&o.trust, "trust", "", "for this program itself")
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.baseline != "" {
		return serveBaseline(ctx, o.baseline, o.resources, o.serving, o.trust)
	}
	dir, err := os.MkdirTemp("", "fleet-")
	if err != nil {
		return err
	}
	b := &bench{options: o, dir: dir}
	if o.osm == "" {
		b.osm = filepath.Join(dir, "osm")
		if err := build(ctx, b.osm); err != nil {
			return err
		}
	}
	on := fmt.Sprintf("%s, GOMAXPROCS %d, %s, mutual TLS 1.3, a certificate for each proxy", machine.Description(), runtime.GOMAXPROCS(0), runtime.Version())
	if err := b.run(ctx); err != nil {
		return fmt.Errorf("%w (the control plane's log is in %s)", err, dir)
	}
	fmt.Printf("%s\n\n", on)
	table(os.Stdout, b.rows)
	if err := b.keep(on); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// build builds the binary osm.
func build(ctx context.Context, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "github.com/openservicemesh/osm-operator")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building osm: %w", err)
	}
	return nil
}

// keep writes the figures and the plot.
func (b *bench) keep(on string) error {
	if b.json != "" {
		raw, err := json.MarshalIndent(map[string]any{"on": on, "rows": b.rows, "points": b.points}, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(b.json, raw, 0o600); err != nil {
			return err
		}
	}
	if b.options.plot == "" {
		return nil
	}
	return os.WriteFile(b.options.plot, []byte(plot(b.points)), 0o644)
}

func (b *bench) run(ctx context.Context) error {
	if b.large {
		return b.enforced(ctx, []int{100, 1000}, 20)
	}
	if b.only != "enforced" {
		if err := b.permissive(ctx); err != nil {
			return err
		}
	}
	if b.only == "permissive" {
		return nil
	}
	var sizes []int
	for one := range strings.SplitSeq(b.sizes, ",") {
		n, err := strconv.Atoi(one)
		if err != nil || n%perGroup != 0 {
			return fmt.Errorf("%q is no multiple of %d", one, perGroup)
		}
		sizes = append(sizes, n)
	}
	return b.enforced(ctx, sizes, b.times)
}
