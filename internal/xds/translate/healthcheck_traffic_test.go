package translate_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// greetings is an application of bytes or of HTTP that can end and be started again; it
// says its port, and counts who came with something to say.
type greetings struct {
	port uint16
	web  bool

	mu       sync.Mutex
	listener net.Listener // protected by mu, like asked
	asked    []string
}

func (g *greetings) listen(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(g.port))))
	if err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.listener = l
	g.mu.Unlock()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go g.answer(c)
		}
	}()
}

// answer takes one line, and with HTTP all lines of a request.
func (g *greetings) answer(c net.Conn) {
	defer c.Close()
	lines := bufio.NewScanner(c)
	if !lines.Scan() {
		return
	}
	g.mu.Lock()
	g.asked = append(g.asked, lines.Text())
	g.mu.Unlock()
	if !g.web {
		_, _ = fmt.Fprintf(c, "%d\n", g.port)
		return
	}
	header := lines.Scan()
	for header && lines.Text() != "" {
		header = lines.Scan()
	}
	_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%d\n", g.port)
}

func (g *greetings) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.listener.Close()
}

// healthWorld is a caller and two pods of the service that it may call.
type healthWorld struct {
	*world
	caller        *process
	outbound      uint16
	first, second *greetings
	web           bool
	address       string
	callees       []*process
}

// newHealthWorld starts the first pod's application and not the second's.
func newHealthWorld(t *testing.T, protocol ir.Protocol, change func(*healthWorld, *ir.Destination, *ir.Cluster)) *healthWorld {
	t.Helper()
	web := protocol == ir.HTTP
	w := &healthWorld{world: newWorld(t), web: web, outbound: freePort(t), address: storeVIP}
	w.first, w.second = &greetings{port: freePort(t), web: web}, &greetings{port: freePort(t), web: web}
	w.first.listen(t)
	service, store := servicePort("shop", "store", 80), account("shop", "store")
	key := mesh.Key{Namespace: "shop", Name: "store"}
	var pods []pod
	for address, g := range map[string]*greetings{firstPod: w.first, secondPod: w.second} {
		port := ir.InboundPort{Port: g.port, Protocol: protocol, Service: service, Allow: allow(account("shop", "buyer")), Watched: 200 * time.Millisecond}
		port.Routes = []ir.InboundRoute{{Name: "buy", Match: ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchExact, Value: "/buy"}}, Allow: port.Allow}}
		// Of two services behind the port one has a chain of its own.
		port.Bounds.Connections = &ir.Rate{Number: 1000, Interval: time.Second}
		port.Apart = []ir.InboundService{{ServerName: "store.shop.svc.cluster.local", Hosts: []string{"store"}, Routes: port.Routes}}
		callee := &ir.Proxy{Class: "store", Shared: w.shared(), Inbound: []ir.InboundPort{port}}
		w.callees = append(w.callees, w.start(t, callee, "store", &mesh.Model{}, servePods([]string{address}, g.port)))
		pods = append(pods, pod{address, store, true, map[mesh.Key]map[uint16]uint16{key: {80: g.port}}})
	}
	c := cluster(service, protocol, store)
	c.HealthCheck = &ir.HealthCheck{Interval: 200 * time.Millisecond, Timeout: time.Second, Unhealthy: 2, Healthy: 1}
	c.Balance = &ir.Balance{Kind: ir.RoundRobin}
	d := &ir.Destination{Service: service, Addresses: addresses(storeVIP), Protocol: protocol}
	if web {
		d.Routes = []ir.HTTPRoute{{Name: "all", Backends: []ir.WeightedBackend{to(c, 1)}}}
	} else {
		d.Backends = []ir.WeightedBackend{to(c, 1)}
	}
	change(w, d, c)
	p := &ir.Proxy{Class: "buyer", Shared: w.shared(), Outbound: []*ir.Destination{d}}
	p.Shared.RequestMetrics = true
	w.caller = w.start(t, p, "buyer", modelOf(pods...), redirectTo(w.outbound))
	return w
}

// ask returns which pod answers at a port, and "" if none does.
func (w *healthWorld) ask(t *testing.T, port uint16) string {
	t.Helper()
	c, err := w.dial(t, w.outbound, w.address, port)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer c.Close()
	if !w.web {
		_, _ = io.WriteString(c, "hello\n")
		answer, _ := io.ReadAll(c)
		return strings.TrimSpace(string(answer))
	}
	_, _ = io.WriteString(c, "GET /buy HTTP/1.1\r\nHost: store\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return ""
	}
	return strings.TrimSpace(string(body))
}

// answered counts which pod answers how many of 20.
func (w *healthWorld) answered(t *testing.T) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range 20 {
		got[w.ask(t, 80)]++
	}
	return got
}

// stat reads a number that an Envoy tells.
func (w *healthWorld) stat(t *testing.T, p *process, name string) string {
	t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/stats", p.admin))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), name+": "); ok {
			return n
		}
	}
	return ""
}

// TestPodsThatDoNotListenAreNotCalled has callers ask sidecars, under policies that allow
// nothing but one path, for requests and for bytes.
func TestPodsThatDoNotListenAreNotCalled(t *testing.T) {
	t.Parallel()
	for n, protocol := range map[string]ir.Protocol{"requests": ir.HTTP, "bytes": ir.TCP} {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			w := newHealthWorld(t, protocol, func(*healthWorld, *ir.Destination, *ir.Cluster) {})
			first, second := fmt.Sprint(w.first.port), fmt.Sprint(w.second.port)
			asked := 0
			expect := func(when string, want func(map[string]int) bool) {
				t.Helper()
				waitFor(t, w.world, when, func() bool {
					asked += 20
					return want(w.answered(t))
				})
			}
			healthy := func(n string) func() bool {
				return func() bool { return w.stat(t, w.caller, "cluster.shop/store|80.membership_healthy") == n }
			}
			waitFor(t, w.world, "the second pod to be known not to listen", healthy("1"))
			expect("the first pod alone to be called", func(got map[string]int) bool { return got[first] == 20 })
			w.second.listen(t)
			waitFor(t, w.world, "the second pod to be known to listen", healthy("2"))
			expect("both to be called", func(got map[string]int) bool { return got[first] == 10 && got[second] == 10 })
			w.first.end()
			waitFor(t, w.world, "the first pod to be known to have ended", healthy("1"))
			expect("the second pod alone to be called", func(got map[string]int) bool { return got[second] == 20 })
			w.checkCounts(t, asked)
		})
	}
}

// checkCounts finds nothing of health checks where requests are counted.
func (w *healthWorld) checkCounts(t *testing.T, asked int) {
	t.Helper()
	for _, g := range []*greetings{w.first, w.second} {
		g.mu.Lock()
		for _, line := range g.asked {
			if line != "hello" && line != "GET /buy HTTP/1.1" {
				t.Errorf("an application was asked %q", line)
			}
		}
		g.mu.Unlock()
	}
	if !w.web {
		return
	}
	counted := 0
	for _, callee := range w.callees {
		n, _ := strconv.Atoi(w.stat(t, callee, "http.inbound.downstream_rq_total"))
		counted += n
		if w.stat(t, callee, "http.inbound.rbac.denied") != "0" {
			t.Errorf("a health check was refused")
		}
	}
	if counted > asked {
		t.Errorf("%d inbound requests are counted, of which %d were sent", counted, asked)
	}
	if strings.Contains(w.caller.log.String(), "healthz") {
		t.Errorf("health checks are in the access log")
	}
}

// TestPodsThatNobodyLooksAtAreCalled asks sidecars that were not told to look.
func TestPodsThatNobodyLooksAtAreCalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	port, outbound := application(t, "127.0.0.1", 0), freePort(t)
	service, store := servicePort("shop", "store", 80), account("shop", "store")
	w.start(t, &ir.Proxy{Class: "store", Shared: w.shared(), Inbound: []ir.InboundPort{
		{Port: port, Protocol: ir.HTTP, Service: service, Allow: anyone(), Routes: []ir.InboundRoute{{Name: "all", Allow: anyone()}}},
	}}, "store", &mesh.Model{}, servePods([]string{firstPod}, port))
	application(t, secondPod, port)
	c := plaintext(cluster(service, ir.HTTP, store))
	c.HealthCheck = &ir.HealthCheck{Interval: 100 * time.Millisecond, Timeout: time.Second, Unhealthy: 1, Healthy: 1}
	c.Balance = &ir.Balance{Kind: ir.RoundRobin}
	serves := map[mesh.Key]map[uint16]uint16{{Namespace: "shop", Name: "store"}: {80: port}}
	w.start(t, &ir.Proxy{Class: "buyer", Shared: w.shared(), Outbound: []*ir.Destination{web(service, c, storeVIP)}}, "buyer",
		modelOf(pod{firstPod, store, true, serves}, pod{secondPod, store, false, serves}), redirectTo(outbound))
	answers := map[string]int{}
	for range 20 {
		conn, err := w.dial(t, outbound, storeVIP, 80)
		if err != nil {
			t.Fatal(err)
		}
		got, err := request(t, conn, "GET", "/", "store")
		_ = conn.Close()
		if err != nil || got.status != http.StatusOK {
			t.Fatalf("answered %d: %v", got.status, err)
		}
		answers[got.answer.Pod]++
	}
	if answers["127.0.0.1"] != 10 || answers[secondPod] != 10 {
		t.Errorf("a pod in the mesh that nobody looks at, and one outside: answers %v", answers)
	}
}

// TestHeadlessPodsThatDoNotListenAreNotCalled dials pods.
func TestHeadlessPodsThatDoNotListenAreNotCalled(t *testing.T) {
	t.Parallel()
	for n, protocol := range map[string]ir.Protocol{"requests": ir.HTTP, "bytes": ir.TCP} {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			w := newHealthWorld(t, protocol, func(w *healthWorld, d *ir.Destination, _ *ir.Cluster) {
				headless(d, "store")
				d.Dialled = []uint16{w.first.port, w.second.port}
			})
			of := "shop/store|80"
			if protocol == ir.TCP {
				of = "headless|" + strconv.Itoa(int(w.second.port))
			}
			healthy := func(n string) func() bool {
				return func() bool { return w.stat(t, w.caller, "cluster."+of+".membership_healthy") == n }
			}
			dial := func(address string, g *greetings) string {
				w.address = address
				return w.ask(t, g.port)
			}
			waitFor(t, w.world, "one pod to be known not to listen", healthy("1"))
			if got := dial(firstPod, w.first); got != fmt.Sprint(w.first.port) {
				t.Errorf("the pod that listens answers %q", got)
			}
			if got := dial(secondPod, w.second); got != "" {
				t.Errorf("the pod that does not listen answers %q", got)
			}
			w.second.listen(t)
			waitFor(t, w.world, "both to be known to listen", healthy("2"))
			if got := dial(secondPod, w.second); got != fmt.Sprint(w.second.port) {
				t.Errorf("the pod that listens by now answers %q", got)
			}
		})
	}
}
