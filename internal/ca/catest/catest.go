// Package catest is what every certificate authority of this project is held to. A test
// of a provider hands its authority in; what fails is told case by case. The cases ask
// as the mesh asks, and check what comes back as the mesh checks it, by ca.Check. They
// set no bound on how an authority works inside.
package catest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/identity"
)

// patience is how long one case may take, with an authority that is far away.
const patience = time.Minute

// Case is one thing that an authority must do. Check returns why it does not.
type Case struct {
	Name  string
	Check func(ctx context.Context, a ca.Authority) error
}

// Run holds an authority to all cases, each with one of its own.
func Run(t *testing.T, newAuthority func(t *testing.T) ca.Authority) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := c.Check(ctx, newAuthority(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Cases returns what Run holds an authority to.
func Cases() []Case {
	return []Case{
		{"A workload gets the certificate that it asked for", issues(workload)},
		{"A workload without a pod gets a certificate without one", issues(workload, func(r *ca.Request) { r.PodUID = "" })},
		{"A name that DNS has no room for is left to the URI", issues(workload, func(r *ca.Request) { r.DNSNames = nil })},
		{"A control plane gets the certificate that it asked for", issues(controlPlane)},
		{"The operator gets the certificate that it asked for", issues(operator)},
		{"A certificate for clients is for clients only", issues(workload, func(r *ca.Request) { r.Usage = ca.Client })},
		{"A certificate for servers is for servers only", issues(workload, func(r *ca.Request) { r.Usage = ca.Server })},
		{"Keys of every kind that the mesh takes are certified, or refused for good", issuesForEveryKey},
		{"Weak and unknown keys are refused", refusesWeakKeys},
		{"Names that are none are refused", refusesNames},
		{"A pod is certified for workloads only", refusesPods},
		{"A certificate for nothing is refused", refuses(ca.FieldUsage, func(r *ca.Request) { r.Usage = 0 })},
		{"Lives that make no sense are refused", refusesLifetimes},
		{"A longest life is kept, backdating included", issues(workload, func(r *ca.Request) { r.MaxLifetime = time.Hour })},
		{"A certificate ends with its issuer at the latest", endsWithIssuer},
		{"An authority that can give too little gives nothing", givesEnoughOrNothing},
		{"A subject that asks with a new key gets a new certificate", certifiesNewKeys},
		{"Many requests at once get a certificate each", manyAtOnce},
		{"A request that is given up is given up", givesUp},
		{"The bundle is there before anything is signed, and stays", keepsBundle},
	}
}

// now is the time of a request, as the mesh asks: in whole seconds and backdated.
func now() time.Time { return time.Now().Add(-time.Minute).Truncate(time.Second) }

func key() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// workload is an ordinary request.
func workload() (ca.Request, error) {
	k, err := key()
	if err != nil {
		return ca.Request{}, err
	}
	id := identity.ID{TrustDomain: identity.DefaultTrustDomain, ServiceAccount: identity.ServiceAccount{Namespace: "shop", Name: "web.v2"}}
	return ca.Request{
		PublicKey: k.Public(), URI: id.URI(), DNSNames: []string{id.OSMName()}, PodUID: "5f6c7c1e-9a51-4a4e-8a0e-3b1d5f0c2b77",
		Usage: ca.Both, NotBefore: now(), NotAfter: now().Add(24 * time.Hour), MinLifetime: time.Hour,
	}, nil
}

func controlPlane() (ca.Request, error) {
	r, err := workload()
	r.URI, r.PodUID = identity.ControlPlane(identity.DefaultTrustDomain, "osm", "v1"), ""
	r.DNSNames = []string{"osm-controller.osm-system.cluster.local", "osm-injector.osm-system.cluster.local"}
	return r, err
}

func operator() (ca.Request, error) {
	r, err := workload()
	r.URI, r.PodUID, r.DNSNames, r.Usage = identity.Operator(identity.DefaultTrustDomain, "osm"), "", nil, ca.Client
	return r, err
}

// issue asks and checks, as the mesh does.
func issue(ctx context.Context, a ca.Authority, r ca.Request) (ca.Chain, error) {
	names := fmt.Sprint(r.DNSNames)
	chain, err := a.Issue(ctx, r)
	if err != nil {
		return nil, err
	}
	if fmt.Sprint(r.DNSNames) != names {
		return nil, errors.New("the request was changed")
	}
	roots, err := a.Bundle(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the bundle: %w", err)
	}
	return chain, ca.Check(r, chain, roots)
}

// issues wants a certificate for a request.
func issues(request func() (ca.Request, error), changes ...func(*ca.Request)) func(context.Context, ca.Authority) error {
	return func(ctx context.Context, a ca.Authority) error {
		r, err := request()
		if err != nil {
			return err
		}
		for _, change := range changes {
			change(&r)
		}
		_, err = issue(ctx, a, r)
		return err
	}
}

// refuses wants a request to be refused for ever, and for the right reason.
func refuses(field ca.InvalidField, change func(*ca.Request)) func(context.Context, ca.Authority) error {
	return func(ctx context.Context, a ca.Authority) error {
		r, err := workload()
		if err != nil {
			return err
		}
		change(&r)
		_, err = a.Issue(ctx, r)
		var invalid *ca.InvalidError
		switch {
		case err == nil:
			return fmt.Errorf("a certificate was issued for %+v", r)
		case !errors.As(err, &invalid) || invalid.Field != field:
			return fmt.Errorf("want the %s refused as invalid, got: %w", field, err)
		}
		return nil
	}
}

// refusesEach is refuses for several requests.
func refusesEach(ctx context.Context, a ca.Authority, field ca.InvalidField, changes map[string]func(*ca.Request)) error {
	var all []error
	for name, change := range changes {
		if err := refuses(field, change)(ctx, a); err != nil {
			all = append(all, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(all...)
}
