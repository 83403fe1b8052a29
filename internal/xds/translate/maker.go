package translate

import (
	"fmt"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// maker makes messages and resources, and keeps the first error, so that a tree of
// messages can be written as one expression.
type maker struct {
	err error
}

// pack checks a message against the rules of Envoy's API and puts it into an Any.
func (m *maker) pack(msg proto.Message) *anypb.Any {
	m.check(msg)
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	if err != nil {
		m.fail(fmt.Errorf("marshalling %s: %w", msg.ProtoReflect().Descriptor().FullName(), err))
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(msg.ProtoReflect().Descriptor().FullName()), Value: body}
}

// resource checks and marshals a message that proxies subscribe to.
func (m *maker) resource(msg proto.Message, named string) *resource.Resource {
	m.check(msg)
	r, err := resource.New(msg, named)
	if err != nil {
		m.fail(err)
	}
	return r
}

func (m *maker) check(msg proto.Message) {
	v, ok := msg.(interface{ Validate() error })
	if !ok {
		return
	}
	if err := v.Validate(); err != nil {
		m.fail(fmt.Errorf("checking %s: %w", msg.ProtoReflect().Descriptor().FullName(), err))
	}
}

func (m *maker) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

func (m *maker) extension(of string, msg proto.Message) *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{Name: of, TypedConfig: m.pack(msg)}
}

func (m *maker) networkFilter(of string, msg proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: of, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: m.pack(msg)}}
}

func (m *maker) listenerFilter(of string, msg proto.Message) *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{Name: of, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: m.pack(msg)}}
}

func (m *maker) httpFilter(of string, msg proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: of, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: m.pack(msg)}}
}

func (m *maker) transportSocket(of string, msg proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{Name: of, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: m.pack(msg)}}
}

// parts are messages that many resources hold, made once for the settings of all
// proxies. Nothing writes to them.
type parts struct {
	shared *ir.Shared

	requestLog []*accesslogv3.AccessLog
	// callLog is of requests that the application sends: they are counted besides.
	callLog       []*accesslogv3.AccessLog
	connectionLog []*accesslogv3.AccessLog
	refusalLog    []*accesslogv3.AccessLog
	deniedLog     []*accesslogv3.AccessLog

	originalDst    *listenerv3.ListenerFilter
	router         *hcmv3.HttpFilter
	toMetadata     *hcmv3.HttpFilter
	inboundFilters []*hcmv3.HttpFilter
	tracing        *hcmv3.HttpConnectionManager_Tracing

	tls *tlsv3.TlsParameters
	// open is the authorization of a route that answers by itself.
	open *anypb.Any
	// http are the options of HTTP in clusters without limits.
	http map[string]*anypb.Any

	// always belongs to every proxy, outbound to those that call; passing and blocked
	// are two ways with unknown destinations; relay belongs to headless services,
	// and passthrough besides where unknown destinations pass.
	always, outbound, passing, blocked, relay, passthrough, inbound, metrics piece
}

func newParts(shared *ir.Shared) (*parts, error) {
	m := &maker{}
	p := &parts{shared: shared}
	p.makeLogs(m)
	p.makeFilters(m)
	p.makeTransport(m)
	p.makeServers(m)
	p.makeEdges(m)
	return p, m.err
}

// ads says that a resource comes over the aggregated stream, and is waited for.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(0),
	}
}

// duration returns nil for no bound.
func duration(d time.Duration) *durationpb.Duration {
	if d <= 0 {
		return nil
	}
	return durationpb.New(d)
}

func socketAddress(host string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func internalAddress(listener string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
		AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: listener},
	}}}
}
