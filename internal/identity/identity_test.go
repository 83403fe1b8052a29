package identity_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
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
		"another scheme":            "https://cluster.local/ns/shop/sa/web",
		"upper case":                "spiffe://Cluster.Local/ns/shop/sa/web",
		"upper case of the scheme":  "SPIFFE://cluster.local/ns/shop/sa/web",
		"a port":                    "spiffe://cluster.local:443/ns/shop/sa/web",
		"a user":                    "spiffe://me@cluster.local/ns/shop/sa/web",
		"a query":                   "spiffe://cluster.local/ns/shop/sa/web?x",
		"a fragment":                "spiffe://cluster.local/ns/shop/sa/web#x",
		"an escape":                 "spiffe://cluster.local/ns/shop/sa/w%65b",
		"an empty segment":          "spiffe://cluster.local/ns//sa/web",
		"a segment too many":        "spiffe://cluster.local/ns/shop/sa/web/",
		"a trailing dot":            "spiffe://cluster.local./ns/shop/sa/web",
		"dots in the namespace":     "spiffe://cluster.local/ns/shop.x/sa/web",
		"dot segments":              "spiffe://cluster.local/ns/../sa/web",
		"a NUL":                     "spiffe://cluster.local/ns/shop/sa/web\x00",
		"a space":                   "spiffe://cluster.local/ns/shop/sa/we b",
		"no trust domain":           "spiffe:///ns/shop/sa/web",
		"a control plane":           identity.ControlPlane("cluster.local", "osm", "v1"),
		"a name that begins with -": "spiffe://cluster.local/ns/shop/sa/-web",
	} {
		if id, err := identity.ParseURI(uri); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("%s: ParseURI(%q) = %+v, %v; want a refusal", name, uri, id, err)
		}
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

func FuzzParseURI(f *testing.F) {
	f.Add("spiffe://cluster.local/ns/shop/sa/web")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := identity.ParseURI(s)
		if err == nil && id.URI() != s {
			t.Errorf("%q was taken as %q: one identity would have two forms", s, id.URI())
		}
	})
}

func TestPeerOf(t *testing.T) {
	uid, err := identity.PodUIDExtension("uid-1")
	if err != nil {
		t.Fatal(err)
	}
	workload := &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/web"}
	broken := uid
	broken.Value = []byte{0x0c, 0x05, 'x'}
	cases := map[string]struct {
		leaf    x509.Certificate
		want    string
		wantErr bool
	}{
		"A workload with its pod":    {leaf: x509.Certificate{URIs: []*url.URL{workload}, Extensions: []pkix.Extension{uid}}, want: "uid-1"},
		"A workload without its pod": {leaf: x509.Certificate{URIs: []*url.URL{workload}}},
		"No URI":                     {leaf: x509.Certificate{}, wantErr: true},
		"Two URIs":                   {leaf: x509.Certificate{URIs: []*url.URL{workload, workload}}, wantErr: true},
		"An authority":               {leaf: x509.Certificate{URIs: []*url.URL{workload}, IsCA: true}, wantErr: true},
		"A pod that cannot be read":  {leaf: x509.Certificate{URIs: []*url.URL{workload}, Extensions: []pkix.Extension{broken}}, wantErr: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.leaf.SerialNumber = big.NewInt(255)
			got, err := identity.PeerOf(&tc.leaf)
			if (err != nil) != tc.wantErr || got.PodUID != tc.want {
				t.Errorf("PeerOf: %+v, %v; want pod %q, error %v", got, err, tc.want, tc.wantErr)
			}
		})
	}
}

func TestPodUIDExtensionRefuses(t *testing.T) {
	if _, err := identity.PodUIDExtension(""); !errors.Is(err, identity.ErrInvalid) {
		t.Errorf("PodUIDExtension of nothing: %v", err)
	}
}
