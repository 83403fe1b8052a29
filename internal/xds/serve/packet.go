package serve

import (
	"fmt"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// packet is a response as it goes onto the wire: what the loop made of it, and the
// resources that belong into it. Their bytes are sent from where they are: a response to
// a thousand proxies takes no more memory than one, whoever reads slowly.
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
	return append(p.slices(), rest...), nil
}

// slices are the fields of the resources. What is not in a resource's body is written
// into one buffer for all of them.
func (p *packet) slices() mem.BufferSlice {
	// Source: envoy/service/discovery/v3/discovery.proto, google/protobuf/any.proto.
	const (
		resources, version, name, contents protowire.Number = 2, 1, 3, 2
		typeURL, value                     protowire.Number = 1, 2
	)
	const frame = 6 * 6 // tags and lengths
	size := 0
	for _, r := range p.resources {
		size += frame + len(r.Version) + len(r.Name) + len(r.TypeURL)
	}
	head := make([]byte, 0, size)
	out := make(mem.BufferSlice, 0, 2*len(p.resources)+1)
	field := func(n protowire.Number, length int) {
		head = protowire.AppendTag(head, n, protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(length))
	}
	text := func(n protowire.Number, s string) {
		field(n, len(s))
		head = append(head, s...)
	}
	of := func(length int) int { return protowire.SizeTag(resources) + protowire.SizeBytes(length) }
	for _, r := range p.resources {
		begin := len(head)
		inner := of(len(r.TypeURL)) + of(len(r.Body))
		field(resources, of(len(r.Version))+of(len(r.Name))+of(inner))
		text(version, r.Version)
		text(name, r.Name)
		field(contents, inner)
		text(typeURL, r.TypeURL)
		field(value, len(r.Body))
		out = append(out, mem.SliceBuffer(head[begin:len(head):len(head)]), mem.SliceBuffer(r.Body))
	}
	return out
}
