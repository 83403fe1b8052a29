// Package pki makes certificates for tests: good ones, and bad ones of every kind that
// an attacker could hold. A test says whose certificate it wants and what is wrong with
// it, and gets a chain with its key. It refuses nothing, so that nothing but tests may
// use it.
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

// Authority is a root, and an intermediate that it certified. The intermediate signs
// unless an option says otherwise.
type Authority struct {
	Root, Intermediate Credentials
}

// New makes an Authority. Two of one test have nothing in common: each is the wrong one
// for the other's certificates.
func New(tb testing.TB) *Authority {
	tb.Helper()
	now := time.Now()
	authority := func(name string, length int) *x509.Certificate {
		return &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, MaxPathLen: length, MaxPathLenZero: length == 0,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	root := sign(tb, authority("root of a test", 1), nil, NewKey(tb))
	return &Authority{Root: root, Intermediate: sign(tb, authority("issuer of a test", 0), &root, NewKey(tb))}
}

// NewKey makes a key of the kind that sidecars have.
func NewKey(tb testing.TB) crypto.Signer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatalf("making a key: %v", err)
	}
	return key
}

// RootsPEM returns what whoever trusts this authority is given.
func (a *Authority) RootsPEM() []byte { return encode(a.Root.Chain) }

// Pool returns what whoever trusts this authority is given.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Root.Leaf())
	return pool
}

// Workload makes the certificate of a pod that runs as a ServiceAccount: good for an
// hour, for both ends of a connection.
func (a *Authority) Workload(tb testing.TB, namespace, serviceAccount string, options ...Option) Credentials {
	tb.Helper()
	id := identity.ID{
		TrustDomain: identity.DefaultTrustDomain, ServiceAccount: identity.ServiceAccount{Namespace: namespace, Name: serviceAccount},
	}
	return a.Certificate(tb, id.URI(), append([]Option{DNSNames(id.OSMName())}, options...)...)
}

// ControlPlane makes the certificate that the control plane of a revision serves with,
// signed by the root as the operator does.
func (a *Authority) ControlPlane(tb testing.TB, mesh, revision string, options ...Option) Credentials {
	tb.Helper()
	return a.Certificate(tb, identity.ControlPlane(identity.DefaultTrustDomain, mesh, revision), append([]Option{ByRoot()}, options...)...)
}

// Operator makes the certificate that the operator speaks to control planes with,
// signed by the root as the operator does.
func (a *Authority) Operator(tb testing.TB, mesh string, options ...Option) Credentials {
	tb.Helper()
	return a.Certificate(tb, identity.Operator(identity.DefaultTrustDomain, mesh), append([]Option{ByRoot()}, options...)...)
}

// Certificate makes a certificate with a URI. The URI is written as it is, whether it
// is one or not; an empty one is left out.
func (a *Authority) Certificate(tb testing.TB, uri string, options ...Option) Credentials {
	tb.Helper()
	now := time.Now()
	c := &certificate{
		authority: a, issuer: &a.Intermediate,
		template: &x509.Certificate{
			NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour), BasicConstraintsValid: true,
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		},
	}
	if uri != "" {
		c.uris = []string{uri}
	}
	for _, option := range options {
		option(tb, c)
	}
	if c.key == nil {
		c.key = NewKey(tb)
	}
	if names := c.names(tb); names != nil {
		c.template.ExtraExtensions = append(c.template.ExtraExtensions, *names)
	}
	return sign(tb, c.template, c.issuer, c.key)
}

// Credentials are a certificate with its key.
type Credentials struct {
	// Chain is the certificate, followed by what leads to the root, without the root. A
	// root's chain is the root.
	Chain []*x509.Certificate
	Key   crypto.Signer
}

// Leaf returns the certificate itself.
func (c Credentials) Leaf() *x509.Certificate { return c.Chain[0] }

// TLS returns the credentials as a TLS configuration takes them.
func (c Credentials) TLS() tls.Certificate {
	out := tls.Certificate{PrivateKey: c.Key, Leaf: c.Leaf()}
	for _, one := range c.Chain {
		out.Certificate = append(out.Certificate, one.Raw)
	}
	return out
}

// ChainPEM returns the chain.
func (c Credentials) ChainPEM() []byte { return encode(c.Chain) }

// KeyPEM returns the key as PKCS#8.
func (c Credentials) KeyPEM(tb testing.TB) []byte {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		tb.Fatalf("encoding a key: %v", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// BundlePEM returns the key and the chain in one file, as a podCertificate volume holds
// them.
func (c Credentials) BundlePEM(tb testing.TB) []byte {
	tb.Helper()
	return append(c.KeyPEM(tb), c.ChainPEM()...)
}

func encode(chain []*x509.Certificate) []byte {
	var out []byte
	for _, c := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// certificate is what is about to be signed.
type certificate struct {
	authority *Authority
	template  *x509.Certificate
	issuer    *Credentials // nil signs itself
	key       crypto.Signer
	uris      []string
	dnsNames  []string
	ips       []net.IP
}

// names returns the subject alternative names, byte for byte.
func (c *certificate) names(tb testing.TB) *pkix.Extension {
	tb.Helper()
	var all []asn1.RawValue
	add := func(tag int, value []byte) {
		all = append(all, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: value})
	}
	for _, name := range c.dnsNames {
		add(2, []byte(name))
	}
	for _, uri := range c.uris {
		add(6, []byte(uri))
	}
	for _, ip := range c.ips {
		if v4 := ip.To4(); v4 != nil {
			ip = v4
		}
		add(7, ip)
	}
	if len(all) == 0 {
		return nil
	}
	value, err := asn1.Marshal(all)
	if err != nil {
		tb.Fatalf("encoding names: %v", err)
	}
	return &pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: value}
}

// sign signs a certificate for a key, by an issuer or by the key itself.
func sign(tb testing.TB, template *x509.Certificate, issuer *Credentials, key crypto.Signer) Credentials {
	tb.Helper()
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		tb.Fatalf("drawing a serial number: %v", err)
	}
	if template.SerialNumber == nil {
		template.SerialNumber = new(big.Int).SetBytes(serial)
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.Leaf(), issuer.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		tb.Fatalf("signing a certificate: %v", err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatalf("reading a certificate that was signed: %v", err)
	}
	out := Credentials{Chain: []*x509.Certificate{parsed}, Key: key}
	if issuer == nil {
		return out
	}
	for _, c := range issuer.Chain {
		if !bytes.Equal(c.RawIssuer, c.RawSubject) { // the root stays out
			out.Chain = append(out.Chain, c)
		}
	}
	return out
}
