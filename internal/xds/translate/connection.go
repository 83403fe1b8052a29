package translate

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A certificate is looked at when a connection is made and never again, so that no
// connection lives for ever. HTTP ones end between requests; a TCP one ends when its
// time is over, which is why it has longer.
const (
	httpAge = time.Hour
	tcpAge  = 24 * time.Hour
	// ageJitter keeps connections that were made together from ending together, in percent.
	ageJitter = 10
)

// httpIdle is when a caller closes a connection that is not used: before the callee
// would, after an hour, so that no request meets a connection that is just closing.
const httpIdle = 30 * time.Minute

// delayedClose is how long a connection that ends is held for what is still under way.
const delayedClose = 100 * time.Millisecond

// Sizes of HTTP/2's windows, and its streams at a time: what one connection can make
// a proxy hold is bounded.
const (
	http2Streams          = 1024
	http2StreamWindow     = 1 << 20
	http2ConnectionWindow = 4 << 20
)

// Statistics of all listeners of a direction are counted together: what tells services
// apart is the statistics of clusters.
const (
	outboundStats = "outbound"
	inboundStats  = "inbound"
)

// tcpKeepalive finds peers that went without a word.
func tcpKeepalive() *corev3.TcpKeepalive {
	return &corev3.TcpKeepalive{
		KeepaliveTime: wrapperspb.UInt32(300), KeepaliveInterval: wrapperspb.UInt32(30), KeepaliveProbes: wrapperspb.UInt32(4),
	}
}

func http2() *corev3.Http2ProtocolOptions {
	return &corev3.Http2ProtocolOptions{
		MaxConcurrentStreams:        wrapperspb.UInt32(http2Streams),
		InitialStreamWindowSize:     wrapperspb.UInt32(http2StreamWindow),
		InitialConnectionWindowSize: wrapperspb.UInt32(http2ConnectionWindow),
	}
}

// makeFilters makes the filters that are alike in many listeners.
func (p *parts) makeFilters(m *maker) {
	p.originalDst = m.listenerFilter("envoy.filters.listener.original_dst", &originaldstv3.OriginalDst{})
	p.router = m.httpFilter("envoy.filters.http.router", &routerv3.Router{})
	p.makeInboundFilters(m)
	p.makeHeadlessFilters(m)
	p.makeTracing(m)
}

// connectionManager returns what all HTTP connection managers have in common.
func (p *parts) connectionManager(stats, route string, filters ...*hcmv3.HttpFilter) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: stats,
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource: ads(), RouteConfigName: route,
		}},
		HttpFilters:         append(filters, p.router),
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{AcceptHttp_10: true},
		// Streams may be silent as long as the application likes.
		StreamIdleTimeout: durationpb.New(0),
		// A client of HTTP/1.0 waits for the end of the connection.
		DelayedCloseTimeout:        durationpb.New(delayedClose),
		Http2ProtocolOptions:       http2(),
		UpgradeConfigs:             []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		// A sidecar is no edge: it neither adds to x-forwarded-for nor makes a request
		// from outside lose its id.
		UseRemoteAddress:          wrapperspb.Bool(false),
		PreserveExternalRequestId: true,
		NormalizePath:             wrapperspb.Bool(true),
		StripTrailingHostDot:      true,
		AccessLog:                 p.requestLog,
		Tracing:                   p.tracing,
	}
}

// callManager is that of requests which the application sends to services of the mesh.
func (p *parts) callManager(route string, filters ...*hcmv3.HttpFilter) *hcmv3.HttpConnectionManager {
	config := p.connectionManager(outboundStats, route, filters...)
	config.AccessLog = p.callLog
	return config
}

func (m *maker) httpChainFilter(config *hcmv3.HttpConnectionManager) *listenerv3.Filter {
	return m.networkFilter("envoy.filters.network.http_connection_manager", config)
}

// tcpProxy passes bytes to a cluster. The server may speak first: the connection to it
// is made at once.
func (p *parts) tcpProxy(stats string) *tcpproxyv3.TcpProxy {
	return &tcpproxyv3.TcpProxy{
		StatPrefix: stats,
		// Connections may be silent as long as the application likes; keep-alive finds dead peers.
		IdleTimeout: durationpb.New(0),
		AccessLog:   p.connectionLog,
	}
}

func (m *maker) tcpChainFilter(config *tcpproxyv3.TcpProxy) *listenerv3.Filter {
	return m.networkFilter("envoy.filters.network.tcp_proxy", config)
}

func toCluster(proxy *tcpproxyv3.TcpProxy, cluster string) *tcpproxyv3.TcpProxy {
	proxy.ClusterSpecifier = &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster}
	return proxy
}

// limitAge ends a connection that is accepted in time.
func limitAge(config *hcmv3.HttpConnectionManager) {
	config.Http1SafeMaxConnectionDuration = true
	config.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{
		MaxConnectionDuration:       durationpb.New(httpAge),
		MaxConnectionDurationJitter: &typev3.Percent{Value: ageJitter},
	}
}
