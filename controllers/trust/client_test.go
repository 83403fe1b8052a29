package trust_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/openservicemesh/osm-operator/controllers/trust"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// credentialsOf lets tests sign with an authority what it would not.
func credentialsOf(t *testing.T, a *builtin.Authority) pki.Credentials {
	t.Helper()
	raw, err := a.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.ParsePrivateKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return pki.Credentials{Chain: []*x509.Certificate{a.Certificate()}, Key: key.Signer()}
}

// TestOperatorSpeaksToItsControlPlaneOnly has servers of all kinds answer the operator.
func TestOperatorSpeaksToItsControlPlaneOnly(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	made, err := builtin.NewRoot(builtin.RootOptions{Name: "root", KeyType: ca.ECDSAP256, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(ca.RootLifetime)})
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := made.NewIntermediate(t.Context(), ca.ECDSAP256, ca.IntermediateRequest{
		Name: "issuer", TrustDomain: identity.DefaultTrustDomain, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	key, err := made.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	reader := fake.NewClientBuilder().WithObjects(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "osm-operator-system", Name: trust.RootSecret("osm")},
		Data:       map[string][]byte{corev1.TLSCertKey: made.ChainPEM(), corev1.TLSPrivateKeyKey: key},
	}).Build()
	reconciler := trust.New(trust.Options{Client: reader, APIReader: reader, Namespace: "osm-operator-system", Now: time.Now})
	config, err := reconciler.ClientTLS(t.Context(), "osm", identity.DefaultTrustDomain, "v1")
	if err != nil {
		t.Fatal(err)
	}
	root, below := credentialsOf(t, made), credentialsOf(t, issuer)
	mesh := pki.New(t)
	cases := map[string]struct {
		server pki.Credentials
		wantOK bool
	}{
		"Its control plane":                          {server: mesh.ControlPlane(t, "osm", "v1", pki.By(root)), wantOK: true},
		"The control plane of another revision":      {server: mesh.ControlPlane(t, "osm", "v2", pki.By(root))},
		"The control plane of another mesh":          {server: mesh.ControlPlane(t, "other", "v1", pki.By(root))},
		"The control plane of another authority":     {server: mesh.ControlPlane(t, "osm", "v1")},
		"Whoever has the issuer of another revision": {server: mesh.ControlPlane(t, "osm", "v1", pki.By(below))},
		"One that has ended":                         {server: mesh.ControlPlane(t, "osm", "v1", pki.By(root), pki.Expired())},
		"A client":                                   {server: mesh.ControlPlane(t, "osm", "v1", pki.By(root), pki.ClientOnly())},
		"A workload":                                 {server: mesh.Workload(t, "shop", "web", pki.By(root))},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			peer, err := meet(t, config, tc.server)
			if (err == nil) != tc.wantOK {
				t.Fatalf("speaking to it: %v; want it spoken to: %t", err, tc.wantOK)
			}
			if !tc.wantOK {
				return
			}
			subject, err := identity.SubjectOf(peer)
			if err != nil || subject.URI() != identity.Operator(identity.DefaultTrustDomain, "osm") || !ca.SignedBy(peer, made.Certificate()) {
				t.Errorf("the operator says that it is %+v, %v", subject, err)
			}
		})
	}
}

// meet has a client and a server shake hands, and returns the client's certificate.
func meet(t *testing.T, client *tls.Config, server pki.Credentials) (*x509.Certificate, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	side := tls.Server(far, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{server.TLS()}, ClientAuth: tls.RequireAnyClientCert,
	})
	done := make(chan error, 1)
	go func() {
		err := side.HandshakeContext(ctx)
		if err == nil {
			_, err = side.Write([]byte{1})
		}
		_ = far.Close()
		done <- err
	}()
	c := tls.Client(near, client)
	err := c.HandshakeContext(ctx)
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	_ = near.Close()
	if err := errors.Join(err, <-done); err != nil {
		return nil, err
	}
	return side.ConnectionState().PeerCertificates[0], nil
}
