package books

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// restockedForSuccess is how many books make the warehouse content.
const restockedForSuccess = 3

// Warehouse takes orders from stores and writes each into its database.
type Warehouse struct {
	tally *Tally
	log   *slog.Logger
	out   io.Writer
	db    *database
}

// NewWarehouse returns a warehouse whose database listens at this address. It prints
// its success to out.
func NewWarehouse(tally *Tally, log *slog.Logger, out io.Writer, dbAddress string) *Warehouse {
	return &Warehouse{tally: tally, log: log, out: out, db: &database{address: dbAddress}}
}

// Handler serves the warehouse.
func (w *Warehouse) Handler() http.Handler {
	mux := http.NewServeMux()
	handleProbes(mux)
	mux.HandleFunc("POST /{$}", w.restock)
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, _ *http.Request) { writeJSON(rw, w.tally.Counters()) })
	return w.tally.counted(mux)
}

// restock takes one order: its body is the number of books.
func (w *Warehouse) restock(rw http.ResponseWriter, r *http.Request) {
	n, err := readCount(r)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	total := w.tally.addBooks("restocked", n)
	if total >= restockedForSuccess && total-n < restockedForSuccess {
		fmt.Fprintln(w.out, SuccessLine)
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	stored, err := w.db.ask(ctx, "INSERT books "+strconv.FormatInt(n, 10))
	if err != nil {
		w.log.Warn("Storing failed", "error", err.Error())
		w.tally.update(func(c *Counters) {
			c.Calls["error"]++
			c.LastError = err.Error()
		})
	} else {
		w.tally.update(func(c *Counters) {
			c.Calls["OK"]++
			c.Books["stored"] = stored
			c.Identities[w.db.greeting()]++
		})
	}
	fmt.Fprintf(rw, "{\"restocked\":%d}\n", n)
}

// Close closes the connection to the database.
func (w *Warehouse) Close() { w.db.close() }

// readCount reads the number of books in the body of a request.
func readCount(r *http.Request) (int64, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 32))
	if err != nil {
		return 0, fmt.Errorf("reading the number of books: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(body)), 10, 64)
	if err != nil || n < 0 {
		return 0, errors.New("the body is not a number of books")
	}
	return n, nil
}

// database is a client with one connection that is opened when it is needed.
type database struct {
	address string

	mu    sync.Mutex
	conn  net.Conn      // protected by mu
	in    *bufio.Reader // protected by mu
	greet string        // protected by mu
}

// greeting is what the database has said when the connection was opened.
func (d *database) greeting() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.greet
}

// ask sends one command and returns the number of its answer. A connection that was
// closed in the meantime is opened again, once.
func (d *database) ask(ctx context.Context, command string) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	reused := d.conn != nil
	n, err := d.tryLocked(ctx, command)
	if err != nil && reused {
		n, err = d.tryLocked(ctx, command)
	}
	return n, err
}

// tryLocked asks once; an error closes the connection.
func (d *database) tryLocked(ctx context.Context, command string) (n int64, err error) {
	defer func() {
		if err != nil {
			d.closeLocked()
		}
	}()
	if d.conn == nil {
		if err := d.openLocked(ctx); err != nil {
			return 0, err
		}
	}
	if err := d.conn.SetDeadline(deadline(ctx)); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintln(d.conn, command); err != nil {
		return 0, fmt.Errorf("asking the database: %w", err)
	}
	line, err := d.in.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("reading the database's answer: %w", err)
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(line), "OK ")
	if !ok {
		return 0, fmt.Errorf("the database answers %q", strings.TrimSpace(line))
	}
	return strconv.ParseInt(text, 10, 64)
}

// openLocked connects and waits for the greeting: the server speaks first.
func (d *database) openLocked(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", d.address)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	d.conn, d.in = conn, bufio.NewReader(conn)
	if err := conn.SetDeadline(deadline(ctx)); err != nil {
		return err
	}
	line, err := d.in.ReadString('\n')
	if err != nil {
		return fmt.Errorf("waiting for the database's greeting: %w", err)
	}
	d.greet = strings.TrimSpace(line)
	return nil
}

// close closes the connection.
func (d *database) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closeLocked()
}

// closeLocked closes the connection, if there is one.
func (d *database) closeLocked() {
	if d.conn != nil {
		d.conn.Close()
	}
	d.conn, d.in = nil, nil
}

// deadline is that of the context, or the usual one.
func deadline(ctx context.Context) time.Time {
	if at, ok := ctx.Deadline(); ok {
		return at
	}
	return time.Now().Add(callTimeout)
}
