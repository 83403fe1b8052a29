package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

const (
	web     = "spiffe://cluster.local/ns/shop/sa/web"
	webName = "web.shop.cluster.local"
	uid     = "5f6c7c1e-9a51-4a4e-8a0e-3b1d5f0c2b77"
)

// request is what was asked for in the tests of Check.
func request(t *testing.T) ca.Request {
	t.Helper()
	begin := time.Now().Add(-time.Minute).Truncate(time.Second)
	return ca.Request{
		PublicKey: pki.NewKey(t).Public(), URI: web, DNSNames: []string{webName}, PodUID: uid, Usage: ca.Both,
		NotBefore: begin, NotAfter: begin.Add(4 * time.Hour), MaxLifetime: 3 * time.Hour, MinLifetime: time.Hour,
	}
}

// answer is a chain as a good authority returns it, but for the options.
func answer(t *testing.T, mesh *pki.Authority, req ca.Request, options ...pki.Option) ca.Chain {
	t.Helper()
	good := []pki.Option{pki.PublicKey(req.PublicKey), pki.PodUID(uid), pki.Lifetime(req.NotBefore, req.End())}
	return mesh.Workload(t, "shop", "web", append(good, options...)...).Chain
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	mesh, other := pki.New(t), pki.New(t)
	worker := mesh.Workload(t, "shop", "web")
	req := request(t)
	template := pki.Template
	life := func(begin, end time.Duration) pki.Option {
		return pki.Lifetime(req.NotBefore.Add(begin), req.NotBefore.Add(end))
	}
	critical := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}
	cases := map[string][]pki.Option{
		"Another key":                     {pki.Key(pki.NewKey(t))},
		"Another identity":                {pki.URIs("spiffe://cluster.local/ns/shop/sa/db")},
		"Another trust domain":            {pki.URIs("spiffe://other.local/ns/shop/sa/web")},
		"Another form of the identity":    {pki.URIs("SPIFFE://cluster.local/ns/shop/sa/web")},
		"The identity of the operator":    {pki.URIs("spiffe://cluster.local/mesh/osm/operator")},
		"A second identity":               {pki.URIs(web, "spiffe://cluster.local/ns/shop/sa/db")},
		"No identity":                     {pki.URIs()},
		"A DNS name too many":             {pki.DNSNames(webName, "db.shop.cluster.local")},
		"A wildcard":                      {pki.DNSNames("*.shop.cluster.local")},
		"A DNS name missing":              {pki.DNSNames()},
		"An address":                      {pki.IPs(net.IPv4(10, 0, 0, 1))},
		"A common name":                   {template(func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "admin"} })},
		"No pod":                          {template(func(c *x509.Certificate) { c.ExtraExtensions = nil })},
		"Another pod":                     {template(func(c *x509.Certificate) { c.ExtraExtensions = nil }), pki.PodUID("another")},
		"An authority":                    {pki.AsAuthority()},
		"A key that may sign":             {template(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign })},
		"A key that may not authenticate": {template(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })},
		"For clients only":                {pki.ClientOnly()},
		"For servers only":                {pki.ServerOnly()},
		"For code besides": {template(func(c *x509.Certificate) {
			c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning)
		})},
		"For anything":                   {template(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} })},
		"An extension that nobody knows": {template(func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, critical) })},
		"A life that is too long":        {life(0, 3*time.Hour+time.Second)},
		"A life that is too short":       {life(0, time.Hour-time.Second)},
		"A beginning that is too early":  {life(-6*time.Minute, 2*time.Hour)},
		"A beginning that is too late":   {life(6*time.Minute, 2*time.Hour)},
		"An end before the beginning":    {life(0, -time.Hour)},
		"Another authority":              {pki.By(other.Intermediate)},
		"The signature of a workload":    {pki.By(worker)},
	}
	for name, options := range cases {
		t.Run(name, func(t *testing.T) {
			err := ca.Check(req, answer(t, mesh, req, options...), mesh.Root.Chain)
			if _, wrong := errors.AsType[*ca.WrongError](err); !wrong {
				t.Errorf("Check: %v, want a *WrongError", err)
			}
		})
	}
}

func TestCheckFindsWrongChains(t *testing.T) {
	mesh, other := pki.New(t), pki.New(t)
	req := request(t)
	good := answer(t, mesh, req)
	now := time.Now()
	issuer := func(options ...pki.Option) pki.Credentials {
		return mesh.Certificate(t, "", append([]pki.Option{pki.ByRoot(), pki.AsAuthority(), pki.Lifetime(now.Add(-time.Hour), now.Add(24*time.Hour))}, options...)...)
	}
	ending := issuer(pki.Lifetime(now.Add(-time.Hour), now.Add(2*time.Hour)))
	beginning := issuer(pki.Lifetime(now.Add(time.Hour), now.Add(24*time.Hour)))
	client := issuer(pki.ClientOnly())
	cases := map[string]struct {
		chain ca.Chain
		roots []*x509.Certificate
	}{
		"Nothing":                              {roots: mesh.Root.Chain},
		"No roots":                             {chain: good},
		"The roots of another":                 {chain: good, roots: other.Root.Chain},
		"The intermediate missing":             {chain: good[:1], roots: mesh.Root.Chain},
		"The root at the end":                  {chain: append(slices.Clone(good), mesh.Root.Leaf()), roots: mesh.Root.Chain},
		"The wrong order":                      {chain: ca.Chain{good[1], good[0]}, roots: mesh.Root.Chain},
		"A stranger in it":                     {chain: append(slices.Clone(good), other.Intermediate.Leaf()), roots: mesh.Root.Chain},
		"More than handshakes carry":           {chain: slices.Repeat(good, 5), roots: mesh.Root.Chain},
		"An issuer that ends first":            {chain: answer(t, mesh, req, pki.By(ending)), roots: mesh.Root.Chain},
		"An issuer that is not good yet":       {chain: answer(t, mesh, req, pki.By(beginning)), roots: mesh.Root.Chain},
		"An issuer of certificates for others": {chain: answer(t, mesh, req, pki.By(client)), roots: mesh.Root.Chain},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var target *ca.WrongError
			if err := ca.Check(req, tc.chain, tc.roots); !errors.As(err, &target) {
				t.Errorf("Check: %v, want a *WrongError", err)
			}
		})
	}
}

func TestCheckTakesWhatIsRight(t *testing.T) {
	mesh, other := pki.New(t), pki.New(t)
	req := request(t)
	encipher := pki.Template(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement })
	named := pki.Template(func(c *x509.Certificate) { c.Subject.CommonName = webName })
	silent := pki.Template(func(c *x509.Certificate) { c.BasicConstraintsValid = false })
	both := []*x509.Certificate{other.Root.Leaf(), mesh.Root.Leaf()}
	cases := map[string]struct {
		options []pki.Option
		roots   []*x509.Certificate
	}{
		"What was asked for":                    {roots: mesh.Root.Chain},
		"With the roots of another besides":     {roots: both},
		"Signed by the root":                    {options: []pki.Option{pki.ByRoot()}, roots: mesh.Root.Chain},
		"Ending sooner":                         {options: []pki.Option{pki.Lifetime(req.NotBefore, req.NotBefore.Add(time.Hour))}, roots: mesh.Root.Chain},
		"By a clock that is a little behind":    {options: []pki.Option{pki.Lifetime(req.NotBefore.Add(-4*time.Minute), req.NotBefore.Add(time.Hour))}, roots: mesh.Root.Chain},
		"With usages that some authorities set": {options: []pki.Option{encipher}, roots: mesh.Root.Chain},
		"With its name as the common name":      {options: []pki.Option{named}, roots: mesh.Root.Chain},
		"Without a word on authorities":         {options: []pki.Option{silent}, roots: mesh.Root.Chain},
		"Where the intermediate is the anchor":  {roots: mesh.Intermediate.Chain},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if err := ca.Check(req, answer(t, mesh, req, tc.options...), tc.roots); err != nil {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

func TestCheckKnowsWhenTheRootEnds(t *testing.T) {
	mesh := pki.New(t)
	now := time.Now()
	root := mesh.Certificate(t, "", pki.SelfSigned(), pki.AsAuthority(), pki.Lifetime(now.Add(-time.Hour), now.Add(2*time.Hour)),
		pki.Template(func(c *x509.Certificate) { c.Subject.CommonName = "root that ends" }))
	req := request(t)
	var target *ca.WrongError
	if err := ca.Check(req, answer(t, mesh, req, pki.By(root)), root.Chain); !errors.As(err, &target) {
		t.Errorf("a certificate that outlives its root passed: %v", err)
	}
	req.MaxLifetime = time.Hour
	if err := ca.Check(req, answer(t, mesh, req, pki.By(root)), root.Chain); err != nil {
		t.Errorf("a certificate that ends before its root: %v", err)
	}
}

func TestCheckTakesNobodysOwnWord(t *testing.T) {
	mesh := pki.New(t)
	key := pki.NewKey(t)
	req := request(t)
	req.PublicKey = key.Public()
	var target *ca.WrongError
	if err := ca.Check(req, answer(t, mesh, req, pki.Key(key), pki.SelfSigned()), mesh.Root.Chain); !errors.As(err, &target) {
		t.Errorf("a certificate that signs itself passed: %v", err)
	}
}

func TestCheckIntermediate(t *testing.T) {
	mesh, other := pki.New(t), pki.New(t)
	now := time.Now().Truncate(time.Second)
	req := ca.IntermediateRequest{
		PublicKey: pki.NewKey(t).Public(), Name: "issuer", TrustDomain: "cluster.local", NotBefore: now.Add(-time.Hour), NotAfter: now.Add(10 * time.Hour),
	}
	authority := func(mesh *pki.Authority, options ...pki.Option) ca.Chain {
		good := []pki.Option{
			pki.ByRoot(), pki.AsAuthority(), pki.PublicKey(req.PublicKey), pki.Lifetime(req.NotBefore, req.NotAfter),
			pki.Template(func(c *x509.Certificate) {
				c.Subject.CommonName, c.MaxPathLenZero, c.ExtKeyUsage = "issuer", true, nil
			}),
		}
		return mesh.Certificate(t, "", append(good, options...)...).Chain
	}
	if err := ca.CheckIntermediate(req, authority(mesh), mesh.Root.Chain); err != nil {
		t.Errorf("what was asked for: %v", err)
	}
	for name, chain := range map[string]ca.Chain{
		"nothing":           nil,
		"another key":       authority(mesh, pki.Key(pki.NewKey(t))),
		"another authority": authority(other),
		"no authority": authority(mesh, pki.Template(func(c *x509.Certificate) {
			c.IsCA, c.MaxPathLenZero, c.KeyUsage = false, false, x509.KeyUsageDigitalSignature
		})),
		"a key that may not sign":     authority(mesh, pki.Template(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })),
		"authorities below it":        authority(mesh, pki.Template(func(c *x509.Certificate) { c.MaxPathLenZero = false; c.MaxPathLen = -1 })),
		"a life that is too long":     authority(mesh, pki.Lifetime(req.NotBefore, req.NotAfter.Add(10*time.Minute))),
		"a life longer than its root": authority(mesh, pki.Lifetime(req.NotBefore, now.Add(48*time.Hour))),
		"for servers alone":           authority(mesh, pki.ServerOnly()),
	} {
		var target *ca.WrongError
		if err := ca.CheckIntermediate(req, chain, mesh.Root.Chain); !errors.As(err, &target) {
			t.Errorf("%s: CheckIntermediate: %v, want a *WrongError", name, err)
		}
	}
}
