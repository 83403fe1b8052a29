package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/openservicemesh/osm-operator/test/apps/load"
	"github.com/openservicemesh/osm-operator/test/apps/process"
)

// headerFlag collects headers of the form name=value.
type headerFlag struct{ headers http.Header }

// String is what the help shows as the default.
func (headerFlag) String() string { return "" }

// Set adds one header.
func (f headerFlag) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return fmt.Errorf("%q is not of the form name=value", text)
	}
	f.headers.Add(name, value)
	return nil
}

// runClient calls a server and prints what came back, as JSON. Until it ends, its admin
// port tells the same.
func runClient(ctx context.Context, a *app, args []string) error {
	o := load.Options{Headers: http.Header{}}
	var listen bool
	f := a.flags
	f.StringVar(&o.Protocol, "protocol", "http", "http, h2c, grpc, ws or tcp")
	f.StringVar(&o.Target, "target", "", "`URL` for http, h2c and ws, host:port for grpc and tcp")
	f.Float64Var(&o.Rate, "rate", 10, "requests each `second`, by all workers together; 0 for as many as they can")
	f.IntVar(&o.Concurrency, "concurrency", 1, "`number` of workers, each with connections of its own")
	f.DurationVar(&o.Duration, "duration", 0, "how `long` to go on; 0 until the process is told to terminate")
	f.DurationVar(&o.Timeout, "timeout", 10*time.Second, "how `long` one request may take")
	f.BoolVar(&o.KeepAlive, "keep-alive", true, "use connections again")
	f.StringVar(&o.Method, "method", http.MethodGet, "`method` of HTTP requests")
	f.StringVar(&o.Body, "body", "", "`text` of the request or message")
	f.Var(headerFlag{o.Headers}, "header", "`name=value` of a header, or of gRPC metadata; can be repeated")
	f.BoolVar(&o.Stream, "stream", false, "with grpc: hold one stream for each worker, and count messages")
	f.BoolVar(&o.Greeting, "greeting", false, "with tcp: wait for the server to speak first")
	f.BoolVar(&o.KeepLast, "last", false, "report the last answer in full")
	f.BoolVar(&o.Insecure, "insecure", false, "with https: do not verify the server")
	credentials := f.String("credentials", "", "with https: `file` with the key and the certificate to show")
	f.BoolVar(&listen, "serve", true, "serve the counters on the admin port while it runs")
	f.StringVar(&a.admin, "admin", ":14002", "`address` of the counters")
	if err := a.parse(args); err != nil {
		return err
	}
	var err error
	if o.Certificate, err = readCredentials(*credentials); err != nil {
		return err
	}
	l, err := load.New(o)
	if err != nil {
		return err
	}
	report, err := a.runLoad(ctx, l, listen)
	if err != nil {
		return err
	}
	return json.NewEncoder(a.out).Encode(report)
}

// runLoad runs the load, with its admin port where it is wanted.
func (a *app) runLoad(ctx context.Context, l *load.Load, listen bool) (load.Report, error) {
	if !listen {
		return l.Run(ctx)
	}
	serving, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- process.Run(serving, process.HTTP(a.admin, l.Handler()))
		l.Stop() // whoever reads the counters would otherwise wait for ever
	}()
	report, err := l.Run(ctx)
	cancel()
	if served := <-ended; err == nil {
		err = served
	}
	return report, err
}

// runCounters prints the counters of an application in the same pod: an image without a
// shell can be asked with kubectl exec.
func runCounters(ctx context.Context, a *app, args []string) error {
	admin := a.flags.String("admin", "127.0.0.1:14002", "`address` of the counters")
	reset := a.flags.Bool("reset", false, "count anew from now on")
	if err := a.parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	method, path := http.MethodGet, "/counters"
	if *reset {
		method, path = http.MethodPost, "/reset"
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+*admin+path, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := new(http.Client).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	_, err = io.Copy(a.out, resp.Body)
	return err
}
