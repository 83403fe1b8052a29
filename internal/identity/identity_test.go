package identity_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

func TestParseURITakesOneFormOnly(t *testing.T) {
	good := identity.ID{TrustDomain: "cluster.local", ServiceAccount: identity.ServiceAccount{Namespace: "shop", Name: "web.v2"}}
	got, err := identity.ParseURI(good.URI())
	if err != nil || got != good {
		t.Fatalf("ParseURI(%s) = %+v, %v", good.URI(), got, err)
	}
	for name, uri := range map[string]string{
		"nothing":                     "",
		"another scheme":              "https://cluster.local/ns/shop/sa/web",
		"upper case":                  "spiffe://Cluster.Local/ns/shop/sa/web",
		"upper case of the scheme":    "SPIFFE://cluster.local/ns/shop/sa/web",
		"upper case in the name":      "spiffe://cluster.local/ns/shop/sa/Web",
		"a port":                      "spiffe://cluster.local:443/ns/shop/sa/web",
		"an empty port":               "spiffe://cluster.local:/ns/shop/sa/web",
		"a user":                      "spiffe://me@cluster.local/ns/shop/sa/web",
		"an empty user":               "spiffe://@cluster.local/ns/shop/sa/web",
		"a query":                     "spiffe://cluster.local/ns/shop/sa/web?x",
		"an empty query":              "spiffe://cluster.local/ns/shop/sa/web?",
		"a fragment":                  "spiffe://cluster.local/ns/shop/sa/web#x",
		"an empty fragment":           "spiffe://cluster.local/ns/shop/sa/web#",
		"an escape":                   "spiffe://cluster.local/ns/shop/sa/w%65b",
		"an empty segment":            "spiffe://cluster.local/ns//sa/web",
		"a segment too many":          "spiffe://cluster.local/ns/shop/sa/web/",
		"a segment too few":           "spiffe://cluster.local/ns/shop/sa",
		"no path":                     "spiffe://cluster.local",
		"a slash at the front":        "spiffe://cluster.local//ns/shop/sa/web",
		"a trailing dot":              "spiffe://cluster.local./ns/shop/sa/web",
		"a dot in front":              "spiffe://.local/ns/shop/sa/web",
		"dots in the namespace":       "spiffe://cluster.local/ns/shop.x/sa/web",
		"a namespace that is too big": "spiffe://cluster.local/ns/" + strings.Repeat("n", 64) + "/sa/web",
		"a name that is too long":     "spiffe://cluster.local/ns/shop/sa/" + strings.Repeat("w", 254),
		"dot segments":                "spiffe://cluster.local/ns/../sa/web",
		"a name of dots":              "spiffe://cluster.local/ns/shop/sa/..",
		"a NUL":                       "spiffe://cluster.local/ns/shop/sa/web\x00",
		"a NUL in the trust domain":   "spiffe://cluster.local\x00.evil/ns/shop/sa/web",
		"a space":                     "spiffe://cluster.local/ns/shop/sa/we b",
		"letters that look alike":     "spiffe://cluster.local/ns/shop/sa/w\u0435b",
		"no trust domain":             "spiffe:///ns/shop/sa/web",
		"a wildcard":                  "spiffe://cluster.local/ns/shop/sa/*",
		"a regular expression":        "spiffe://cluster.local/ns/shop/sa/we.+",
		"a control plane":             identity.ControlPlane("cluster.local", "osm", "v1"),
		"an operator":                 identity.Operator("cluster.local", "osm"),
		"a gateway":                   identity.Gateway("cluster.local", "osm"),
		"a name that begins with -":   "spiffe://cluster.local/ns/shop/sa/-web",
	} {
		if id, err := identity.ParseURI(uri); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("%s: ParseURI(%q) = %+v, %v; want a refusal", name, uri, id, err)
		}
	}
}

func TestParseTellsWhoIsWho(t *testing.T) {
	web := identity.ServiceAccount{Namespace: "shop", Name: "web"}
	cases := map[string]identity.Subject{
		"spiffe://cluster.local/ns/shop/sa/web":                      {Kind: identity.KindWorkload, TrustDomain: "cluster.local", ServiceAccount: web},
		"spiffe://cluster.local/mesh/osm/control-plane/v1-3-0-abcde": {Kind: identity.KindControlPlane, TrustDomain: "cluster.local", Mesh: "osm", Revision: "v1-3-0-abcde"},
		"spiffe://cluster.local/mesh/osm/operator":                   {Kind: identity.KindOperator, TrustDomain: "cluster.local", Mesh: "osm"},
		"spiffe://cluster.local/mesh/osm/ingress-gateway":            {Kind: identity.KindGateway, TrustDomain: "cluster.local", Mesh: "osm"},
	}
	for uri, want := range cases {
		got, err := identity.Parse(uri)
		if err != nil || got != want || got.URI() != uri {
			t.Errorf("Parse(%s) = %+v, %v; want %+v", uri, got, err, want)
		}
	}
	for name, uri := range map[string]string{
		"no mesh":                  "spiffe://cluster.local/mesh//operator",
		"no revision":              "spiffe://cluster.local/mesh/osm/control-plane/",
		"an operator and more":     "spiffe://cluster.local/mesh/osm/operator/v1",
		"a kind that there is not": "spiffe://cluster.local/mesh/osm/gateway",
		"a workload called mesh":   "spiffe://cluster.local/mesh/osm/sa/operator",
	} {
		if got, err := identity.Parse(uri); !errors.Is(err, identity.ErrInvalid) || got != (identity.Subject{}) {
			t.Errorf("%s: Parse(%q) = %+v, %v; want a refusal", name, uri, got, err)
		}
	}
	if uri := (identity.Subject{}).URI(); uri != "" {
		t.Errorf("nobody has the URI %q", uri)
	}
}

func TestParseTrustDomain(t *testing.T) {
	for _, good := range []string{"cluster.local", "a", "my_mesh.example-1.com", strings.Repeat("a", 255)} {
		if td, err := identity.ParseTrustDomain(good); err != nil || string(td) != good {
			t.Errorf("ParseTrustDomain(%q) = %q, %v", good, td, err)
		}
	}
	for _, bad := range []string{"", "Cluster.local", "cluster.local.", ".cluster", "a..b", "a/b", "a:1", "a b", "ä", "a\x00", strings.Repeat("a", 256)} {
		if td, err := identity.ParseTrustDomain(bad); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("ParseTrustDomain(%q) = %q, %v; want a refusal", bad, td, err)
		}
	}
}

func TestNamesOfAnIdentity(t *testing.T) {
	id := func(ns, name string) identity.ID {
		return identity.ID{TrustDomain: "cluster.local", ServiceAccount: identity.ServiceAccount{Namespace: ns, Name: name}}
	}
	if got, want := id("shop", "web.v2").OSMName(), "web.v2.shop.cluster.local"; got != want {
		t.Errorf("OSMName() = %s, want %s", got, want)
	}
	cases := map[string]struct {
		id   identity.ID
		want string
	}{
		"An ordinary name":                               {id("shop", "web"), "web.shop.cluster.local"},
		"A name with dots":                               {id("shop", "web.v2"), "web.v2.shop.cluster.local"},
		"A label that DNS has no room for":               {id: id("shop", strings.Repeat("w", 64))},
		"A name that DNS has no room for":                {id: id("shop", strings.Repeat("w.", 125)+"w")},
		"The name of a Service of somebody else":         {id: id("svc", "web.shop")},
		"The name of a pod of somebody else":             {id: id("pod", "10-0-0-1.shop")},
		"A trust domain with what DNS has no letter for": {id: identity.ID{TrustDomain: "my_mesh", ServiceAccount: identity.ServiceAccount{Namespace: "shop", Name: "web"}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, ok := tc.id.DNSName()
			if got != tc.want || ok != (tc.want != "") {
				t.Errorf("DNSName() = %q, %t; want %q", got, ok, tc.want)
			}
		})
	}
}

func TestNamesThatKubernetesBindsTogether(t *testing.T) {
	// A bundle of a signer must be named after it, with a colon for the slash.
	signer, bundle := identity.SignerName("osm"), identity.TrustBundleName("osm")
	if prefix := strings.ReplaceAll(signer, "/", ":") + ":"; !strings.HasPrefix(bundle, prefix) {
		t.Errorf("bundle %s of signer %s does not begin with %s", bundle, signer, prefix)
	}
}

func TestParseURIRoundTrip(t *testing.T) {
	label := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?`)
	rapid.Check(t, func(t *rapid.T) {
		id := identity.ID{
			TrustDomain:    identity.TrustDomain(label.Draw(t, "domain") + "." + label.Draw(t, "top")),
			ServiceAccount: identity.ServiceAccount{Namespace: label.Draw(t, "namespace"), Name: label.Draw(t, "name")},
		}
		got, err := identity.ParseURI(id.URI())
		if err != nil || got != id {
			t.Errorf("ParseURI(%s) = %+v, %v", id.URI(), got, err)
		}
	})
}

func TestNoTwoIdentitiesShareANameInOneTrustDomain(t *testing.T) {
	segment := rapid.StringMatching(`[ab]`)
	id := rapid.Custom(func(t *rapid.T) identity.ID {
		name := strings.Join(rapid.SliceOfN(segment, 1, 3).Draw(t, "name"), ".")
		return identity.ID{TrustDomain: "td", ServiceAccount: identity.ServiceAccount{Namespace: segment.Draw(t, "namespace"), Name: name}}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := id.Draw(t, "a"), id.Draw(t, "b")
		if a != b && (a.URI() == b.URI() || a.OSMName() == b.OSMName()) {
			t.Errorf("%+v and %+v have one name: %s, %s", a, b, a.URI(), a.OSMName())
		}
	})
}

func FuzzParseURI(f *testing.F) {
	f.Add("spiffe://cluster.local/ns/shop/sa/web")
	f.Add("spiffe://cluster.local/mesh/osm/control-plane/v1")
	f.Add("spiffe://cluster.local/mesh/osm/operator")
	f.Add("spiffe://a@cluster.local:1/ns/%00/sa/..?#")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := identity.ParseURI(s); err == nil && id.URI() != s {
			t.Errorf("%q was taken as %q: one identity would have two forms", s, id.URI())
		}
		if subject, err := identity.Parse(s); err == nil && subject.URI() != s {
			t.Errorf("%q was taken as %q: one subject would have two forms", s, subject.URI())
		}
	})
}
