package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// meshNames are the server names that tell connections of sidecars from those of
// gateways, on a port that gateways may call by TLS: a sidecar asks for the name of a
// Service. Elsewhere any name will do. Names of Services that gateways ask for are among
// them one by one, since Envoy takes the more exact name before it looks at addresses, by
// which these gateways are known; but for those that have a chain of their own, since Envoy
// refuses a listener that has a name in two.
func meshNames(port ir.InboundPort) []string {
	var out []string
	for _, i := range port.Ingress {
		if i.TLS == nil {
			continue
		}
		if len(out) == 0 {
			out = append(out, "*"+servicesEnd)
		}
		for _, n := range i.TLS.ServerNames {
			own := func(s ir.InboundService) bool { return s.ServerName == n && ownChain(port, s) }
			if strings.HasSuffix(n, servicesEnd) && !slices.Contains(out, n) && !slices.ContainsFunc(port.Apart, own) {
				out = append(out, n)
			}
		}
	}
	return out
}

// servicesEnd ends the names of Services.
const servicesEnd = ".svc.cluster.local"

// ingressChain takes connections of gateways to one port. From any other address none
// is taken, and there too the routes say who may request what: a change acts on the
// next request of every connection.
func (p *parts) ingressChain(m *maker, port ir.InboundPort, in *ir.Ingress) *listenerv3.FilterChain {
	chain := &listenerv3.FilterChain{
		Name: fmt.Sprintf("ingress/%d/http", port.Port),
		FilterChainMatch: &listenerv3.FilterChainMatch{
			DestinationPort: wrapperspb.UInt32(uint32(port.Port)), TransportProtocol: "raw_buffer",
			SourcePrefixRanges: prefixRanges(in.Sources),
		},
		Filters: []*listenerv3.Filter{m.httpChainFilter(p.inboundManagerOf(name.IngressRoute(port.Port, in.TLS != nil)))},
	}
	if in.TLS != nil {
		chain.Name = fmt.Sprintf("ingress/%d/https", port.Port)
		chain.FilterChainMatch.TransportProtocol = "tls"
		chain.FilterChainMatch.ServerNames = in.TLS.ServerNames
		chain.TransportSocketConnectTimeout = durationpb.New(handshakeTimeout)
		chain.TransportSocket = m.transportSocket(tlsSocket, p.ingressTLS(in.TLS))
	}
	return chain
}

// ingressTLS presents the workload's certificate. That of the gateway must be of the
// mesh; whose it may be is in the routes. TLS 1.2 is enough: many gateways stop there.
func (p *parts) ingressTLS(in *ir.IngressTLS) *tlsv3.DownstreamTlsContext {
	common := p.commonTLS(nil)
	common.AlpnProtocols = []string{"h2", "http/1.1"}
	common.TlsParams = proto.CloneOf(p.tls)
	if common.GetTlsParams().GetTlsMinimumProtocolVersion() > tlsv3.TlsParameters_TLSv1_2 {
		common.TlsParams.TlsMinimumProtocolVersion = tlsv3.TlsParameters_TLSv1_2
	}
	if in.NoCertificate {
		common.ValidationContextType = nil
	} else {
		common.GetCombinedValidationContext().DefaultValidationContext = &tlsv3.CertificateValidationContext{}
	}
	return &tlsv3.DownstreamTlsContext{
		CommonTlsContext:                 common,
		RequireClientCertificate:         wrapperspb.Bool(!in.NoCertificate),
		DisableStatefulSessionResumption: true,
		SessionTicketKeysType:            &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{DisableStatelessSessionResumption: true},
	}
}

// ingressTable says which requests gateways may send.
func (p *parts) ingressTable(m *maker, port ir.InboundPort, in *ir.Ingress, n string) *routev3.RouteConfiguration {
	local := name.LocalCluster(port.Service.Namespace, port.Service.Name, port.Port)
	host := &routev3.VirtualHost{Name: n, Domains: []string{"*"}}
	compares := func(r ir.IngressRoute) bool { return r.Match.Path.Kind != ir.MatchAny }
	if slices.ContainsFunc(in.Routes, compares) {
		host.Routes = append(host.Routes, p.ambiguous())
	}
	rules := m.pack(&rbacv3.RBACPerRoute{Rbac: &rbacv3.RBAC{Rules: gateways(in)}})
	for _, r := range in.Routes {
		host.Routes = append(host.Routes, &routev3.Route{
			Name: r.Name, Match: m.match(r.Match),
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: local}, Timeout: durationpb.New(0),
			}},
			TypedPerFilterConfig: map[string]*anypb.Any{rbacFilter: rules},
		})
	}
	host.Routes = append(host.Routes, p.answer("not-found", 404, &routev3.RouteMatch{
		PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"},
	}))
	table := routeConfiguration(n)
	table.VirtualHosts = []*routev3.VirtualHost{host}
	return table
}

// gateways allows those with one of the addresses and one of the names.
func gateways(in *ir.Ingress) *rbacconfigv3.RBAC {
	anyone := &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_Any{Any: true}}
	all := []*rbacconfigv3.Principal{anyone}
	if len(in.Sources) > 0 {
		all = append(all, oneOf(in.Sources, func(r netip.Prefix) *rbacconfigv3.Principal {
			return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_DirectRemoteIp{DirectRemoteIp: prefixRanges([]netip.Prefix{r})[0]}}
		}))
	}
	if t := in.TLS; t != nil && !t.NoCertificate && !t.AnyName {
		all = append(all, oneOf(t.Names, func(n string) *rbacconfigv3.Principal { return authenticated(exact(n)) }))
	}
	out := &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_ALLOW}
	if !slices.Contains(all, nil) {
		out.Policies = map[string]*rbacconfigv3.Policy{"gateways": {
			Permissions: []*rbacconfigv3.Permission{{Rule: &rbacconfigv3.Permission_Any{Any: true}}},
			Principals:  []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_AndIds{AndIds: &rbacconfigv3.Principal_Set{Ids: all}}}},
		}}
	}
	return out
}

// oneOf is nil for none.
func oneOf[T any](all []T, principal func(T) *rbacconfigv3.Principal) *rbacconfigv3.Principal {
	var ids []*rbacconfigv3.Principal
	for _, one := range all {
		ids = append(ids, principal(one))
	}
	if len(ids) == 0 {
		return nil
	}
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_OrIds{OrIds: &rbacconfigv3.Principal_Set{Ids: ids}}}
}
