// Package pki makes the keys, certificates and kubeconfigs of a cluster. A spec
// and a folder come in; files go out. What is already there is kept, so that a
// cluster which is started again is still the one that its clients know.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// lifetime is how long a local cluster's certificates last.
const lifetime = 5 * 365 * 24 * time.Hour

// Leaf is a certificate to make.
type Leaf struct {
	// File is the name of the pair of files, without its ending.
	File string
	// CommonName and Organizations are the subject: user and groups.
	CommonName    string
	Organizations []string
	// DNS and IPs are the names that a server is reached by.
	DNS []string
	IPs []net.IP
	// Usage says whether it serves, calls, or both.
	Usage []x509.ExtKeyUsage
}

// Authority is a certificate authority whose files are in one folder.
type Authority struct {
	dir         string
	certificate *x509.Certificate
	key         crypto.Signer
	now         time.Time
}

// OpenAuthority reads the authority called name from dir, or makes it.
func OpenAuthority(dir, name string, now time.Time) (*Authority, error) {
	a := &Authority{dir: dir, now: now}
	certificate, key, err := readPair(dir, name)
	if err == nil {
		a.certificate, a.key = certificate, key
		return a, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "osm-cluster-" + name},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	if a.key, err = newKey(); err != nil {
		return nil, err
	}
	a.certificate = template
	if a.certificate, err = a.sign(template, a.key.Public()); err != nil {
		return nil, err
	}
	return a, writePair(dir, name, a.certificate, a.key)
}

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte { return certificatePEM(a.certificate) }

// Issue makes the leaf's key and certificate, unless they are there already.
func (a *Authority) Issue(leaf Leaf) error {
	existing, _, err := readPair(a.dir, leaf.File)
	if err == nil && existing.CheckSignatureFrom(a.certificate) == nil {
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	certificate, err := a.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: leaf.CommonName, Organization: leaf.Organizations},
		DNSNames:    leaf.DNS,
		IPAddresses: leaf.IPs,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: leaf.Usage,
	}, key.Public())
	if err != nil {
		return fmt.Errorf("signing %s: %w", leaf.File, err)
	}
	return writePair(a.dir, leaf.File, certificate, key)
}

func (a *Authority) sign(template *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	// An hour back: the clocks of virtual machines jump.
	template.NotBefore = a.now.Add(-time.Hour)
	template.NotAfter = a.now.Add(lifetime)
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// EnsureKeyPair makes a bare key and its public half, for service account tokens.
func EnsureKeyPair(dir, name string) error {
	if _, err := os.Stat(filepath.Join(dir, name+".key")); err == nil {
		return nil
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	if err := os.WriteFile(filepath.Join(dir, name+".pub"), block, 0o600); err != nil {
		return err
	}
	return writeKey(dir, name, key)
}

func newKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func readPair(dir, name string) (*x509.Certificate, crypto.Signer, error) {
	certificateBlock, err := readPEM(filepath.Join(dir, name+".crt"))
	if err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(certificateBlock)
	if err != nil {
		return nil, nil, fmt.Errorf("parsing %s.crt: %w", name, err)
	}
	keyBlock, err := readPEM(filepath.Join(dir, name+".key"))
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParseECPrivateKey(keyBlock)
	if err != nil {
		return nil, nil, fmt.Errorf("parsing %s.key: %w", name, err)
	}
	return certificate, key, nil
}

func readPEM(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", path)
	}
	return block.Bytes, nil
}

// writePair writes the certificate last: it is there only if its key is.
func writePair(dir, name string, certificate *x509.Certificate, key crypto.Signer) error {
	if err := writeKey(dir, name, key); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".crt"), certificatePEM(certificate), 0o600)
}

func writeKey(dir, name string, key crypto.Signer) error {
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("key %s is not an elliptic curve key", name)
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return os.WriteFile(filepath.Join(dir, name+".key"), block, 0o600)
}

func certificatePEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
