package issue_test

import (
	"context"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/issue"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// authority answers as it is told to.
type authority struct {
	issue  func(ctx context.Context, req ca.Request) (ca.Chain, error)
	bundle func(ctx context.Context) ([]*x509.Certificate, error)
}

func (a authority) Issue(ctx context.Context, req ca.Request) (ca.Chain, error) {
	return a.issue(ctx, req)
}

func (a authority) Bundle(ctx context.Context) ([]*x509.Certificate, error) { return a.bundle(ctx) }

// TestAuthorityThatFailsDeniesNobody has the authority fail in every way: what it does
// is no fault of the pod, that would be without a certificate for ever.
func TestAuthorityThatFailsDeniesNobody(t *testing.T) {
	good := intermediate(t, 30*24*time.Hour)
	mesh := pki.New(t)
	fails := func(err error) authority {
		return authority{issue: func(context.Context, ca.Request) (ca.Chain, error) { return nil, err }, bundle: good.Bundle}
	}
	returns := func(change func(ca.Request) ca.Request) authority {
		return authority{issue: func(ctx context.Context, req ca.Request) (ca.Chain, error) { return good.Issue(ctx, change(req)) }, bundle: good.Bundle}
	}
	cases := map[string]struct {
		authority ca.Authority
		want      string
		wantAfter time.Duration
	}{
		"It is away":           {authority: fails(errors.New("connection refused")), want: issue.ReasonAuthorityUnavailable},
		"It is too slow":       {authority: fails(context.DeadlineExceeded), want: issue.ReasonAuthorityUnavailable},
		"It has too much":      {authority: fails(&ca.UnavailableError{Err: errors.New("429"), RetryAfter: time.Minute}), want: issue.ReasonAuthorityUnavailable, wantAfter: time.Minute},
		"It refuses":           {authority: fails(&ca.RefusedError{Err: errors.New("403")}), want: issue.ReasonAuthorityRefused},
		"It finds its own bug": {authority: fails(&ca.WrongError{Message: "oops"}), want: issue.ReasonWrongCertificate},
		"It ends too soon":     {authority: intermediate(t, 30*time.Minute), want: issue.ReasonAuthorityUnavailable},
		"It has no roots": {authority: authority{issue: good.Issue, bundle: func(context.Context) ([]*x509.Certificate, error) {
			return nil, errors.New("connection reset")
		}}, want: issue.ReasonAuthorityUnavailable},
		"It has other roots": {authority: authority{issue: good.Issue, bundle: func(context.Context) ([]*x509.Certificate, error) {
			return mesh.Root.Chain, nil
		}}, want: issue.ReasonWrongCertificate},
		"It returns nothing": {authority: fails(nil), want: issue.ReasonWrongCertificate},
		"It adds a name": {authority: returns(func(r ca.Request) ca.Request {
			r.DNSNames = append(r.DNSNames, "db.shop.cluster.local")
			return r
		}), want: issue.ReasonWrongCertificate},
		"It drops the pod": {authority: returns(func(r ca.Request) ca.Request {
			r.PodUID = ""
			return r
		}), want: issue.ReasonWrongCertificate},
		"It certifies another key": {authority: returns(func(r ca.Request) ca.Request {
			r.PublicKey = pki.NewKey(t).Public()
			return r
		}), want: issue.ReasonWrongCertificate},
		"It takes its time for itself": {authority: returns(func(r ca.Request) ca.Request {
			r.MaxLifetime, r.NotAfter = 0, r.NotBefore.Add(40*time.Hour)
			return r
		}), want: issue.ReasonWrongCertificate},
		"It finds the life wrong": {authority: returns(func(r ca.Request) ca.Request {
			r.NotBefore = time.Time{}
			return r
		}), want: issue.ReasonAuthorityRefused},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			req, pod := request(t)
			req.MaxLifetime = 24 * time.Hour
			got, err := issuer(t, tc.authority, 0).ForPod(within(t), req, pod)
			wantClass(t, err, "", tc.want)
			var pending *issue.PendingError
			if errors.As(err, &pending) && pending.RetryAfter != tc.wantAfter {
				t.Errorf("retried after %s, want %s", pending.RetryAfter, tc.wantAfter)
			}
			if len(got.ChainPEM) > 0 {
				t.Error("a certificate is returned with the error")
			}
		})
	}
}

func TestNothingIsAskedOfTheAuthorityForWhoIsDenied(t *testing.T) {
	asked := 0
	i := issuer(t, authority{issue: func(context.Context, ca.Request) (ca.Chain, error) {
		asked++
		return nil, errors.New("not now")
	}}, 0)
	req, pod := request(t)
	pod.ServiceAccount = "another"
	if _, err := i.ForPod(within(t), req, pod); err == nil || asked != 0 {
		t.Errorf("asked %d times for a pod of another ServiceAccount: %v", asked, err)
	}
}

func TestAuthorityIsAskedForWhatThePodIs(t *testing.T) {
	var got ca.Request
	a := authority{issue: func(_ context.Context, req ca.Request) (ca.Chain, error) {
		got = req
		return nil, errors.New("not now")
	}}
	req, pod := request(t)
	req.Namespace, req.MaxLifetime = "svc", 2*time.Hour
	if _, err := issuer(t, a, 5*time.Hour).ForPod(within(t), req, pod); err == nil {
		t.Fatal("no error")
	}
	if got.URI != "spiffe://cluster.local/ns/svc/sa/web" || got.PodUID != uid || got.Usage != ca.Both {
		t.Errorf("asked for %+v", got)
	}
	if len(got.DNSNames) != 0 {
		t.Errorf("asked for the names %q, which cluster DNS gives to Services", got.DNSNames)
	}
	if life := got.End().Sub(got.NotBefore); life != 2*time.Hour || got.NotAfter.Sub(got.NotBefore) != 5*time.Hour || got.MinLifetime != time.Hour {
		t.Errorf("asked for %s: %+v", life, got)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("asked for what no authority takes: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := issue.New(issue.Options{TrustDomain: "cluster.local"}); err == nil {
		t.Error("an issuer without an authority")
	}
	if _, err := issue.New(issue.Options{Authority: authority{}, TrustDomain: "Cluster.Local"}); !errors.Is(err, identity.ErrInvalid) {
		t.Errorf("an issuer of a trust domain that is none: %v", err)
	}
}

func BenchmarkIssueLeaf(b *testing.B) {
	i := issuer(b, intermediate(b, 30*24*time.Hour), 0)
	req, pod := request(b)
	ctx := within(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.ForPod(ctx, req, pod); err != nil {
			b.Fatal(err)
		}
	}
}
