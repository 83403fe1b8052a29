package books

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// quiet is a logger for tests.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// get makes a request and returns the headers and the body of the answer.
func get(t *testing.T, url string, header http.Header) (headers http.Header, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := new(http.Client).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header, string(body)
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("never happened: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// output collects what an application prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// startDatabase serves a database on a free port.
func startDatabase(t *testing.T, tally *Tally) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	db := NewDatabase(tally)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				db.Handle(conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func TestTheWholeBookstore(t *testing.T) {
	t.Parallel()
	dbTally := NewTally("mysql", "mysql-0")
	var warehouseOut, buyerOut output

	warehouseTally := NewTally("bookwarehouse", "bookwarehouse")
	warehouse := NewWarehouse(warehouseTally, quiet(), &warehouseOut, startDatabase(t, dbTally))
	t.Cleanup(warehouse.Close)
	warehouseServer := httptest.NewServer(warehouse.Handler())
	t.Cleanup(warehouseServer.Close)

	storeTally := NewTally("bookstore", "bookstore-v1")
	store := NewStore(storeTally, quiet(), warehouseServer.URL)
	storeServer := httptest.NewServer(store.Handler())
	t.Cleanup(storeServer.Close)

	buyerTally := NewTally("bookbuyer", "bookbuyer")
	buyer := NewBuyer(BuyerOptions{
		App: "bookbuyer", Store: storeServer.URL, Expected: http.StatusOK, Interval: time.Millisecond, SuccessAfter: 2,
	}, buyerTally, quiet(), &buyerOut)

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { store.Run(ctx) })
	wg.Go(func() { buyer.Run(ctx) })
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)

	eventually(t, "the buyer is content", func() bool { return strings.Contains(buyerOut.String(), SuccessLine) })
	eventually(t, "the warehouse is content", func() bool { return strings.Contains(warehouseOut.String(), SuccessLine) })
	eventually(t, "books are stored", func() bool { return warehouseTally.Counters().Books["stored"] >= restockedForSuccess })

	c := buyerTally.Counters()
	if c.Identities["bookstore-v1"] == 0 || c.Books["bought from bookstore-v1"] == 0 || c.Calls["200"] == 0 || c.Calls["error"] != 0 {
		t.Errorf("the buyer has counted %+v", c)
	}
	if c := dbTally.Counters(); c.Served["CONNECT"] != 1 || c.Served["INSERT"] < restockedForSuccess {
		t.Errorf("the database has counted %+v, want one connection for all inserts", c)
	}
	if got := strings.Count(buyerOut.String(), SuccessLine); got != 1 {
		t.Errorf("the success was told %d times", got)
	}
}

func TestStoreTellsWhoItIsAndWhatItSold(t *testing.T) {
	t.Parallel()
	tally := NewTally("bookstore", "bookstore-v2")
	server := httptest.NewServer(NewStore(tally, quiet(), "http://127.0.0.1:1").Handler())
	t.Cleanup(server.Close)

	caller := http.Header{"X-Forwarded-Client-Cert": {"By=spiffe://cluster.local/ns/bookstore/sa/bookstore;Hash=ab;URI=spiffe://cluster.local/ns/bookbuyer/sa/bookbuyer"}}
	get(t, server.URL+"/buy-a-book/new", caller)
	headers, body := get(t, server.URL+"/buy-a-book/new", nil)
	if headers.Get(IdentityHeader) != "bookstore-v2" || headers.Get(BooksBoughtHeader) != "2" {
		t.Errorf("headers are %v", headers)
	}
	var sold struct {
		Identity  string
		BooksSold int64
	}
	if err := json.Unmarshal([]byte(body), &sold); err != nil || sold.BooksSold != 2 {
		t.Errorf("the answer is %q, %v", body, err)
	}
	get(t, server.URL+"/liveness", nil)
	get(t, server.URL+"/nowhere", nil)

	c := tally.Counters()
	want := map[string]int64{"GET /buy-a-book/new 200": 2, "GET /nowhere 404": 1}
	if diff := cmp.Diff(want, c.Served); diff != "" {
		t.Errorf("served (-want +got):\n%s", diff)
	}
	wantCallers := map[string]int64{"spiffe://cluster.local/ns/bookbuyer/sa/bookbuyer": 1, "none": 2}
	if diff := cmp.Diff(wantCallers, c.Callers); diff != "" {
		t.Errorf("callers (-want +got):\n%s", diff)
	}
	get(t, server.URL+"/reset", nil)
	if headers, _ := get(t, server.URL+"/books-bought", nil); headers.Get(BooksBoughtHeader) != "0" {
		t.Errorf("after the reset the store has sold %s books", headers.Get(BooksBoughtHeader))
	}
}

func TestThiefIsContentWhenItIsRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status   int
		expected int
		failures int
		want     string
	}{
		"refused as expected":                         {http.StatusForbidden, http.StatusForbidden, 5, SuccessLine},
		"served, where it should have been refused":   {http.StatusOK, http.StatusForbidden, 3, FailureLine},
		"refused by accident, not by policy":          {http.StatusServiceUnavailable, http.StatusForbidden, 3, FailureLine},
		"not found where no route leads to the store": {http.StatusNotFound, http.StatusNotFound, 5, SuccessLine},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Client-App") != "bookthief" {
					t.Errorf("the client-app header is %q", r.Header.Get("Client-App"))
				}
				w.WriteHeader(tt.status)
			}))
			t.Cleanup(server.Close)
			var out output
			thief := NewBuyer(BuyerOptions{
				App: "bookthief", Store: server.URL, Expected: tt.expected, Interval: time.Millisecond, SuccessAfter: 1, FailAfter: tt.failures,
			}, NewTally("bookthief", "bookthief"), quiet(), &out)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { thief.Run(ctx) })
			t.Cleanup(wg.Wait)
			t.Cleanup(cancel)
			eventually(t, tt.want, func() bool { return out.String() == tt.want+"\n" })
		})
	}
}

func TestNoAnswerIsCountedAsAnError(t *testing.T) {
	t.Parallel()
	tally := NewTally("bookthief", "bookthief")
	thief := NewBuyer(BuyerOptions{App: "bookthief", Store: "http://127.0.0.1:1"}, tally, quiet(), io.Discard)
	if !thief.round(t.Context()) {
		t.Error("expected status 0 is no answer, and there was none")
	}
	c := tally.Counters()
	if c.Calls["error"] != 2 || c.LastError == "" {
		t.Errorf("counted %+v", c)
	}
}

func TestWarehouseRefusesWhatIsNoNumber(t *testing.T) {
	t.Parallel()
	warehouse := NewWarehouse(NewTally("bookwarehouse", "w"), quiet(), io.Discard, "127.0.0.1:1")
	for body, want := range map[string]int{"three": http.StatusBadRequest, "-1": http.StatusBadRequest, "": http.StatusBadRequest, "2\n": http.StatusOK} {
		rec := httptest.NewRecorder()
		warehouse.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		if rec.Code != want {
			t.Errorf("body %q: status %d, want %d", body, rec.Code, want)
		}
	}
}

func TestWarehouseConnectsAgainWhenTheDatabaseWasAway(t *testing.T) {
	t.Parallel()
	address := startDatabase(t, NewTally("mysql", "mysql-0"))
	db := &database{address: address}
	t.Cleanup(db.close)
	for want := range int64(2) {
		n, err := db.ask(t.Context(), "INSERT books 1")
		if err != nil || n != want+1 {
			t.Fatalf("insert %d: %d, %v", want, n, err)
		}
		db.conn.Close() // as when the server's pod goes away
	}
	if db.greeting() != Greeting+"mysql-0" {
		t.Errorf("the greeting is %q", db.greeting())
	}
}

func TestDatabaseSpeaksFirstAndCounts(t *testing.T) {
	t.Parallel()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", startDatabase(t, NewTally("mysql", "mysql-0")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	if line, _ := in.ReadString('\n'); line != Greeting+"mysql-0\n" {
		t.Fatalf("the greeting is %q", line)
	}
	for _, exchange := range [][2]string{
		{"PING", "OK 0"},
		{"COUNT books", "OK 0"},
		{"INSERT books 3", "OK 3"},
		{"INSERT books many", `ERROR how many rows is "many"?`},
		{"INSERT other 1", "OK 1"},
		{"COUNT books", "OK 3"},
		{"DROP books", "ERROR unknown command"},
	} {
		fmt.Fprintln(conn, exchange[0])
		if line, _ := in.ReadString('\n'); line != exchange[1]+"\n" {
			t.Errorf("%s: got %q, want %q", exchange[0], line, exchange[1])
		}
	}
	fmt.Fprintln(conn, "QUIT")
	if _, err := in.ReadString('\n'); err != io.EOF {
		t.Errorf("after QUIT: %v, want the end", err)
	}
}

func TestAdminHandler(t *testing.T) {
	t.Parallel()
	tally := NewTally("bookbuyer", "b")
	tally.addBooks("bought", 2)
	server := httptest.NewServer(tally.AdminHandler())
	t.Cleanup(server.Close)
	_, body := get(t, server.URL+"/counters", nil)
	var c Counters
	if err := json.Unmarshal([]byte(body), &c); err != nil || c.Books["bought"] != 2 || c.App != "bookbuyer" {
		t.Errorf("counters are %q, %v", body, err)
	}
	rec := httptest.NewRecorder()
	tally.AdminHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/reset", http.NoBody))
	if !strings.Contains(rec.Body.String(), `"bought":2`) {
		t.Errorf("the reset answers %q, want what was counted until then", rec.Body.String())
	}
	if len(tally.Counters().Books) != 0 {
		t.Error("the reset has not forgotten")
	}
}
