package identity_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

const web = "spiffe://cluster.local/ns/shop/sa/web"

// certificate makes a certificate and parses it, as whoever receives it does. The names
// are written as they are, whether a URL parser would take them so or not.
func certificate(t *testing.T, change func(*x509.Certificate), uris ...string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(255), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true}
	if len(uris) > 0 {
		template.ExtraExtensions = append(template.ExtraExtensions, names(t, uris...))
	}
	if change != nil {
		change(template)
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parsing the certificate: %v", err)
	}
	return parsed
}

func names(t *testing.T, uris ...string) pkix.Extension {
	t.Helper()
	all := []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("web.shop.cluster.local")}}
	for _, uri := range uris {
		all = append(all, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri)})
	}
	value, err := asn1.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}
}

func podUID(t *testing.T, uid string) pkix.Extension {
	t.Helper()
	e, err := identity.PodUIDExtension(uid)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestPeerOf(t *testing.T) {
	with := func(extensions ...pkix.Extension) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, extensions...) }
	}
	uid := podUID(t, "0b8e4a5e-7f0e-4f7d-9b38-0d4f8a3f2f11")
	broken := pkix.Extension{Id: uid.Id, Value: []byte{0x0c, 0x05, 'x'}}
	cases := map[string]struct {
		leaf    *x509.Certificate
		wantPod string
		wantErr bool
	}{
		"A workload with its pod":     {leaf: certificate(t, with(uid), web), wantPod: "0b8e4a5e-7f0e-4f7d-9b38-0d4f8a3f2f11"},
		"A workload without its pod":  {leaf: certificate(t, nil, web)},
		"No names":                    {leaf: certificate(t, nil), wantErr: true},
		"Two URIs":                    {leaf: certificate(t, nil, web, web), wantErr: true},
		"A control plane":             {leaf: certificate(t, nil, identity.ControlPlane("cluster.local", "osm", "v1")), wantErr: true},
		"An authority":                {leaf: certificate(t, func(c *x509.Certificate) { c.IsCA = true }, web), wantErr: true},
		"A pod that cannot be read":   {leaf: certificate(t, with(broken), web), wantErr: true},
		"A scheme in upper case":      {leaf: certificate(t, nil, "SPIFFE://cluster.local/ns/shop/sa/web"), wantErr: true},
		"An empty fragment":           {leaf: certificate(t, nil, web+"#"), wantErr: true},
		"An escape":                   {leaf: certificate(t, nil, "spiffe://cluster.local/ns/shop/sa/w%65b"), wantErr: true},
		"A certificate of another CA": {leaf: certificate(t, nil, "https://example.com/ns/shop/sa/web"), wantErr: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := identity.PeerOf(tc.leaf)
			if tc.wantErr {
				if !errors.Is(err, identity.ErrInvalid) {
					t.Fatalf("PeerOf: %+v, %v; want a refusal", got, err)
				}
				return
			}
			if err != nil || got.ID.URI() != web || got.PodUID != tc.wantPod || got.Serial != "ff" {
				t.Errorf("PeerOf: %+v, %v; want %s with pod %q", got, err, web, tc.wantPod)
			}
		})
	}
}

func TestSubjectOf(t *testing.T) {
	control := identity.ControlPlane("cluster.local", "osm", "v1")
	got, err := identity.SubjectOf(certificate(t, nil, control))
	if err != nil || got.Kind != identity.KindControlPlane || got.Revision != "v1" {
		t.Errorf("SubjectOf: %+v, %v", got, err)
	}
	for name, leaf := range map[string]*x509.Certificate{
		"an authority": certificate(t, func(c *x509.Certificate) { c.IsCA = true }, control),
		"two URIs":     certificate(t, nil, control, web),
		"no URI":       certificate(t, nil),
	} {
		if got, err := identity.SubjectOf(leaf); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("%s: SubjectOf: %+v, %v; want a refusal", name, got, err)
		}
	}
}

func TestPodUIDOf(t *testing.T) {
	uid := podUID(t, "uid-1")
	printable, err := asn1.MarshalWithParams("uid-1", "printable")
	if err != nil {
		t.Fatal(err)
	}
	changed := func(value []byte) []pkix.Extension { return []pkix.Extension{{Id: uid.Id, Value: value}} }
	if got, err := identity.PodUIDOf(nil); got != "" || err != nil {
		t.Errorf("PodUIDOf of nothing: %q, %v", got, err)
	}
	if got, err := identity.PodUIDOf([]pkix.Extension{names(t, web), uid}); got != "uid-1" || err != nil {
		t.Errorf("PodUIDOf: %q, %v", got, err)
	}
	for name, extensions := range map[string][]pkix.Extension{
		"two of them":         {uid, uid},
		"another string type": changed(printable),
		"more behind it":      changed(append(uid.Value, 0)),
		"an empty string":     changed([]byte{0x0c, 0x00}),
		"no string":           changed([]byte{0x02, 0x01, 0x01}),
		"a line break":        changed([]byte{0x0c, 0x02, 'a', '\n'}),
		"broken UTF-8":        changed([]byte{0x0c, 0x01, 0xff}),
		"nothing":             changed(nil),
	} {
		if got, err := identity.PodUIDOf(extensions); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("%s: PodUIDOf: %q, %v; want a refusal", name, got, err)
		}
	}
}

func TestPodUIDExtensionRefusesWhatIsNoUID(t *testing.T) {
	for _, uid := range []string{"", strings.Repeat("a", 129), "a b", "a\x00", "a\n", "ä"} {
		if _, err := identity.PodUIDExtension(uid); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("PodUIDExtension(%q): %v; want a refusal", uid, err)
		}
	}
}

func TestPodUIDExtensionIsNotCritical(t *testing.T) {
	leaf := certificate(t, func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, podUID(t, "uid-1")) }, web)
	if len(leaf.UnhandledCriticalExtensions) > 0 {
		t.Errorf("whoever does not know %v refuses the certificate", leaf.UnhandledCriticalExtensions)
	}
}

func FuzzPodUIDOf(f *testing.F) {
	good, err := identity.PodUIDExtension("0b8e4a5e-7f0e-4f7d-9b38-0d4f8a3f2f11")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Value)
	f.Add([]byte{0x0c, 0x81, 0x01, 'x'})
	f.Add([]byte{0x2c, 0x03, 0x0c, 0x01, 'x'})
	f.Fuzz(func(t *testing.T, value []byte) {
		uid, err := identity.PodUIDOf([]pkix.Extension{{Id: good.Id, Value: value}})
		if err != nil {
			return
		}
		again, err := identity.PodUIDExtension(uid)
		if err != nil || !bytes.Equal(again.Value, value) {
			t.Errorf("%x was taken as %q, which is written as %x: %v", value, uid, again.Value, err)
		}
	})
}
