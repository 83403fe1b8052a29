package serve

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// TestPacketsSayWhatMessagesSay compares the bytes of a packet with the message that a
// proxy is to read.
func TestPacketsSayWhatMessagesSay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringMatching(`[a-z/|]{0,200}`)
		want := &discoveryv3.DeltaDiscoveryResponse{
			TypeUrl: text.Draw(rt, "type"), Nonce: text.Draw(rt, "nonce"), RemovedResources: rapid.SliceOfN(text, 0, 3).Draw(rt, "removed"),
		}
		p := &packet{response: proto.CloneOf(want)}
		for range rapid.IntRange(0, 5).Draw(rt, "resources") {
			r := resource.Of(text.Draw(rt, "type"), text.Draw(rt, "name"), text.Draw(rt, "version"),
				rapid.SliceOfN(rapid.Byte(), 0, 20_000).Draw(rt, "body"))
			p.resources = append(p.resources, r)
			want.Resources = append(want.Resources, &discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: &anypb.Any{TypeUrl: r.TypeURL, Value: r.Body}})
		}
		slices, err := newCodec().Marshal(p)
		if err != nil {
			rt.Fatal(err)
		}
		var got discoveryv3.DeltaDiscoveryResponse
		if err := proto.Unmarshal(slices.Materialize(), &got); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(want, &got, protocmp.Transform()); diff != "" {
			rt.Errorf("a proxy reads (-want +got):\n%s", diff)
		}
	})
}

// TestPacketsCopyNoResource holds what a response takes to what is not in its resources.
func TestPacketsCopyNoResource(t *testing.T) {
	t.Parallel()
	p := &packet{response: &discoveryv3.DeltaDiscoveryResponse{TypeUrl: resource.ClusterType, Nonce: "1"}}
	for range 100 {
		p.resources = append(p.resources, resource.Of(resource.ClusterType, "shop/web|80", "1", make([]byte, 10_000)))
	}
	result := testing.Benchmark(func(b *testing.B) {
		b.Helper()
		for b.Loop() {
			if _, err := newCodec().Marshal(p); err != nil {
				b.Fatal(err)
			}
		}
	})
	if most := int64(8 << 10); result.AllocedBytesPerOp() > most {
		t.Errorf("a response of a million bytes takes %d bytes, want at most %d", result.AllocedBytesPerOp(), most)
	}
}
