package catest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/identity"
)

// issuesForEveryKey allows an authority to refuse a kind of keys, but not to issue
// something else for it.
func issuesForEveryKey(ctx context.Context, a ca.Authority) error {
	for _, kind := range []ca.KeyType{ca.ECDSAP256, ca.ECDSAP384, ca.RSA2048, ca.ED25519} {
		k, err := ca.GenerateKey(kind)
		if err != nil {
			return err
		}
		err = issues(workload, func(r *ca.Request) { r.PublicKey = k.Public() })(ctx, a)
		var refused *ca.RefusedError
		if err != nil && (kind == ca.ECDSAP256 || !errors.As(err, &refused)) {
			return fmt.Errorf("key of type %s: %w", kind, err)
		}
	}
	return nil
}

func refusesWeakKeys(ctx context.Context, a ca.Authority) error {
	weak := map[string]crypto.PublicKey{
		"no key":                            nil,
		"no ECDSA key":                      (*ecdsa.PublicKey)(nil),
		"no RSA key":                        (*rsa.PublicKey)(nil),
		"an empty RSA key":                  &rsa.PublicKey{},
		"half an Ed25519 key":               ed25519.PublicKey(make([]byte, 16)),
		"RSA of 512 bits":                   &rsa.PublicKey{N: odd(512), E: 65537},
		"RSA of 1024 bits":                  &rsa.PublicKey{N: odd(1024), E: 65537},
		"RSA of 2047 bits":                  &rsa.PublicKey{N: odd(2047), E: 65537},
		"RSA of 8192 bits":                  &rsa.PublicKey{N: odd(8192), E: 65537},
		"RSA with an exponent of 1":         &rsa.PublicKey{N: odd(2048), E: 1},
		"RSA with an exponent of 3":         &rsa.PublicKey{N: odd(2048), E: 3},
		"RSA with an even exponent":         &rsa.PublicKey{N: odd(2048), E: 65538},
		"RSA with an even modulus":          &rsa.PublicKey{N: new(big.Int).Lsh(odd(2047), 1), E: 65537},
		"a private key":                     ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)),
		"something that is no key":          "key",
		"a point that is not on its curve":  point(elliptic.P256(), big.NewInt(1)),
		"a point that is nowhere":           &ecdsa.PublicKey{Curve: elliptic.P256()},
		"a curve that is nowhere":           point(nil, big.NewInt(1)),
		"the point of another curve's size": point(elliptic.P256(), odd(384)),
	}
	for _, curve := range []elliptic.Curve{elliptic.P224(), elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			return err
		}
		weak["a key on "+curve.Params().Name] = k.Public()
	}
	changes := map[string]func(*ca.Request){}
	for name, public := range weak {
		changes[name] = func(r *ca.Request) { r.PublicKey = public }
	}
	return refusesEach(ctx, a, ca.FieldPublicKey, changes)
}

// point returns an ECDSA key whose point has two equal coordinates, which is on no
// curve that keys are made for.
func point(curve elliptic.Curve, n *big.Int) *ecdsa.PublicKey {
	return &ecdsa.PublicKey{Curve: curve, X: n, Y: n} //nolint:staticcheck // a key that is wrong can be made in no other way
}

// odd returns an odd number of so many bits.
func odd(bits uint) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return n.Add(n, big.NewInt(12345))
}

func refusesNames(ctx context.Context, a ca.Authority) error {
	changes := map[string]func(*ca.Request){}
	for _, name := range []string{
		"", "*", "*.shop.cluster.local", "web.*.cluster.local", "Web.shop.cluster.local", "web.shop.cluster.local.", ".shop", "a..b",
		"web_1.shop", "-web.shop", "web-.shop", "web.shop:443", "web/shop", "10.0.0.1", "::1", "fd00::1", "web\x00.evil", "wéb.shop",
		"a b", "web@shop", "spiffe://cluster.local/ns/shop/sa/web", strings.Repeat("a", 64) + ".shop", strings.Repeat("a.", 127) + "a",
	} {
		changes[fmt.Sprintf("DNS name %q", name)] = func(r *ca.Request) { r.DNSNames = append([]string{"web.shop.cluster.local"}, name) }
	}
	for _, uri := range []string{
		"", "web", "spiffe://cluster.local", "spiffe://cluster.local/ns/shop", "spiffe://Cluster.local/ns/shop/sa/web",
		"spiffe://cluster.local./ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/web\x00", "spiffe://cluster.local/ns/shop/sa/*",
		"spiffe://cluster.local:8443/ns/shop/sa/web", "https://cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/web?a=b",
	} {
		changes[fmt.Sprintf("URI %q", uri)] = func(r *ca.Request) { r.URI = uri }
	}
	changes["one name twice"] = func(r *ca.Request) { r.DNSNames = []string{"web.shop.cluster.local", "web.shop.cluster.local"} }
	changes["a thousand names"] = func(r *ca.Request) {
		for i := range 1000 {
			r.DNSNames = append(r.DNSNames, fmt.Sprintf("web-%d.shop.cluster.local", i))
		}
	}
	return refusesEach(ctx, a, ca.FieldNames, changes)
}

func refusesPods(ctx context.Context, a ca.Authority) error {
	return refusesEach(ctx, a, ca.FieldPodUID, map[string]func(*ca.Request){
		"of a control plane":  func(r *ca.Request) { r.URI = identity.ControlPlane(identity.DefaultTrustDomain, "osm", "v1") },
		"of the operator":     func(r *ca.Request) { r.URI = identity.Operator(identity.DefaultTrustDomain, "osm") },
		"with a line break":   func(r *ca.Request) { r.PodUID = "uid\n1" },
		"longer than UIDs":    func(r *ca.Request) { r.PodUID = strings.Repeat("a", 129) },
		"in letters of other": func(r *ca.Request) { r.PodUID = "üid" },
	})
}

func refusesLifetimes(ctx context.Context, a ca.Authority) error {
	return refusesEach(ctx, a, ca.FieldLifetime, map[string]func(*ca.Request){
		"no beginning":           func(r *ca.Request) { r.NotBefore = time.Time{} },
		"no end":                 func(r *ca.Request) { r.NotAfter = time.Time{} },
		"an end at the start":    func(r *ca.Request) { r.NotAfter = r.NotBefore },
		"an end before it":       func(r *ca.Request) { r.NotAfter = r.NotBefore.Add(-time.Hour) },
		"ten years":              func(r *ca.Request) { r.NotAfter = r.NotBefore.Add(10 * 365 * 24 * time.Hour) },
		"less than is of use":    func(r *ca.Request) { r.MaxLifetime, r.MinLifetime = time.Hour, 2*time.Hour },
		"a life in the negative": func(r *ca.Request) { r.MaxLifetime = -time.Hour },
		"half a second":          func(r *ca.Request) { r.NotBefore = r.NotBefore.Add(500 * time.Millisecond) },
	})
}
