package bootstrap

import (
	"fmt"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	healthcheckv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// ProbeKind says how a probe is answered.
type ProbeKind string

const (
	// ProbeHTTP passes the request to the application's port at its own path.
	ProbeHTTP ProbeKind = "http"
	// ProbeTCPPass passes bytes to the application's port: HTTPS and gRPC probes. Its
	// listener serves nothing else.
	ProbeTCPPass ProbeKind = "tcp-pass"
	// ProbeTCPCheck answers an HTTP request by whether the application's port takes
	// connections, which the sidecar tries on its own: a TCP probe of the kubelet
	// would only see that the sidecar does.
	ProbeTCPCheck ProbeKind = "tcp-check"
)

// Probe is a question of the kubelet's that the sidecar passes to the application.
type Probe struct {
	// ListenPort is the sidecar's port, Path what is asked there, unless bytes are passed.
	ListenPort uint16
	Path       string
	Kind       ProbeKind
	// TargetPort is the application's port, TargetPath what is asked there; it may have a query.
	TargetPort uint16
	TargetPath string
	// Timeout bounds the answer; 0 is no bound.
	Timeout time.Duration
}

// checkInterval is how often a port is tried for ProbeTCPCheck: a kubelet asks every
// ten seconds unless told otherwise.
const checkInterval = 2 * time.Second

// probes returns the listeners of the probes, one a port, and their clusters.
func probes(all []Probe) ([]*listenerv3.Listener, []*clusterv3.Cluster, error) {
	byPort := map[uint16][]Probe{}
	var ports []uint16
	for _, p := range all {
		if err := p.check(); err != nil {
			return nil, nil, err
		}
		if len(byPort[p.ListenPort]) == 0 {
			ports = append(ports, p.ListenPort)
		}
		byPort[p.ListenPort] = append(byPort[p.ListenPort], p)
	}
	slices.Sort(ports)
	var listeners []*listenerv3.Listener
	for _, port := range ports {
		l, err := probeListener(port, byPort[port])
		if err != nil {
			return nil, nil, err
		}
		listeners = append(listeners, l)
	}
	return listeners, probeClusters(all), nil
}

func (p Probe) check() error {
	switch {
	case p.ListenPort == 0 || p.TargetPort == 0:
		return fmt.Errorf("a probe from port %d to port %d: both are needed", p.ListenPort, p.TargetPort)
	case p.Kind == ProbeTCPPass:
		return nil
	case p.Kind != ProbeHTTP && p.Kind != ProbeTCPCheck:
		return fmt.Errorf("a probe on port %d is of kind %q: http, tcp-pass and tcp-check are known", p.ListenPort, p.Kind)
	case !strings.HasPrefix(p.Path, "/"):
		return fmt.Errorf("a probe on port %d asks for %q: a path begins with /", p.ListenPort, p.Path)
	case p.Kind == ProbeHTTP && !strings.HasPrefix(p.TargetPath, "/"):
		return fmt.Errorf("a probe of port %d asks for %q: a path begins with /", p.TargetPort, p.TargetPath)
	default:
		return nil
	}
}

func probeListener(port uint16, on []Probe) (*listenerv3.Listener, error) {
	slices.SortFunc(on, func(a, b Probe) int { return strings.Compare(a.Path, b.Path) })
	listener := fmt.Sprintf("probe-%d", port)
	if on[0].Kind == ProbeTCPPass || on[len(on)-1].Kind == ProbeTCPPass {
		if len(on) > 1 {
			return nil, fmt.Errorf("port %d passes bytes to port %d, so it can serve nothing else", port, on[0].TargetPort)
		}
		return staticListener(listener, port, "envoy.filters.network.tcp_proxy", &tcpproxyv3.TcpProxy{
			StatPrefix:       "probe",
			ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: probeCluster(on[0])},
		}), nil
	}
	var routes []*routev3.Route
	var filters []*hcmv3.HttpFilter
	for i, p := range on {
		if i > 0 && on[i-1].Path == p.Path {
			return nil, fmt.Errorf("two probes on port %d ask for %s", port, p.Path)
		}
		if p.Kind == ProbeTCPCheck {
			filters = append(filters, httpFilter("envoy.filters.http.health_check", checkFilter(p)))
			continue
		}
		routes = append(routes, probeRoute(p))
	}
	return httpListener(listener, port, routes, filters), nil
}

func probeRoute(p Probe) *routev3.Route {
	return &routev3.Route{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: p.Path}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: probeCluster(p)},
			PrefixRewrite:    p.TargetPath,
			Timeout:          durationpb.New(p.Timeout),
		}},
	}
}

func checkFilter(p Probe) *healthcheckv3.HealthCheck {
	return &healthcheckv3.HealthCheck{
		PassThroughMode:              wrapperspb.Bool(false),
		ClusterMinHealthyPercentages: map[string]*typev3.Percent{probeCluster(p): {Value: 100}},
		Headers: []*routev3.HeaderMatcher{{
			Name: ":path",
			HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
				MatchPattern: &matcherv3.StringMatcher_Exact{Exact: p.Path},
			}},
		}},
	}
}

// readyListener answers /ready once all listeners and clusters have their first
// configuration.
func readyListener() *listenerv3.Listener {
	return httpListener("ready", ReadyPort, []*routev3.Route{{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: "/ready"}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: name.MetricsCluster},
			Timeout:          durationpb.New(time.Second),
		}},
	}}, nil)
}

func httpListener(listener string, port uint16, routes []*routev3.Route, filters []*hcmv3.HttpFilter) *listenerv3.Listener {
	return staticListener(listener, port, "envoy.filters.network.http_connection_manager", &hcmv3.HttpConnectionManager{
		StatPrefix: "probe",
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name:         listener,
			VirtualHosts: []*routev3.VirtualHost{{Name: listener, Domains: []string{"*"}, Routes: routes}},
		}},
		HttpFilters:                append(slices.Clone(filters), httpFilter("envoy.filters.http.router", &routerv3.Router{})),
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		UseRemoteAddress:           wrapperspb.Bool(false),
		GenerateRequestId:          wrapperspb.Bool(false),
	})
}

func httpFilter(of string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: of, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(config)}}
}

// staticListener listens on all addresses of the pod, whatever families it has.
func staticListener(listener string, port uint16, filter string, config proto.Message) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:                  listener,
		Address:               address("0.0.0.0", uint32(port)),
		AdditionalAddresses:   []*listenerv3.AdditionalAddress{{Address: address("::", uint32(port))}},
		StatPrefix:            "probe",
		IgnoreGlobalConnLimit: true,
		BypassOverloadManager: true,
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: filter, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(config)},
		}}}},
	}
}

// probeCluster names the application's port as one kind of probe calls it.
func probeCluster(p Probe) string { return fmt.Sprintf("probe|%s|%d", p.Kind, p.TargetPort) }

func probeClusters(all []Probe) []*clusterv3.Cluster {
	byName := map[string]*clusterv3.Cluster{}
	for _, p := range all {
		cluster := probeCluster(p)
		if byName[cluster] != nil {
			continue
		}
		c := &clusterv3.Cluster{
			Name:                 cluster,
			ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
			ConnectTimeout:       durationpb.New(time.Second),
			LoadAssignment:       assignment(cluster, address("127.0.0.1", uint32(p.TargetPort))),
		}
		switch p.Kind {
		case ProbeHTTP:
			c.TypedExtensionProtocolOptions = oneRequest()
		case ProbeTCPCheck:
			c.HealthChecks = []*corev3.HealthCheck{tcpCheck(p)}
		case ProbeTCPPass:
		}
		byName[cluster] = c
	}
	clusters := make([]*clusterv3.Cluster, 0, len(byName))
	for _, c := range byName {
		clusters = append(clusters, c)
	}
	slices.SortFunc(clusters, func(a, b *clusterv3.Cluster) int { return strings.Compare(a.GetName(), b.GetName()) })
	return clusters
}

// oneRequest makes a connection for each probe, as the kubelet does: an application
// that closes idle connections is never asked on one that it is just closing.
func oneRequest() map[string]*anypb.Any {
	return map[string]*anypb.Any{httpOptions: pack(&httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{MaxRequestsPerConnection: wrapperspb.UInt32(1)},
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}},
		}},
	})}
}

// tcpCheck opens and closes a connection. One answer decides: the kubelet has
// thresholds of its own.
func tcpCheck(p Probe) *corev3.HealthCheck {
	timeout := time.Second
	if p.Timeout > 0 && p.Timeout < timeout {
		timeout = p.Timeout
	}
	interval := durationpb.New(checkInterval)
	return &corev3.HealthCheck{
		Timeout:                  durationpb.New(timeout),
		Interval:                 interval,
		NoTrafficInterval:        interval,
		NoTrafficHealthyInterval: interval,
		UnhealthyInterval:        durationpb.New(time.Second),
		HealthyThreshold:         wrapperspb.UInt32(1),
		UnhealthyThreshold:       wrapperspb.UInt32(1),
		HealthChecker:            &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}},
	}
}
