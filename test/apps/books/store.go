package books

import (
	"context"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// callTimeout is how long an application waits for another.
const callTimeout = 5 * time.Second

// Store is the bookstore: it sells books, and has the warehouse restock each of them.
type Store struct {
	tally     *Tally
	log       *slog.Logger
	warehouse string
	client    *http.Client
	sold      chan struct{} // one for each book that is to be restocked
}

// NewStore returns a store whose warehouse is at this URL.
func NewStore(tally *Tally, log *slog.Logger, warehouse string) *Store {
	return &Store{
		tally: tally, log: log, warehouse: warehouse,
		client: &http.Client{Timeout: callTimeout},
		sold:   make(chan struct{}, 1024),
	}
}

// Handler serves the store.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	handleProbes(mux)
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /books-bought", s.booksBought)
	mux.HandleFunc("POST /books-bought", s.setBooksBought)
	mux.HandleFunc("GET /buy-a-book/new", s.sell)
	mux.HandleFunc("GET /raw", s.booksBought)
	mux.HandleFunc("GET /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.tally.Reset()
		fmt.Fprintln(w, "Booksold: 0")
	})
	return s.tally.counted(mux)
}

// count is how many books were sold, told in the header too.
func (s *Store) count(w http.ResponseWriter) int64 {
	n := s.tally.Counters().Books["sold"]
	w.Header().Set(BooksBoughtHeader, strconv.FormatInt(n, 10))
	return n
}

// page is for a person with a browser.
func (s *Store) page(w http.ResponseWriter, _ *http.Request) {
	n := s.count(w)
	identity := s.tally.Counters().Identity
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, `<!doctype html><meta http-equiv="refresh" content="5"><title>%[1]s</title><h1>%[1]s</h1><p>Total books sold: <strong>%[2]d</strong></p>`,
		html.EscapeString(identity), n)
}

// booksBought tells how many books were sold.
func (s *Store) booksBought(w http.ResponseWriter, _ *http.Request) {
	n := s.count(w)
	writeJSON(w, map[string]any{"identity": s.tally.Counters().Identity, "booksSold": n})
}

// setBooksBought corrects the number of books that were sold.
func (s *Store) setBooksBought(w http.ResponseWriter, r *http.Request) {
	n, err := readCount(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.tally.addBooks("sold", n-s.tally.Counters().Books["sold"])
	s.booksBought(w, r)
}

// sell sells one book.
func (s *Store) sell(w http.ResponseWriter, _ *http.Request) {
	n := s.tally.addBooks("sold", 1)
	w.Header().Set(BooksBoughtHeader, strconv.FormatInt(n, 10))
	select {
	case s.sold <- struct{}{}:
	default: // the warehouse is far behind: the next restocking will have to do
	}
	writeJSON(w, map[string]any{"identity": s.tally.Counters().Identity, "booksSold": n})
}

// Run has the warehouse restock what was sold, until ctx is done.
func (s *Store) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.sold:
		}
		if err := s.restock(ctx, 1); err != nil && ctx.Err() == nil {
			s.log.Warn("Restocking failed", "error", err.Error())
			s.tally.update(func(c *Counters) {
				c.Calls["error"]++
				c.LastError = err.Error()
			})
		}
	}
}

// restock orders n books from the warehouse. The error says that there was no answer;
// an answer of any kind is counted.
func (s *Store) restock(ctx context.Context, n int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.warehouse, strings.NewReader(strconv.Itoa(n)))
	if err != nil {
		return err
	}
	req.Header.Set("Client-App", s.tally.Counters().Identity)
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	drain(resp)
	s.tally.update(func(c *Counters) { c.Calls[strconv.Itoa(resp.StatusCode)]++ })
	return nil
}
