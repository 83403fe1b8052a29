package serve

import "github.com/openservicemesh/osm-operator/internal/xds/resource"

// kind is a type of resources, in the order in which new ones are sent: what others
// refer to comes first.
type kind int

const (
	clusters kind = iota
	endpoints
	secrets
	listeners
	routes

	kinds int = iota
)

// kindOf returns the kind of a type URL.
func kindOf(typeURL string) (kind, bool) {
	switch typeURL {
	case resource.ClusterType:
		return clusters, true
	case resource.EndpointType:
		return endpoints, true
	case resource.SecretType:
		return secrets, true
	case resource.ListenerType:
		return listeners, true
	case resource.RouteType:
		return routes, true
	default:
		return 0, false
	}
}

// url returns the type URL.
func (k kind) url() string {
	switch k {
	case clusters:
		return resource.ClusterType
	case endpoints:
		return resource.EndpointType
	case secrets:
		return resource.SecretType
	case listeners:
		return resource.ListenerType
	default:
		return resource.RouteType
	}
}

// String returns the name that metrics and logs use.
func (k kind) String() string {
	switch k {
	case clusters:
		return "CDS"
	case endpoints:
		return "EDS"
	case secrets:
		return "SDS"
	case listeners:
		return "LDS"
	default:
		return "RDS"
	}
}

// wildcard reports whether proxies ask for all resources of the kind, rather than
// for those that others refer to.
func (k kind) wildcard() bool { return k == clusters || k == listeners }
