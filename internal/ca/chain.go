package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	// maxChain is how many certificates a chain has at the most.
	maxChain = 8
	// maxRoots is how many roots a bundle has at the most.
	maxRoots = 64
)

// Chain is a certificate, followed by those that lead to a root, each signed by the
// next. The root is not in it.
type Chain []*x509.Certificate

// Leaf returns the first certificate; nil if there is none.
func (c Chain) Leaf() *x509.Certificate {
	if len(c) == 0 {
		return nil
	}
	return c[0]
}

// PEM returns the chain as it is sent in handshakes.
func (c Chain) PEM() []byte { return EncodeCertificates(c) }

// EncodeCertificates returns certificates as PEM.
func EncodeCertificates(all []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range all {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return out.Bytes()
}

// ParseChain reads a chain from PEM that holds certificates and nothing else.
func ParseChain(raw []byte) (Chain, error) {
	all, err := parseCertificates(raw, maxChain)
	return Chain(all), err
}

// ParseBundle reads roots from PEM that holds certificates of authorities and nothing
// else; a root that is there twice is returned once.
func ParseBundle(raw []byte) ([]*x509.Certificate, error) {
	all, err := parseCertificates(raw, maxRoots)
	if err != nil {
		return nil, err
	}
	var roots []*x509.Certificate
	seen := map[string]bool{}
	for _, c := range all {
		if err := checkAuthority(c); err != nil {
			return nil, fmt.Errorf("certificate of %q among the roots: %w", c.Subject, err)
		}
		if !seen[string(c.Raw)] {
			seen[string(c.Raw)] = true
			roots = append(roots, c)
		}
	}
	return roots, nil
}

func parseCertificates(raw []byte, most int) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			// The type of a block is no secret, and nothing else is quoted.
			return nil, fmt.Errorf("a PEM block of type %q is among the certificates", block.Type)
		}
		if len(all) == most {
			return nil, fmt.Errorf("more than %d certificates", most)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parsing certificate %d: %w", len(all)+1, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no certificate in PEM")
	}
	return all, nil
}

// SignedBy reports whether an issuer, and no other of the same name, signed a certificate.
func SignedBy(c, issuer *x509.Certificate) bool {
	return bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId) && c.CheckSignatureFrom(issuer) == nil
}

// SelfSigned reports whether a certificate is signed with its own key.
func SelfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
}

// checkAuthority reports why a certificate cannot be an authority's.
func checkAuthority(c *x509.Certificate) error {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("it is not that of an authority")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("its key may not sign certificates")
	}
	return nil
}
