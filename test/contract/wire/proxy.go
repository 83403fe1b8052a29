package wire

import (
	"fmt"
	"net/netip"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// Proxy is what one proxy was sent.
type Proxy struct {
	listeners   map[string]*listenerv3.Listener
	routes      map[string]*routev3.RouteConfiguration
	clusters    map[string]*clusterv3.Cluster
	assignments map[string]*endpointv3.ClusterLoadAssignment
}

// NewProxy reads resources and load assignments, and checks every message of them, and
// all that is packed inside, against the rules of Envoy's API.
func NewProxy(set *resource.Set, assignments []*resource.Resource) (*Proxy, error) {
	p := &Proxy{assignments: map[string]*endpointv3.ClusterLoadAssignment{}}
	var err error
	if p.listeners, err = read[listenerv3.Listener](set, resource.ListenerType); err != nil {
		return nil, err
	}
	if p.routes, err = read[routev3.RouteConfiguration](set, resource.RouteType); err != nil {
		return nil, err
	}
	if p.clusters, err = read[clusterv3.Cluster](set, resource.ClusterType); err != nil {
		return nil, err
	}
	if _, err = read[tlsv3.Secret](set, resource.SecretType); err != nil {
		return nil, err
	}
	for _, r := range assignments {
		var a endpointv3.ClusterLoadAssignment
		if err := readOne(r, &a); err != nil {
			return nil, err
		}
		p.assignments[r.Name] = &a
	}
	return p, nil
}

func read[M any, P interface {
	*M
	proto.Message
}](set *resource.Set, typeURL string) (map[string]P, error) {
	out := map[string]P{}
	for n, r := range set.All(typeURL) {
		out[n] = P(new(M))
		if err := readOne(r, out[n]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func readOne(r *resource.Resource, into proto.Message) error {
	if err := proto.Unmarshal(r.Body, into); err != nil {
		return fmt.Errorf("reading %s %s: %w", r.TypeURL, r.Name, err)
	}
	if err := validateAll(into); err != nil {
		return fmt.Errorf("checking %s %s: %w", r.TypeURL, r.Name, err)
	}
	return nil
}

// validateAll checks a message and everything that is packed inside it.
func validateAll(msg proto.Message) error {
	return protorange.Range(msg.ProtoReflect(), func(at protopath.Values) error {
		inner, ok := at.Index(-1).Value.Interface().(protoreflect.Message)
		if !ok {
			return nil
		}
		packed, ok := inner.Interface().(interface{ ValidateAll() error })
		if !ok || at.Len() > 1 && at.Index(-1).Step.Kind() != protopath.AnyExpandStep {
			return nil
		}
		return packed.ValidateAll()
	})
}

// unpack reads what is packed; a type other than the wanted one is an error.
func unpack[M any, P interface {
	*M
	proto.Message
}](from *anypb.Any) (P, error) {
	out := P(new(M))
	if err := from.UnmarshalTo(out); err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", from.GetTypeUrl(), err)
	}
	return out, nil
}

// isAddress reports whether an address of Envoy's is this one.
func isAddress(a *corev3.Address, address netip.Addr, port uint16) bool {
	s := a.GetSocketAddress()
	return s.GetAddress() == address.String() && s.GetPortValue() == uint32(port)
}
