package serve_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/testkit/port"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// TestTrapsUnderLoad leads a real Envoy through what delta clients are known to get stuck
// in, while requests go through it: not one may fail, and those that follow must go
// where they should.
func TestTrapsUnderLoad(t *testing.T) {
	t.Parallel()
	envoy := os.Getenv("OSM_TEST_ENVOY")
	if envoy == "" {
		t.Skip("OSM_TEST_ENVOY does not name an Envoy")
	}
	for name, trap := range map[string]func(ctx context.Context, t *testing.T, r *road){
		"a cluster is removed and added again":              removedAndAdded,
		"endpoints come after a cluster warms":              endpointsComeLate,
		"a cluster changes while its endpoints do not":      endpointsStay,
		"the wildcard holds after a reconnect":              wildcardAfterReconnect,
		"versions hold after a failover to another replica": versionsAfterFailover,
		"everything changes before anything is settled":     nothingSettles,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
			t.Cleanup(cancel) // after the clients have ended
			trap(ctx, t, newRoad(ctx, t, envoy))
		})
	}
}

// removedAndAdded is Envoy having the endpoints of a cluster that it no longer has.
func removedAndAdded(ctx context.Context, t *testing.T, r *road) {
	t.Helper()
	for round := range 10 {
		r.set(t, "two", r.cluster(t, "two", 1))
		r.arrives(ctx, t, "two")
		if round%2 == 0 {
			r.settled(ctx, t) // the cluster is gone
		}
		r.set(t, "one", r.cluster(t, "one", 1))
		r.arrives(ctx, t, "one")
	}
}

// endpointsComeLate is a cluster that warms until the control plane knows its endpoints.
func endpointsComeLate(ctx context.Context, t *testing.T, r *road) {
	t.Helper()
	r.set(t, "late", r.cluster(t, "one", 1), r.cluster(t, "late", 1))
	r.proxy.wait(ctx, t, "the cluster warms", func() bool { return len(r.proxy.clusters(ctx, t, "dynamic_warming_clusters")) == 1 })
	r.quiet(ctx, t, "one")
	r.h.cache.SetShared("late", r.assignment(t, "late", "two"))
	r.arrives(ctx, t, "two")
}

// endpointsStay is a cluster that warms again, and would wait for endpoints that it has.
func endpointsStay(ctx context.Context, t *testing.T, r *road) {
	t.Helper()
	for form := 2; form < 12; form++ {
		r.set(t, "one", r.cluster(t, "one", form))
		r.settled(ctx, t)
		if warming := r.proxy.clusters(ctx, t, "dynamic_warming_clusters"); len(warming) > 0 {
			t.Fatalf("clusters %v still warm after form %d was acknowledged", warming, form)
		}
	}
	r.h.cache.SetShared("one", r.assignment(t, "one", "two"))
	r.arrives(ctx, t, "two")
}

// wildcardAfterReconnect is a proxy that names what it has, and is sent that only.
func wildcardAfterReconnect(ctx context.Context, t *testing.T, r *road) {
	t.Helper()
	r.link.to("")
	r.proxy.wait(ctx, t, "it is gone", func() bool { return len(r.h.server.Proxies()) == 0 })
	r.quiet(ctx, t, "one")
	r.set(t, "two", r.cluster(t, "two", 1)) // while it is away
	r.link.to(r.h.address)
	r.arrives(ctx, t, "two")
	r.settled(ctx, t)
	r.set(t, "one", r.cluster(t, "one", 1), r.cluster(t, "two", 1)) // and after it is back
	r.arrives(ctx, t, "one")
}

// versionsAfterFailover is a proxy that has everything, and is sent it again.
func versionsAfterFailover(ctx context.Context, t *testing.T, r *road) {
	t.Helper()
	other := start(t)
	other.mu.Lock()
	other.trusted = r.h.ca.pool()
	other.mu.Unlock()
	other.certify(r.h.ca.controlPlane(t))
	other.pod("1", "a")
	first, second := r.h, other
	for range 3 {
		r.fill(t, second)
		r.link.to(second.address)
		r.proxy.wait(ctx, t, "it is at the other replica", func() bool { return len(second.server.Proxies()) == 1 })
		r.h = second
		r.settled(ctx, t)
		if sent := second.metric(t, "osm_proxy_response_send_success_count", ""); sent != r.sentAt[second] {
			t.Errorf("a failover with nothing changed took %v responses, want none", sent-r.sentAt[second])
		}
		r.set(t, "two", r.cluster(t, "two", 1))
		r.arrives(ctx, t, "two")
		r.set(t, "one", r.cluster(t, "one", 1))
		r.arrives(ctx, t, "one")
		r.settled(ctx, t)
		r.sentAt[second] = second.metric(t, "osm_proxy_response_send_success_count", "")
		r.sentAt[first] = first.metric(t, "osm_proxy_response_send_success_count", "")
		first, second = second, first
	}
}

// nothingSettles changes clusters, endpoints and routes faster than a proxy can follow: a
// cluster goes while its next form warms.
func nothingSettles(ctx context.Context, t *testing.T, r *road) {
	t.Helper()
	for i := range 150 {
		to := []string{"one", "two"}[i%2]
		clusters := []*resource.Resource{r.cluster(t, to, 1+i/7%3)}
		if i%3 == 0 {
			clusters = append(clusters, r.cluster(t, []string{"two", "one"}[i%2], 1))
		}
		r.set(t, to, clusters...)
		r.h.cache.SetShared("one", r.assignment(t, "one", []string{"one", "two"}[i/5%2]))
		r.pause(ctx, t, i%11)
	}
	r.h.cache.SetShared("one", r.assignment(t, "one", "one"))
	r.set(t, "two", r.cluster(t, "two", 1))
	r.arrives(ctx, t, "two")
	r.settled(ctx, t)
}

// road is a proxy on the way from clients that never stop to two servers, "one" and
// "two". A cluster is named as the server that its endpoints are at first.
type road struct {
	h       *harness
	link    *forwarder
	proxy   *envoyProcess
	port    uint16
	servers map[string]*httptest.Server
	traffic *requests
	now     *resource.Set
	// sentAt is how many responses a replica had sent when the proxy left it.
	sentAt map[*harness]float64
}

// newRoad returns one on which requests go to "one", and checks at the test's end that
// none has failed.
func newRoad(ctx context.Context, t *testing.T, envoy string) *road {
	t.Helper()
	r := &road{h: start(t), port: port.Free(t), servers: map[string]*httptest.Server{}, sentAt: map[*harness]float64{}}
	for _, name := range []string{"one", "two"} {
		r.servers[name] = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }))
		t.Cleanup(r.servers[name].Close)
	}
	p := r.h.pod("1", "a")
	r.set(t, "one", r.cluster(t, "one", 1))
	r.fill(t, r.h)
	r.link = newForwarder(t, r.h.address)
	r.proxy = r.h.runEnvoy(ctx, t, envoy, p, r.link.address)
	r.proxy.wait(ctx, t, "it serves", func() bool { return strings.HasPrefix(r.proxy.get(ctx, t, "/ready"), "LIVE") })
	r.traffic = drive(t, fmt.Sprintf("http://127.0.0.1:%d/", r.port))
	r.arrives(ctx, t, "one")
	return r
}

// fill has a replica know all that the proxy's replica does.
func (r *road) fill(t *testing.T, h *harness) {
	t.Helper()
	for name := range r.servers {
		h.cache.SetShared(name, r.assignment(t, name, name))
	}
	h.cache.SetClass("a", r.now)
}

// set has requests go to a cluster, and the proxy have these.
func (r *road) set(t *testing.T, to string, clusters ...*resource.Resource) {
	t.Helper()
	r.now = set(t, append(clusters, httpListener(t, "in", r.port), routeTo(t, "in", to))...)
	r.h.cache.SetClass("a", r.now)
}

// cluster returns a form of a cluster whose endpoints have its name.
func (*road) cluster(t *testing.T, name string, form int) *resource.Resource {
	t.Helper()
	return edsCluster(t, name, form, name)
}

// assignment returns the endpoints of that name, at a server.
func (r *road) assignment(t *testing.T, name, server string) *resource.Resource {
	t.Helper()
	host, at, err := net.SplitHostPort(r.servers[server].Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseUint(at, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return made(t, name, &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socket(host, uint32(number))}}}},
	}}})
}

// settled waits until the proxy has all that it should.
func (r *road) settled(ctx context.Context, t *testing.T) {
	t.Helper()
	r.proxy.wait(ctx, t, "it is in sync", func() bool {
		all := r.h.server.Proxies()
		return len(all) == 1 && all[0].InSync
	})
}

// arrives waits until requests are answered by a server, and by no other any more.
func (r *road) arrives(ctx context.Context, t *testing.T, server string) {
	t.Helper()
	r.proxy.wait(ctx, t, "requests arrive at "+server, func() bool { return r.traffic.only(server, 30) })
}

// quiet checks that requests go on being answered by a server.
func (r *road) quiet(ctx context.Context, t *testing.T, server string) {
	t.Helper()
	r.pause(ctx, t, 100)
	if !r.traffic.only(server, 100) {
		t.Errorf("the last requests were not all answered by %s", server)
	}
}

// pause waits for a number of requests.
func (r *road) pause(ctx context.Context, t *testing.T, requests int) {
	t.Helper()
	until := r.traffic.count() + requests
	r.proxy.wait(ctx, t, "requests go on", func() bool { return r.traffic.count() >= until })
}

// requests are those of clients that ask on connections that they keep and on new ones.
type requests struct {
	mu sync.Mutex
	// Protected by mu: who answered, in order, and what went wrong.
	answers []string
	failed  []string
}

// drive sends requests until the test's end, where it holds that none has failed.
func drive(t *testing.T, url string) *requests {
	t.Helper()
	d := &requests{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var all sync.WaitGroup
	for i := range 3 {
		transport := &http.Transport{DisableKeepAlives: i == 0}
		all.Go(func() {
			defer transport.CloseIdleConnections()
			for ctx.Err() == nil {
				d.ask(&http.Client{Transport: transport, Timeout: 20 * time.Second}, url)
				time.Sleep(time.Millisecond)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		all.Wait()
		if len(d.failed) > 0 {
			t.Errorf("%d of %d requests failed, such as: %s", len(d.failed), len(d.failed)+len(d.answers), strings.Join(d.failed[:min(5, len(d.failed))], "; "))
		}
		if len(d.answers) < 100 {
			t.Errorf("%d requests were answered, too few to tell", len(d.answers))
		}
	})
	return d
}

// ask sends one request and counts what came of it.
func (d *requests) ask(client *http.Client, url string) {
	status, body := 0, ""
	resp, err := client.Get(url)
	if err == nil {
		var all []byte
		all, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		status, body = resp.StatusCode, string(all)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil || status != http.StatusOK {
		d.failed = append(d.failed, fmt.Sprintf("%d %s %v", status, body, err))
		return
	}
	d.answers = append(d.answers, body)
}

func (d *requests) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.answers) + len(d.failed)
}

// only reports whether the last requests were all answered by one server.
func (d *requests) only(server string, last int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.answers) < last {
		return false
	}
	for _, a := range d.answers[len(d.answers)-last:] {
		if a != server {
			return false
		}
	}
	return true
}

// httpListener listens on a port of 127.0.0.1, with the routes of its own name.
func httpListener(tb testing.TB, name string, number uint16) *resource.Resource {
	tb.Helper()
	ads := &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3, InitialFetchTimeout: durationpb.New(0),
	}
	manager := packed(tb, &hcmv3.HttpConnectionManager{
		StatPrefix:     name,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: name, ConfigSource: ads}},
		HttpFilters:    []*hcmv3.HttpFilter{{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(tb, &routerv3.Router{})}}},
	})
	return made(tb, name, &listenerv3.Listener{
		Name: name, Address: socket("127.0.0.1", uint32(number)),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{Name: "http", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager}}}}},
	})
}

func packed(tb testing.TB, m proto.Message) *anypb.Any {
	tb.Helper()
	a, err := anypb.New(m)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// routeTo sends everything to a cluster.
func routeTo(tb testing.TB, name, cluster string) *resource.Resource {
	tb.Helper()
	return made(tb, name, &routev3.RouteConfiguration{
		Name: name, ValidateClusters: wrapperspb.Bool(false),
		VirtualHosts: []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}},
		}}}},
	})
}
