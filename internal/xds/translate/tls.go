package translate

import (
	"errors"
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawbufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

const tlsSocket = "envoy.transport_sockets.tls"

// makeTransport makes the parameters of TLS, the secret of the roots that peers are
// verified with, and what clusters without limits say of HTTP.
func (p *parts) makeTransport(m *maker) {
	p.tls = p.tlsParameters(m)
	p.http = map[string]*anypb.Any{httpOptions: m.pack(sameProtocol(ir.Upstream{}))}
	if len(p.shared.TrustBundle) == 0 {
		m.fail(errors.New("there are no roots to verify peers with"))
	}
	p.always.resources = append(p.always.resources, m.resource(&tlsv3.Secret{
		Name: name.TrustBundle,
		Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: p.shared.TrustBundle}},
		}},
	}, name.TrustBundle))
}

// transports says how each endpoint of a cluster is called. One in the mesh is held to
// the certificate of its own pod's ServiceAccount; clear text is for those outside,
// where it is allowed at all:
//
//	says "mesh: ns/sa", a peer       mTLS, that ServiceAccount only
//	says that it is meshed           mTLS, any of the peers (so another one fails)
//	is the way to somewhere else     to the listener within the proxy
//	says nothing                     clear text, or mTLS with any of the peers
//
// With a single peer the first two are one.
func (p *parts) transports(m *maker, c *ir.Cluster, out *clusterv3.Cluster) {
	match := func(key, value string, socket *corev3.TransportSocket) {
		out.TransportSocketMatches = append(out.TransportSocketMatches, &clusterv3.Cluster_TransportSocketMatch{
			Name: key + "=" + value, Match: labels(key, value), TransportSocket: socket,
		})
	}
	if len(c.Peers) > 1 {
		for _, peer := range c.Peers {
			match(name.MeshKey, peer.String(), p.upstreamTLS(m, c, peer))
		}
	}
	anyPeer := p.upstreamTLS(m, c, c.Peers...)
	if passesThrough(c) {
		match(name.PassthroughKey, "true", proxyProtocol(m))
	}
	if !c.Plaintext {
		out.TransportSocket = anyPeer
		return
	}
	match(name.MeshedKey, "true", anyPeer)
	out.TransportSocket = m.transportSocket("envoy.transport_sockets.raw_buffer", &rawbufferv3.RawBuffer{})
}

func passesThrough(c *ir.Cluster) bool {
	return slices.ContainsFunc(c.Endpoints, func(s ir.EndpointSet) bool { return s.Passthrough })
}

// upstreamTLS accepts the certificates of these peers. With none it accepts nobody's.
func (p *parts) upstreamTLS(m *maker, c *ir.Cluster, peers ...identity.ServiceAccount) *corev3.TransportSocket {
	var names []*matcherv3.StringMatcher
	for _, peer := range peers {
		names = append(names, exact(p.uri(peer)))
	}
	return m.transportSocket(tlsSocket, &tlsv3.UpstreamTlsContext{
		Sni:              c.SNI,
		CommonTlsContext: p.commonTLS(names),
		// No session outlives a change of the roots or of who may be called.
		MaxSessionKeys: wrapperspb.UInt32(0),
	})
}

// downstreamTLS accepts the certificates with these names.
func (p *parts) downstreamTLS(m *maker, names []*matcherv3.StringMatcher, protocols ...string) *corev3.TransportSocket {
	common := p.commonTLS(names)
	common.AlpnProtocols = protocols
	return m.transportSocket(tlsSocket, &tlsv3.DownstreamTlsContext{
		CommonTlsContext:                 common,
		RequireClientCertificate:         wrapperspb.Bool(true),
		DisableStatefulSessionResumption: true,
		SessionTicketKeysType:            &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{DisableStatelessSessionResumption: true},
	})
}

// commonTLS presents the workload's certificate and accepts peers of the mesh with one
// of these names.
func (p *parts) commonTLS(names []*matcherv3.StringMatcher) *tlsv3.CommonTlsContext {
	if len(names) == 0 {
		// No list at all would accept any name.
		names = []*matcherv3.StringMatcher{exact(nobody)}
	}
	matchers := make([]*tlsv3.SubjectAltNameMatcher, 0, len(names))
	for _, n := range names {
		matchers = append(matchers, &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_URI, Matcher: n})
	}
	return &tlsv3.CommonTlsContext{
		TlsParams: p.tls,
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{
			Name: name.WorkloadCertificate,
			SdsConfig: &corev3.ConfigSource{
				ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{
					PathConfigSource: &corev3.PathConfigSource{Path: name.ConfigDir + "/" + name.CertificateDocument},
				},
				ResourceApiVersion:  corev3.ApiVersion_V3,
				InitialFetchTimeout: durationpb.New(0),
			},
		}},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: matchers},
				ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: name.TrustBundle, SdsConfig: ads()},
			},
		},
	}
}

// nobody is a name that no certificate has: it is no SPIFFE id.
const nobody = "nobody:"

func (p *parts) tlsParameters(m *maker) *tlsv3.TlsParameters {
	return &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: m.tlsVersion(p.shared.TLS.MinVersion),
		// Left to Envoy, a client would stop at 1.2.
		TlsMaximumProtocolVersion: highest(m.tlsVersion(p.shared.TLS.MaxVersion)),
		CipherSuites:              p.shared.TLS.CipherSuites,
		EcdhCurves:                p.shared.TLS.Curves,
	}
}

func (m *maker) tlsVersion(version string) tlsv3.TlsParameters_TlsProtocol {
	if version == "" {
		return tlsv3.TlsParameters_TLSv1_3
	}
	n, ok := tlsv3.TlsParameters_TlsProtocol_value[version]
	if !ok {
		m.fail(fmt.Errorf("%q is no version of TLS", version))
	}
	return tlsv3.TlsParameters_TlsProtocol(n)
}

func highest(version tlsv3.TlsParameters_TlsProtocol) tlsv3.TlsParameters_TlsProtocol {
	if version == tlsv3.TlsParameters_TLS_AUTO {
		return tlsv3.TlsParameters_TLSv1_3
	}
	return version
}

// uri is the name in the certificate of a ServiceAccount of this mesh.
func (p *parts) uri(account identity.ServiceAccount) string {
	return identity.ID{TrustDomain: p.shared.TrustDomain, ServiceAccount: account}.URI()
}
