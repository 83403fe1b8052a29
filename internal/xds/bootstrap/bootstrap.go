// Package bootstrap writes what a sidecar's Envoy starts from: facts about the
// control plane and the probes of the application go in, three JSON documents come
// out. Nothing in them is secret, and nothing tells one pod from another: the name
// of the proxy is given by --service-node and --service-cluster, so that pods alike
// have the same documents.
//
// The documents hold only what must work before, or without, the control plane: the
// way to it, the admin interface on loopback, and listeners that answer the kubelet.
// Everything else comes by xDS. The package knows no Kubernetes and no mesh.
package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	internallistenerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// Places of files in the sidecar's container.
const (
	// Dir holds the documents of this package.
	Dir = name.ConfigDir
	// BootstrapFile is the document that Envoy is started with, in Dir.
	BootstrapFile = "bootstrap.json"
	// CertificateFile tells where the proxy's own certificate and key are, in Dir.
	CertificateFile = name.CertificateDocument
	// ValidationFile tells where the roots are that the control plane is verified with, in Dir.
	ValidationFile = "sds-validation.json"
	// IdentityDir holds the certificate and the key.
	IdentityDir = "/var/run/osm/identity"
	// CredentialsFile holds the key and then the chain, in IdentityDir.
	CredentialsFile = "credentials.pem"
	// TrustDir holds the roots.
	TrustDir = "/var/run/osm/trust"
	// TrustFile holds the roots, in TrustDir.
	TrustFile = "ca.pem"
)

// Ports that every sidecar listens on from its start.
const (
	// AdminPort is Envoy's own interface, on loopback.
	AdminPort = 15000
	// ReadyPort answers /ready once the sidecar has its configuration.
	ReadyPort = 15905
)

// maxConnections bounds the connections of one sidecar where the Config is silent.
const maxConnections = 100_000

// statsEviction is how often series are looked at that may be dropped: those that were not
// changed since the time before.
const statsEviction = time.Hour

// maxRegex is the size, in instructions, of the longest compiled regular expression
// that Envoy takes. Its own bound of 100 refuses routes that OSM's users have.
const maxRegex = 4096

// Config says what one kind of sidecar starts from.
type Config struct {
	// ControlPlaneHost and ControlPlanePort are where configuration comes from.
	ControlPlaneHost string
	ControlPlanePort uint16
	// ControlPlaneName is the DNS name that the certificate of the control plane must have:
	// one that roots sign for and, by the constraints on their names, no intermediate can.
	ControlPlaneName string
	// MaxConnections bounds the connections that the sidecar has accepted; 0 is 100,000.
	MaxConnections uint32
	// Probes are listeners that answer the kubelet.
	Probes []Probe
}

// Build returns the document that Envoy is started with.
func Build(c Config) ([]byte, error) {
	if c.ControlPlaneHost == "" || c.ControlPlanePort == 0 || c.ControlPlaneName == "" {
		return nil, errors.New("the control plane's host, port and name are all needed")
	}
	listeners, clusters, err := probes(c.Probes)
	if err != nil {
		return nil, err
	}
	b := &bootstrapv3.Bootstrap{
		Admin: admin(),
		BootstrapExtensions: []*corev3.TypedExtensionConfig{
			extension("envoy.bootstrap.internal_listener", &internallistenerv3.InternalListener{}),
		},
		// Statistics of what was never used are not kept.
		DeferredStatOptions: &bootstrapv3.Bootstrap_DeferredStatOptions{EnableDeferredCreationStats: true},
		// Series of requests that stand still, as those of pods that are gone, are dropped.
		StatsEviction:    &bootstrapv3.Bootstrap_StatsEvictionInterval{StatsEvictionInterval: durationpb.New(statsEviction)},
		DynamicResources: dynamicResources(),
		LayeredRuntime:   runtime(),
		OverloadManager:  overload(c),
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Listeners: append([]*listenerv3.Listener{readyListener()}, listeners...),
			Clusters:  append([]*clusterv3.Cluster{controlPlane(c), adminCluster()}, clusters...),
		},
	}
	return document(b)
}

// admin is on loopback, and only what reads is open: nothing in the pod can stop
// the proxy, drain it or turn its runtime through it.
func admin() *bootstrapv3.Admin {
	a := &bootstrapv3.Admin{
		Address:               address("127.0.0.1", AdminPort),
		IgnoreGlobalConnLimit: true,
	}
	for _, path := range []string{"/certs", "/clusters", "/config_dump", "/init_dump", "/listeners", "/memory", "/server_info", "/stats"} {
		a.AllowPaths = append(a.AllowPaths, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: path}})
	}
	for _, path := range []string{"/", "/help", "/ready", "/runtime"} {
		a.AllowPaths = append(a.AllowPaths, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: path}})
	}
	return a
}

// dynamicResources are waited for without limit: a sidecar without configuration
// serves nothing, rather than something else.
func dynamicResources() *bootstrapv3.Bootstrap_DynamicResources {
	ads := &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(0),
	}
	return &bootstrapv3.Bootstrap_DynamicResources{
		CdsConfig: ads,
		LdsConfig: ads,
		AdsConfig: &corev3.ApiConfigSource{
			ApiType:                   corev3.ApiConfigSource_DELTA_GRPC,
			TransportApiVersion:       corev3.ApiVersion_V3,
			SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*corev3.GrpcService{{
				TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
					ClusterName: name.ControlPlaneCluster,
					// Back within seconds, yet spread where all proxies come back at once.
					RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
						BaseInterval: durationpb.New(500 * time.Millisecond), MaxInterval: durationpb.New(10 * time.Second),
					}},
				}},
			}},
		},
	}
}

func runtime() *bootstrapv3.LayeredRuntime {
	number := structpb.NewNumberValue(maxRegex)
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name: "static",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: map[string]*structpb.Value{
			"re2.max_program_size.error_level": number,
			"re2.max_program_size.warn_level":  number,
			// Else authorization takes any value of a header that was given twice, while the
			// application may read another. Joined, as routes compare them, none matches.
			"envoy.reloadable_features.rbac_match_headers_individually": structpb.NewBoolValue(false),
		}}},
	}}}
}

func overload(c Config) *overloadv3.OverloadManager {
	limit := int64(maxConnections)
	if c.MaxConnections > 0 {
		limit = int64(c.MaxConnections)
	}
	return &overloadv3.OverloadManager{ResourceMonitors: []*overloadv3.ResourceMonitor{{
		Name: "envoy.resource_monitors.global_downstream_max_connections",
		ConfigType: &overloadv3.ResourceMonitor_TypedConfig{
			TypedConfig: pack(&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: limit}),
		},
	}}}
}

// document writes a message as JSON, the same for the same contents in every build.
func document(m proto.Message) ([]byte, error) {
	if err := validate(m); err != nil {
		return nil, fmt.Errorf("checking %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	loose, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	// protojson puts spaces at random; encoding/json does not, and sorts keys.
	var value any
	decoder := json.NewDecoder(bytes.NewReader(loose))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("reading back %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return json.Marshal(value)
}

// validate checks a message, and what is packed inside it, against the rules of Envoy's API.
func validate(m proto.Message) error {
	return protorange.Range(m.ProtoReflect(), func(at protopath.Values) error {
		inner, ok := at.Index(-1).Value.Interface().(protoreflect.Message)
		if !ok {
			return nil
		}
		if v, ok := inner.Interface().(interface{ Validate() error }); ok {
			return v.Validate()
		}
		return nil
	})
}

// pack puts a message of Envoy's API into an Any. It cannot fail: what is packed
// here holds constants and numbers only, or text that document checks as well.
func pack(m proto.Message) *anypb.Any {
	a := &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName())}
	if body, err := (proto.MarshalOptions{Deterministic: true}).Marshal(m); err == nil {
		a.Value = body
	}
	return a
}

func extension(of string, m proto.Message) *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{Name: of, TypedConfig: pack(m)}
}

func address(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}
