// Package ca is what the mesh asks of a certificate authority, whoever that is. A
// request goes in, a chain that leads to one of the authority's roots comes out; what
// comes out is checked against the request before anybody uses it. It knows no
// provider, no Kubernetes and no files: providers are packages below it, each held to
// package catest.
package ca

import (
	"context"
	"crypto/x509"
	"time"
)

// Lifetimes where nobody asks for others; record 0004 tells why these.
const (
	// RootLifetime is how long a root is good.
	RootLifetime = 10 * 365 * 24 * time.Hour
	// LeafLifetime is how long a workload's certificate is good.
	LeafLifetime = 48 * time.Hour
	// intermediateLifetime is how long an intermediate is good at least.
	intermediateLifetime = 30 * 24 * time.Hour
)

// IntermediateLifetime is how long an intermediate is good that signs leaves of a
// lifetime: at least three of them, so that one is never cut short.
func IntermediateLifetime(leaf time.Duration) time.Duration {
	return max(intermediateLifetime, 3*leaf)
}

// RenewAt is when a certificate of an authority, or of a process of the mesh's own, is
// to be renewed: when a third of its life is over.
func RenewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3)
}

// Authority issues certificates. It is safe for concurrent use.
//
// Issue may take as long as its context lets it, and returns as soon as that is done.
// How many requests it carries on at once, and whether it sends several as one, is its
// own affair: callers wait, and an authority that has too many waiting returns an
// *UnavailableError instead of queueing without bound. An error that is none of the
// types of this package may pass, like an *UnavailableError.
//
// Nothing that an authority returns is used before Check has passed it.
type Authority interface {
	// Issue returns a certificate for a valid request, followed by the intermediates
	// that lead to a root, without the root.
	Issue(ctx context.Context, req Request) (Chain, error)
	// Bundle returns the roots that certificates of this authority are verified with,
	// those of the past and of the future included.
	Bundle(ctx context.Context) ([]*x509.Certificate, error)
}

// IntermediateAuthority certifies other authorities. A provider that cannot put the
// pod into a certificate is used so: it certifies an authority of the mesh's own.
type IntermediateAuthority interface {
	// IssueIntermediate returns the certificate of an authority, followed by what leads
	// to a root, without the root.
	IssueIntermediate(ctx context.Context, req IntermediateRequest) (Chain, error)
	// Bundle is as in Authority.
	Bundle(ctx context.Context) ([]*x509.Certificate, error)
}
