package builtin_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/ca/catest"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

func newRoot(t *testing.T, kind ca.KeyType) *builtin.Authority {
	t.Helper()
	now := time.Now()
	root, err := builtin.NewRoot(builtin.RootOptions{
		Name: "root of mesh osm", KeyType: kind, NotBefore: now.Add(-5 * time.Minute), NotAfter: now.Add(ca.RootLifetime),
	})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func newIntermediate(t *testing.T, root *builtin.Authority, kind ca.KeyType) *builtin.Authority {
	t.Helper()
	return newConfined(t, root, kind, identity.DefaultTrustDomain)
}

func newConfined(t *testing.T, root *builtin.Authority, kind ca.KeyType, td identity.TrustDomain) *builtin.Authority {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	issuer, err := root.NewIntermediate(t.Context(), kind, ca.IntermediateRequest{
		Name: "issuer of mesh osm", TrustDomain: td,
		NotBefore: now.Add(-5 * time.Minute), NotAfter: now.Add(ca.IntermediateLifetime(ca.LeafLifetime)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

func TestConformance(t *testing.T) {
	for _, kind := range []ca.KeyType{ca.ECDSAP256, ca.ECDSAP384, ca.RSA2048, ca.ED25519} {
		t.Run("A root with a key of type "+string(kind), func(t *testing.T) {
			root := newRoot(t, kind)
			catest.Run(t, func(*testing.T) ca.Authority { return root })
		})
		t.Run("An intermediate with a key of type "+string(kind), func(t *testing.T) {
			issuer := newIntermediate(t, newRoot(t, ca.ECDSAP256), kind)
			catest.Run(t, func(*testing.T) ca.Authority { return issuer })
		})
	}
}

// request asks for the certificate of a workload.
func request(t *testing.T, uri string, names ...string) ca.Request {
	t.Helper()
	begin := time.Now().Add(-time.Minute).Truncate(time.Second)
	return ca.Request{
		PublicKey: pki.NewKey(t).Public(), URI: uri, DNSNames: names, PodUID: "uid-1", Usage: ca.Both,
		NotBefore: begin, NotAfter: begin.Add(ca.LeafLifetime), MinLifetime: time.Hour,
	}
}

const web = "spiffe://cluster.local/ns/shop/sa/web"

func TestAuthorityIsStoredAndLoaded(t *testing.T) {
	root := newRoot(t, ca.ECDSAP384)
	issuer := newIntermediate(t, root, ca.ECDSAP256)
	for name, a := range map[string]*builtin.Authority{"root": root, "intermediate": issuer} {
		key, err := a.KeyPEM()
		if err != nil {
			t.Fatal(err)
		}
		for roots, raw := range map[string][]byte{"with roots": a.RootsPEM(), "without roots": nil} {
			again, err := builtin.Load(a.ChainPEM(), key, raw)
			if err != nil {
				t.Fatalf("%s %s: %v", name, roots, err)
			}
			req := request(t, web)
			chain, err := again.Issue(t.Context(), req)
			if err != nil {
				t.Fatalf("%s %s: %v", name, roots, err)
			}
			if err := ca.Check(req, chain, []*x509.Certificate{root.Certificate()}); err != nil {
				t.Errorf("%s %s: %v", name, roots, err)
			}
			if !ca.SignedBy(chain.Leaf(), a.Certificate()) {
				t.Errorf("%s %s: the certificate is of another authority", name, roots)
			}
		}
	}
	if !ca.SignedBy(issuer.Certificate(), root.Certificate()) || ca.SignedBy(issuer.Certificate(), issuer.Certificate()) {
		t.Error("it is not known who signed the intermediate")
	}
}

func TestLoadRefuses(t *testing.T) {
	root, other := newRoot(t, ca.ECDSAP256), newRoot(t, ca.ECDSAP256)
	issuer := newIntermediate(t, root, ca.ECDSAP256)
	pem := func(a *builtin.Authority) []byte {
		key, err := a.KeyPEM()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	mesh := pki.New(t)
	worker := mesh.Workload(t, "shop", "web")
	cases := map[string]struct{ chain, key, roots []byte }{
		"Nothing":                            {},
		"No key":                             {chain: root.ChainPEM()},
		"The key of another":                 {chain: root.ChainPEM(), key: pem(other)},
		"The key in place of a certificate":  {chain: pem(root), key: pem(root)},
		"A workload":                         {chain: worker.ChainPEM(), key: worker.KeyPEM(t)},
		"The roots of another":               {chain: issuer.ChainPEM(), key: pem(issuer), roots: other.RootsPEM()},
		"A root that is not among the roots": {chain: root.ChainPEM(), key: pem(root), roots: other.RootsPEM()},
		"Roots that are none":                {chain: issuer.ChainPEM(), key: pem(issuer), roots: worker.ChainPEM()},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			a, err := builtin.Load(tc.chain, tc.key, tc.roots)
			if err == nil {
				t.Fatalf("loaded %s", a)
			}
			for line := range strings.Lines(string(tc.key)) {
				if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-") && strings.Contains(err.Error(), line) {
					t.Errorf("the error tells of the key: %v", err)
				}
			}
		})
	}
}

func TestAuthorityKeepsItsKeyToItself(t *testing.T) {
	root := newRoot(t, ca.ED25519)
	raw, err := root.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.ParsePrivateKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	private, ok := key.Signer().(ed25519.PrivateKey)
	if !ok {
		t.Fatal("no Ed25519 key")
	}
	secret := strings.Trim(fmt.Sprintf("%d", private.Seed()[:8]), "[]")
	printed := fmt.Sprintf("%v %+v %s %q %+v", root, root, root, root, any(*root))
	if strings.Contains(printed, secret) || !strings.Contains(printed, "root of mesh osm") {
		t.Errorf("printed as %s", printed)
	}
}

func TestAuthoritiesOfOneNameAreToldApart(t *testing.T) {
	a, b := newRoot(t, ca.ECDSAP256), newRoot(t, ca.ECDSAP256)
	if bytes.Equal(a.Certificate().RawSubject, b.Certificate().RawSubject) {
		t.Errorf("two roots have the subject %s", a.Certificate().Subject)
	}
	issuer := newIntermediate(t, a, ca.ECDSAP256)
	if issuer.Certificate().Subject.String() == newIntermediate(t, a, ca.ECDSAP256).Certificate().Subject.String() {
		t.Error("two intermediates have one subject")
	}
}

func TestIntermediateIsChecked(t *testing.T) {
	root := newRoot(t, ca.ECDSAP256)
	now := time.Now().Truncate(time.Second)
	req := ca.IntermediateRequest{
		PublicKey: pki.NewKey(t).Public(), Name: "issuer", TrustDomain: "cluster.local",
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(20 * 365 * 24 * time.Hour),
	}
	chain, err := root.IssueIntermediate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.CheckIntermediate(req, chain, []*x509.Certificate{root.Certificate()}); err != nil {
		t.Error(err)
	}
	if got, want := chain.Leaf().NotAfter, root.Certificate().NotAfter; !got.Equal(want) {
		t.Errorf("it ends at %s, its issuer at %s", got, want)
	}
}

func TestIntermediateCertifiesNoOther(t *testing.T) {
	issuer := newIntermediate(t, newRoot(t, ca.ECDSAP256), ca.ECDSAP256)
	now := time.Now().Truncate(time.Second)
	_, err := issuer.NewIntermediate(t.Context(), ca.ECDSAP256, ca.IntermediateRequest{
		Name: "below", NotBefore: now, NotAfter: now.Add(time.Hour),
	})
	if _, refused := errors.AsType[*ca.RefusedError](err); !refused {
		t.Errorf("want it refused, got %v", err)
	}
}

func TestIntermediateSignsForItsTrustDomainOnly(t *testing.T) {
	issuer := newIntermediate(t, newRoot(t, ca.ECDSAP256), ca.ECDSAP256)
	for name, req := range map[string]ca.Request{
		"another trust domain":            request(t, "spiffe://other.local/ns/shop/sa/web"),
		"one below it":                    request(t, "spiffe://a.cluster.local/ns/shop/sa/web"),
		"another's DNS name":              request(t, web, "web.shop.svc"),
		"a name that ends like its own":   request(t, web, "webcluster.local"),
		"a good name and one that is not": request(t, web, "web.shop.cluster.local", "example.com"),
	} {
		var refused *ca.RefusedError
		if _, err := issuer.Issue(t.Context(), req); !errors.As(err, &refused) {
			t.Errorf("%s: want it refused, got %v", name, err)
		}
	}
	if _, err := issuer.Issue(t.Context(), request(t, web, "web.shop.cluster.local")); err != nil {
		t.Errorf("its own: %v", err)
	}
}

// TestVerifiersKeepIntermediatesToTheirTrustDomain has a stolen key of an intermediate
// sign what the authority would not.
func TestVerifiersKeepIntermediatesToTheirTrustDomain(t *testing.T) {
	root := newRoot(t, ca.ECDSAP256)
	issuer := newIntermediate(t, root, ca.ECDSAP256)
	thief := thiefOf(t, issuer)
	mesh := pki.New(t)
	cases := map[string]struct {
		leaf    pki.Credentials
		wantErr bool
	}{
		"A workload":           {leaf: mesh.Workload(t, "shop", "web", pki.By(thief))},
		"Another trust domain": {leaf: mesh.Certificate(t, "spiffe://other.local/ns/shop/sa/web", pki.By(thief)), wantErr: true},
		"A name of the web":    {leaf: mesh.Workload(t, "shop", "web", pki.By(thief), pki.DNSNames("example.com")), wantErr: true},
		"An address":           {leaf: mesh.Workload(t, "shop", "web", pki.By(thief), pki.IPs(net.IPv4(10, 0, 0, 1))), wantErr: true},
		"An address of IPv6":   {leaf: mesh.Workload(t, "shop", "web", pki.By(thief), pki.IPs(net.ParseIP("fd00::1"))), wantErr: true},
	}
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	pool.AddCert(root.Certificate())
	between.AddCert(issuer.Certificate())
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := tc.leaf.Leaf().Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			if (err != nil) != tc.wantErr {
				t.Errorf("verifying: %v, want an error: %t", err, tc.wantErr)
			}
		})
	}
}

// thiefOf is whoever has the key of an authority.
func thiefOf(t *testing.T, a *builtin.Authority) pki.Credentials {
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

// oddDomains are trust domains that are good, but no DNS names of several labels.
func oddDomains() []identity.TrustDomain {
	return []identity.TrustDomain{"my_mesh", "a-_b.local", "-.local", "mesh", "10.0.0.1"}
}

func TestTrustDomainsThatAreNoDNSNamesWork(t *testing.T) {
	root := newRoot(t, ca.ECDSAP256)
	for _, td := range oddDomains() {
		issuer := newConfined(t, root, ca.ECDSAP256, td)
		req := request(t, identity.ID{TrustDomain: td, ServiceAccount: identity.ServiceAccount{Namespace: "shop", Name: "web"}}.URI())
		chain, err := issuer.Issue(t.Context(), req)
		if err != nil {
			t.Fatalf("%s: %v", td, err)
		}
		if err := ca.Check(req, chain, []*x509.Certificate{root.Certificate()}); err != nil {
			t.Errorf("%s: %v", td, err)
		}
	}
}

func TestNewRootRefuses(t *testing.T) {
	now := time.Now()
	for name, o := range map[string]builtin.RootOptions{
		"no name":          {KeyType: ca.ECDSAP256, NotBefore: now, NotAfter: now.Add(time.Hour)},
		"an unknown key":   {Name: "root", KeyType: "DSA", NotBefore: now, NotAfter: now.Add(time.Hour)},
		"an end before it": {Name: "root", KeyType: ca.ECDSAP256, NotBefore: now, NotAfter: now.Add(-time.Hour)},
	} {
		if root, err := builtin.NewRoot(o); err == nil {
			t.Errorf("%s: made %s", name, root)
		}
	}
}

func TestAnAuthorityThatHasEndedSignsNothing(t *testing.T) {
	begin := time.Now().Add(-2 * time.Hour)
	root, err := builtin.NewRoot(builtin.RootOptions{Name: "root", KeyType: ca.ECDSAP256, NotBefore: begin, NotAfter: begin.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	var unavailable *ca.UnavailableError
	if _, err := root.Issue(t.Context(), request(t, web)); !errors.As(err, &unavailable) {
		t.Errorf("a leaf: %v", err)
	}
	now := time.Now().Truncate(time.Second)
	_, err = root.NewIntermediate(t.Context(), ca.ECDSAP256, ca.IntermediateRequest{Name: "issuer", NotBefore: now, NotAfter: now.Add(time.Hour)})
	if !errors.As(err, &unavailable) {
		t.Errorf("an intermediate: %v", err)
	}
}
