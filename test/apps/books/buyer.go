package books

import (
	"context"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// What a buyer prints once it knows how its rounds go, for scripts that wait for it.
const (
	SuccessLine = "MAESTRO! THIS TEST SUCCEEDED!"
	FailureLine = "MAESTRO, WE HAVE A PROBLEM! THIS TEST FAILED!"
)

// BuyerOptions are the settings of a buyer or a thief.
type BuyerOptions struct {
	// App is the value of the client-app header: bookbuyer or bookthief.
	App string
	// Store is the URL of the bookstore.
	Store string
	// Expected is the status code that every request should have; 0 is no answer at all.
	Expected int
	// Interval is the time between two rounds.
	Interval time.Duration
	// SuccessAfter is how many good rounds in a row are a success.
	SuccessAfter int
	// FailAfter is how many rounds without a success are a failure; 0 never gives up.
	FailAfter int
}

// Buyer calls the store in a loop: it looks at how many books were sold, then buys one.
// A thief is a buyer that should be refused.
type Buyer struct {
	options BuyerOptions
	tally   *Tally
	log     *slog.Logger
	out     io.Writer
	client  *http.Client
}

// NewBuyer returns a buyer that prints its success or failure to out.
func NewBuyer(options BuyerOptions, tally *Tally, log *slog.Logger, out io.Writer) *Buyer {
	return &Buyer{options: options, tally: tally, log: log, out: out, client: &http.Client{Timeout: callTimeout}}
}

// Handler serves the page with the counters.
func (b *Buyer) Handler() http.Handler {
	mux := http.NewServeMux()
	handleProbes(mux)
	mux.HandleFunc("GET /{$}", b.page)
	mux.HandleFunc("GET /raw", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, b.tally.Counters()) })
	mux.HandleFunc("GET /reset", func(w http.ResponseWriter, _ *http.Request) {
		b.tally.Reset()
		fmt.Fprintln(w, "Booksbought: 0")
	})
	return b.tally.counted(mux)
}

// page is for a person with a browser.
func (b *Buyer) page(w http.ResponseWriter, _ *http.Request) {
	c := b.tally.Counters()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, `<!doctype html><meta http-equiv="refresh" content="5"><title>%[1]s</title><h1>%[1]s</h1><p>Total books bought: <strong>%[2]d</strong></p>`,
		html.EscapeString(b.options.App), c.Books["bought"])
	for _, version := range []string{"bookstore-v1", "bookstore-v2"} {
		fmt.Fprintf(w, `<p>from %s: <strong>%d</strong></p>`, version, c.Books["bought from "+version])
	}
}

// Run calls the store until ctx is done.
func (b *Buyer) Run(ctx context.Context) {
	var verdict verdict
	ticker := time.NewTicker(b.options.Interval)
	defer ticker.Stop()
	for {
		good := b.round(ctx)
		if ctx.Err() != nil {
			return
		}
		if line := verdict.after(good, b.options); line != "" {
			fmt.Fprintln(b.out, line)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// verdict is what a buyer thinks of its rounds so far.
type verdict struct {
	rounds, goodInARow int
	told               bool
}

// after takes in how a round went and returns the line to print, if any.
func (v *verdict) after(good bool, options BuyerOptions) string {
	v.rounds++
	if good {
		v.goodInARow++
	} else {
		v.goodInARow = 0
	}
	switch {
	case v.told:
		return ""
	case good && v.goodInARow >= options.SuccessAfter:
		v.told = true
		return SuccessLine
	case options.FailAfter > 0 && v.rounds >= options.FailAfter:
		v.told = true
		return FailureLine
	}
	return ""
}

// round makes one request to each path and says whether all went as expected.
func (b *Buyer) round(ctx context.Context) bool {
	looked := b.get(ctx, "/books-bought") == b.options.Expected
	bought := b.get(ctx, "/buy-a-book/new") == b.options.Expected
	return looked && bought
}

// get makes one request and returns its status code, 0 where there was no answer.
func (b *Buyer) get(ctx context.Context, path string) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.options.Store+path, http.NoBody)
	if err != nil {
		b.failed(err)
		return 0
	}
	req.Header.Set("Client-App", b.options.App)
	resp, err := b.client.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			b.failed(err)
		}
		return 0
	}
	drain(resp)
	b.answered(path, resp)
	return resp.StatusCode
}

// answered counts an answer.
func (b *Buyer) answered(path string, resp *http.Response) {
	identity := resp.Header.Get(IdentityHeader)
	b.log.Info("Answer", "path", path, "status", resp.StatusCode, "identity", identity, "booksBought", resp.Header.Get(BooksBoughtHeader))
	b.tally.update(func(c *Counters) {
		c.Calls[strconv.Itoa(resp.StatusCode)]++
		if resp.StatusCode != http.StatusOK {
			return
		}
		c.Identities[identity]++
		if path == "/buy-a-book/new" {
			c.Books["bought"]++
			c.Books["bought from "+identity]++
		}
	})
}

// failed counts a request without an answer.
func (b *Buyer) failed(err error) {
	b.log.Warn("No answer", "error", err.Error())
	b.tally.update(func(c *Counters) {
		c.Calls["error"]++
		c.LastError = err.Error()
	})
}

// drain reads an answer to its end, so that its connection can be used again.
func drain(resp *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	resp.Body.Close()
}
