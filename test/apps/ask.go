package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/openservicemesh/osm-operator/test/apps/load"
)

// runAsk makes a few requests, one after the other, and prints one line for people: what
// the answers were and who gave them.
func runAsk(ctx context.Context, a *app, args []string) error {
	o := load.Options{Headers: http.Header{}, Concurrency: 1, KeepAlive: true, Requests: 20}
	a.flags.StringVar(&o.Protocol, "protocol", "http", "http, h2c, grpc, ws or tcp")
	a.flags.IntVar(&o.Requests, "n", o.Requests, "`number` of requests")
	a.flags.DurationVar(&o.Timeout, "timeout", 5*time.Second, "how `long` one request may take")
	a.flags.Var(headerFlag{o.Headers}, "header", "`name=value` of a header; can be repeated")
	if err := a.flags.Parse(args); err != nil {
		return err
	}
	if a.flags.NArg() != 1 || o.Requests < 1 {
		return fmt.Errorf("usage: ask [flags] URL, with a positive number of requests")
	}
	o.Target = a.flags.Arg(0)
	l, err := load.New(o)
	if err != nil {
		return err
	}
	report, err := l.Run(ctx)
	if err != nil {
		return err
	}
	return tell(a.out, report)
}

// tell writes a report as one line: "200 x 20, by v1 x 12, v2 x 8", or "403 x 20". How a
// connection ended that gave no answer is a matter of chance where a proxy closes it, so
// that it is not told.
func tell(out io.Writer, r load.Report) error {
	said := load.Words(r.Status)
	if unanswered := load.Total(r.Errors); unanswered > 0 {
		said = append(said, fmt.Sprintf("no answer x %d", unanswered))
	}
	by := ""
	if given := load.Words(r.Identities); len(given) > 0 {
		by = ", by " + strings.Join(given, ", ")
	}
	_, err := fmt.Fprintf(out, "%s%s\n", strings.Join(said, ", "), by)
	return err
}
