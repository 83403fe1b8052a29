package trust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/identity"
)

// clientLifetime is how long the operator's own certificate is good. It is made in
// memory for each connection and written nowhere.
const clientLifetime = time.Hour

// ClientTLS returns how the operator speaks to the control plane of a mesh's
// revision: with a certificate of the mesh's root, to a server that has one.
func (r *Reconciler) ClientTLS(ctx context.Context, mesh string, td identity.TrustDomain, revision string) (*tls.Config, error) {
	key := client.ObjectKey{Namespace: r.Namespace, Name: RootSecret(mesh)}
	var secret corev1.Secret
	if err := r.APIReader.Get(ctx, key, &secret); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, errNoRoot
		}
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	root, err := builtin.Load(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey], nil)
	if err != nil {
		return nil, fmt.Errorf("reading the root of Mesh %s: %w", mesh, err)
	}
	leaf, err := newLeaf(ctx, root, identity.Operator(td, mesh), nil, clientLifetime, r.Now())
	if err != nil {
		return nil, fmt.Errorf("making the operator's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root.Certificate())
	want := identity.ControlPlane(td, mesh, revision)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.certificate.Raw}, PrivateKey: leaf.key.Signer(), Leaf: leaf.certificate}},
		RootCAs:      roots,
		// Replicas are dialled by address, and known by their identity.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies the chain and the identity
		VerifyConnection: func(state tls.ConnectionState) error {
			return identity.VerifyControlPlane(state.PeerCertificates, roots, want, r.Now())
		},
	}, nil
}
