package catest_test

import (
	"context"
	"crypto/x509"
	"errors"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/catest"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// authority is a good one that can be told to be bad.
type authority struct {
	t    *testing.T
	mesh *pki.Authority
	bad

	mu sync.Mutex
	// Protected by mu.
	last ca.Chain
}

// bad says what is wrong with an authority.
type bad struct {
	blind    bool // does not look at requests
	deaf     bool // does not see that its caller has gone
	parrot   bool // answers with what it issued last
	scribble bool // writes into requests
	lasting  bool // issues beyond its own end
	generous bool // issues for as long as is wanted at most, whatever the bound
	stingy   bool // issues for less than is of use
	vague    bool // does not say why it refuses
	bundle   func([]*x509.Certificate) []*x509.Certificate
	options  []pki.Option
	change   func(ca.Chain) ca.Chain
}

func (a *authority) Issue(ctx context.Context, req ca.Request) (ca.Chain, error) {
	if err := ctx.Err(); err != nil && !a.deaf {
		return nil, err
	}
	if err := req.Validate(); err != nil {
		if a.vague {
			return nil, errors.New("no")
		}
		if a.blind && ca.CheckPublicKey(req.PublicKey) == nil {
			return a.mesh.Workload(a.t, "shop", "web", pki.PublicKey(req.PublicKey)).Chain, nil
		}
		return nil, err
	}
	begin, end, issuerEnd := req.NotBefore, req.End(), a.mesh.Root.Leaf().NotAfter
	if a.generous {
		end = req.NotAfter
	}
	if end.After(issuerEnd) && !a.lasting {
		end = issuerEnd
	}
	if end.Sub(begin) < req.MinLifetime && !a.stingy {
		return nil, &ca.UnavailableError{Err: errors.New("too soon")}
	}
	if a.scribble && len(req.DNSNames) > 0 {
		req.DNSNames[0] = "scribble"
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.parrot && a.last != nil {
		return a.last, nil
	}
	options := []pki.Option{pki.DNSNames(req.DNSNames...), pki.PublicKey(req.PublicKey), pki.Lifetime(begin, end), usage(req)}
	if req.PodUID != "" {
		options = append(options, pki.PodUID(req.PodUID))
	}
	a.last = a.mesh.Certificate(a.t, req.URI, append(options, a.options...)...).Chain
	if a.change != nil {
		a.last = a.change(a.last)
	}
	return a.last, nil
}

func usage(req ca.Request) pki.Option {
	return pki.Template(func(c *x509.Certificate) {
		c.ExtKeyUsage = nil
		if req.Usage&ca.Client != 0 {
			c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		}
		if req.Usage&ca.Server != 0 {
			c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		}
	})
}

func (a *authority) Bundle(ctx context.Context) ([]*x509.Certificate, error) {
	if err := ctx.Err(); err != nil && !a.deaf {
		return nil, err
	}
	if a.bundle != nil {
		return a.bundle(a.mesh.Root.Chain), nil
	}
	return slices.Clone(a.mesh.Root.Chain), nil
}

func newAuthority(t *testing.T, b bad) ca.Authority {
	t.Helper()
	return &authority{t: t, mesh: pki.New(t), bad: b}
}

func TestAGoodAuthorityPasses(t *testing.T) {
	catest.Run(t, func(t *testing.T) ca.Authority {
		t.Helper()
		return newAuthority(t, bad{})
	})
}

func TestABadAuthorityFails(t *testing.T) {
	template := func(change func(*x509.Certificate)) []pki.Option { return []pki.Option{pki.Template(change)} }
	const ordinary = "A workload gets the certificate that it asked for"
	calls := 0
	cases := map[string]struct {
		bad  bad
		fail string // the case that must find it
	}{
		"It adds a name":                 {bad{options: []pki.Option{pki.DNSNames("web.v2.shop.cluster.local", "db.shop.cluster.local")}}, ordinary},
		"It adds an identity":            {bad{options: []pki.Option{pki.URIs("spiffe://cluster.local/ns/shop/sa/web.v2", "spiffe://cluster.local/ns/shop/sa/db")}}, ordinary},
		"It makes authorities":           {bad{options: []pki.Option{pki.AsAuthority()}}, ordinary},
		"It drops the pod":               {bad{options: template(func(c *x509.Certificate) { c.ExtraExtensions = nil })}, ordinary},
		"It leaves the intermediate out": {bad{change: func(c ca.Chain) ca.Chain { return c[:1] }}, ordinary},
		"It returns nothing":             {bad{change: func(ca.Chain) ca.Chain { return nil }}, ordinary},
		"It invents a pod":               {bad{options: []pki.Option{pki.Template(func(c *x509.Certificate) { c.ExtraExtensions = nil }), pki.PodUID("uid")}}, "A workload without a pod gets a certificate without one"},
		"It invents a name":              {bad{options: []pki.Option{pki.DNSNames("web.v2.shop.cluster.local")}}, "A name that DNS has no room for is left to the URI"},
		"It certifies for both ends": {bad{options: template(func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		})}, "A certificate for clients is for clients only"},
		"It certifies for servers":            {bad{options: []pki.Option{pki.ServerOnly()}}, "A certificate for clients is for clients only"},
		"It certifies for clients":            {bad{options: []pki.Option{pki.ClientOnly()}}, "A certificate for servers is for servers only"},
		"It knows no control planes":          {bad{options: []pki.Option{pki.URIs("spiffe://cluster.local/ns/shop/sa/web.v2")}}, "A control plane gets the certificate that it asked for"},
		"It knows no operators":               {bad{options: []pki.Option{pki.URIs("spiffe://cluster.local/ns/shop/sa/web.v2")}}, "The operator gets the certificate that it asked for"},
		"It does not say why it refuses keys": {bad{vague: true}, "Weak and unknown keys are refused"},
		"It certifies wildcards":              {bad{blind: true}, "Names that are none are refused"},
		"It certifies pods of control planes": {bad{vague: true}, "A pod is certified for workloads only"},
		"It certifies for nothing":            {bad{blind: true}, "A certificate for nothing is refused"},
		"It certifies for no time":            {bad{vague: true}, "Lives that make no sense are refused"},
		"It backdates besides":                {bad{generous: true}, "A longest life is kept, backdating included"},
		"It outlives itself":                  {bad{lasting: true}, "A certificate ends with its issuer at the latest"},
		"It gives too little":                 {bad{stingy: true}, "An authority that can give too little gives nothing"},
		"It repeats itself":                   {bad{parrot: true}, "A subject that asks with a new key gets a new certificate"},
		"It counts to one":                    {bad{options: template(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(1) })}, "Many requests at once get a certificate each"},
		"It swaps keys":                       {bad{options: []pki.Option{pki.Key(pki.NewKey(t))}}, "Keys of every kind that the mesh takes are certified, or refused for good"},
		"It goes on for nobody":               {bad{deaf: true}, "A request that is given up is given up"},
		"It writes into requests":             {bad{scribble: true}, ordinary},
		"It has no roots":                     {bad{bundle: func([]*x509.Certificate) []*x509.Certificate { return nil }}, "The bundle is there before anything is signed, and stays"},
		"Its bundle is shared":                {bad{bundle: func(c []*x509.Certificate) []*x509.Certificate { return c }}, "The bundle is there before anything is signed, and stays"},
		"Its bundle changes": {bad{bundle: func(c []*x509.Certificate) []*x509.Certificate {
			calls++
			return slices.Repeat(c, calls)
		}}, "The bundle is there before anything is signed, and stays"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if err := check(t, tc.fail, newAuthority(t, tc.bad)); err == nil {
				t.Errorf("case %q found nothing", tc.fail)
			}
		})
	}
	for _, c := range catest.Cases() {
		shown := false
		for _, tc := range cases {
			shown = shown || tc.fail == c.Name
		}
		if !shown {
			t.Errorf("nothing shows that case %q can fail", c.Name)
		}
	}
}

// check runs one case.
func check(t *testing.T, name string, a ca.Authority) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, c := range catest.Cases() {
		if c.Name == name {
			return c.Check(ctx, a)
		}
	}
	t.Fatalf("there is no case %q", name)
	return nil
}
