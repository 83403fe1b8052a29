package serve_test

import (
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

// FuzzRequests sends a server whatever a pod with a good certificate may send: a
// sequence of requests, each with its length before it. Nothing may panic, and
// another proxy is served on.
func FuzzRequests(f *testing.F) {
	for _, requests := range [][]*discoveryv3.DeltaDiscoveryRequest{
		{{TypeUrl: cds}, {TypeUrl: cds, ResponseNonce: "1"}, {TypeUrl: eds, ResourceNamesSubscribe: []string{"e"}}, {TypeUrl: eds, ResponseNonce: "2"}},
		{{TypeUrl: cds, InitialResourceVersions: map[string]string{"one": "1", "x": "?"}}, {TypeUrl: cds, ResourceNamesUnsubscribe: []string{"*"}}},
		{{TypeUrl: rds, ResourceNamesSubscribe: []string{"r", "*", "", "?"}}, {TypeUrl: rds, ResponseNonce: "1", ErrorDetail: &rpcstatus.Status{Message: "no"}}},
		{{TypeUrl: lds, ResourceNamesSubscribe: []string{"*", "in"}, ResourceNamesUnsubscribe: []string{"in"}}, {TypeUrl: lds, ResponseNonce: "1", ResourceNamesUnsubscribe: []string{"*"}}},
		{{TypeUrl: "type.googleapis.com/x", ResourceNamesSubscribe: []string{"y"}}, {TypeUrl: sds, ResourceNamesSubscribe: []string{"s"}}, {}},
	} {
		var seed []byte
		for _, req := range requests {
			body, err := proto.Marshal(req)
			if err != nil {
				f.Fatal(err)
			}
			seed = protowire.AppendBytes(seed, body)
		}
		f.Add(seed)
	}
	h := start(f, func(o *serve.Options) {
		o.Limits = serve.Limits{RequestRate: 1_000_000, RequestBurst: 1_000_000, Hold: time.Millisecond, ResponseBytes: 1, Streams: 1000}
	})
	h.cache.SetClass("a", set(f, cluster(f, "one", "1", "e"), cluster(f, "two", "1", "f"), listener("in", "1"), route("r", "1"), secret("s", "1")))
	h.cache.SetShared("e", endpointsOf("e", "1"))
	p := h.pod("1", "a")
	good := h.connect(f, h.pod("2", "a"))
	good.ask(rds, "r")
	good.ack(good.next(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := h.connect(t, p)
		for len(data) > 0 {
			body, n := protowire.ConsumeBytes(data)
			if n < 0 {
				break
			}
			data = data[n:]
			var req discoveryv3.DeltaDiscoveryRequest
			if proto.Unmarshal(body, &req) != nil {
				continue
			}
			req.Node = nil // a stranger's id is refused, which other tests try
			c.send(&req)
		}
		c.ask("type.googleapis.com/last", "last")
		for ended := false; !ended; {
			select {
			case r := <-c.got:
				ended = r.GetTypeUrl() == "type.googleapis.com/last"
			case <-c.ended:
				if status.Code(c.err) == codes.Internal {
					t.Errorf("the stream failed: %v", c.err)
				}
				ended = true
			case <-time.After(patience):
				t.Fatal("no answer")
			}
		}
		c.close()
		good.ask(rds, "r")
		good.take(t, "RDS +r")
	})
}
