// Package name makes the names of Envoy resources, and of what they say of one
// another, for translate, endpoints and bootstrap alike. Facts go in, strings come
// out; names are stable across versions, since dashboards and saved queries use them.
package name

import (
	"strconv"
	"strings"
)

// Names of resources that every proxy has.
const (
	// OutboundListener takes what no other outbound listener takes.
	OutboundListener = "outbound-listener"
	// InboundListener takes all inbound connections.
	InboundListener = "inbound-listener"
	// PrometheusListener serves metrics.
	PrometheusListener = "inbound-prometheus-listener"
	// PassthroughCluster passes connections to where they were made to.
	PassthroughCluster = "passthrough-outbound"
	// BlockedCluster has no endpoints.
	BlockedCluster = "egress-blocked"
	// MetricsCluster is the proxy's own admin interface.
	MetricsCluster = "envoy-metrics-cluster"
	// ControlPlaneCluster is the control plane.
	ControlPlaneCluster = "osm-controller"
	// TracingCluster receives spans.
	TracingCluster = "envoy-tracing-cluster"
	// AuthorizationCluster answers external authorization.
	AuthorizationCluster = "inbound-ext-authz"
	// TrustBundle is the secret that holds the roots that peers are verified with.
	TrustBundle = "trust-bundle"
	// WorkloadCertificate is the secret that holds the proxy's own certificate and key.
	WorkloadCertificate = "workload-certificate"
)

// Names of resources that carry connections on within the proxy.
const (
	// HeadlessRelay is the listener and the cluster that take TCP connections to
	// headless services to the endpoint that they were made to.
	HeadlessRelay = "headless-relay"
	// PassthroughRelay is the listener that takes what no headless service knows to
	// where it was made to.
	PassthroughRelay = "passthrough-relay"
)

// Metadata of endpoints: what Endpoints says and clusters match.
const (
	// TransportMetadata is the namespace that transports are matched with.
	TransportMetadata = "envoy.transport_socket_match"
	// BalancerMetadata is the namespace that load balancers read.
	BalancerMetadata = "envoy.lb"
	// MeshKey holds the ServiceAccount, ns/name, of an endpoint in the mesh.
	MeshKey = "mesh"
	// MeshedKey is "true" for every endpoint in the mesh.
	MeshedKey = "meshed"
	// PassthroughKey is "true" for the way to wherever a connection was made to.
	PassthroughKey = "passthrough"
	// DestinationKey holds the address that a connection was made to.
	DestinationKey = "original-destination"
	// WorkloadMetadata is the namespace of what metrics tell of an endpoint: the namespace
	// of its pod, and the kind and name of what made the pod.
	WorkloadMetadata = "osm"
	// NamespaceKey holds the namespace of the pod.
	NamespaceKey = "namespace"
	// KindKey holds the kind of what made the pod.
	KindKey = "kind"
	// NameKey holds the name of what made the pod.
	NameKey = "name"
)

// Places of files that every proxy has.
const (
	// ConfigDir holds the documents that the proxy starts from.
	ConfigDir = "/etc/envoy"
	// CertificateDocument says where the proxy's own certificate is, in ConfigDir.
	CertificateDocument = "sds-certificate.json"
)

// Cluster is the cluster of a service by its pods' port: ns/name|port, as OSM named it.
func Cluster(namespace, service string, targetPort uint16) string {
	return namespace + "/" + service + "|" + port(targetPort)
}

// LocalCluster is the application's own port behind an inbound listener.
func LocalCluster(namespace, service string, targetPort uint16) string {
	return Cluster(namespace, service, targetPort) + "|local"
}

// Outbound is the listener and the route of a service's port.
func Outbound(namespace, service string, servicePort uint16) string {
	return "outbound/" + namespace + "/" + service + "/" + port(servicePort)
}

// Headless is the listener and the route that all headless services on a port share.
func Headless(servicePort uint16) string { return "outbound-headless/" + port(servicePort) }

// HeadlessClusters is what the names of HeadlessCluster begin with.
const HeadlessClusters = "headless|"

// HeadlessCluster is the cluster of all endpoints of headless services on a port.
func HeadlessCluster(servicePort uint16) string { return HeadlessClusters + port(servicePort) }

// RateLimit is the cluster of a server that is asked about rates.
func RateLimit(host string, servicePort uint16) string {
	return "rate-limit|" + host + "|" + port(servicePort)
}

// InboundRoute is the route of an inbound port.
func InboundRoute(targetPort uint16) string { return "rds-inbound." + port(targetPort) }

// IngressRoute is the route of requests that gateways send to an inbound port, in
// clear or by TLS.
func IngressRoute(targetPort uint16, tls bool) string {
	if tls {
		return "rds-ingress." + port(targetPort) + ".https"
	}
	return "rds-ingress." + port(targetPort)
}

// Endpoints is the load assignment of a service's port, limited to ServiceAccounts
// if there are any ("ns/name,ns/name"), to meshed endpoints, and by locality.
func Endpoints(namespace, service string, servicePort uint16, serviceAccounts string, meshedOnly bool, zone, node string) string {
	var b strings.Builder
	b.WriteString(Cluster(namespace, service, servicePort))
	if serviceAccounts != "" {
		b.WriteString("|sa=" + serviceAccounts)
	}
	if meshedOnly {
		b.WriteString("|meshed")
	}
	if zone != "" {
		b.WriteString("|zone=" + zone)
	}
	if node != "" {
		b.WriteString("|node=" + node)
	}
	return b.String()
}

// ClusterVariant is a cluster whose endpoints are called otherwise than by the cluster
// of that name, such as those of a headless service that shares in a split.
func ClusterVariant(cluster, variant string) string { return cluster + "|" + variant }

// Egress is the listener of a port outside the mesh.
func Egress(port uint16) string { return "outbound-egress/" + strconv.Itoa(int(port)) }

// EgressRoute is the route of requests to a port outside the mesh, in ranges of
// addresses if there are any.
func EgressRoute(port uint16, ranges ...string) string {
	return strings.Join(append([]string{"rds-egress." + strconv.Itoa(int(port))}, ranges...), "|")
}

// EgressHost is the cluster of a host outside the mesh: host:port, as OSM named it.
func EgressHost(host string, port uint16) string { return host + ":" + strconv.Itoa(int(port)) }

// EgressPort is the cluster of a port outside the mesh, wherever it was called.
func EgressPort(n uint16) string { return port(n) }

// EgressByHost is the cluster of hosts outside the mesh that are known by their
// beginning or not at all until they are called.
const EgressByHost = "egress-by-host"

func port(n uint16) string { return strconv.Itoa(int(n)) }

// SecondCluster is the cluster of a service's port whose pods' port another port of
// the service leads to as well.
func SecondCluster(namespace, service string, targetPort, servicePort uint16) string {
	return Cluster(namespace, service, targetPort) + "|" + port(servicePort)
}
