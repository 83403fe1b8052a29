package ca

import (
	"crypto"
	"crypto/x509"
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

// maxName is how long a common name may be.
// Source: RFC 5280, appendix A.1, ub-common-name.
const maxName = 64

// IntermediateRequest asks for the certificate of an authority that signs leaves and
// nothing below itself.
type IntermediateRequest struct {
	// PublicKey is the key that is certified.
	PublicKey crypto.PublicKey
	// Key is as in Request.
	Key PrivateKey
	// Name is for people who look at certificates.
	Name string
	// TrustDomain is what the authority's certificates are confined to, where the
	// provider can say so in the certificate; empty for no such bound.
	TrustDomain identity.TrustDomain
	// NotBefore and NotAfter are wanted, in whole seconds; the authority may end it
	// sooner, and must where the issuer ends sooner.
	NotBefore, NotAfter time.Time
}

// Validate returns an *InvalidError where a request breaks a rule.
func (r IntermediateRequest) Validate() error {
	if err := checkKeys(r.PublicKey, r.Key); err != nil {
		return err
	}
	if r.Name == "" || len(r.Name) > maxName {
		return invalid(FieldNames, "the name of an authority has 1 to %d characters", maxName)
	}
	if r.TrustDomain != "" {
		if _, err := identity.ParseTrustDomain(string(r.TrustDomain)); err != nil {
			return invalid(FieldNames, "%v", err)
		}
	}
	if r.NotBefore.IsZero() || !r.NotAfter.After(r.NotBefore) {
		return invalid(FieldLifetime, "it ends before it begins")
	}
	if r.NotBefore.Nanosecond() != 0 || r.NotAfter.Nanosecond() != 0 {
		return invalid(FieldLifetime, "certificates begin and end with a second")
	}
	return nil
}

// CheckIntermediate is Check for the certificate of an authority.
func CheckIntermediate(req IntermediateRequest, chain Chain, roots []*x509.Certificate) error {
	c := chain.Leaf()
	if c == nil || len(chain) > maxChain {
		return wrong("%d certificates", len(chain))
	}
	if !sameKey(req.PublicKey, c.PublicKey) {
		return wrong("the certificate of another key")
	}
	if err := checkAuthority(c); err != nil {
		return &WrongError{Message: "a certificate that cannot sign leaves", Err: err}
	}
	if c.MaxPathLen != 0 || !c.MaxPathLenZero {
		return wrong("an authority that may certify others")
	}
	if c.NotAfter.After(req.NotAfter.Add(tolerance)) {
		return wrong("a certificate until %s, %s was asked for", date(c.NotAfter), date(req.NotAfter))
	}
	return checkPath(chain, roots, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)
}
