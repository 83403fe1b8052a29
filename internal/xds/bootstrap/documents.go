package bootstrap

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// CertificateDocument returns the document at CertificateFile: where the proxy's own
// certificate and key are. Envoy follows the directory, which the kubelet swaps as a whole.
func CertificateDocument() ([]byte, error) {
	credentials := file(IdentityDir + "/" + CredentialsFile)
	return secretDocument(&tlsv3.Secret{
		Name: name.WorkloadCertificate,
		Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: credentials,
			PrivateKey:       credentials,
			WatchedDirectory: &corev3.WatchedDirectory{Path: IdentityDir},
		}},
	})
}

// ValidationDocument returns the document at ValidationFile: where the roots are that
// the control plane is verified with. Workloads are verified with roots that come by xDS.
func ValidationDocument() ([]byte, error) {
	return secretDocument(&tlsv3.Secret{
		Name: name.TrustBundle,
		Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa:        file(TrustDir + "/" + TrustFile),
			WatchedDirectory: &corev3.WatchedDirectory{Path: TrustDir},
		}},
	})
}

func secretDocument(s *tlsv3.Secret) ([]byte, error) {
	return document(&discoveryv3.DiscoveryResponse{
		TypeUrl:   "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
		Resources: []*anypb.Any{pack(s)},
	})
}

func file(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}
