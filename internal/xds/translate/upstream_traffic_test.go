package translate_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// served is an application that counts.
type served struct {
	requests, connections, closed atomic.Int32
	port                          uint16
}

// serve runs an application at the address of a pod; port 0 is any.
func serve(t *testing.T, address string, port uint16, handle http.HandlerFunc) *served {
	t.Helper()
	s := &served{}
	l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(int(port))))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		handle(w, r)
	}))
	_ = server.Listener.Close()
	server.Listener = l
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.connections.Add(1)
		case http.StateClosed:
			s.closed.Add(1)
		case http.StateActive, http.StateIdle, http.StateHijacked:
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	s.port = uint16(l.Addr().(*net.TCPAddr).Port)
	return s
}

func answering(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// callerWorld is a sidecar that calls one service, whose pods are outside the mesh.
type callerWorld struct {
	*world
	port uint16
}

func newCallerWorld(t *testing.T, target uint16, pods []string, change func(*ir.Destination, *ir.Cluster)) *callerWorld {
	t.Helper()
	w := &callerWorld{world: newWorld(t), port: freePort(t)}
	service := servicePort("shop", "store", 80)
	c := plaintext(cluster(service, ir.HTTP, account("shop", "store")))
	d := web(service, c, storeVIP)
	change(d, c)
	var all []pod
	for _, address := range pods {
		all = append(all, pod{address, account("shop", "store"), false, map[mesh.Key]map[uint16]uint16{{Namespace: "shop", Name: "store"}: {80: target}}})
	}
	w.start(t, &ir.Proxy{Class: "caller", Shared: w.shared(), Outbound: []*ir.Destination{d}}, "caller", modelOf(all...), redirectTo(w.port))
	return w
}

// ask sends a request over a connection of its own and returns the status.
func (w *callerWorld) ask(t *testing.T, headers ...string) int {
	t.Helper()
	c, err := w.dial(t, w.port, storeVIP, 80)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer c.Close()
	lines := append([]string{"GET / HTTP/1.1", "Host: store"}, headers...)
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		t.Error(err)
		return 0
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func TestRequestsUnderWayAreBounded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	app := serve(t, firstPod, 0, func(http.ResponseWriter, *http.Request) { <-release })
	w := newCallerWorld(t, app.port, []string{firstPod}, func(_ *ir.Destination, c *ir.Cluster) {
		c.Limits = &ir.Limits{MaxRequests: new(uint32(2))}
	})
	var mu sync.Mutex
	got := map[int]int{}
	var under sync.WaitGroup
	send := func() {
		under.Go(func() {
			status := w.ask(t)
			mu.Lock()
			defer mu.Unlock()
			got[status]++
		})
	}
	send()
	send()
	waitFor(t, w.world, "two requests under way", func() bool { return app.requests.Load() == 2 })
	for range 3 {
		if status := w.ask(t); status != 503 {
			t.Errorf("a third request is answered %d", status)
		}
	}
	close(release)
	under.Wait()
	if got[200] != 2 || w.ask(t) != 200 {
		t.Errorf("answered %v", got)
	}
}

func TestConnectionsUnderWayAreBounded(t *testing.T) {
	t.Parallel()
	port := greeter(t, firstPod, 0)
	w := newCallerWorld(t, port, []string{firstPod}, func(d *ir.Destination, c *ir.Cluster) {
		c.Protocol, c.Limits = ir.TCP, &ir.Limits{MaxConnections: new(uint32(2))}
		d.Protocol, d.Routes, d.Backends = ir.TCP, nil, []ir.WeightedBackend{to(c, 1)}
	})
	for i := range 4 {
		c, err := w.dial(t, w.port, storeVIP, 80)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		line := make([]byte, 5)
		_, err = io.ReadFull(c, line)
		if served := err == nil; served != (i < 2) {
			t.Errorf("connection %d is served: %t, %v", i, served, err)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	t.Run("a request has its time", func(t *testing.T) {
		t.Parallel()
		stop := make(chan struct{})
		app := serve(t, firstPod, 0, func(http.ResponseWriter, *http.Request) { <-stop })
		t.Cleanup(func() { close(stop) })
		w := newCallerWorld(t, app.port, []string{firstPod}, func(d *ir.Destination, _ *ir.Cluster) {
			d.Routes[0].Timeouts.Request = 100 * time.Millisecond
		})
		if got := w.ask(t); got != http.StatusGatewayTimeout {
			t.Errorf("answered %d", got)
		}
	})
	t.Run("each try has its time", func(t *testing.T) {
		t.Parallel()
		stop := make(chan struct{})
		app := serve(t, firstPod, 0, func(http.ResponseWriter, *http.Request) { <-stop })
		t.Cleanup(func() { close(stop) })
		w := newCallerWorld(t, app.port, []string{firstPod}, func(d *ir.Destination, _ *ir.Cluster) {
			d.Routes[0].Retry = &ir.Retry{On: "5xx", Attempts: 2, PerTry: 50 * time.Millisecond, BackoffBase: time.Millisecond}
		})
		if got := w.ask(t); got != http.StatusGatewayTimeout || app.requests.Load() != 3 {
			t.Errorf("answered %d after %d tries, want 504 after 3", got, app.requests.Load())
		}
	})
	t.Run("a connection has its time to be made", func(t *testing.T) {
		t.Parallel()
		mute, err := net.Listen("tcp", net.JoinHostPort(firstPod, "0"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = mute.Close() })
		port := uint16(mute.Addr().(*net.TCPAddr).Port)
		w := newOutboundMute(t, port)
		start := time.Now()
		if got := w.ask(t); got != http.StatusServiceUnavailable || time.Since(start) > 4*time.Second {
			t.Errorf("answered %d after %s", got, time.Since(start))
		}
	})
	t.Run("an idle connection of HTTP ends", func(t *testing.T) {
		t.Parallel()
		app := serve(t, firstPod, 0, answering(200))
		w := newCallerWorld(t, app.port, []string{firstPod}, func(_ *ir.Destination, c *ir.Cluster) { c.Idle = 200 * time.Millisecond })
		if got := w.ask(t); got != 200 {
			t.Errorf("answered %d", got)
		}
		waitFor(t, w.world, "the end of the connection", func() bool { return app.closed.Load() == 1 })
	})
	t.Run("a silent connection of bytes ends", func(t *testing.T) {
		t.Parallel()
		port := greeter(t, firstPod, 0)
		w := newCallerWorld(t, port, []string{firstPod}, func(d *ir.Destination, c *ir.Cluster) {
			c.Protocol = ir.TCP
			d.Protocol, d.Routes, d.Backends, d.Idle = ir.TCP, nil, []ir.WeightedBackend{to(c, 1)}, 200*time.Millisecond
		})
		c, err := w.dial(t, w.port, storeVIP, 80)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, _ := io.ReadAll(c); string(got) != "hello from "+firstPod+"\n" {
			t.Errorf("heard %q", got)
		}
	})
}

// newOutboundMute calls a pod in the mesh that never shakes hands.
func newOutboundMute(t *testing.T, port uint16) *callerWorld {
	t.Helper()
	w := &callerWorld{world: newWorld(t), port: freePort(t)}
	service := servicePort("shop", "store", 80)
	c := cluster(service, ir.HTTP, account("shop", "store"))
	c.ConnectTimeout = 100 * time.Millisecond
	serves := map[mesh.Key]map[uint16]uint16{{Namespace: "shop", Name: "store"}: {80: port}}
	w.start(t, &ir.Proxy{Class: "caller", Shared: w.shared(), Outbound: []*ir.Destination{web(service, c, storeVIP)}}, "caller",
		modelOf(pod{firstPod, account("shop", "store"), true, serves}), redirectTo(w.port))
	return w
}

func TestRetriesAreCounted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status   int
		retry    *ir.Retry
		requests int32
	}{
		"what fails is tried as often as it says":     {503, &ir.Retry{On: "5xx", Attempts: 5, BackoffBase: time.Millisecond}, 6},
		"what is not meant is not tried again":        {503, &ir.Retry{On: "connect-failure", Attempts: 5, BackoffBase: time.Millisecond}, 1},
		"what succeeds is not tried again":            {200, &ir.Retry{On: "5xx", Attempts: 5, BackoffBase: time.Millisecond}, 1},
		"without retries nothing is":                  {503, nil, 1},
		"with none at all nothing is either":          {503, &ir.Retry{On: "5xx", BackoffBase: time.Millisecond}, 1},
		"one of several conditions is enough":         {503, &ir.Retry{On: "reset,gateway-error", Attempts: 1, BackoffBase: time.Millisecond}, 2},
		"a conflict is tried again where it is meant": {409, &ir.Retry{On: "retriable-4xx", Attempts: 2, BackoffBase: time.Millisecond}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := serve(t, firstPod, 0, answering(tc.status))
			w := newCallerWorld(t, app.port, []string{firstPod}, func(d *ir.Destination, _ *ir.Cluster) { d.Routes[0].Retry = tc.retry })
			if got := w.ask(t); got != tc.status || app.requests.Load() != tc.requests {
				t.Errorf("answered %d after %d requests, want %d after %d", got, app.requests.Load(), tc.status, tc.requests)
			}
		})
	}
}

func TestOutliersAreNotCalled(t *testing.T) {
	t.Parallel()
	sick := serve(t, firstPod, 0, answering(503))
	well := serve(t, secondPod, sick.port, answering(200))
	w := newCallerWorld(t, sick.port, []string{firstPod, secondPod}, func(_ *ir.Destination, c *ir.Cluster) {
		c.Outliers = &ir.Outliers{Errors: 3, Ejection: time.Hour, MostPercent: 50}
	})
	// A thread of Envoy's hears of it a moment after the third error.
	inARow := 0
	for all := 0; inARow < 60 && all < 600; all++ {
		if w.ask(t) == 200 {
			inARow++
		} else {
			inARow = 0
		}
	}
	if n := sick.requests.Load(); n < 3 || inARow < 60 || well.requests.Load() < 60 {
		t.Errorf("the pod with errors was asked %d times, want 3 and not many more; at last %d were answered well in a row, want 60", n, inARow)
	}
}

func TestTheLastPodIsCalledHoweverIllItIs(t *testing.T) {
	t.Parallel()
	sick := serve(t, firstPod, 0, answering(503))
	w := newCallerWorld(t, sick.port, []string{firstPod}, func(_ *ir.Destination, c *ir.Cluster) {
		c.Outliers = &ir.Outliers{Errors: 3, Ejection: time.Hour, MostPercent: 50}
	})
	for range 10 {
		w.ask(t)
	}
	if n := sick.requests.Load(); n != 10 {
		t.Errorf("it was asked %d times, want 10", n)
	}
}

func TestPodsAreChosen(t *testing.T) {
	t.Parallel()
	pods := []string{firstPod, secondPod, stranger}
	for name, tc := range map[string]struct {
		balance *ir.Balance
		// header gives what is sent with the request of a number.
		header func(i int) string
		// least and most requests of 60 that any pod gets; asked is how many pods get any.
		least, most int32
		asked       int
	}{
		"one after the other":      {&ir.Balance{Kind: ir.RoundRobin}, func(int) string { return "X-Any: 1" }, 20, 20, 3},
		"those with fewer":         {nil, func(int) string { return "X-Any: 1" }, 1, 59, 3},
		"new ones more slowly":     {&ir.Balance{Kind: ir.LeastRequest, SlowStart: time.Minute, LeastPercent: 10}, func(int) string { return "X-Any: 1" }, 1, 59, 3},
		"by the value of a header": {&ir.Balance{Kind: ir.HashHeader, Name: "X-User"}, func(int) string { return "X-User: me" }, 60, 60, 1},
		"by another value another": {&ir.Balance{Kind: ir.HashHeader, Name: "X-User"}, func(i int) string { return fmt.Sprint("X-User: ", i) }, 1, 59, 3},
		"by the value of a cookie": {&ir.Balance{Kind: ir.HashCookie, Name: "user"}, func(i int) string { return fmt.Sprintf("Cookie: a=%d; user=me", i) }, 60, 60, 1},
		"by who calls":             {&ir.Balance{Kind: ir.HashSource}, func(i int) string { return fmt.Sprint("X-User: ", i) }, 60, 60, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			apps := []*served{serve(t, pods[0], 0, answering(200))}
			for _, p := range pods[1:] {
				apps = append(apps, serve(t, p, apps[0].port, answering(200)))
			}
			w := newCallerWorld(t, apps[0].port, pods, func(_ *ir.Destination, c *ir.Cluster) { c.Balance = tc.balance })
			for i := range 60 {
				if got := w.ask(t, tc.header(i)); got != 200 {
					t.Fatalf("answered %d", got)
				}
			}
			asked := 0
			for i, a := range apps {
				n := a.requests.Load()
				if n > 0 {
					asked++
				}
				if n > 0 && (n < tc.least || n > tc.most) {
					t.Errorf("pod %d got %d of 60 requests, want from %d to %d", i, n, tc.least, tc.most)
				}
			}
			if asked != tc.asked {
				t.Errorf("%d pods were asked, want %d", asked, tc.asked)
			}
		})
	}
}

// TestConnectionsOfBytesAreChosenByWhoCalls connects from several pods.
func TestConnectionsOfBytesAreChosenByWhoCalls(t *testing.T) {
	t.Parallel()
	port := greeter(t, firstPod, 0)
	greeter(t, secondPod, port)
	w := newCallerWorld(t, port, []string{firstPod, secondPod}, func(d *ir.Destination, c *ir.Cluster) {
		c.Protocol, c.Balance = ir.TCP, &ir.Balance{Kind: ir.HashSource}
		d.Protocol, d.Routes, d.Backends = ir.TCP, nil, []ir.WeightedBackend{to(c, 1)}
	})
	heard := map[string]int{}
	for range 20 {
		c, err := w.dial(t, w.port, storeVIP, 80)
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		_ = c.Close()
		if err != nil {
			t.Fatal(err)
		}
		heard[line]++
	}
	if len(heard) != 1 {
		t.Errorf("heard %v", heard)
	}
}

func TestRequestsOfAConnectionAreBounded(t *testing.T) {
	t.Parallel()
	app := serve(t, firstPod, 0, answering(200))
	w := newCallerWorld(t, app.port, []string{firstPod}, func(_ *ir.Destination, c *ir.Cluster) {
		c.Limits = &ir.Limits{MaxRequestsPerConnection: new(uint32(5))}
	})
	for range 20 {
		w.ask(t)
	}
	if n := app.connections.Load(); n != 4 {
		t.Errorf("20 requests took %d connections, want 4", n)
	}
}
