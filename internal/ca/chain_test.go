package ca_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

func TestChainRoundTrip(t *testing.T) {
	chain := ca.Chain(pki.New(t).Workload(t, "shop", "web").Chain)
	again, err := ca.ParseChain(chain.PEM())
	if err != nil || !bytes.Equal(again.PEM(), chain.PEM()) || !again.Leaf().Equal(chain[0]) {
		t.Errorf("another chain came back: %v", err)
	}
	if (ca.Chain{}).Leaf() != nil {
		t.Error("an empty chain has a leaf")
	}
}

func TestParseChainRefuses(t *testing.T) {
	worker := pki.New(t).Workload(t, "shop", "web")
	good := worker.ChainPEM()
	for name, raw := range map[string][]byte{
		"nothing":                  nil,
		"no PEM":                   []byte("hello"),
		"a key among certificates": append(worker.KeyPEM(t), good...),
		"a key behind them":        append(bytes.Clone(good), worker.KeyPEM(t)...),
		"a broken certificate":     ca.EncodeCertificates([]*x509.Certificate{{Raw: []byte{1, 2, 3}}}),
		"more than a chain has":    slices.Repeat(good, 10),
	} {
		if chain, err := ca.ParseChain(raw); err == nil {
			t.Errorf("%s was taken for a chain of %d", name, len(chain))
		}
	}
}

func TestParseBundle(t *testing.T) {
	mesh, other := pki.New(t), pki.New(t)
	both := slices.Concat(mesh.RootsPEM(), other.RootsPEM(), mesh.RootsPEM())
	roots, err := ca.ParseBundle(both)
	if err != nil || len(roots) != 2 {
		t.Errorf("ParseBundle: %d roots, %v; want the two, each once", len(roots), err)
	}
	for name, raw := range map[string][]byte{
		"nothing":               nil,
		"a workload among them": append(mesh.RootsPEM(), mesh.Workload(t, "shop", "web").ChainPEM()...),
		"a key among them":      append(mesh.RootsPEM(), mesh.Root.KeyPEM(t)...),
		"one that signs nothing": mesh.Certificate(t, "", pki.SelfSigned(), pki.AsAuthority(),
			pki.Template(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })).ChainPEM(),
		"more than a bundle has": slices.Repeat(mesh.RootsPEM(), 65),
	} {
		if roots, err := ca.ParseBundle(raw); err == nil {
			t.Errorf("%s was taken for %d roots", name, len(roots))
		}
	}
}

func TestLifetimes(t *testing.T) {
	const day = 24 * time.Hour
	for leaf, want := range map[time.Duration]time.Duration{time.Hour: 30 * day, ca.LeafLifetime: 30 * day, 20 * day: 60 * day} {
		if got := ca.IntermediateLifetime(leaf); got != want {
			t.Errorf("IntermediateLifetime(%s) = %s, want %s", leaf, got, want)
		}
	}
	begin := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	if got, want := ca.RenewAt(&x509.Certificate{NotBefore: begin, NotAfter: begin.Add(30 * day)}), begin.Add(10*day); !got.Equal(want) {
		t.Errorf("RenewAt = %s, want %s", got, want)
	}
}

func TestErrorsKeepTheirCause(t *testing.T) {
	cause := errors.New("cause")
	for _, err := range []error{
		&ca.RefusedError{Err: cause}, &ca.UnavailableError{Err: cause}, &ca.WrongError{Message: "wrong", Err: cause},
	} {
		if !errors.Is(err, cause) {
			t.Errorf("%T hides its cause", err)
		}
	}
}

func TestIntermediateRequestRefuses(t *testing.T) {
	begin := time.Now().Truncate(time.Second)
	good := ca.IntermediateRequest{PublicKey: pki.NewKey(t).Public(), Name: "issuer", TrustDomain: "cluster.local", NotBefore: begin, NotAfter: begin.Add(time.Hour)}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ca.IntermediateRequest){
		"no key":                 func(r *ca.IntermediateRequest) { r.PublicKey = nil },
		"no name":                func(r *ca.IntermediateRequest) { r.Name = "" },
		"a name too long":        func(r *ca.IntermediateRequest) { r.Name = string(bytes.Repeat([]byte("a"), 65)) },
		"no trust domain":        func(r *ca.IntermediateRequest) { r.TrustDomain = "Cluster.Local" },
		"an end before it":       func(r *ca.IntermediateRequest) { r.NotAfter = begin.Add(-time.Hour) },
		"no beginning":           func(r *ca.IntermediateRequest) { r.NotBefore = time.Time{} },
		"parts of a second":      func(r *ca.IntermediateRequest) { r.NotBefore = begin.Add(time.Millisecond) },
		"parts of a last second": func(r *ca.IntermediateRequest) { r.NotAfter = r.NotAfter.Add(time.Millisecond) },
	} {
		r := good
		change(&r)
		var invalid *ca.InvalidError
		if err := r.Validate(); !errors.As(err, &invalid) {
			t.Errorf("%s: Validate: %v, want an *InvalidError", name, err)
		}
	}
}
