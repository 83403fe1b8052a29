package ca

import (
	"crypto/x509"
	"fmt"
	"time"
)

// CheckAnchor reports why the first certificate of a chain cannot be what a mesh trusts and
// has control planes certified by. What follows it leads to its root.
func CheckAnchor(chain Chain, now time.Time) error {
	own := chain.Leaf()
	if err := checkAuthority(own); err != nil {
		return fmt.Errorf("%q may not sign others: %w", own.Subject, err)
	}
	for _, c := range chain {
		if err := lives(c, now); err != nil {
			return err
		}
		if err := CheckPublicKey(c.PublicKey); err != nil {
			return fmt.Errorf("the key of %q: %w", c.Subject, err)
		}
	}
	if own.MaxPathLenZero {
		return fmt.Errorf("%q may certify no other authority (its path length is 0), and the mesh has one for each control plane: have it certified with a path length of 1 or more", own.Subject)
	}
	return nil
}

// lives reports why a certificate cannot be used now, or not for long enough.
func lives(c *x509.Certificate, now time.Time) error {
	switch end := c.NotAfter.UTC().Format(time.RFC3339); {
	case now.Before(c.NotBefore):
		return fmt.Errorf("%q begins at %s only: look at the clocks", c.Subject, c.NotBefore.UTC().Format(time.RFC3339))
	case now.After(c.NotAfter):
		return fmt.Errorf("%q ended at %s: bring one that is good", c.Subject, end)
	case c.NotAfter.Sub(now) < IntermediateLifetime(0):
		return fmt.Errorf("%q ends at %s, sooner than what a control plane signs with would: bring one that is good for %s more at least", c.Subject, end, IntermediateLifetime(0))
	}
	return nil
}
