package ca

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

// tolerance is how far clocks of authorities may be from ours, and how far they
// backdate. Kubernetes takes no more for the certificate of a pod.
const tolerance = 5 * time.Minute

// Check returns a *WrongError where a chain is not what a request asked for, or does
// not lead to one of the roots for as long as its first certificate is good. Every
// chain of every authority passes here before it is used.
func Check(req Request, chain Chain, roots []*x509.Certificate) error {
	leaf := chain.Leaf()
	if leaf == nil || len(chain) > maxChain {
		return wrong("%d certificates", len(chain))
	}
	if !sameKey(req.PublicKey, leaf.PublicKey) {
		return wrong("the certificate of another key")
	}
	for _, check := range []func(Request, *x509.Certificate) error{checkNames, checkUsage, checkLifetime} {
		if err := check(req, leaf); err != nil {
			return err
		}
	}
	return checkPath(chain, roots, req.extKeyUsage()...)
}

// checkNames lets through the names that were asked for and no other.
func checkNames(req Request, leaf *x509.Certificate) error {
	subject, err := identity.SubjectOf(leaf)
	if err != nil {
		return &WrongError{Message: "a certificate of nobody in the mesh", Err: err}
	}
	if got := subject.URI(); got != req.URI {
		return wrong("a certificate of %s, %s was asked for", got, req.URI)
	}
	got, want := slices.Sorted(slices.Values(leaf.DNSNames)), slices.Sorted(slices.Values(req.DNSNames))
	if !slices.Equal(got, want) {
		return wrong("DNS names %q, %q were asked for", got, want)
	}
	if n := len(leaf.EmailAddresses) + len(leaf.IPAddresses); n > 0 {
		return wrong("%d mail or IP addresses", n)
	}
	if cn := leaf.Subject.CommonName; cn != "" && !slices.Contains(req.DNSNames, cn) {
		return wrong("the common name %q", cn)
	}
	uid, err := identity.PodUIDOf(leaf.Extensions)
	if err != nil {
		return &WrongError{Message: "a pod that cannot be read", Err: err}
	}
	if uid != req.PodUID {
		return wrong("pod %q, %q was asked for", uid, req.PodUID)
	}
	return nil
}

func checkUsage(req Request, leaf *x509.Certificate) error {
	// Some authorities set these two besides; they say how a session key is agreed on.
	const harmless = x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 || leaf.KeyUsage&^(x509.KeyUsageDigitalSignature|harmless) != 0 {
		return wrong("key usage %b", leaf.KeyUsage)
	}
	// A certificate that does not speak of it is no authority's either; some providers
	// leave it out. Source: RFC 5280, section 4.2.1.9.
	if leaf.Version != 3 || leaf.IsCA {
		return wrong("a certificate that others could be signed with")
	}
	want := req.extKeyUsage()
	if len(leaf.UnknownExtKeyUsage) > 0 || len(leaf.ExtKeyUsage) != len(want) {
		return wrong("extended key usage %v, %v was asked for", leaf.ExtKeyUsage, want)
	}
	for _, usage := range want {
		if !slices.Contains(leaf.ExtKeyUsage, usage) {
			return wrong("extended key usage %v, %v was asked for", leaf.ExtKeyUsage, want)
		}
	}
	return nil
}

// extKeyUsage returns the usages of a request as X.509 names them.
func (r Request) extKeyUsage() []x509.ExtKeyUsage {
	var out []x509.ExtKeyUsage
	if r.Usage&Client != 0 {
		out = append(out, x509.ExtKeyUsageClientAuth)
	}
	if r.Usage&Server != 0 {
		out = append(out, x509.ExtKeyUsageServerAuth)
	}
	return out
}

func checkLifetime(req Request, leaf *x509.Certificate) error {
	lifetime := leaf.NotAfter.Sub(leaf.NotBefore)
	switch begin := leaf.NotBefore.Sub(req.NotBefore); {
	case begin.Abs() > tolerance:
		return wrong("a certificate from %s, %s was asked for", date(leaf.NotBefore), date(req.NotBefore))
	case leaf.NotAfter.After(req.NotAfter.Add(tolerance)):
		return wrong("a certificate until %s, %s was asked for", date(leaf.NotAfter), date(req.NotAfter))
	case req.MaxLifetime > 0 && lifetime > req.MaxLifetime:
		return wrong("a certificate for %s, at most %s were asked for", lifetime, req.MaxLifetime)
	case lifetime < req.MinLifetime || lifetime <= 0:
		return wrong("a certificate for %s, at least %s were asked for", lifetime, req.MinLifetime)
	}
	return nil
}

// checkPath verifies that each certificate is signed by the next, the last by a root,
// that none ends before the first, and that all this holds from now, which is within
// the tolerance, until the first ends.
func checkPath(chain Chain, roots []*x509.Certificate, usages ...x509.ExtKeyUsage) error {
	leaf := chain[0]
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range roots {
		pool.AddCert(root)
	}
	for i, c := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(c); err != nil {
			return &WrongError{Message: fmt.Sprintf("certificate %d that is not signed by the next", i+1), Err: err}
		}
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			return wrong("a chain with its root")
		}
		if c.NotAfter.Before(leaf.NotAfter) {
			return wrong("a certificate until %s whose issuer ends at %s", date(leaf.NotAfter), date(c.NotAfter))
		}
		between.AddCert(c)
	}
	at := leaf.NotBefore.Add(tolerance)
	if last := leaf.NotAfter.Add(-time.Second); at.After(last) {
		at = last
	}
	for _, usage := range usages {
		paths, err := leaf.Verify(x509.VerifyOptions{
			Roots: pool, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if err != nil {
			return &WrongError{Message: "a certificate that its roots do not vouch for", Err: err}
		}
		lasts := func(path []*x509.Certificate) bool { return !path[len(path)-1].NotAfter.Before(leaf.NotAfter) }
		if !slices.ContainsFunc(paths, lasts) {
			return wrong("a certificate that outlives its root")
		}
	}
	return nil
}

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }
