// Package issue turns a request for a workload's certificate into a checked
// certificate. What is asked for, the facts of the pod and an authority come in; a
// chain, or the class of refusal, goes out. It vouches for nothing that the facts do
// not say, and reads nothing of a request but the key. It knows no front: one is the
// PodCertificateRequest of Kubernetes.
package issue

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/identity"
)

const (
	// minLifetime is the shortest certificate that Kubernetes takes for a pod.
	minLifetime = time.Hour
	// backdating is for clocks that are behind ours. It counts into the lifetime, and
	// Kubernetes allows five minutes both ways: the rest is for its clock and ours.
	backdating = 2 * time.Minute
	// Refresh begins when this much of the lifetime is over: 20 of 48 hours.
	refreshNumerator, refreshDenominator = 20, 48
	// refreshMargin is how far the refresh must be from both ends.
	refreshMargin = 10 * time.Minute
)

// Options are what an Issuer is made of.
type Options struct {
	// Authority signs.
	Authority ca.Authority
	// TrustDomain is that of all certificates.
	TrustDomain identity.TrustDomain
	// Lifetime is how long certificates are good, where neither the request nor the
	// authority sets a bound; 48 hours when 0, an hour at least.
	Lifetime time.Duration
	// Now is the clock; the system's when nil.
	Now func() time.Time
}

// Issuer issues certificates. It is immutable and safe for concurrent use; what
// changes, such as an issuing certificate, makes a new one.
type Issuer struct {
	authority   ca.Authority
	trustDomain identity.TrustDomain
	lifetime    time.Duration
	now         func() time.Time
}

// New returns an Issuer.
func New(o Options) (*Issuer, error) {
	td, err := identity.ParseTrustDomain(string(o.TrustDomain))
	if err != nil {
		return nil, err
	}
	if o.Authority == nil {
		return nil, errors.New("an issuer needs an authority")
	}
	i := &Issuer{authority: o.Authority, trustDomain: td, lifetime: ca.LeafLifetime, now: time.Now}
	if o.Lifetime > 0 {
		i.lifetime = max(o.Lifetime.Truncate(time.Second), minLifetime)
	}
	if o.Now != nil {
		i.now = o.Now
	}
	return i, nil
}

// Issued is a certificate, and what others are told of it.
type Issued struct {
	// ID and PodUID are who it was issued to.
	ID     identity.ID
	PodUID string
	// ChainPEM is the certificate, then what leads to the root, without the root.
	ChainPEM []byte
	// NotBefore, RefreshAt and NotAfter have whole seconds.
	NotBefore, RefreshAt, NotAfter time.Time
	// Serial and Issuer tell the certificate from others, as in identity.Peer.
	Serial, Issuer string
}

// subject is who a certificate is for, all of it vouched for.
type subject struct {
	serviceAccount identity.ServiceAccount
	podUID         string
	key            crypto.PublicKey
	maxLifetime    time.Duration
}

// issue asks the authority, and checks what it returns.
func (i *Issuer) issue(ctx context.Context, s subject) (Issued, error) {
	id := identity.ID{TrustDomain: i.trustDomain, ServiceAccount: s.serviceAccount}
	begin := i.now().Add(-backdating).Truncate(time.Second)
	req := ca.Request{
		PublicKey: s.key, URI: id.URI(), PodUID: s.podUID, Usage: ca.Both,
		NotBefore: begin, NotAfter: begin.Add(i.lifetime), MaxLifetime: s.maxLifetime, MinLifetime: minLifetime,
	}
	if name, ok := id.DNSName(); ok {
		req.DNSNames = []string{name}
	}
	chain, err := i.authority.Issue(ctx, req)
	if err != nil {
		return Issued{}, classify(err)
	}
	roots, err := i.authority.Bundle(ctx)
	if err != nil {
		return Issued{}, classify(err)
	}
	if err := ca.Check(req, chain, roots); err != nil {
		return Issued{}, classify(err)
	}
	leaf := chain.Leaf()
	peer, err := identity.PeerOf(leaf)
	if err != nil {
		return Issued{}, fmt.Errorf("reading the certificate of %s: %w", id.URI(), err)
	}
	return Issued{
		ID: id, PodUID: s.podUID, ChainPEM: chain.PEM(),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, RefreshAt: refreshAt(leaf.NotBefore, leaf.NotAfter),
		Serial: peer.Serial, Issuer: peer.Issuer,
	}, nil
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
