package serve_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	h := start(t, limits(serve.Limits{Names: 100, NameBytes: 64, MetadataBytes: 1024, RequestBytes: 1 << 20}))
	h.cache.SetClass("a", set(t, route("r", "1")))
	names := func(n int) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = fmt.Sprintf("name-%d", i)
		}
		return out
	}
	versions := map[string]string{}
	for _, name := range names(201) {
		versions[name] = "1"
	}
	huge, err := structpb.NewStruct(map[string]any{"x": strings.Repeat("x", 2000)})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 65)
	tests := map[string]struct {
		requests []*discoveryv3.DeltaDiscoveryRequest
		want     codes.Code
	}{
		"as many names as are allowed are served": {[]*discoveryv3.DeltaDiscoveryRequest{
			{TypeUrl: rds, ResourceNamesSubscribe: append(names(99), "r")},
		}, codes.OK},
		"names are counted over requests": {[]*discoveryv3.DeltaDiscoveryRequest{
			{TypeUrl: rds, ResourceNamesSubscribe: names(99)},
			{TypeUrl: rds, ResourceNamesSubscribe: []string{"a", "r"}},
		}, codes.ResourceExhausted},
		"names that are unsubscribed are not": {[]*discoveryv3.DeltaDiscoveryRequest{
			{TypeUrl: rds, ResourceNamesSubscribe: names(99)},
			{TypeUrl: rds, ResourceNamesUnsubscribe: names(99)},
			{TypeUrl: rds, ResourceNamesSubscribe: []string{"a", "r"}},
		}, codes.OK},
		"many names in one request are refused": {[]*discoveryv3.DeltaDiscoveryRequest{
			{TypeUrl: rds, ResourceNamesSubscribe: names(150), ResourceNamesUnsubscribe: names(51)},
		}, codes.ResourceExhausted},
		"many versions are refused":    {[]*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: cds, InitialResourceVersions: versions}}, codes.ResourceExhausted},
		"a long name is refused":       {[]*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: rds, ResourceNamesSubscribe: []string{long}}}, codes.InvalidArgument},
		"a long version is refused":    {[]*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: cds, InitialResourceVersions: map[string]string{"x": long}}}, codes.InvalidArgument},
		"much metadata is refused":     {[]*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: cds, Node: &corev3.Node{Metadata: huge}}}, codes.ResourceExhausted},
		"a large request is refused":   {[]*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: cds, ResponseNonce: strings.Repeat("x", 1<<20)}}, codes.ResourceExhausted},
		"a request of no type is":      {[]*discoveryv3.DeltaDiscoveryRequest{{}}, codes.InvalidArgument},
		"a request of a huge type is":  {[]*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: strings.Repeat("x", 300)}}, codes.InvalidArgument},
		"types beyond number are also": {foreignTypes(20), codes.InvalidArgument},
	}
	n := 0
	for name, tt := range tests {
		n++
		p := h.pod(fmt.Sprint(n), "a")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := h.connect(t, p)
			for _, req := range tt.requests {
				if req.GetNode() != nil { // keep what the case wants to try
					req.Node.Id, c.node = c.node, ""
				}
				c.send(req)
			}
			if tt.want != codes.OK {
				if err := c.finish(t); status.Code(err) != tt.want {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				return
			}
			for c.has[rds]["r"] == "" {
				c.ack(c.next(t))
			}
		})
	}
}

func foreignTypes(n int) []*discoveryv3.DeltaDiscoveryRequest {
	var out []*discoveryv3.DeltaDiscoveryRequest
	for i := range n {
		out = append(out, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: fmt.Sprintf("type.googleapis.com/t%d", i)})
	}
	return out
}

func TestATypeThatIsNotServed(t *testing.T) {
	t.Parallel()
	const typeURL = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	c := h.connect(t, h.pod("1", "a"))
	c.ask(typeURL, "x", "y")
	r := c.want(t, typeURL+" -x -y")
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResponseNonce: r.GetNonce()})
	c.ask(typeURL)
	c.unask(typeURL, "x")
	c.ask(cds)
	c.take(t, "CDS +one")
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	h := start(t)
	certificate := h.ca.workload(t, h.pod("1", "a"))
	conn, err := h.dial(&certificate)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	filler := metadata.MD{}
	for range 100 {
		filler.Append("x-filler", strings.Repeat("x", 1000))
	}
	ctx = metadata.NewOutgoingContext(ctx, filler)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err == nil {
		_, err = stream.Recv()
	}
	if got := status.Code(err); got != codes.Internal && got != codes.ResourceExhausted && got != codes.Unavailable {
		t.Errorf("got %v, want to be refused", err)
	}
}

func TestAFloodIsReadSlowly(t *testing.T) {
	t.Parallel()
	h := start(t, limits(serve.Limits{RequestRate: 10, RequestBurst: 20}))
	h.cache.SetClass("a", set(t, route("r", "1")))
	c, d := h.connect(t, h.pod("1", "a")), h.connect(t, h.pod("2", "a"))
	d.ask(rds, "r")
	d.take(t, "RDS +r")
	began := time.Now()
	stop := make(chan struct{})
	flooding := make(chan struct{})
	go func() {
		defer close(flooding)
		for {
			select {
			case <-stop:
				return
			case <-c.ended:
				return
			default:
				c.ask(rds, "r") // blocks once nothing is read any more
			}
		}
	}()
	go func() { // the client reads, and never answers
		for {
			select {
			case <-c.got:
			case <-c.ended:
				return
			}
		}
	}()
	// Meanwhile another one, that answers what it gets, is not slowed at all.
	const rounds = 200
	for i := range rounds {
		h.cache.SetClass("a", set(t, route("r", fmt.Sprint("version ", i))))
		d.take(t, "RDS +r")
	}
	took := time.Since(began)
	close(stop)
	c.close()
	<-flooding
	read := h.metric(t, "osm_proxy_xds_request_count", "RDS") - rounds - 2
	if most := 20 + 10*took.Seconds() + 2; read > most {
		t.Errorf("%v requests of the flood were read in %s, want no more than %v", read, took, most)
	}
}

func TestASlowProxyDelaysNobody(t *testing.T) {
	t.Parallel()
	h := start(t, limits(serve.Limits{Stuck: time.Second}))
	big := func(name, version string) *resource.Resource {
		return resource.Of(eds, name, version, make([]byte, 4<<20))
	}
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "e"), cluster(t, "two", "1", "f"), secret("s", "1")))
	h.cache.SetShared("e", big("e", "1"))
	h.cache.SetShared("f", endpointsOf("f", "0"))

	// This one asks and never reads: not one byte of what is beyond the window.
	p := h.pod("1", "a")
	certificate := h.ca.workload(t, p)
	conn, err := h.dial(&certificate)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stuck := &client{stream: stream, node: p.node()}
	stuck.ask(eds, "e", "f")
	stuck.ask(sds, "s") // does not fit into the window any more

	c := h.connect(t, h.pod("2", "a"))
	c.ask(eds, "f")
	c.take(t, "EDS +f")
	for i := range 200 {
		h.cache.SetShared("f", endpointsOf("f", fmt.Sprint("version ", i)))
		c.take(t, "EDS +f")
	}
	wait(t, "the proxy that does not read is gone", func() bool { return len(h.server.Proxies()) == 1 })
	c.quiet(t)
}

func TestAProxyThatSaysNothingIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	h := start(t, limits(serve.Limits{Greeting: 50 * time.Millisecond}))
	c := h.connect(t, h.pod("1", "a"))
	if err := c.finish(t); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
}

func TestProxiesAreBounded(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *serve.Options) { o.MaxProxies = func() int { return 2 } })
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	for _, uid := range []string{"1", "2"} {
		c := h.connect(t, h.pod(uid, "a"))
		c.ask(cds)
		c.take(t, "CDS +one")
		if uid == "2" {
			d := h.connect(t, h.pod("3", "a"))
			d.ask(cds)
			if err := d.finish(t); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("the third: got %v, want ResourceExhausted", err)
			}
			c.close()
		}
	}
	if got := h.metric(t, "osm_proxy_max_connections_rejected", ""); got != 1 {
		t.Errorf("%v rejections are counted, want 1", got)
	}
	wait(t, "one has gone", func() bool { return h.metric(t, "osm_proxy_connect_count", "") == 1 })
	c := h.connect(t, h.pod("3", "a"))
	c.ask(cds)
	c.take(t, "CDS +one")
}

func TestStreamsOfAPodAreBounded(t *testing.T) {
	t.Parallel()
	h := start(t, limits(serve.Limits{Streams: 2}))
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	p := h.pod("1", "a")
	var all []*client
	for range 3 {
		c := h.connect(t, p)
		c.ask(cds)
		c.take(t, "CDS +one")
		all = append(all, c)
	}
	if err := all[0].finish(t); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the oldest: got %v, want ResourceExhausted", err)
	}
	all[1].quiet(t)
	all[2].quiet(t)
	if got := len(h.server.Proxies()); got != 1 {
		t.Errorf("%d proxies are known, want one", got)
	}
}
