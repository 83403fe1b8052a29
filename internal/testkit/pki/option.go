package pki

import (
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

// Option changes what a certificate says, or who says it.
type Option func(tb testing.TB, c *certificate)

// PodUID names the pod that the certificate was issued to.
func PodUID(uid string) Option {
	return func(tb testing.TB, c *certificate) {
		tb.Helper()
		extension, err := identity.PodUIDExtension(uid)
		if err != nil {
			tb.Fatalf("naming a pod: %v", err)
		}
		c.template.ExtraExtensions = append(c.template.ExtraExtensions, extension)
	}
}

// DNSNames sets the DNS names, in place of those before.
func DNSNames(names ...string) Option {
	return func(_ testing.TB, c *certificate) { c.dnsNames = names }
}

// URIs sets the URIs, in place of those before, byte for byte.
func URIs(uris ...string) Option {
	return func(_ testing.TB, c *certificate) { c.uris = uris }
}

// IPs adds addresses.
func IPs(ips ...net.IP) Option {
	return func(_ testing.TB, c *certificate) { c.ips = append(c.ips, ips...) }
}

// Lifetime sets when the certificate begins and ends.
func Lifetime(notBefore, notAfter time.Time) Option {
	return func(_ testing.TB, c *certificate) { c.template.NotBefore, c.template.NotAfter = notBefore, notAfter }
}

// Expired has the certificate end a minute ago.
func Expired() Option {
	return func(_ testing.TB, c *certificate) {
		now := time.Now()
		c.template.NotBefore, c.template.NotAfter = now.Add(-30*time.Minute), now.Add(-time.Minute)
	}
}

// NotYetValid has the certificate begin in an hour.
func NotYetValid() Option {
	return func(_ testing.TB, c *certificate) {
		now := time.Now()
		c.template.NotBefore, c.template.NotAfter = now.Add(time.Hour), now.Add(2*time.Hour)
	}
}

// ClientOnly makes the certificate useless for servers.
func ClientOnly() Option {
	return func(_ testing.TB, c *certificate) {
		c.template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
}

// ServerOnly makes the certificate useless for clients.
func ServerOnly() Option {
	return func(_ testing.TB, c *certificate) {
		c.template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
}

// ByRoot has the root sign, without an intermediate.
func ByRoot() Option {
	return func(_ testing.TB, c *certificate) { c.issuer = &c.authority.Root }
}

// By has somebody else sign: another authority's intermediate, or a workload, which no
// verifier must accept.
func By(issuer Credentials) Option {
	return func(_ testing.TB, c *certificate) { c.issuer = &issuer }
}

// SelfSigned has the certificate vouch for itself.
func SelfSigned() Option {
	return func(_ testing.TB, c *certificate) { c.issuer = nil }
}

// AsAuthority makes the certificate one that signs others, with the names that it has.
func AsAuthority() Option {
	return func(_ testing.TB, c *certificate) {
		c.template.IsCA, c.template.KeyUsage = true, x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign
	}
}

// Key certifies a key that there is already.
func Key(key crypto.Signer) Option {
	return func(_ testing.TB, c *certificate) { c.key = key }
}

// PublicKey certifies a key whose other half somebody else has.
func PublicKey(public crypto.PublicKey) Option { return Key(publicKey{public}) }

// publicKey stands for a key that cannot sign here.
type publicKey struct{ public crypto.PublicKey }

// Public implements crypto.Signer.
func (k publicKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer.
func (publicKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("somebody else has the private key")
}

// Template changes anything else.
func Template(change func(*x509.Certificate)) Option {
	return func(_ testing.TB, c *certificate) { change(c.template) }
}
