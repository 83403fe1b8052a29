// Command bookstore-demo is every application that the demo and the end-to-end tests
// run: the bookstore, echo servers and a client that counts. Its first argument says
// which; bookstore-demo APP -h lists the settings of one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/openservicemesh/osm-operator/test/apps/process"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// app is one application as it starts.
type app struct {
	name   string
	flags  *flag.FlagSet
	getenv func(string) string
	out    io.Writer
	log    *slog.Logger

	// What every application has a flag for.
	addr, admin, identity string
	exitAtOnce            bool
}

// apps maps the names of the applications to what they do; each adds its flags, parses
// the arguments and runs until the context is done.
func apps() map[string]func(ctx context.Context, a *app, args []string) error {
	return map[string]func(context.Context, *app, []string) error{
		"bookbuyer":     runBuyer(200),
		"bookthief":     runBuyer(403),
		"bookstore":     runStore,
		"bookwarehouse": runWarehouse,
		"mysql":         runDatabase,
		"http-echo":     runHTTPEcho,
		"grpc-echo":     runGRPCEcho,
		"ws-echo":       runWebSocketEcho,
		"tcp-echo":      runTCPEcho,
		"authorizer":    runAuthorizer,
		"client":        runClient,
		"ask":           runAsk,
		"counters":      runCounters,
		"attack":        runAttack,
	}
}

// run starts the application that args name.
func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	known := strings.Join(slices.Sorted(maps.Keys(apps())), ", ")
	if len(args) == 0 {
		return fmt.Errorf("which application? One of %s", known)
	}
	start, ok := apps()[args[0]]
	if !ok {
		return fmt.Errorf("unknown application %q: use one of %s", args[0], known)
	}
	a := &app{
		name: args[0], getenv: getenv, out: out,
		flags: flag.NewFlagSet(args[0], flag.ContinueOnError),
		log:   slog.New(slog.NewTextHandler(out, nil)),
	}
	a.flags.SetOutput(out)
	return start(ctx, a, args[1:])
}

// env is the value of an environment variable, or else the fallback.
func (a *app) env(name, fallback string) string {
	if v := a.getenv(name); v != "" {
		return v
	}
	return fallback
}

// serverFlags adds the flags that every server has, with its usual port.
func (a *app) serverFlags(addr string) {
	a.flags.StringVar(&a.addr, "addr", addr, "`address` to listen on")
	a.flags.StringVar(&a.admin, "admin", ":14002", "`address` of the counters; empty for none")
	a.flags.StringVar(&a.identity, "identity", a.env("IDENTITY", a.env("HOSTNAME", a.name)), "`name` that this instance answers with (IDENTITY)")
	a.flags.BoolVar(&a.exitAtOnce, "exit-at-once", false, "exit the moment the process is told to terminate, open requests or not")
}

// parse parses the arguments and takes no others.
func (a *app) parse(args []string) error {
	if err := a.flags.Parse(args); err != nil {
		return err
	}
	if a.flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", a.flags.Arg(0))
	}
	if a.exitAtOnce {
		process.ExitAtOnce()
	}
	return nil
}

// serve runs the listeners and the loops beside them until the context is done.
func (a *app) serve(ctx context.Context, listeners []process.Listener, loops ...func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{}, len(loops))
	for _, loop := range loops {
		go func() {
			loop(ctx)
			done <- struct{}{}
		}()
	}
	a.log.Info("Serving", "app", a.name, "identity", a.identity, "addr", a.addr, "admin", a.admin)
	err := process.Run(ctx, listeners...)
	cancel()
	for range loops {
		<-done
	}
	a.log.Info("Stopped", "app", a.name)
	return err
}
