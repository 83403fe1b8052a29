package trust

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/identity"
)

const (
	// servingLifetime is how long certificates of the mesh's own processes are good. They
	// are renewed when a third is over, as intermediates are.
	servingLifetime = 30 * 24 * time.Hour
	// backdating is for clocks that are behind.
	backdating = 5 * time.Minute
	// maxName is how long the name of an authority can be.
	maxName = 64
)

// pair is a certificate with its key.
type pair struct {
	certificate            *x509.Certificate
	key                    ca.PrivateKey
	certificatePEM, keyPEM []byte
	// asked is for how long it was asked for; 0 where nobody knows.
	asked time.Duration
}

// parsePair reads a certificate and its key.
func parsePair(certificatePEM, keyPEM []byte) (*pair, error) {
	chain, err := ca.ParseChain(certificatePEM)
	if err != nil {
		return nil, err
	}
	key, err := ca.ParsePrivateKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if !key.Matches(chain.Leaf().PublicKey) {
		return nil, errors.New("the key is not that of the certificate")
	}
	return &pair{certificate: chain.Leaf(), key: key, certificatePEM: certificatePEM, keyPEM: keyPEM}, nil
}

// newPair returns what is stored of a chain and its key.
func newPair(chain ca.Chain, key ca.PrivateKey) (*pair, error) {
	keyPEM, err := key.PEM()
	if err != nil {
		return nil, err
	}
	return &pair{certificate: chain.Leaf(), key: key, certificatePEM: chain.PEM(), keyPEM: keyPEM}, nil
}

// newRoot makes a root of a mesh.
func newRoot(kind ca.KeyType, mesh string, now time.Time) (*builtin.Authority, error) {
	return builtin.NewRoot(builtin.RootOptions{
		Name: authorityName("root of mesh " + mesh), KeyType: kind, NotBefore: now.Add(-backdating), NotAfter: now.Add(ca.RootLifetime),
	})
}

// newIntermediate has a root certify a key that signs workloads, for the lifetime of a
// leaf, and nothing below them.
func newIntermediate(ctx context.Context, root *anchor, kind ca.KeyType, spec operatorv1alpha1.MeshRevisionSpec, leaf time.Duration, now time.Time) (*pair, error) {
	key, err := ca.GenerateKey(kind)
	if err != nil {
		return nil, err
	}
	now = now.Truncate(time.Second)
	req := ca.IntermediateRequest{
		PublicKey: key.Public(), Key: key, Name: authorityName("issuer of mesh " + spec.Mesh + " revision " + spec.Revision),
		TrustDomain: identity.TrustDomain(spec.TrustDomain), NotBefore: now.Add(-backdating), NotAfter: now.Add(ca.IntermediateLifetime(leaf)),
	}
	chain, err := root.IssueIntermediate(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := ca.CheckIntermediate(req, chain, root.roots()); err != nil {
		return nil, err
	}
	made, err := newPair(chain, key)
	if err == nil {
		made.asked = ca.IntermediateLifetime(leaf)
	}
	return made, err
}

// lasts reports whether an intermediate is good for as long as one made now, for leaves of
// a lifetime, would have been: it may end with its root, and others than the mesh's own
// authorities give what they want.
func lasts(p *pair, root *x509.Certificate, leaf time.Duration) bool {
	wanted := ca.IntermediateLifetime(leaf)
	return p.asked >= wanted || p.certificate.NotAfter.Sub(p.certificate.NotBefore) >= wanted || !p.certificate.NotAfter.Before(root.NotAfter)
}

// newLeaf has a root certify a key of a process of the mesh's own.
func newLeaf(ctx context.Context, root *anchor, id string, names []string, lifetime time.Duration, now time.Time) (*pair, error) {
	return issueLeaf(ctx, root, ca.Both, id, names, lifetime, now)
}

// issueLeaf has a root certify a new key for a use.
func issueLeaf(ctx context.Context, root *anchor, usage ca.Usage, id string, names []string, lifetime time.Duration, now time.Time) (*pair, error) {
	key, err := ca.GenerateKey(defaultKeyType)
	if err != nil {
		return nil, err
	}
	now = now.Truncate(time.Second)
	req := ca.Request{
		PublicKey: key.Public(), Key: key, URI: id, DNSNames: names, Usage: usage,
		NotBefore: now.Add(-backdating), NotAfter: now.Add(lifetime),
	}
	chain, err := root.Issue(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := ca.Check(req, chain, root.roots()); err != nil {
		return nil, err
	}
	return newPair(chain, key)
}

// authorityName fits a name into a certificate.
func authorityName(name string) string { return name[:min(len(name), maxName)] }

// due reports whether a certificate is to be renewed.
func due(c *x509.Certificate, now time.Time) bool { return now.After(ca.RenewAt(c)) }

// selfSigned makes a certificate for a server that nothing but its caller's copy vouches for.
func selfSigned(host string, now time.Time) (*pair, error) {
	key, err := ca.GenerateKey(defaultKeyType)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: host},
		NotBefore:             now.Add(-backdating),
		NotAfter:              now.Add(servingLifetime),
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:              []string{host},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key.Signer())
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", host, err)
	}
	keyPEM, err := key.PEM()
	if err != nil {
		return nil, err
	}
	return parsePair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM)
}
