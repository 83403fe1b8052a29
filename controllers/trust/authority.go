package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

const (
	defaultKeyType = "ECDSAP256"
	// rootLifetime is how long a root is good; intermediateLifetime and
	// servingLifetime what it signs. Both are renewed when a third is over.
	rootLifetime         = 10 * 365 * 24 * time.Hour
	intermediateLifetime = 30 * 24 * time.Hour
	servingLifetime      = 30 * 24 * time.Hour
	// backdating is for clocks that are behind.
	backdating = 5 * time.Minute
)

// authority is a certificate that signs, with its key. Its chain begins with it and
// ends before the root.
type authority struct {
	certificate            *x509.Certificate
	key                    crypto.Signer
	certificatePEM, keyPEM []byte
}

// String keeps the key out of logs.
func (a *authority) String() string { return "authority " + a.certificate.Subject.CommonName }

// parseAuthority reads a certificate and its key.
func parseAuthority(certificatePEM, keyPEM []byte) (*authority, error) {
	certificate, err := parseCertificate(certificatePEM)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, errors.New("no PEM block in the key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key is no PKCS#8 private key")
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key cannot sign")
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(certificate.PublicKey) {
		return nil, errors.New("the key is not that of the certificate")
	}
	return &authority{certificate: certificate, key: key, certificatePEM: certificatePEM, keyPEM: keyPEM}, nil
}

// parseCertificate reads the first certificate.
func parseCertificate(raw []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("no PEM block in the certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing the certificate: %w", err)
	}
	return certificate, nil
}

// newRoot makes a root of a mesh.
func newRoot(kind, mesh string, now time.Time) (*authority, error) {
	return sign(nil, kind, &x509.Certificate{
		Subject:               pkix.Name{CommonName: "root of mesh " + mesh, Organization: []string{"openservicemesh.io"}},
		NotBefore:             now.Add(-backdating),
		NotAfter:              now.Add(rootLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            1,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	})
}

// newIntermediate makes a certificate that signs workloads and nothing below them.
func (a *authority) newIntermediate(kind, mesh, revision string, now time.Time) (*authority, error) {
	return sign(a, kind, &x509.Certificate{
		Subject:               pkix.Name{CommonName: "issuer of mesh " + mesh + " revision " + revision, Organization: []string{"openservicemesh.io"}},
		NotBefore:             now.Add(-backdating),
		NotAfter:              earlier(now.Add(intermediateLifetime), a.certificate.NotAfter),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	})
}

// newLeaf makes a certificate for a process of the mesh's own.
func (a *authority) newLeaf(id string, names []string, lifetime time.Duration, now time.Time) (*authority, error) {
	uri, err := url.Parse(id)
	if err != nil {
		return nil, fmt.Errorf("identity %q: %w", id, err)
	}
	return sign(a, defaultKeyType, &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"openservicemesh.io"}},
		NotBefore:             now.Add(-backdating),
		NotAfter:              earlier(now.Add(lifetime), a.certificate.NotAfter),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:              names,
		URIs:                  []*url.URL{uri},
	})
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// sign makes a key and a certificate for it, by an issuer or by itself.
func sign(issuer *authority, kind string, template *x509.Certificate) (*authority, error) {
	key, err := newKey(kind)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.certificate, issuer.key
	}
	if template.IsCA {
		id, err := keyID(key)
		if err != nil {
			return nil, err
		}
		template.SubjectKeyId = id
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parsing what was signed: %w", err)
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, errors.New("encoding the key")
	}
	return &authority{
		certificate: certificate, key: key,
		certificatePEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rawKey}),
	}, nil
}

func newKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "ECDSAP384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "RSA3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "RSA4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	default:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
}

func keyID(key crypto.Signer) ([]byte, error) {
	raw, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding the public key: %w", err)
	}
	sum := sha256.Sum256(raw)
	return sum[:20], nil
}

// signed reports whether a certificate is of this authority.
func (a *authority) signed(c *x509.Certificate) bool {
	return bytes.Equal(c.AuthorityKeyId, a.certificate.SubjectKeyId) && c.CheckSignatureFrom(a.certificate) == nil
}

// due reports whether a certificate is to be renewed: a third of its life is over,
// or it ends with its issuer.
func due(c *x509.Certificate, now time.Time) bool {
	return now.After(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3))
}

// selfSigned makes a certificate for a server that nothing but its caller's copy vouches for.
func selfSigned(host string, now time.Time) (*authority, error) {
	return sign(nil, defaultKeyType, &x509.Certificate{
		Subject:               pkix.Name{CommonName: host},
		NotBefore:             now.Add(-backdating),
		NotAfter:              now.Add(servingLifetime),
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:              []string{host},
	})
}
