package ir

import (
	"net/netip"
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

// Proxy is what one proxy, and every proxy of its class, must do.
type Proxy struct {
	// Class is the ID of the proxy class.
	Class string
	// Identity is what the proxy's certificate says.
	Identity identity.ID
	// Inbound are the ports of the pod that are served, in the order of their numbers.
	Inbound []InboundPort
	// Outbound are the destinations that the proxy may call, sorted by service and port.
	Outbound []*Destination
	// Egress are the ports that the proxy may call outside the mesh, in the order of
	// their numbers.
	Egress []*EgressPort
	// Passthrough lets connections to unknown destinations pass unchanged. Without
	// it, and with neither Outbound nor Egress, nothing listens and connections are refused.
	Passthrough bool
	// Metrics opens the Prometheus listener.
	Metrics bool
	// Shared settings of all proxies; the same pointer for all.
	Shared *Shared
}

// Shared are the settings that are the same for all proxies of the mesh.
type Shared struct {
	TrustDomain identity.TrustDomain
	// TrustBundle are the roots that peers are verified with, as PEM.
	TrustBundle []byte
	// TLS are the parameters of mTLS between sidecars.
	TLS TLS
	// ExternalAuthorization is asked about each inbound HTTP request; nil is off.
	ExternalAuthorization *ExternalAuthorization
	// Tracing receives spans; nil is off.
	Tracing *Tracing
	// RequestMetrics counts the requests that applications send, by who calls whom.
	RequestMetrics bool
}

// TLS are the parameters of mTLS, in Envoy's words: versions as in
// TlsParameters.TlsProtocol, curves as BoringSSL names them.
type TLS struct {
	MinVersion, MaxVersion string
	CipherSuites, Curves   []string
}

// ExternalAuthorization is a gRPC server of Envoy's ext_authz protocol.
type ExternalAuthorization struct {
	Address          string
	Port             uint16
	StatPrefix       string
	Timeout          time.Duration
	FailureModeAllow bool
}

// Tracing is a server that spans are sent to.
type Tracing struct {
	// OpenTelemetry says that the server speaks OTLP by gRPC, else Zipkin.
	OpenTelemetry bool
	Address       string
	Port          uint16
	// Endpoint is the path for spans at a Zipkin server.
	Endpoint string
	// Sampled is how many of 100 traces that begin at a proxy are sampled.
	Sampled uint8
}

// Protocol says how a port's bytes are treated.
type Protocol string

const (
	// HTTP is parsed, routed by request and logged by request.
	HTTP Protocol = "http"
	// TCP is passed as bytes; the server may speak first.
	TCP Protocol = "tcp"
)

// ServicePort names a port of a service.
type ServicePort struct {
	Namespace, Name string
	// Port is the number that clients call.
	Port uint16
}

// InboundPort is a port of the pod that the proxy serves with mTLS.
type InboundPort struct {
	// Port is the port of the pod, that the application listens on.
	Port     uint16
	Protocol Protocol
	// Service is the first service of this port, for names and metrics.
	Service ServicePort
	// Allow says who may connect. For HTTP the routes say who may request on top.
	Allow Principals
	// Bounds hold for connections by any server name, and for requests to any host, but
	// those of Apart.
	Bounds InboundBounds
	// Routes, for HTTP, are tried in order; a request that matches none is answered 404.
	Routes []InboundRoute
	// Apart are services behind the port for which other bounds hold. Their routes are
	// like Routes, but for what bounds them.
	Apart []InboundService
	// Watched is how often it is looked whether the application listens, for callers that
	// ask; 0 is that it is said to.
	Watched time.Duration
	// Ingress are gateways outside the mesh that may send requests to the port, one in
	// clear and one by TLS at most.
	Ingress []Ingress
	// Websocket and other upgrades are always let through.
}

// InboundBounds bound the rates at a port, those of gateways excepted; nil is no bound.
type InboundBounds struct {
	Connections *Rate
	// Requests are those that the routes allow; a route may have a bound of its own in
	// place of it.
	Requests *LocalRateLimit
	// GlobalConnections and GlobalRequests are bounded for all proxies together.
	GlobalConnections, GlobalRequests *GlobalRateLimit
}

// InboundService are the connections and the requests to one of several services.
type InboundService struct {
	// ServerName is what its callers ask for; empty where they ask for another service,
	// of which this one takes a share.
	ServerName string
	// Hosts, for HTTP, are its hosts without port, some with a leading "*.".
	Hosts  []string
	Bounds InboundBounds
	Routes []InboundRoute
}

// InboundRoute says who may send which requests. Several routes that match one
// request add up: the policy compiler merges them so that the first match decides.
type InboundRoute struct {
	// Name is for logs and metrics: the objects it comes from.
	Name  string
	Match HTTPMatch
	// Allow says who may send a request that matches; anyone else is answered 403.
	Allow Principals
	// Also lets others send such a request if it matches something else as well: it is
	// how routes that overlap add up, though the first that matches decides.
	Also []Grant
	// Timeout bounds the whole request; 0 is no bound.
	Timeout time.Duration
	// RateLimit bounds the rate at this proxy, in place of what bounds the port; nil is
	// no bound of its own.
	RateLimit *LocalRateLimit
	// Descriptors are what requests count as, in place of those of GlobalRequests; none
	// is that those are.
	Descriptors []RateDescriptor
}

// Grant lets principals send requests that match. It compares no query parameters.
type Grant struct {
	Match HTTPMatch
	Allow Principals
}

// Principals say who: either any workload that has a certificate of this mesh, or
// just the named ServiceAccounts. The zero value is nobody.
type Principals struct {
	Any             bool
	ServiceAccounts []identity.ServiceAccount
}

// Nobody reports whether no one is meant.
func (p Principals) Nobody() bool { return !p.Any && len(p.ServiceAccounts) == 0 }

// Destination is one port of a service that a proxy may call, as the caller sees
// it: where connections to it go and how they are treated.
type Destination struct {
	Service ServicePort
	// Addresses are the addresses that stand for the service; none for a headless one.
	Addresses []netip.Addr
	// Headless says that clients connect to the addresses of endpoints: a
	// connection goes to the endpoint that it was made to, if it is one of the
	// service's.
	Headless bool
	// Dialled are the ports of the endpoints of a headless service, that clients
	// connect to.
	Dialled []uint16
	// Hosts, for headless HTTP, are the host names of the service and, with a
	// leading "*.", of its endpoints, without port.
	Hosts    []string
	Protocol Protocol
	// ServerFirst, for TCP, says that the server may speak first.
	ServerFirst bool
	// Routes, for HTTP, are tried in order; a request that matches none is answered 404.
	Routes []HTTPRoute
	// Backends, for TCP, share the connections by weight.
	Backends []WeightedBackend
	// Idle, for TCP, ends a connection on which nothing is said; 0 is never. It holds for
	// no headless service.
	Idle time.Duration
}

// Cluster is a group of endpoints that are called in the same way.
type Cluster struct {
	// Name is unique among the clusters of a proxy.
	Name string
	// Endpoints says which endpoints; several sets only where headless TCP services
	// share a port, which nothing but the address tells apart.
	Endpoints []EndpointSet
	// SNI is the server name sent in mTLS.
	SNI string
	// Peers are the ServiceAccounts whose certificate is accepted from endpoints
	// in the mesh, sorted. An endpoint is held to its own pod's ServiceAccount.
	Peers []identity.ServiceAccount
	// Plaintext lets endpoints that are not in the mesh be called in clear; without
	// it they are not called.
	Plaintext bool
	// OriginalDestination calls the endpoint that the connection was made to.
	OriginalDestination bool
	Protocol            Protocol
	Upstream
}

// EndpointSet names a set of endpoints of a service's port. It is comparable, and
// the same set has one name for all proxies.
type EndpointSet struct {
	Service ServicePort
	// ServiceAccounts limits the set to pods of these ServiceAccounts, written
	// "namespace/name" in order with "," between; empty is no limit.
	ServiceAccounts string
	// MeshedOnly leaves out endpoints that are not in the mesh.
	MeshedOnly bool
	// Zone and Node are where the caller runs, only where the service asks for locality.
	Zone, Node string
	// Passthrough adds the way to wherever a connection was made to. A translator
	// sets it on sets of its own, where addresses that no endpoint has must pass.
	Passthrough bool
}
