package main

import (
	"errors"
	"fmt"
	"sync"
	"unique"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// kinds are the types that proxies ask for, in the order of their numbers.
func kinds() []string {
	return []string{resource.ClusterType, resource.EndpointType, resource.ListenerType, resource.RouteType, resource.SecretType}
}

const (
	clusters = iota
	endpoints
	listeners
	routes
	secrets
	kindCount
)

func kindOf(url string) (int, error) {
	for i, k := range kinds() {
		if k == url {
			return i, nil
		}
	}
	return 0, fmt.Errorf("a response of type %q", url)
}

// got is a resource of a response: its name and its version, held once for all proxies.
type got struct {
	name, version string
	body          []byte // only until the response is taken
}

// response is what a proxy reads of a response. Contents are left as they are.
type response struct {
	kind    int
	nonce   string
	got     []got
	removed []string
}

// codec reads responses without unmarshalling what is in them.
type codec struct{}

// Name implements encoding.CodecV2.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("a request of type %T", v)
	}
	raw, err := proto.Marshal(m)
	return mem.BufferSlice{mem.SliceBuffer(raw)}, err
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*response)
	if !ok {
		return fmt.Errorf("reading into %T", v)
	}
	return r.read(data.Materialize())
}

// read reads a DeltaDiscoveryResponse.
func (r *response) read(raw []byte) error {
	const resourcesField, typeField, nonceField, removedField = 2, 4, 5, 6
	return fields(raw, func(field protowire.Number, value []byte) error {
		var err error
		switch field {
		case resourcesField:
			var one got
			one, err = readResource(value)
			r.got = append(r.got, one)
		case typeField:
			r.kind, err = kindOf(string(value))
		case nonceField:
			r.nonce = string(value)
		case removedField:
			r.removed = append(r.removed, unique.Make(string(value)).Value())
		default: // nobody asks for the rest
		}
		return err
	})
}

func readResource(raw []byte) (got, error) {
	const versionField, anyField, nameField, valueField = 1, 2, 3, 2
	var out got
	err := fields(raw, func(field protowire.Number, value []byte) error {
		switch field {
		case versionField:
			out.version = unique.Make(string(value)).Value()
		case nameField:
			out.name = unique.Make(string(value)).Value()
		case anyField:
			return fields(value, func(field protowire.Number, value []byte) error {
				if field == valueField {
					out.body = value
				}
				return nil
			})
		default: // as above
		}
		return nil
	})
	return out, err
}

// fields calls take with each field of a message that has a length.
func fields(raw []byte, take func(field protowire.Number, value []byte) error) error {
	for len(raw) > 0 {
		field, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		raw = raw[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(field, kind, raw); n < 0 {
				return protowire.ParseError(n)
			}
			raw = raw[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := take(field, value); err != nil {
			return err
		}
		raw = raw[n:]
	}
	return nil
}

// resourceID tells one resource in one version from all others.
type resourceID struct {
	kind          int
	name, version string
}

// catalogue knows what clusters and listeners refer to: each is read once, whoever gets
// it first, so that a fleet does not compute what Envoys would.
type catalogue struct {
	mu sync.Mutex
	// Protected by mu.
	refers map[resourceID][]string
}

// references returns the names of load assignments or routes that a resource refers to.
// The body is only read if nobody has had the resource yet.
func (c *catalogue) references(kind int, r got) ([]string, error) {
	if kind != clusters && kind != listeners {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := resourceID{kind, r.name, r.version}
	if names, ok := c.refers[key]; ok {
		return names, nil
	}
	if r.body == nil {
		return nil, fmt.Errorf("%s %q was never read", kinds()[kind], r.name)
	}
	names, err := referencesOf(kind, r.body)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", r.name, err)
	}
	c.refers[key] = names
	return names, nil
}

func referencesOf(kind int, body []byte) ([]string, error) {
	if kind == clusters {
		var c clusterv3.Cluster
		if err := proto.Unmarshal(body, &c); err != nil {
			return nil, err
		}
		if c.GetType() != clusterv3.Cluster_EDS {
			return nil, nil
		}
		if name := c.GetEdsClusterConfig().GetServiceName(); name != "" {
			return []string{unique.Make(name).Value()}, nil
		}
		return []string{unique.Make(c.GetName()).Value()}, nil
	}
	var l listenerv3.Listener
	if err := proto.Unmarshal(body, &l); err != nil {
		return nil, err
	}
	var names []string
	err := protorange.Range(l.ProtoReflect(), func(p protopath.Values) error {
		if m, ok := p.Index(-1).Value.Interface().(interface{ Interface() proto.Message }); ok {
			if rds, ok := m.Interface().(*hcmv3.Rds); ok {
				names = append(names, unique.Make(rds.GetRouteConfigName()).Value())
			}
		}
		return nil
	})
	if errors.Is(err, protorange.Terminate) {
		err = nil
	}
	return names, err
}
