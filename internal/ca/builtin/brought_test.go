package builtin_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/ca/catest"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// company is an authority that is no mesh's, and what it certified for one.
type company struct {
	root, below pki.Credentials
}

func newCompany(t *testing.T, kind ca.KeyType, changes ...pki.Option) company {
	t.Helper()
	mesh, now := pki.New(t), time.Now()
	authority := func(name string, by pki.Option, more ...pki.Option) pki.Credentials {
		key, err := ca.GenerateKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		return mesh.Certificate(t, "", append([]pki.Option{
			by, pki.AsAuthority(), pki.Key(key.Signer()), pki.Lifetime(now.Add(-time.Hour), now.Add(365*24*time.Hour)),
			pki.Template(func(c *x509.Certificate) {
				c.Subject, c.MaxPathLen, c.MaxPathLenZero = pkix.Name{CommonName: name}, -1, false
			}),
		}, more...)...)
	}
	root := authority("company", pki.SelfSigned())
	return company{root: root, below: authority("company's mesh", pki.By(root), changes...)}
}

// brought is what is brought of the intermediate, complete.
func (c company) brought(t *testing.T) builtin.Brought {
	t.Helper()
	return builtin.Brought{Certificate: slices.Concat(c.below.ChainPEM(), c.root.ChainPEM()), Key: c.below.KeyPEM(t)}
}

func TestWhatIsBroughtConforms(t *testing.T) {
	for _, kind := range []ca.KeyType{ca.ECDSAP256, ca.ECDSAP384, ca.RSA2048, ca.ED25519} {
		t.Run("An intermediate with a key of type "+string(kind), func(t *testing.T) {
			a, err := builtin.Bring(newCompany(t, kind).brought(t), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			catest.Run(t, func(*testing.T) ca.Authority { return a })
		})
	}
}

func TestWhatIsBroughtComesInSeveralForms(t *testing.T) {
	c := newCompany(t, ca.ECDSAP256)
	for name, b := range map[string]builtin.Brought{
		"A root":                              {Certificate: c.root.ChainPEM(), Key: c.root.KeyPEM(t)},
		"An intermediate":                     c.brought(t),
		"An intermediate with its root apart": {Certificate: c.below.ChainPEM(), Key: c.below.KeyPEM(t), Root: c.root.ChainPEM()},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := builtin.Bring(b, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			issue(t, newIntermediate(t, a, ca.ECDSAP256), web)
		})
	}
}

// TestWhatIsBroughtIsTheEnd has the mesh trust what was brought and nothing beside it, while
// those who trust the company can follow a chain to it.
func TestWhatIsBroughtIsTheEnd(t *testing.T) {
	c := newCompany(t, ca.ECDSAP256)
	a, err := builtin.Bring(c.brought(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	roots, err := a.Bundle(t.Context())
	if err != nil || len(roots) != 1 || !roots[0].Equal(c.below.Leaf()) {
		t.Fatalf("the mesh trusts %d roots, %v; want what was brought alone", len(roots), err)
	}
	chain, err := newIntermediate(t, a, ca.ECDSAP256).Issue(t.Context(), request(t, web))
	if err != nil {
		t.Fatal(err)
	}
	outside, between := x509.NewCertPool(), x509.NewCertPool()
	outside.AddCert(c.root.Leaf())
	for _, one := range chain[1:] {
		between.AddCert(one)
	}
	if _, err := chain.Leaf().Verify(x509.VerifyOptions{Roots: outside, Intermediates: between}); err != nil {
		t.Errorf("who trusts the company does not accept a workload: %v", err)
	}
}

func TestBringRefuses(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	change := func(f func(*x509.Certificate)) []pki.Option { return []pki.Option{pki.Template(f)} }
	cases := map[string]struct {
		changes []pki.Option
		spoil   func(*builtin.Brought, company)
		want    string
	}{
		"No certificate":           {spoil: func(b *builtin.Brought, _ company) { b.Certificate = nil }, want: "no certificate"},
		"No key":                   {spoil: func(b *builtin.Brought, _ company) { b.Key = nil }, want: "private key"},
		"A key among certificates": {spoil: func(b *builtin.Brought, _ company) { b.Certificate = slices.Concat(b.Key, b.Certificate) }, want: "PRIVATE KEY"},
		"The key of another":       {spoil: func(b *builtin.Brought, c company) { b.Key = c.root.KeyPEM(t) }, want: "not that of the certificate"},
		"A chain without its root": {spoil: func(b *builtin.Brought, c company) { b.Certificate = c.below.ChainPEM() }, want: "not complete"},
		"A chain in another order": {spoil: func(b *builtin.Brought, c company) {
			b.Certificate = slices.Concat(c.below.ChainPEM(), c.below.ChainPEM(), c.root.ChainPEM())
		}, want: "is not signed by"},
		"No authority":              {changes: change(func(c *x509.Certificate) { c.IsCA = false }), want: "may not sign others"},
		"A key that signs no other": {changes: change(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), want: "may not sign others"},
		"No room below":             {changes: change(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }), want: "path length"},
		"RSA of 1024 bits":          {changes: []pki.Option{pki.Key(crypto.Signer(weak))}, want: "1024 bits"},
		"One that has ended":        {changes: []pki.Option{pki.Lifetime(now.Add(-2*time.Hour), now.Add(-time.Hour))}, want: "ended at"},
		"One that has not begun":    {changes: []pki.Option{pki.Lifetime(now.Add(time.Hour), now.Add(365*24*time.Hour))}, want: "begins at"},
		"One that ends too soon":    {changes: []pki.Option{pki.Lifetime(now.Add(-time.Hour), now.Add(48*time.Hour))}, want: "sooner than"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := newCompany(t, ca.ECDSAP256, tc.changes...)
			b := c.brought(t)
			if tc.spoil != nil {
				tc.spoil(&b, c)
			}
			_, err := builtin.Bring(b, now)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want words with %q", err, tc.want)
			}
			for line := range strings.Lines(string(b.Key)) {
				if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-") && strings.Contains(err.Error(), line) {
					t.Error("the error tells of the key")
				}
			}
		})
	}
}

// TestEnvoyTakesWhatIsBroughtForTheEnd asks a real Envoy, which would have a chain end with
// a self-signed certificate unless told otherwise.
func TestEnvoyTakesWhatIsBroughtForTheEnd(t *testing.T) {
	envoy := os.Getenv("OSM_TEST_ENVOY")
	if envoy == "" {
		t.Skip("OSM_TEST_ENVOY does not name an Envoy")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := newCompany(t, ca.ECDSAP256)
	a, err := builtin.Bring(c.brought(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issuer, mesh := newIntermediate(t, a, ca.ECDSAP256), pki.New(t)
	address := serve(ctx, t, envoy, issue(t, issuer, "spiffe://cluster.local/ns/shop/sa/store"), a.RootsPEM())
	for name, tc := range map[string]struct {
		client pki.Credentials
		wantOK bool
	}{
		"A workload":                       {client: issue(t, issuer, web), wantOK: true},
		"What was brought signed it":       {client: issue(t, a, web), wantOK: true},
		"The company signed it":            {client: mesh.Workload(t, "shop", "web", pki.By(c.root))},
		"Another authority of the company": {client: mesh.Workload(t, "shop", "web", pki.By(mesh.Certificate(t, "", pki.AsAuthority(), pki.By(c.root))))},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := get(ctx, address, &tls.Config{
				MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{tc.client.TLS()},
				InsecureSkipVerify: true, // this asks whether the server verifies
			})
			if ok := err == nil && body == "hello"; ok != tc.wantOK {
				t.Errorf("answered %q, %v; want an answer: %t", body, err, tc.wantOK)
			}
		})
	}
}
