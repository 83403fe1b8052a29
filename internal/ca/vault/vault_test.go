package vault_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/ca/catest"
	"github.com/openservicemesh/osm-operator/internal/ca/vault"
	"github.com/openservicemesh/osm-operator/internal/identity"
	testvault "github.com/openservicemesh/osm-operator/internal/testkit/vault"
)

func withToken(token string) vault.Login {
	secret := vault.Conceal(token)
	return vault.Login{Token: &secret}
}

// options are for a mount of a Vault, with a token that may do what the mesh does.
func options(t *testing.T, server *testvault.Server, mount string) vault.Options {
	t.Helper()
	server.Policy(t, "mesh-"+mount, mount, "")
	return vault.Options{
		Address: server.Address, Mount: mount, Login: withToken(server.Token(t, "1h", "mesh-"+mount)), Timeout: 10 * time.Second, Now: time.Now,
	}
}

func newClient(t *testing.T, o vault.Options) *vault.Client {
	t.Helper()
	client, err := vault.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func newAuthority(t *testing.T, o vault.Options) *vault.Authority {
	t.Helper()
	client := newClient(t, o)
	chain, err := client.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.CheckAnchor(chain, time.Now()); err != nil {
		t.Fatal(err)
	}
	return client.Authority(chain)
}

func newKey(t *testing.T, kind ca.KeyType) ca.PrivateKey {
	t.Helper()
	key, err := ca.GenerateKey(kind)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func intermediate(t *testing.T, kind ca.KeyType) ca.IntermediateRequest {
	t.Helper()
	key, now := newKey(t, kind), time.Now().Truncate(time.Second)
	return ca.IntermediateRequest{
		PublicKey: key.Public(), Key: key, Name: "issuer of mesh osm revision v1", TrustDomain: identity.DefaultTrustDomain,
		NotBefore: now.Add(-5 * time.Minute), NotAfter: now.Add(30 * 24 * time.Hour),
	}
}

func leaf(t *testing.T) ca.Request {
	t.Helper()
	key, now := newKey(t, ca.ECDSAP256), time.Now().Truncate(time.Second)
	return ca.Request{
		PublicKey: key.Public(), Key: key, URI: identity.ControlPlane(identity.DefaultTrustDomain, "osm", "v1"),
		DNSNames: []string{"osm-controller-v1.osm-system.svc"}, Usage: ca.Both, NotBefore: now.Add(-5 * time.Minute), NotAfter: now.Add(30 * 24 * time.Hour),
	}
}

// certified is an authority of the mesh's own that Vault has certified: what a control
// plane signs with.
func certified(t *testing.T, a *vault.Authority, req ca.IntermediateRequest) *builtin.Authority {
	t.Helper()
	chain, err := a.IssueIntermediate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := a.Bundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.CheckIntermediate(req, chain, roots); err != nil {
		t.Fatal(err)
	}
	raw, err := req.Key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	below, err := builtin.Load(chain.PEM(), raw, ca.EncodeCertificates(roots))
	if err != nil {
		t.Fatal(err)
	}
	return below
}

// below makes a mount whose authority another mount has certified.
func below(t *testing.T, server *testvault.Server, parent, mount string, certify map[string]any) {
	t.Helper()
	server.MountPKI(t, mount, nil)
	csr := server.Write(t, mount+"/intermediate/generate/internal", map[string]any{"common_name": "below " + parent, "key_type": "ec"})
	certify["csr"], certify["ttl"], certify["not_before_duration"] = csr.Data["csr"], "43800h", "1h"
	signed := server.Write(t, parent+"/root/sign-intermediate", certify)
	imported := server.Write(t, mount+"/intermediate/set-signed", map[string]any{
		"certificate": fmt.Sprint(signed.Data["certificate"], "\n", signed.Data["issuing_ca"]),
	})
	ids := imported.Data["imported_issuers"].([]any)
	for _, id := range ids {
		if imported.Data["mapping"].(map[string]any)[id.(string)] != "" {
			server.Write(t, mount+"/config/issuers", map[string]any{"default": id})
		}
	}
}

// TestConformance has what Vault certifies, by roots of two kinds and by an intermediate of
// a company's, do all that authorities have to.
func TestConformance(t *testing.T) {
	server := testvault.Start(t)
	server.MountPKI(t, "ec", nil)
	server.MountPKI(t, "rsa", map[string]any{"common_name": "rsa", "key_type": "rsa", "key_bits": 2048, "ttl": "87600h"})
	below(t, server, "ec", "company", map[string]any{})
	for mount, kind := range map[string]ca.KeyType{"ec": ca.ECDSAP256, "rsa": ca.RSA3072, "company": ca.ECDSAP384} {
		t.Run(mount, func(t *testing.T) {
			a := newAuthority(t, options(t, server, mount))
			signs := certified(t, a, intermediate(t, kind))
			catest.Run(t, func(*testing.T) ca.Authority { return signs })
		})
	}
}

// TestVaultSignsForTheMeshItself has Vault sign what no intermediate may: certificates of
// the control plane and of the operator.
func TestVaultSignsForTheMeshItself(t *testing.T) {
	server := testvault.Start(t)
	server.MountPKI(t, "pki", nil)
	below(t, server, "pki", "company", map[string]any{})
	for _, mount := range []string{"pki", "company"} {
		a := newAuthority(t, options(t, server, mount))
		roots, err := a.Bundle(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*ca.Request){
			"the control plane": func(*ca.Request) {},
			"the operator": func(r *ca.Request) {
				r.URI, r.DNSNames, r.Usage = identity.Operator(identity.DefaultTrustDomain, "osm"), nil, ca.Client
			},
			"a pod whose key is at hand": func(r *ca.Request) {
				r.URI, r.DNSNames, r.PodUID = "spiffe://cluster.local/ns/shop/sa/web", []string{"web.shop.cluster.local"}, "5f6c7c1e-9a51-4a4e-8a0e-3b1d5f0c2b77"
			},
		} {
			req := leaf(t)
			change(&req)
			chain, err := a.Issue(t.Context(), req)
			if err != nil {
				t.Fatalf("%s, %s: %v", mount, name, err)
			}
			if err := ca.Check(req, chain, roots); err != nil {
				t.Errorf("%s, %s: %v", mount, name, err)
			}
		}
		req := leaf(t)
		req.Key = ca.PrivateKey{}
		if _, err := a.Issue(t.Context(), req); !is[*ca.RefusedError](err) {
			t.Errorf("a key that is elsewhere: %v, want a *RefusedError", err)
		}
	}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// TestIntermediatesAreConfined looks at what Vault made of a request.
func TestIntermediatesAreConfined(t *testing.T) {
	server := testvault.Start(t)
	server.MountPKI(t, "pki", nil)
	made := certified(t, newAuthority(t, options(t, server, "pki")), intermediate(t, ca.ECDSAP256)).Certificate()
	if got := fmt.Sprint(made.PermittedURIDomains, made.PermittedDNSDomains, made.PermittedDNSDomainsCritical, len(made.ExcludedIPRanges)); got != "[cluster.local] [cluster.local] true 2" {
		t.Errorf("the intermediate is confined to %s", got)
	}
	if made.Subject.CommonName != "issuer of mesh osm revision v1" || made.Subject.SerialNumber == "" {
		t.Errorf("it is called %s", made.Subject)
	}
}

// TestVaultMayCutALife has certificates end when Vault wants, and never after what signs.
func TestVaultMayCutALife(t *testing.T) {
	server := testvault.Start(t)
	server.MountPKI(t, "pki", nil)
	server.Write(t, "sys/mounts/pki/tune", map[string]any{"max_lease_ttl": "48h"})
	made := certified(t, newAuthority(t, options(t, server, "pki")), intermediate(t, ca.ECDSAP256)).Certificate()
	if got := made.NotAfter.Sub(made.NotBefore); got < 47*time.Hour || got > 49*time.Hour {
		t.Errorf("an intermediate is good for %s, Vault allows 48h", got)
	}
	server.MountPKI(t, "short", map[string]any{"common_name": "short", "ttl": "200h"})
	client := newClient(t, options(t, server, "short"))
	chain, err := client.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made = certified(t, client.Authority(chain), intermediate(t, ca.ECDSAP256)).Certificate()
	if !made.NotAfter.Before(chain.Leaf().NotAfter) {
		t.Errorf("an intermediate ends at %s, and its root at %s", made.NotAfter, chain.Leaf().NotAfter)
	}
	if err := ca.CheckAnchor(chain, time.Now()); err == nil {
		t.Error("a mesh may hang on a root that ends in eight days")
	}
}

// TestFailures has everything go wrong that people and machines do: each says what is the
// matter in Vault's words, and is of the class that says whether to wait.
func TestFailures(t *testing.T) {
	server := testvault.Start(t)
	server.MountPKI(t, "pki", nil)
	server.MountPKI(t, "empty", nil)
	if _, err := server.Client(t, server.Root).Logical().Delete("empty/root"); err != nil {
		t.Fatal(err)
	}
	below(t, server, "pki", "leaves", map[string]any{"max_path_length": 0})
	good := options(t, server, "pki")
	change := func(f func(*vault.Options)) vault.Options {
		o := good
		f(&o)
		return o
	}
	token := func(s string) func(*vault.Options) {
		return func(o *vault.Options) { o.Login = withToken(s) }
	}
	revoked := server.Token(t, "1h", "mesh-pki")
	if err := server.Client(t, server.Root).Auth().Token().RevokeTree(revoked); err != nil {
		t.Fatal(err)
	}
	type class func(error) bool
	unavailable, refused := is[*ca.UnavailableError], is[*ca.RefusedError]
	cases := map[string]struct {
		options vault.Options
		class   class
		words   []string
	}{
		"Nobody listens":             {change(func(o *vault.Options) { o.Address = "http://127.0.0.1:1" }), unavailable, []string{"http://127.0.0.1:1", "connection refused"}},
		"It speaks no TLS":           {change(func(o *vault.Options) { o.Address = strings.Replace(server.Address, "http:", "https:", 1) }), unavailable, []string{"set protocol to http"}},
		"A token that was revoked":   {change(token(revoked)), refused, []string{"permission denied", "403", "token"}},
		"A token of nobody's":        {change(token("hvs.nobody")), refused, []string{"permission denied"}},
		"A token for something else": {change(token(server.Token(t, "1h"))), refused, []string{"pki/root/sign-intermediate", "policy"}},
		"An AppRole that is not there": {change(func(o *vault.Options) {
			o.Login = vault.Login{AppRole: &vault.AppRole{Mount: "approle", RoleID: "x", SecretID: vault.Conceal("y")}}
		}), refused, []string{"auth/approle"}},
		"A mount that is not there": {change(func(o *vault.Options) { o.Mount = "nowhere"; o.Login = withToken(server.Root) }), refused, []string{"nowhere"}},
		"A mount without authority": {change(func(o *vault.Options) { o.Mount = "empty"; o.Login = withToken(server.Root) }), refused, []string{"empty"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			client := newClient(t, tc.options)
			err := client.Check(t.Context())
			if err == nil {
				_, err = client.Chain(t.Context())
			}
			tells(t, err, tc.class, tc.words...)
		})
	}
	t.Run("Sealed, restarted and unsealed", func(t *testing.T) {
		a := newAuthority(t, good)
		server.Restart(t)
		_, err := a.IssueIntermediate(t.Context(), intermediate(t, ca.ECDSAP256))
		tells(t, err, unavailable, "sealed", "503", "unseal it")
		server.Unseal(t)
		certified(t, a, intermediate(t, ca.ECDSAP256))
	})
	t.Run("A role that is not there", func(t *testing.T) {
		a := newAuthority(t, change(func(o *vault.Options) { o.Role = "nobody"; o.Login = withToken(server.Root) }))
		_, err := a.Issue(t.Context(), leaf(t))
		tells(t, err, refused, "unknown role", "nobody")
	})
	t.Run("An authority that may certify none", func(t *testing.T) {
		chain, err := newClient(t, options(t, server, "leaves")).Chain(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := ca.CheckAnchor(chain, time.Now()); err == nil || !strings.Contains(err.Error(), "path length") {
			t.Errorf("CheckAnchor: %v", err)
		}
	})
	t.Run("The mount signs with another by now", func(t *testing.T) {
		o := options(t, server, "pki")
		a := newAuthority(t, o)
		server.Write(t, "pki/root/rotate/internal", map[string]any{"common_name": "next", "issuer_name": "next", "ttl": "87600h"})
		server.Write(t, "pki/root/replace", map[string]any{"default": "next"})
		req := intermediate(t, ca.ECDSAP256)
		chain, err := a.IssueIntermediate(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		roots, err := a.Bundle(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tells(t, ca.CheckIntermediate(req, chain, roots), is[*ca.WrongError], "roots do not vouch for")
	})
}

func tells(t *testing.T, err error, class func(error) bool, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("there is no error")
	}
	if !class(err) {
		t.Errorf("%v is of another class (%T)", err, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("it says %q, and nothing of %q", err, word)
		}
	}
}

// TestLogins has the ways of logging in let the mesh in, last, and begin again.
func TestLogins(t *testing.T) {
	server := testvault.Start(t)
	server.MountPKI(t, "pki", nil)
	server.Policy(t, "mesh", "pki", "")
	if err := server.Client(t, server.Root).Sys().EnableAuth("people", "approle", ""); err != nil {
		t.Fatal(err)
	}
	server.Write(t, "auth/people/role/mesh", map[string]any{"token_policies": "mesh", "token_ttl": "1h", "token_max_ttl": "3h"})
	id, err := server.Client(t, server.Root).Logical().Read("auth/people/role/mesh/role-id")
	if err != nil {
		t.Fatal(err)
	}
	proof := server.Write(t, "auth/people/role/mesh/secret-id", nil)
	login := vault.Login{AppRole: &vault.AppRole{
		Mount: "people", RoleID: id.Data["role_id"].(string), SecretID: vault.Conceal(proof.Data["secret_id"].(string)),
	}}
	clock := time.Now()
	o := vault.Options{Address: server.Address, Mount: "pki", Login: login, Timeout: 10 * time.Second, Now: func() time.Time { return clock }}
	client := newClient(t, o)
	accessors := func() int {
		t.Helper()
		list, err := server.Client(t, server.Root).Logical().List("auth/token/accessors")
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Data["keys"].([]any))
	}
	check := func(what string, wantNew int) {
		t.Helper()
		before := accessors()
		if err := client.Check(t.Context()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := accessors() - before; got != wantNew {
			t.Errorf("%s: %d logins, want %d", what, got, wantNew)
		}
	}
	check("it logs in", 1)
	check("the login lasts", 0)
	clock = clock.Add(30 * time.Minute)
	check("and is renewed", 0)
	// An administrator takes all tokens of the role away.
	if _, err := server.Client(t, server.Root).Logical().Write("sys/leases/revoke-prefix/auth/people", nil); err != nil {
		t.Fatal(err)
	}
	check("where it was revoked it logs in again", 1)

	o.Login = withToken(server.Token(t, "1h", "mesh"))
	client = newClient(t, o)
	check("a token is taken", 0)
	clock = clock.Add(40 * time.Minute)
	check("and renewed", 0)
}

// TestConnection has Vault behind TLS of an authority of its own, slow, and answering what
// nobody asked for.
func TestConnection(t *testing.T) {
	server := testvault.Start(t)
	server.MountPKI(t, "pki", nil)
	good := options(t, server, "pki")
	target, err := url.Parse(server.Address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	secure := httptest.NewTLSServer(proxy)
	t.Cleanup(secure.Close)
	good.Address = secure.URL
	t.Run("Nobody vouches for it", func(t *testing.T) {
		tells(t, newClient(t, good).Check(t.Context()), is[*ca.UnavailableError], "set caBundle")
	})
	t.Run("Its authority is known", func(t *testing.T) {
		o := good
		o.CABundle = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))
		certified(t, newAuthority(t, o), intermediate(t, ca.ECDSAP256))
	})
	t.Run("It is slow", func(t *testing.T) {
		gone := make(chan struct{})
		slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-gone:
			}
		}))
		t.Cleanup(func() { close(gone); slow.Close() })
		o := good
		o.Address, o.Timeout = slow.URL, 100*time.Millisecond
		tells(t, newClient(t, o).Check(t.Context()), is[*ca.UnavailableError], "cannot be reached")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := newClient(t, o).Check(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("asking for somebody who has gone: %v", err)
		}
	})
	t.Run("It answers with another's certificate", func(t *testing.T) {
		other := certified(t, newAuthority(t, options(t, server, "pki")), intermediate(t, ca.ECDSAP256))
		liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/sign-intermediate") {
				proxy.ServeHTTP(w, r)
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"certificate": string(other.ChainPEM())}})
		}))
		t.Cleanup(liar.Close)
		o := good
		o.Address = liar.URL
		a, req := newAuthority(t, o), intermediate(t, ca.ECDSAP256)
		chain, err := a.IssueIntermediate(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		roots, err := a.Bundle(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tells(t, ca.CheckIntermediate(req, chain, roots), is[*ca.WrongError], "another key")
	})
}

// TestSecretsDoNotShowThemselves prints what holds a token in all ways.
func TestSecretsDoNotShowThemselves(t *testing.T) {
	const token = "hvs.CAESIJ-secret"
	o := vault.Options{Address: "https://vault.example", Login: withToken(token)}
	raw, err := json.Marshal(map[string]any{"token": o.Login.Token, "secretID": vault.AppRole{SecretID: *o.Login.Token}})
	if err != nil {
		t.Fatal(err)
	}
	client, err := vault.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		string(raw), fmt.Sprintf("%v %+v %#v %s %q %x", o, o, o, o.Login.Token, o.Login.Token, o.Login.Token), fmt.Sprintf("%+v", client),
	} {
		if strings.Contains(text, token) || strings.Contains(text, fmt.Sprintf("%x", token)) {
			t.Errorf("it shows in %s", text)
		}
	}
}
