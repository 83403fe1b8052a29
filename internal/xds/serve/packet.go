package serve

import (
	"fmt"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// packet is a response as it goes onto the wire: what the loop made of it, and the
// resources that belong into it. Their bytes are sent from where they are: a response to
// a thousand proxies takes no more memory than one, however slowly they read.
type packet struct {
	response  *discoveryv3.DeltaDiscoveryResponse
	resources []*resource.Resource
}

// codec writes packets, and everything else as gRPC does.
type codec struct {
	encoding.CodecV2
}

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	p, ok := v.(*packet)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	if len(p.response.GetResources()) > 0 {
		return nil, fmt.Errorf("a response with %d resources of its own", len(p.response.GetResources()))
	}
	rest, err := c.CodecV2.Marshal(p.response)
	if err != nil {
		return nil, err
	}
	out := make(mem.BufferSlice, 0, len(p.resources)+len(rest))
	for _, r := range p.resources {
		out = append(out, mem.SliceBuffer(r.Field))
	}
	return append(out, rest...), nil
}
