package mesh

import (
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

// Settings are the mesh-wide settings, from the Mesh and its MeshConfig, with all
// defaults filled in by DefaultSettings.
type Settings struct {
	// Mesh is the mesh's name, Namespace where its control plane runs.
	Mesh, Namespace string
	TrustDomain     identity.TrustDomain
	// Permissive lets every workload of the mesh call every service of it.
	Permissive bool
	// Egress lets traffic to unknown destinations pass.
	Egress bool
	TLS    TLS
	// ExternalAuthorization asks a server about inbound HTTP requests; nil is off.
	ExternalAuthorization *ExternalAuthorization
	// Tracing sends spans to a server; nil is off.
	Tracing *Tracing
	// RequestMetrics counts the requests that applications send, by who calls whom.
	RequestMetrics bool
	// HealthChecks has callers ask the endpoints of all services whether they listen.
	HealthChecks bool
	// EgressPolicy, IngressPolicy and RetryPolicy say whether objects of these kinds are followed.
	EgressPolicy, IngressPolicy, RetryPolicy bool
	// LeafLifetime is the lifetime of a workload's certificate.
	LeafLifetime time.Duration
}

// TLS are the parameters of mTLS between sidecars, in Envoy's words.
type TLS struct {
	MinVersion, MaxVersion string
	CipherSuites           []string
	Curves                 []string
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

// DefaultSettings returns what holds where the MeshConfig is silent.
func DefaultSettings(meshName, namespace string, trustDomain identity.TrustDomain) Settings {
	return Settings{
		Mesh:        meshName,
		Namespace:   namespace,
		TrustDomain: trustDomain,
		Permissive:  true,
		Egress:      true,
		TLS: TLS{
			MinVersion: "TLSv1_3",
			MaxVersion: "TLSv1_3",
			Curves:     []string{"X25519MLKEM768", "X25519", "P-256"},
		},
		RequestMetrics: true,
		EgressPolicy:   true,
		IngressPolicy:  true,
		LeafLifetime:   48 * time.Hour,
	}
}
