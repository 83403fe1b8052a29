package builtin

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
)

// Brought is an authority that somebody else made, as PEM.
type Brought struct {
	// Certificate is the authority's own, followed by what leads to its root.
	Certificate, Key []byte
	// Root ends the chain, where Certificate does not have it; may be empty.
	Root []byte
}

// Bring returns an authority that somebody else made, after a look at all of it: its own
// certificate is the end of all chains that it signs, its root included in none. Whoever
// else has a certificate of that root is nobody to the mesh.
func Bring(b Brought, now time.Time) (*Authority, error) {
	chain, err := ca.ParseChain(bytes.Join([][]byte{b.Certificate, b.Root}, []byte("\n")))
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	if chain, err = upToRoot(chain); err != nil {
		return nil, err
	}
	for _, c := range chain {
		if err := lives(c, now); err != nil {
			return nil, err
		}
		if err := ca.CheckPublicKey(c.PublicKey); err != nil {
			return nil, fmt.Errorf("the key of %q: %w", c.Subject, err)
		}
	}
	own := chain.Leaf()
	if own.BasicConstraintsValid && own.IsCA && own.MaxPathLenZero {
		return nil, fmt.Errorf("%q may certify no other authority (its path length is 0), and the mesh has one for each control plane: have it certified with a path length of 1 or more", own.Subject)
	}
	if len(chain) > 1 {
		chain = chain[:len(chain)-1]
	}
	return Load(chain.PEM(), b.Key, nil)
}

// upToRoot returns a chain that ends with its root, each certificate signed by the next.
func upToRoot(chain ca.Chain) (ca.Chain, error) {
	for i, c := range chain {
		if selfSigned(c) {
			return chain[:i+1], nil
		}
		if i+1 == len(chain) {
			return nil, fmt.Errorf("the chain is not complete: %q was issued by %q, whose certificate is missing: append it, up to the root", c.Subject, c.Issuer)
		}
		if err := c.CheckSignatureFrom(chain[i+1]); err != nil {
			return nil, fmt.Errorf("%q is not signed by %q, which follows it: put each certificate before that of its issuer: %w", c.Subject, chain[i+1].Subject, err)
		}
	}
	return nil, errors.New("there is no certificate")
}

// lives reports why a certificate cannot be used now, or not for long enough.
func lives(c *x509.Certificate, now time.Time) error {
	switch end := c.NotAfter.UTC().Format(time.RFC3339); {
	case now.Before(c.NotBefore):
		return fmt.Errorf("%q begins at %s only: look at the clocks", c.Subject, c.NotBefore.UTC().Format(time.RFC3339))
	case now.After(c.NotAfter):
		return fmt.Errorf("%q ended at %s: bring one that is good", c.Subject, end)
	case c.NotAfter.Sub(now) < ca.IntermediateLifetime(0):
		return fmt.Errorf("%q ends at %s, sooner than what a control plane signs with would: bring one that is good for %s more at least", c.Subject, end, ca.IntermediateLifetime(0))
	}
	return nil
}
