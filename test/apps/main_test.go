package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/testkit/port"
	"github.com/openservicemesh/osm-operator/test/apps/books"
	"github.com/openservicemesh/osm-operator/test/apps/echo"
	"github.com/openservicemesh/osm-operator/test/apps/load"
)

// output collects what applications print.
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

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", port.Free(t))
}

// reachable waits until somebody listens.
func reachable(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("nobody listens on %s", address)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// startApp runs an application until the test ends.
func startApp(t *testing.T, out *output, env map[string]string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, args, func(name string) string { return env[name] }, out) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", args[0], err)
		}
	})
}

// call runs an application to its end and returns what it printed.
func call(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out output
	if err := run(ctx, args, func(string) string { return "" }, &out); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out.String())
	}
	return out.String()
}

func TestTheBookstoreRuns(t *testing.T) {
	t.Parallel()
	db, warehouse, store, admin := freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t)
	var out output
	startApp(t, &out, nil, "mysql", "-addr", db, "-admin", "")
	startApp(t, &out, nil, "bookwarehouse", "-addr", warehouse, "-admin", "", "-db", db)
	startApp(t, &out, map[string]string{"IDENTITY": "bookstore-v1"}, "bookstore", "-addr", store, "-admin", "", "-warehouse", "http://"+warehouse+"/")
	reachable(t, db)
	reachable(t, warehouse)
	reachable(t, store)
	startApp(t, &out, nil, "bookbuyer", "-addr", freeAddress(t), "-admin", admin, "-store", "http://"+store, "-interval", "5ms")
	reachable(t, admin)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for strings.Count(out.String(), books.SuccessLine) < 2 { // the buyer's and the warehouse's
		select {
		case <-ctx.Done():
			t.Fatalf("no success:\n%s", out.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
	var c books.Counters
	if err := json.Unmarshal([]byte(call(t, "counters", "-admin", admin, "-reset")), &c); err != nil || c.Identities["bookstore-v1"] == 0 {
		t.Errorf("the buyer has counted %+v, %v", c, err)
	}
}

func TestTheClientCallsEveryEchoServer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		server []string
		client func(address string) []string
		status string
	}{
		"HTTP":  {[]string{"http-echo"}, func(a string) []string { return []string{"-target", "http://" + a + "/", "-header", "X-A=b"} }, "200"},
		"HTTPS": {[]string{"http-echo", "-tls"}, func(a string) []string { return []string{"-target", "https://" + a + "/", "-insecure"} }, "200"},
		"gRPC":  {[]string{"grpc-echo"}, func(a string) []string { return []string{"-protocol", "grpc", "-target", a} }, "OK"},
		"WebSocket": {[]string{"ws-echo"}, func(a string) []string {
			return []string{"-protocol", "ws", "-target", "ws://" + a + "/", "-body", "hello"}
		}, "ok"},
		"TCP": {[]string{"tcp-echo"}, func(a string) []string { return []string{"-protocol", "tcp", "-target", a, "-body", "hello"} }, "ok"},
		"MySQL": {
			[]string{"mysql", "-admin", ""},
			func(a string) []string {
				return []string{"-protocol", "tcp", "-target", a, "-greeting", "-body", "PING"}
			}, "ok",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := freeAddress(t)
			var out output
			startApp(t, &out, nil, append(tt.server, "-addr", address, "-identity", "me")...)
			reachable(t, address)
			args := append([]string{"client", "-serve=false", "-rate", "100", "-duration", "200ms", "-last"}, tt.client(address)...)
			var r load.Report
			if err := json.Unmarshal([]byte(call(t, args...)), &r); err != nil {
				t.Fatal(err)
			}
			if r.Sent == 0 || r.Status[tt.status] != r.Sent || r.Last == nil {
				t.Errorf("report %+v", r)
			}
		})
	}
}

func TestTheClientTellsItsCountersWhileItRuns(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(echo.NewHTTP("me").Handler())
	t.Cleanup(server.Close)
	admin := freeAddress(t)
	var out output
	startApp(t, &out, nil, "client", "-target", server.URL, "-admin", admin, "-rate", "0")
	reachable(t, admin)
	var first, reset load.Report
	if err := json.Unmarshal([]byte(call(t, "counters", "-admin", admin)), &first); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(call(t, "counters", "-admin", admin, "-reset")), &reset); err != nil {
		t.Fatal(err)
	}
	if first.Target != server.URL || reset.Sent < first.Sent || reset.Errors["other"] != 0 {
		t.Errorf("counters %+v, then %+v", first, reset)
	}
}

func TestAskTellsInOneLine(t *testing.T) {
	answers := []int{200, 200, 403}
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Identity", "v1")
		w.WriteHeader(answers[asked])
		asked++
	}))
	defer server.Close()
	var out output
	if err := run(t.Context(), []string{"ask", "-n", "3", server.URL}, func(string) string { return "" }, &out); err != nil {
		t.Fatal(err)
	}
	if want := "200 x 2, 403 x 1, by v1 x 2\n"; out.String() != want || asked != 3 {
		t.Errorf("%d requests, told %q, want 3 and %q", asked, out.String(), want)
	}
	server.Close()
	out = output{}
	if err := run(t.Context(), []string{"ask", "-n", "2", server.URL}, func(string) string { return "" }, &out); err != nil {
		t.Fatal(err)
	}
	if want := "no answer x 2\n"; out.String() != want {
		t.Errorf("told %q of a server that is gone, want %q", out.String(), want)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		env  map[string]string
		args []string
		want string
	}{
		"no application":             {nil, nil, "which application"},
		"an unknown application":     {nil, []string{"bookbinder"}, "bookbinder"},
		"an unknown flag":            {nil, []string{"mysql", "-port", "1"}, "port"},
		"an argument too many":       {nil, []string{"mysql", "now"}, "now"},
		"a status that is none":      {map[string]string{"BOOKTHIEF_EXPECTED_RESPONSE_CODE": "no"}, []string{"bookthief"}, "BOOKTHIEF_EXPECTED_RESPONSE_CODE"},
		"a pause that is none":       {map[string]string{"CI_SLEEP_BETWEEN_REQUESTS_SECONDS": "-1"}, []string{"bookbuyer"}, "CI_SLEEP"},
		"an interval that is none":   {nil, []string{"bookbuyer", "-interval", "0s"}, "interval"},
		"a header that is none":      {nil, []string{"client", "-header", "x"}, "name=value"},
		"a client without a target":  {nil, []string{"client"}, "target"},
		"counters that nobody tells": {nil, []string{"counters", "-admin", "127.0.0.1:1"}, "refused"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := run(t.Context(), tt.args, func(name string) string { return tt.env[name] }, new(output))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one about %q", err, tt.want)
			}
		})
	}
	if err := run(t.Context(), []string{"client", "-h"}, os.Getenv, new(output)); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("asked for help, got %v", err)
	}
}

// TestTermination runs the real binary: whether a process waits for its open requests
// is decided by its signal handlers.
func TestTermination(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "bookstore-demo")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	tests := map[string]struct {
		flags    []string
		finished bool
	}{
		"an open request is finished":         {nil, true},
		"the process exits at once when told": {[]string{"-exit-at-once"}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			address := freeAddress(t)
			server := exec.CommandContext(ctx, binary, append([]string{"http-echo", "-addr", address}, tt.flags...)...)
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			reachable(t, address)
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/stream?chunks=2&interval=300ms", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := new(http.Client).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			in := bufio.NewReader(resp.Body)
			if _, err := in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if err := server.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(in)
			if finished := err == nil && strings.HasPrefix(string(rest), "2 "); finished != tt.finished {
				t.Errorf("the rest is %q, %v, want it finished: %t", rest, err, tt.finished)
			}
			if err := server.Wait(); err != nil {
				t.Errorf("the process ended with %v", err)
			}
		})
	}
}
