package catest

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
)

// long is a life that outlasts most issuers.
const long = 360 * 24 * time.Hour

// unavailable lets an error pass that says that the authority cannot give as much now.
func unavailable(err error) error {
	if target := (*ca.UnavailableError)(nil); errors.As(err, &target) {
		return nil
	}
	return err
}

func endsWithIssuer(ctx context.Context, a ca.Authority) error {
	return unavailable(issues(workload, func(r *ca.Request) { r.NotAfter = r.NotBefore.Add(long) })(ctx, a))
}

func givesEnoughOrNothing(ctx context.Context, a ca.Authority) error {
	return unavailable(issues(workload, func(r *ca.Request) {
		r.NotAfter, r.MinLifetime = r.NotBefore.Add(long), long
	})(ctx, a))
}

func certifiesNewKeys(ctx context.Context, a ca.Authority) error {
	var chains []ca.Chain
	for range 2 {
		r, err := workload()
		if err != nil {
			return err
		}
		chain, err := issue(ctx, a, r)
		if err != nil {
			return err
		}
		chains = append(chains, chain)
	}
	if chains[0].Leaf().SerialNumber.Cmp(chains[1].Leaf().SerialNumber) == 0 {
		return errors.New("two certificates have one serial number")
	}
	return nil
}

// manyAtOnce asks from many sides. Who has to wait waits; nobody gets what another
// asked for, which Check would find.
func manyAtOnce(ctx context.Context, a ca.Authority) error {
	const sides, each = 8, 4
	var (
		mu      sync.Mutex
		serials = map[string]bool{}
		all     []error
		group   sync.WaitGroup
	)
	for range sides {
		group.Go(func() {
			for range each {
				r, err := workload()
				if err != nil {
					panic(err) // there is no chance left to draw from
				}
				chain, err := issue(ctx, a, r)
				mu.Lock()
				if err != nil {
					all = append(all, err)
				} else {
					serials[chain.Leaf().SerialNumber.String()] = true
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if err := errors.Join(all...); err != nil {
		return err
	}
	if len(serials) != sides*each {
		return fmt.Errorf("%d certificates have %d serial numbers", sides*each, len(serials))
	}
	return nil
}

func givesUp(ctx context.Context, a ca.Authority) error {
	r, err := workload()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := a.Issue(ctx, r); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("issuing for somebody who has gone: %w", orNothing(err))
	}
	if _, err := a.Bundle(ctx); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("reading the bundle for somebody who has gone: %w", orNothing(err))
	}
	return nil
}

func orNothing(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// keepsBundle wants roots that are good now, the same before and after, of which the
// caller can do with its copy what it wants.
func keepsBundle(ctx context.Context, a ca.Authority) error {
	before, err := a.Bundle(ctx)
	if err != nil {
		return err
	}
	if len(before) == 0 {
		return errors.New("there are no roots")
	}
	if _, err := ca.ParseBundle(ca.EncodeCertificates(before)); err != nil {
		return err
	}
	good := func(c *x509.Certificate) bool { return time.Now().Before(c.NotAfter) }
	if !slices.ContainsFunc(before, good) {
		return errors.New("all roots have ended")
	}
	if err := issues(workload)(ctx, a); err != nil {
		return err
	}
	kept := ca.EncodeCertificates(before)
	before[0] = nil
	after, err := a.Bundle(ctx)
	if err != nil {
		return err
	}
	if slices.Contains(after, nil) || !bytes.Equal(ca.EncodeCertificates(after), kept) {
		return errors.New("the bundle changed while nothing else did")
	}
	return nil
}
