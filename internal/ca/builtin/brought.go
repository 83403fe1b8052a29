package builtin

import (
	"bytes"
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
	if err := ca.CheckAnchor(chain, now); err != nil {
		return nil, err
	}
	if len(chain) > 1 {
		chain = chain[:len(chain)-1]
	}
	return Load(chain.PEM(), b.Key, nil)
}

// upToRoot returns a chain that ends with its root, each certificate signed by the next.
func upToRoot(chain ca.Chain) (ca.Chain, error) {
	for i, c := range chain {
		if ca.SelfSigned(c) {
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
