package trust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/identity"
)

// clientLifetime is how long the operator's own certificate is good. It is made in
// memory for each connection and written nowhere.
const clientLifetime = time.Hour

// clientSecret is the name of the Secret with the operator's own certificate of a mesh whose
// root is elsewhere, in the operator's namespace.
func clientSecret(mesh string) string { return "osm-client-" + mesh }

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
	root, leaf, err := r.present(ctx, mesh, td, secret.Data)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
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

// present returns the root of a mesh and the operator's own certificate: made for the
// purpose where the root's key is at hand, and else the one that is kept, so that whoever has
// the key may be away.
func (r *Reconciler) present(ctx context.Context, mesh string, td identity.TrustDomain, data map[string][]byte) (*x509.Certificate, *pair, error) {
	if len(data[providerKey]) != 0 {
		chain, err := ca.ParseChain(data[corev1.TLSCertKey])
		if err != nil {
			return nil, nil, fmt.Errorf("reading the root of Mesh %s: %w", mesh, err)
		}
		own, _, err := slot{key: client.ObjectKey{Namespace: r.Namespace, Name: clientSecret(mesh)}}.read(ctx, r.APIReader)
		if err == nil && own == nil {
			err = errors.New("the operator has no certificate of the mesh yet")
		}
		return chain.Leaf(), own, err
	}
	root, err := builtin.Load(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey], nil)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the root of Mesh %s: %w", mesh, err)
	}
	leaf, err := newLeaf(ctx, ofBuiltIn(root), identity.Operator(td, mesh), nil, clientLifetime, r.Now())
	if err != nil {
		return nil, nil, fmt.Errorf("making the operator's certificate: %w", err)
	}
	return root.Certificate(), leaf, nil
}

// ownCertificate keeps the operator's certificate of a mesh whose root is elsewhere.
func (r *Reconciler) ownCertificate(ctx context.Context, m *operatorv1alpha1.Mesh, root *anchor) (*pair, error) {
	s := slot{key: client.ObjectKey{Namespace: r.Namespace, Name: clientSecret(m.Name)}, mesh: m.Name, owner: ownerOf("Mesh", m)}
	id := identity.Operator(trustDomain(m), m.Name)
	return r.certificate(ctx, s, root,
		func(p *pair) bool { return isOf(p.certificate, id) },
		func() (*pair, error) { return newLeaf(ctx, root, id, nil, servingLifetime, r.Now()) })
}
