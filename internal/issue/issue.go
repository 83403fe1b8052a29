// Package issue turns a request for a workload's certificate into a checked
// certificate. The request, the facts of the pod and the time come in; a chain, or
// the class of refusal, goes out. It knows no front: one is the
// PodCertificateRequest of Kubernetes.
package issue

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

const (
	// minLifetime is the shortest certificate that Kubernetes takes for a pod.
	minLifetime = time.Hour
	// backdating is for clocks that are behind. It counts into the lifetime, and
	// Kubernetes allows five minutes.
	backdating = time.Minute
	// Refresh begins when this much of the lifetime is over: 20 of 48 hours.
	refreshNumerator, refreshDenominator = 20, 48
	// refreshMargin is how far the refresh must be from both ends.
	refreshMargin = 10 * time.Minute
	// minRSABits is the weakest RSA key that is taken.
	minRSABits = 2048
)

// DeniedError says that a request can never become right; all other errors may pass.
type DeniedError struct {
	// Reason is a word in CamelCase, Message a sentence for people.
	Reason, Message string
}

// Error implements error.
func (e *DeniedError) Error() string { return e.Reason + ": " + e.Message }

// ErrIssuerEnds says that the issuing certificate ends too soon to sign: it waits to
// be renewed.
var ErrIssuerEnds = errors.New("the issuing certificate ends too soon")

// Request is what is asked for: a certificate for a pod.
type Request struct {
	Namespace, ServiceAccount string
	PodName, PodUID           string
	// MaxLifetime is the longest that the asker takes; 0 is no bound.
	MaxLifetime time.Duration
	// CSR is a PKCS#10 request, signed with the key that is to be certified. Nothing in
	// it but the key is read.
	CSR []byte
}

// Issued is a certificate.
type Issued struct {
	// ChainPEM is the certificate, then what leads to the root, without the root.
	ChainPEM []byte
	// NotBefore, RefreshAt and NotAfter have whole seconds.
	NotBefore, RefreshAt, NotAfter time.Time
	// Serial and Issuer tell the certificate from others, as in identity.Peer.
	Serial, Issuer string
}

// Issuer signs. It is immutable and safe for concurrent use.
type Issuer struct {
	chain       []*x509.Certificate
	key         crypto.Signer
	trustDomain identity.TrustDomain
	lifetime    time.Duration
}

// NewIssuer returns an Issuer from an issuing certificate, followed by what leads to
// the root, and its key, both PEM. Certificates are good for lifetime, or for what
// is left of the issuer's.
func NewIssuer(chainPEM, keyPEM []byte, td identity.TrustDomain, lifetime time.Duration) (*Issuer, error) {
	i := &Issuer{trustDomain: td, lifetime: max(lifetime, minLifetime)}
	for rest := chainPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parsing the issuing certificate: %w", err)
		}
		i.chain = append(i.chain, c)
	}
	if len(i.chain) == 0 || !i.chain[0].IsCA || i.chain[0].KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, errors.New("there is no certificate that may sign others")
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, errors.New("there is no key for the issuing certificate")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the issuing key is no PKCS#8 private key") // the cause could quote the key
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("the issuing key cannot sign")
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(i.chain[0].PublicKey) {
		return nil, errors.New("the issuing key is not that of the issuing certificate")
	}
	i.key = key
	return i, nil
}

// String keeps the key out of logs.
func (i *Issuer) String() string { return "issuer " + i.chain[0].Subject.CommonName }

// NotAfter is when the issuing certificate ends.
func (i *Issuer) NotAfter() time.Time { return i.chain[0].NotAfter }

// Issue signs a certificate. The names in it come from the request's facts, which the
// caller has checked, and never from the CSR. A *DeniedError is for ever.
func (i *Issuer) Issue(req Request, now time.Time) (Issued, error) {
	public, err := publicKey(req.CSR)
	if err != nil {
		return Issued{}, err
	}
	id := identity.ID{TrustDomain: i.trustDomain, ServiceAccount: identity.ServiceAccount{Namespace: req.Namespace, Name: req.ServiceAccount}}
	if _, err := identity.ParseURI(id.URI()); err != nil {
		return Issued{}, &DeniedError{Reason: "InvalidIdentity", Message: err.Error()}
	}
	template, err := i.template(id, req, now)
	if err != nil {
		return Issued{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.chain[0], public, i.key)
	if err != nil {
		return Issued{}, fmt.Errorf("signing the certificate of %s: %w", id.URI(), err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return Issued{}, fmt.Errorf("parsing the certificate of %s: %w", id.URI(), err)
	}
	if err := i.check(leaf, id, req.PodUID); err != nil {
		return Issued{}, fmt.Errorf("checking the certificate of %s: %w", id.URI(), err)
	}
	var chain bytes.Buffer
	for _, c := range append([]*x509.Certificate{leaf}, i.chain...) {
		if err := pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return Issued{}, fmt.Errorf("encoding the chain: %w", err)
		}
	}
	peer, err := identity.PeerOf(leaf)
	if err != nil {
		return Issued{}, err
	}
	return Issued{
		ChainPEM: chain.Bytes(), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		RefreshAt: refreshAt(leaf.NotBefore, leaf.NotAfter), Serial: peer.Serial, Issuer: peer.Issuer,
	}, nil
}

func (i *Issuer) template(id identity.ID, req Request, now time.Time) (*x509.Certificate, error) {
	notBefore := now.Add(-backdating).Truncate(time.Second)
	lifetime := i.lifetime
	if req.MaxLifetime > 0 {
		lifetime = min(lifetime, req.MaxLifetime)
	}
	notAfter := notBefore.Add(lifetime)
	if end := i.chain[0].NotAfter; notAfter.After(end) {
		notAfter = end
	}
	if notAfter.Sub(notBefore) < minLifetime {
		return nil, fmt.Errorf("%w: at %s", ErrIssuerEnds, i.chain[0].NotAfter.Format(time.RFC3339))
	}
	uri, err := url.Parse(id.URI())
	if err != nil {
		return nil, &DeniedError{Reason: "InvalidIdentity", Message: err.Error()}
	}
	podUID, err := identity.PodUIDExtension(req.PodUID)
	if err != nil {
		return nil, &DeniedError{Reason: "InvalidIdentity", Message: err.Error()}
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:                  []*url.URL{uri},
		DNSNames:              []string{id.OSMName()},
		ExtraExtensions:       []pkix.Extension{podUID},
	}, nil
}

// check holds a certificate to what was meant, whoever signed it.
func (i *Issuer) check(leaf *x509.Certificate, id identity.ID, podUID string) error {
	peer, err := identity.PeerOf(leaf)
	if err != nil {
		return err
	}
	if peer.ID != id || peer.PodUID != podUID {
		return fmt.Errorf("it is for %s and pod %q", peer.ID.URI(), peer.PodUID)
	}
	if err := leaf.CheckSignatureFrom(i.chain[0]); err != nil {
		return err
	}
	if leaf.NotAfter.After(i.chain[0].NotAfter) {
		return errors.New("it outlives its issuer")
	}
	return nil
}

// refreshAt is when a new certificate should be asked for.
func refreshAt(notBefore, notAfter time.Time) time.Time {
	at := notBefore.Add(notAfter.Sub(notBefore) * refreshNumerator / refreshDenominator).Truncate(time.Second)
	if earliest := notBefore.Add(refreshMargin); at.Before(earliest) {
		at = earliest
	}
	if latest := notAfter.Add(-refreshMargin); at.After(latest) {
		at = latest
	}
	return at
}

// publicKey reads the key of a request and proves that the asker holds it.
func publicKey(csr []byte) (crypto.PublicKey, error) {
	parsed, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, &DeniedError{Reason: "InvalidRequest", Message: "the request is no PKCS#10 request"}
	}
	if err := parsed.CheckSignature(); err != nil {
		return nil, &DeniedError{Reason: "InvalidRequest", Message: "the request is not signed with its key"}
	}
	switch key := parsed.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if bits := key.Curve.Params().BitSize; bits < 256 || bits > 384 {
			return nil, &DeniedError{Reason: "UnsupportedKeyType", Message: fmt.Sprintf("an ECDSA key of %d bits is not taken: use ECDSAP256 or ECDSAP384", bits)}
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > 4096 {
			return nil, &DeniedError{Reason: "UnsupportedKeyType", Message: fmt.Sprintf("an RSA key of %d bits is not taken: use 2048 to 4096", bits)}
		}
	default:
		return nil, &DeniedError{Reason: "UnsupportedKeyType", Message: fmt.Sprintf("a key of type %T is not taken", key)}
	}
	return parsed.PublicKey, nil
}
