package translate

import (
	"cmp"
	"fmt"
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// connectTimeout is Open Service Mesh's.
const connectTimeout = 5 * time.Second

// httpOptions is the key of the options of HTTP in a cluster.
const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// cluster returns the cluster made of a value, and its load assignment.
func (t *Translator) cluster(c *ir.Cluster) (*piece, error) {
	if made, ok := t.clusters[c]; ok {
		return made, nil
	}
	made, err := t.makeCluster(c)
	if err != nil {
		return nil, err
	}
	t.clusters[c] = made
	return made, nil
}

func (t *Translator) makeCluster(c *ir.Cluster) (*piece, error) {
	m := &maker{}
	assignment := resource.EndpointsName(c.Endpoints)
	made := &piece{resources: []*resource.Resource{m.resource(t.parts.endpointCluster(m, c, assignment), c.Name)}}
	made.use(assignment, c.Endpoints)
	if m.err != nil {
		return nil, fmt.Errorf("making cluster %s: %w", c.Name, m.err)
	}
	return made, nil
}

// endpointCluster calls endpoints that come over the stream by themselves.
func (p *parts) endpointCluster(m *maker, c *ir.Cluster, assignment string) *clusterv3.Cluster {
	out := &clusterv3.Cluster{
		Name:                 c.Name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: assignment},
		ConnectTimeout:       durationpb.New(cmp.Or(c.ConnectTimeout, connectTimeout)),
		CircuitBreakers:      circuitBreakers(c.Limits),
		OutlierDetection:     outliers(c.Outliers),
		HealthChecks:         healthChecks(c),
		// Endpoints come and go as the control plane says; their health is no reason to
		// keep one, and few healthy ones are no reason to call the others.
		IgnoreHealthOnHostRemoval: true,
		CommonLbConfig:            &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{}},
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: tcpKeepalive()},
	}
	if c.Protocol == ir.HTTP {
		out.TypedExtensionProtocolOptions = p.httpOptions(m, c.Upstream)
	}
	p.transports(m, c, out)
	if c.OriginalDestination {
		out.LoadBalancingPolicy = m.byOriginalDestination(c)
		return out
	}
	out.LoadBalancingPolicy = m.balance(c.Balance)
	return out
}

// httpOptions speaks to an endpoint as the application spoke: HTTP/1.1 or HTTP/2.
func (p *parts) httpOptions(m *maker, u ir.Upstream) map[string]*anypb.Any {
	if u.Idle == 0 && (u.Limits == nil || u.Limits.MaxRequestsPerConnection == nil) {
		return p.http
	}
	return map[string]*anypb.Any{httpOptions: m.pack(sameProtocol(u))}
}

func sameProtocol(u ir.Upstream) *httpv3.HttpProtocolOptions {
	common := &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(cmp.Or(u.Idle, httpIdle))}
	if u.Limits != nil && u.Limits.MaxRequestsPerConnection != nil {
		common.MaxRequestsPerConnection = wrapperspb.UInt32(*u.Limits.MaxRequestsPerConnection)
	}
	return &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: common,
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
			UseDownstreamProtocolConfig: &httpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
				HttpProtocolOptions:  &corev3.Http1ProtocolOptions{},
				Http2ProtocolOptions: http2(),
			},
		},
	}
}

// circuitBreakers has no bound where none is asked for; Envoy's own would be 1024.
func circuitBreakers(limits *ir.Limits) *clusterv3.CircuitBreakers {
	if limits == nil {
		limits = &ir.Limits{}
	}
	bound := func(n *uint32) *wrapperspb.UInt32Value {
		if n == nil {
			return wrapperspb.UInt32(math.MaxUint32)
		}
		return wrapperspb.UInt32(*n)
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections:     bound(limits.MaxConnections),
		MaxPendingRequests: bound(limits.MaxPendingRequests),
		MaxRequests:        bound(limits.MaxRequests),
		MaxRetries:         bound(limits.MaxRetries),
	}}}
}

// localCluster is the application's own port.
func (p *parts) localCluster(port ir.InboundPort, n string) *clusterv3.Cluster {
	c := staticCluster(n, socketAddress("127.0.0.1", port.Port))
	if port.Protocol == ir.HTTP || len(port.Ingress) > 0 {
		c.TypedExtensionProtocolOptions = p.http
	}
	watchApplication(c, port.Watched)
	return c
}

func staticCluster(n string, addresses ...*corev3.Address) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:                 n,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(connectTimeout),
		CircuitBreakers:      circuitBreakers(nil),
	}
	if len(addresses) > 0 {
		c.LoadAssignment = assignment(n, addresses...)
	}
	return c
}

// passthroughCluster connects to where the application did.
func passthroughCluster() *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                      name.PassthroughCluster,
		ClusterDiscoveryType:      &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		LbPolicy:                  clusterv3.Cluster_CLUSTER_PROVIDED,
		ConnectTimeout:            durationpb.New(connectTimeout),
		CircuitBreakers:           circuitBreakers(nil),
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: tcpKeepalive()},
	}
}

// relayCluster is the listener within the proxy that finds an endpoint by address.
func relayCluster(m *maker) *clusterv3.Cluster {
	c := staticCluster(name.HeadlessRelay, internalAddress(name.HeadlessRelay))
	c.TransportSocket = proxyProtocol(m, destinationTLV)
	return c
}

func assignment(cluster string, addresses ...*corev3.Address) *endpointv3.ClusterLoadAssignment {
	endpoints := make([]*endpointv3.LbEndpoint, 0, len(addresses))
	for _, a := range addresses {
		endpoints = append(endpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: a}},
		})
	}
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: cluster,
		Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: endpoints}},
	}
}

func labels(key, value string) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{key: structpb.NewStringValue(value)}}
}
