package load

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openservicemesh/osm-operator/test/apps/books"
	"github.com/openservicemesh/osm-operator/test/apps/echo"
	"github.com/openservicemesh/osm-operator/test/apps/process"
)

// serve runs a listener on a free port and returns its address.
func serve(t *testing.T, l process.Listener) string {
	t.Helper()
	var config net.ListenConfig
	lis, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Serve(lis) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := l.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	return lis.Addr().String()
}

// grpcListener serves the gRPC echo server.
func grpcListener() process.Listener {
	s := echo.NewGRPC("echo-1")
	return process.Listener{Serve: s.Serve, Shutdown: func(context.Context) error { s.Stop(); return nil }}
}

// sent waits until so many requests have ended.
func sent(t *testing.T, l *Load, requests int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for l.Report().Sent < requests {
		select {
		case <-ctx.Done():
			t.Fatalf("only %d requests have ended: %+v", l.Report().Sent, l.Report())
		case <-time.After(time.Millisecond):
		}
	}
}

// run makes requests until so many have ended, and returns the report.
func run(t *testing.T, options Options, requests int64) Report {
	t.Helper()
	options.Concurrency = max(options.Concurrency, 2)
	options.Timeout = 5 * time.Second
	l, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan Report, 1)
	go func() {
		r, err := l.Run(t.Context())
		if err != nil {
			t.Error(err)
		}
		ended <- r
	}()
	sent(t, l, requests)
	l.Stop()
	return <-ended
}

func TestEveryProtocolIsCounted(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		listener   func() process.Listener
		options    func(address string) Options
		status     string
		identity   string
		perRequest bool // a connection for each request
	}{
		"HTTP/1.1 on a kept connection": {
			func() process.Listener { return process.HTTP("", echo.NewHTTP("echo-1").Handler()) },
			func(a string) Options {
				return Options{Protocol: "http", Target: "http://" + a + "/x", KeepAlive: true}
			},
			"200", "echo-1", false,
		},
		"HTTP/1.1 on new connections": {
			func() process.Listener { return process.HTTP("", echo.NewHTTP("echo-1").Handler()) },
			func(a string) Options { return Options{Protocol: "http", Target: "http://" + a + "/x"} },
			"200", "echo-1", true,
		},
		"HTTP/2 in clear": {
			func() process.Listener { return process.HTTP("", echo.NewHTTP("echo-1").Handler()) },
			func(a string) Options { return Options{Protocol: "h2c", Target: "http://" + a + "/x", KeepAlive: true} },
			"200", "echo-1", false,
		},
		"gRPC": {
			grpcListener,
			func(a string) Options { return Options{Protocol: "grpc", Target: a, KeepAlive: true, Body: "hello"} },
			"OK", "echo-1", false,
		},
		"gRPC on new connections": {
			grpcListener,
			func(a string) Options { return Options{Protocol: "grpc", Target: a, Body: "hello"} },
			"OK", "echo-1", true,
		},
		"the messages of gRPC streams": {
			grpcListener,
			func(a string) Options {
				return Options{Protocol: "grpc", Target: a, KeepAlive: true, Stream: true, Rate: 200}
			},
			"OK", "echo-1", false,
		},
		"WebSocket": {
			func() process.Listener { return process.HTTP("", echo.WebSocket("echo-1")) },
			func(a string) Options {
				return Options{Protocol: "ws", Target: "ws://" + a + "/", KeepAlive: true, Body: "hello"}
			},
			"ok", "echo-1", false,
		},
		"TCP": {
			func() process.Listener { return process.TCP("", echo.TCP("echo-1")) },
			func(a string) Options { return Options{Protocol: "tcp", Target: a, KeepAlive: true, Body: "hello"} },
			"ok", "echo-1", false,
		},
		"TCP where the server speaks first": {
			func() process.Listener {
				return process.TCP("", books.NewDatabase(books.NewTally("mysql", "mysql-0")).Handle)
			},
			func(a string) Options {
				return Options{Protocol: "tcp", Target: a, Greeting: true, Body: "INSERT books 1"}
			},
			"ok", books.Greeting + "mysql-0", true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := tt.options(serve(t, tt.listener()))
			if options.Method == "" {
				options.Method = http.MethodGet
			}
			r := run(t, options, 50)
			if r.Sent < 50 || r.Succeeded != r.Sent || r.Status[tt.status] != r.Sent || r.Identities[tt.identity] != r.Sent {
				t.Errorf("report %+v, want all %s from %s", r, tt.status, tt.identity)
			}
			if tt.perRequest && r.Connections != r.Sent || !tt.perRequest && r.Connections != 2 {
				t.Errorf("%d connections for %d requests of 2 workers", r.Connections, r.Sent)
			}
			if r.Latency.P50 <= 0 || r.Latency.P99 > r.Latency.Max || r.Latency.P50 > r.Latency.P99 {
				t.Errorf("latency %+v", r.Latency)
			}
		})
	}
}

func TestRefusedRequestsAreNoErrors(t *testing.T) {
	t.Parallel()
	address := serve(t, process.HTTP("", echo.NewHTTP("echo-1").Handler()))
	r := run(t, Options{Protocol: "http", Method: http.MethodGet, Target: "http://" + address + "/status/403", KeepAlive: true, KeepLast: true}, 5)
	if r.Status["403"] != r.Sent || r.Succeeded != 0 || len(r.Errors) != 0 || len(r.Identities) != 0 || r.Failed() != r.Sent {
		t.Errorf("report %+v", r)
	}
	if r.Last == nil || r.Last.Status != "403" || !strings.Contains(r.Last.Body, `"path":"/status/403"`) {
		t.Errorf("last answer %+v", r.Last)
	}
}

func TestErrorsAreCountedByKind(t *testing.T) {
	t.Parallel()
	closing := serve(t, process.TCP("", func(net.Conn) {}))
	resetting := serve(t, process.TCP("", func(c net.Conn) {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}))
	plain := serve(t, process.HTTP("", echo.NewHTTP("e").Handler()))
	tests := map[string]struct {
		options Options
		want    []string
	}{
		"nobody listens":                  {Options{Protocol: "http", Target: "http://127.0.0.1:1/"}, []string{ErrRefused}},
		"nobody listens, gRPC":            {Options{Protocol: "grpc", Target: "127.0.0.1:1", KeepAlive: true}, []string{ErrRefused}},
		"nobody listens, WebSocket":       {Options{Protocol: "ws", Target: "ws://127.0.0.1:1/"}, []string{ErrRefused}},
		"the name is not known":           {Options{Protocol: "tcp", Target: "nowhere.invalid:80"}, []string{ErrDNS}},
		"the server hangs up":             {Options{Protocol: "tcp", Target: closing, Greeting: true}, []string{ErrClosed, ErrReset}},
		"the server resets":               {Options{Protocol: "tcp", Target: resetting, Greeting: true}, []string{ErrReset}},
		"the server speaks no TLS":        {Options{Protocol: "http", Target: "https://" + plain + "/"}, []string{ErrTLS}},
		"the server hangs up on a HTTP/1": {Options{Protocol: "http", Target: "http://" + closing + "/"}, []string{ErrClosed, ErrReset}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.options.Rate = 500
			tt.options.Method = http.MethodGet
			r := run(t, tt.options, 3)
			var counted int64
			for _, kind := range tt.want {
				counted += r.Errors[kind]
			}
			if counted != r.Sent || r.Sent < 3 {
				t.Errorf("report %+v, want errors %v only", r, tt.want)
			}
		})
	}
}

func TestSlowAnswersTimeOut(t *testing.T) {
	t.Parallel()
	address := serve(t, process.HTTP("", echo.NewHTTP("echo-1").Handler()))
	l, err := New(Options{
		Protocol: "http", Method: http.MethodGet, Target: "http://" + address + "/delay/1m",
		Concurrency: 1, Timeout: 20 * time.Millisecond, Duration: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Run(t.Context())
	if err != nil || r.Errors[ErrTimeout] != r.Sent || r.Sent == 0 {
		t.Errorf("report %+v, %v", r, err)
	}
}

func TestRateIsKept(t *testing.T) {
	t.Parallel()
	address := serve(t, process.HTTP("", echo.NewHTTP("echo-1").Handler()))
	l, err := New(Options{
		Protocol: "http", Method: http.MethodGet, Target: "http://" + address + "/", KeepAlive: true,
		Rate: 100, Concurrency: 4, Timeout: 5 * time.Second, Duration: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if due := r.Sent + r.Missed; due < 50 || due > 101 {
		t.Errorf("%d requests were due in a second at 100 a second: %+v", due, r)
	}
}

func TestARequestUnderWayIsFinished(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		once.Do(func() { close(entered) })
		<-release
	}))
	t.Cleanup(server.Close)
	l, err := New(Options{Protocol: "http", Method: http.MethodGet, Target: server.URL, Concurrency: 1, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan Report, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		r, _ := l.Run(ctx)
		ended <- r
	}()
	<-entered
	cancel()
	<-l.stop // no other request is begun from now on
	close(release)
	if r := <-ended; r.Succeeded != 1 || r.Sent != 1 {
		t.Errorf("report %+v, want the one request to succeed", r)
	}
}

func TestRequestsThatTheClientRepeatsAreCounted(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 2 { // on the kept connection: hang up without an answer
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
		}
	}))
	t.Cleanup(server.Close)
	caller, err := newHTTPCaller(Options{Protocol: "http", Method: http.MethodGet, Target: server.URL, KeepAlive: true}, new(net.Dialer).DialContext)
	if err != nil {
		t.Fatal(err)
	}
	defer caller.close()
	for i, want := range []bool{false, true, false} {
		a, err := caller.call(t.Context())
		if err != nil || a.retried != want {
			t.Errorf("request %d: repeated %t, want %t, %v", i+1, a.retried, want, err)
		}
	}
}

func TestHandlerResetsWhileItRuns(t *testing.T) {
	t.Parallel()
	address := serve(t, process.HTTP("", echo.NewHTTP("echo-1").Handler()))
	l, err := New(Options{
		Protocol: "http", Method: http.MethodGet, Target: "http://" + address + "/", KeepAlive: true,
		Concurrency: 1, Timeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = l.Run(t.Context())
	}()
	sent(t, l, 10)
	ask := func(method, path string) Report {
		rec := httptest.NewRecorder()
		l.Handler().ServeHTTP(rec, httptest.NewRequest(method, path, http.NoBody))
		var r Report
		if err := json.Unmarshal(rec.Body.Bytes(), &r); err != nil {
			t.Fatalf("%s %s: %d %s", method, path, rec.Code, rec.Body)
		}
		return r
	}
	before := ask(http.MethodPost, "/reset")
	stopped := ask(http.MethodPost, "/stop")
	<-ended
	if before.Sent < 10 {
		t.Errorf("the reset answers %d requests, want those until then", before.Sent)
	}
	if after := ask(http.MethodGet, "/counters"); after.Sent < stopped.Sent {
		t.Errorf("after the stop: %+v", after)
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	t.Parallel()
	good := Options{Protocol: "http", Target: "http://h/", Concurrency: 1, Timeout: time.Second}
	tests := map[string]func(*Options){
		"no target":                func(o *Options) { o.Target = "" },
		"no URL":                   func(o *Options) { o.Target = "h:80" },
		"a URL without a host":     func(o *Options) { o.Target = "http:///x" },
		"another protocol":         func(o *Options) { o.Protocol = "udp" },
		"no workers":               func(o *Options) { o.Concurrency = 0 },
		"no time":                  func(o *Options) { o.Timeout = 0 },
		"less than nothing":        func(o *Options) { o.Rate = -1 },
		"a WebSocket over HTTP":    func(o *Options) { o.Protocol = "ws" },
		"a WebSocket without port": func(o *Options) { o.Protocol, o.Target = "ws", "ws://h/" },
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := good
			spoil(&bad)
			if _, err := New(bad); err == nil {
				t.Errorf("%+v was taken", bad)
			}
		})
	}
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	var h histogram
	for ms := 1; ms <= 1000; ms++ {
		h.add(time.Duration(ms) * time.Millisecond)
	}
	got := h.latency()
	within := func(got, want float64) bool { return got >= want && got <= want*growth }
	if !within(got.P50, 500) || !within(got.P90, 900) || got.P99 < 990 || got.P99 > 1000 || got.Max != 1000 {
		t.Errorf("latency %+v", got)
	}
	if diff := cmp.Diff(500.5, got.Mean); diff != "" {
		t.Errorf("mean (-want +got):\n%s", diff)
	}
	if (&histogram{}).latency() != (Latency{}) {
		t.Error("nothing has a latency")
	}
}
