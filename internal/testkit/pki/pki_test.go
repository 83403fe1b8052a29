package pki_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// TestCertificatesAreGoodOrBadAsTheyShouldBe verifies each kind as a verifier does: a
// bad one that would be accepted makes every test that uses it worthless.
func TestCertificatesAreGoodOrBadAsTheyShouldBe(t *testing.T) {
	mesh, other := pki.New(t), pki.New(t)
	worker := mesh.Workload(t, "shop", "web")
	cases := map[string]struct {
		credentials pki.Credentials
		usage       x509.ExtKeyUsage
		wantErr     bool
	}{
		"A workload as a client":          {credentials: worker, usage: x509.ExtKeyUsageClientAuth},
		"A workload as a server":          {credentials: worker, usage: x509.ExtKeyUsageServerAuth},
		"A control plane":                 {credentials: mesh.ControlPlane(t, "osm", "v1"), usage: x509.ExtKeyUsageServerAuth},
		"The operator":                    {credentials: mesh.Operator(t, "osm"), usage: x509.ExtKeyUsageClientAuth},
		"One that is not good yet":        {credentials: mesh.Workload(t, "shop", "web", pki.NotYetValid()), usage: x509.ExtKeyUsageClientAuth, wantErr: true},
		"One that has ended":              {credentials: mesh.Workload(t, "shop", "web", pki.Expired()), usage: x509.ExtKeyUsageClientAuth, wantErr: true},
		"One of another authority":        {credentials: other.Workload(t, "shop", "web"), usage: x509.ExtKeyUsageClientAuth, wantErr: true},
		"One signed by another authority": {credentials: mesh.Workload(t, "shop", "web", pki.By(other.Intermediate)), usage: x509.ExtKeyUsageClientAuth, wantErr: true},
		"One signed by itself":            {credentials: mesh.Workload(t, "shop", "web", pki.SelfSigned()), usage: x509.ExtKeyUsageClientAuth, wantErr: true},
		"One signed by a workload":        {credentials: mesh.Workload(t, "shop", "web", pki.By(worker)), usage: x509.ExtKeyUsageClientAuth, wantErr: true},
		"A server's as a client":          {credentials: mesh.Workload(t, "shop", "web", pki.ServerOnly()), usage: x509.ExtKeyUsageClientAuth, wantErr: true},
		"A client's as a server":          {credentials: mesh.Workload(t, "shop", "web", pki.ClientOnly()), usage: x509.ExtKeyUsageServerAuth, wantErr: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			between := x509.NewCertPool()
			for _, c := range tc.credentials.Chain[1:] {
				between.AddCert(c)
			}
			_, err := tc.credentials.Leaf().Verify(x509.VerifyOptions{
				Roots: mesh.Pool(), Intermediates: between, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{tc.usage},
			})
			if (err != nil) != tc.wantErr {
				t.Errorf("verifying: %v, want an error: %t", err, tc.wantErr)
			}
		})
	}
}

func TestCertificatesSayWhatTheyAreToldTo(t *testing.T) {
	mesh := pki.New(t)
	peer, err := identity.PeerOf(mesh.Workload(t, "shop", "web", pki.PodUID("uid-1")).Leaf())
	if err != nil || peer.PodUID != "uid-1" || peer.ID.URI() != "spiffe://cluster.local/ns/shop/sa/web" {
		t.Errorf("a workload's certificate says %+v, %v", peer, err)
	}
	subject, err := identity.SubjectOf(mesh.ControlPlane(t, "osm", "v1").Leaf())
	if err != nil || subject.Kind != identity.KindControlPlane || subject.Revision != "v1" {
		t.Errorf("a control plane's certificate says %+v, %v", subject, err)
	}
	for name, leaf := range map[string]*x509.Certificate{
		"a URI in another form": mesh.Certificate(t, "SPIFFE://cluster.local/ns/shop/sa/web").Leaf(),
		"two URIs":              mesh.Workload(t, "shop", "web", pki.URIs("spiffe://cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/db")).Leaf(),
		"no URI":                mesh.Certificate(t, "").Leaf(),
		"an authority":          mesh.Workload(t, "shop", "web", pki.AsAuthority()).Leaf(),
	} {
		if peer, err := identity.PeerOf(leaf); err == nil {
			t.Errorf("%s: taken for %+v", name, peer)
		}
	}
}
