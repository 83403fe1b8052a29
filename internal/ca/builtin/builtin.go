// Package builtin is the certificate authority that needs no other: roots and
// intermediates are made here, and what they sign is signed in this process. Requests
// and PEM go in, certificates come out. It keeps nothing: where keys are stored, and
// who may read them there, is its callers' affair.
package builtin

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/identity"
)

// Authority is a certificate that signs others, with its key. It is immutable, and
// safe for concurrent use.
type Authority struct {
	certificate *x509.Certificate
	key         ca.PrivateKey
	// chain leads from the certificate to a root, without the root: for a root, nothing.
	chain ca.Chain
	roots []*x509.Certificate
}

var (
	_ ca.Authority             = (*Authority)(nil)
	_ ca.IntermediateAuthority = (*Authority)(nil)
)

// RootOptions say what root is made.
type RootOptions struct {
	// Name is for people who look at certificates.
	Name    string
	KeyType ca.KeyType
	// NotBefore and NotAfter are when it begins and ends.
	NotBefore, NotAfter time.Time
}

// NewRoot makes a root: a key, and a certificate that the key signs itself. Below it
// there is room for one level of intermediates.
func NewRoot(o RootOptions) (*Authority, error) {
	key, err := ca.GenerateKey(o.KeyType)
	if err != nil {
		return nil, err
	}
	req := ca.IntermediateRequest{
		PublicKey: key.Public(), Name: o.Name, NotBefore: o.NotBefore.Truncate(time.Second), NotAfter: o.NotAfter.Truncate(time.Second),
	}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	template, err := ca.IntermediateTemplate(req)
	if err != nil {
		return nil, err
	}
	template.MaxPathLen, template.MaxPathLenZero = 1, false
	root, err := create(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &Authority{certificate: root, key: key, roots: []*x509.Certificate{root}}, nil
}

// NewIntermediate makes a key and has it certified: an authority that signs leaves.
func (a *Authority) NewIntermediate(ctx context.Context, kind ca.KeyType, req ca.IntermediateRequest) (*Authority, error) {
	key, err := ca.GenerateKey(kind)
	if err != nil {
		return nil, err
	}
	req.PublicKey = key.Public()
	chain, err := a.IssueIntermediate(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := ca.CheckIntermediate(req, chain, a.roots); err != nil {
		return nil, err
	}
	return &Authority{certificate: chain.Leaf(), key: key, chain: chain, roots: a.roots}, nil
}

// Load returns an authority from PEM: its certificate followed by what leads to a
// root, its key, and the roots. A root is loaded from itself, with no roots besides.
// Without roots, an intermediate is taken as the end of all chains.
func Load(chainPEM, keyPEM, rootsPEM []byte) (*Authority, error) {
	chain, err := ca.ParseChain(chainPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate of an authority: %w", err)
	}
	key, err := ca.ParsePrivateKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the key of an authority: %w", err)
	}
	a := &Authority{certificate: chain.Leaf(), key: key, chain: chain, roots: []*x509.Certificate{chain.Leaf()}}
	if !key.Matches(a.certificate.PublicKey) {
		return nil, errors.New("the key is not that of the certificate")
	}
	if len(rootsPEM) > 0 {
		if a.roots, err = ca.ParseBundle(rootsPEM); err != nil {
			return nil, fmt.Errorf("reading the roots of an authority: %w", err)
		}
	}
	if ca.SelfSigned(a.certificate) {
		a.chain = nil
	}
	err = a.check()
	return a, err
}

// check reports why an authority cannot sign anything that others would accept,
// whatever the time is.
func (a *Authority) check() error {
	c := a.certificate
	if !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return fmt.Errorf("the certificate of %q may not sign others", c.Subject)
	}
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range a.roots {
		pool.AddCert(root)
	}
	at := c.NotBefore
	for i, issuer := range a.chain {
		if i > 0 {
			between.AddCert(issuer)
		}
		if issuer.NotBefore.After(at) {
			at = issuer.NotBefore
		}
	}
	_, err := c.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("the certificate of %q does not lead to a root: %w", c.Subject, err)
	}
	return nil
}

// String tells the authority from others; its key stays out of it.
func (a *Authority) String() string { return fmt.Sprintf("authority %q", a.certificate.Subject) }

// Certificate returns the certificate that signs.
func (a *Authority) Certificate() *x509.Certificate { return a.certificate }

// ChainPEM returns the certificate and what leads to a root, as Load takes it. For a
// root that is itself.
func (a *Authority) ChainPEM() []byte {
	if len(a.chain) == 0 {
		return ca.EncodeCertificates([]*x509.Certificate{a.certificate})
	}
	return a.chain.PEM()
}

// KeyPEM returns the key, as Load takes it.
func (a *Authority) KeyPEM() ([]byte, error) { return a.key.PEM() }

// RootsPEM returns the roots, as Load takes them.
func (a *Authority) RootsPEM() []byte { return ca.EncodeCertificates(a.roots) }

// Bundle implements ca.Authority.
func (a *Authority) Bundle(ctx context.Context) ([]*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return slices.Clone(a.roots), nil
}

// Issue implements ca.Authority.
func (a *Authority) Issue(ctx context.Context, req ca.Request) (ca.Chain, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	if err := a.permits(req); err != nil {
		return nil, err
	}
	begin, end, err := a.clip(req.NotBefore, req.End(), req.MinLifetime)
	if err != nil {
		return nil, err
	}
	template, err := ca.LeafTemplate(req)
	if err != nil {
		return nil, err
	}
	template.NotBefore, template.NotAfter = begin, end
	leaf, err := create(template, a.certificate, req.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return append(ca.Chain{leaf}, a.chain...), nil
}

// IssueIntermediate implements ca.IntermediateAuthority.
func (a *Authority) IssueIntermediate(ctx context.Context, req ca.IntermediateRequest) (ca.Chain, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	if a.certificate.MaxPathLenZero {
		return nil, &ca.RefusedError{Err: fmt.Errorf("%q may certify no other authority", a.certificate.Subject)}
	}
	begin, end, err := a.clip(req.NotBefore, req.NotAfter, 0)
	if err != nil {
		return nil, err
	}
	template, err := ca.IntermediateTemplate(req)
	if err != nil {
		return nil, err
	}
	template.NotBefore, template.NotAfter = begin, end
	template.MaxPathLenZero = true
	certificate, err := create(template, a.certificate, req.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return append(ca.Chain{certificate}, a.chain...), nil
}

// clip fits a life into that of the authority and of what leads to its root.
func (a *Authority) clip(begin, end time.Time, shortest time.Duration) (from, to time.Time, err error) {
	for _, issuer := range append([]*x509.Certificate{a.certificate}, a.chain...) {
		if issuer.NotBefore.After(begin) {
			begin = issuer.NotBefore
		}
		if issuer.NotAfter.Before(end) {
			end = issuer.NotAfter
		}
	}
	if end.Sub(begin) < max(shortest, time.Second) {
		return begin, end, &ca.UnavailableError{Err: fmt.Errorf(
			"%q ends at %s, too soon to sign for %s", a.certificate.Subject, a.certificate.NotAfter.UTC().Format(time.RFC3339), shortest)}
	}
	return begin, end, nil
}

// permits refuses what verifiers would refuse of an authority that is confined.
func (a *Authority) permits(req ca.Request) error {
	domains := a.certificate.PermittedURIDomains
	if len(domains) == 0 {
		return nil
	}
	subject, err := identity.Parse(req.URI)
	if err != nil {
		return err
	}
	if !slices.Contains(domains, string(subject.TrustDomain)) {
		return &ca.RefusedError{Err: fmt.Errorf("%q signs for %q only", a.certificate.Subject, domains)}
	}
	for _, name := range req.DNSNames {
		if name != domains[0] && !strings.HasSuffix(name, "."+domains[0]) {
			return &ca.RefusedError{Err: fmt.Errorf("%q signs for %q only, not for %q", a.certificate.Subject, domains, name)}
		}
	}
	return nil
}

// create signs a certificate and reads it as others will.
func create(template, parent *x509.Certificate, public any, key ca.PrivateKey) (*x509.Certificate, error) {
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	if template.SubjectKeyId, err = ca.KeyID(public); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key.Signer())
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading what was signed: %w", err)
	}
	return certificate, nil
}

// serialNumber draws 128 bits.
func serialNumber() (*big.Int, error) {
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	raw[0] |= 1 // never 0
	return new(big.Int).SetBytes(raw), nil
}
