package issue_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/issue"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

const (
	uid = "5f6c7c1e-9a51-4a4e-8a0e-3b1d5f0c2b77"
	web = "spiffe://cluster.local/ns/shop/sa/web"
)

// noon is when all tests take place.
func noon() time.Time { return time.Date(2030, time.June, 1, 12, 0, 0, 123456789, time.UTC) }

// intermediate is an authority that ends after some time.
func intermediate(tb testing.TB, end time.Duration) *builtin.Authority {
	tb.Helper()
	begin := noon().Add(-time.Hour).Truncate(time.Second)
	root, err := builtin.NewRoot(builtin.RootOptions{Name: "root", KeyType: ca.ECDSAP256, NotBefore: begin, NotAfter: begin.Add(ca.RootLifetime)})
	if err != nil {
		tb.Fatal(err)
	}
	a, err := root.NewIntermediate(tb.Context(), ca.ECDSAP256, ca.IntermediateRequest{
		Name: "issuer", TrustDomain: identity.DefaultTrustDomain, NotBefore: begin, NotAfter: noon().Add(end).Truncate(time.Second),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

func issuer(tb testing.TB, a ca.Authority, lifetime time.Duration) *issue.Issuer {
	tb.Helper()
	i, err := issue.New(issue.Options{Authority: a, TrustDomain: identity.DefaultTrustDomain, Lifetime: lifetime, Now: noon})
	if err != nil {
		tb.Fatal(err)
	}
	return i
}

// csr is what a kubelet writes, but for the changes.
func csr(tb testing.TB, key crypto.Signer, change func(*x509.CertificateRequest)) []byte {
	tb.Helper()
	template := &x509.CertificateRequest{}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func request(tb testing.TB) (issue.PodRequest, *issue.Pod) {
	tb.Helper()
	return issue.PodRequest{
		Namespace: "shop", PodName: "web-1", PodUID: uid, ServiceAccount: "web", Node: "node-1", CSR: csr(tb, pki.NewKey(tb), nil),
	}, &issue.Pod{UID: uid, ServiceAccount: "web", Node: "node-1"}
}

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

func TestForPodIssues(t *testing.T) {
	a := intermediate(t, 30*24*time.Hour)
	req, pod := request(t)
	got, err := issuer(t, a, 0).ForPod(within(t), req, pod)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.ParseChain(got.ChainPEM)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := identity.PeerOf(chain.Leaf())
	if err != nil || peer.ID.URI() != web || peer.PodUID != uid || peer.Serial != got.Serial || peer.Issuer != got.Issuer {
		t.Errorf("the certificate is of %+v, %v; told was %+v", peer, err, got)
	}
	if len(chain) != 2 || !ca.SignedBy(chain.Leaf(), a.Certificate()) {
		t.Errorf("a chain of %d, want the certificate and its issuer", len(chain))
	}
	if names := chain.Leaf().DNSNames; len(names) != 1 || names[0] != "web.shop.cluster.local" {
		t.Errorf("DNS names %q, want the one that Open Service Mesh gave", names)
	}
	if lifetime, refresh := got.NotAfter.Sub(got.NotBefore), got.RefreshAt.Sub(got.NotBefore); lifetime != 48*time.Hour || refresh != 20*time.Hour {
		t.Errorf("good for %s, renewed after %s; want 48 and 20 hours", lifetime, refresh)
	}
	if got.ID.URI() != web || got.PodUID != uid || !got.NotBefore.Equal(chain.Leaf().NotBefore) || !got.NotAfter.Equal(chain.Leaf().NotAfter) {
		t.Errorf("the record tells something else than the certificate: %+v", got)
	}
}

func TestForPodAnswersByWhatTheRequestIs(t *testing.T) {
	i := issuer(t, intermediate(t, 30*24*time.Hour), 0)
	key := func(generate func() (crypto.Signer, error)) func(*issue.PodRequest) {
		k, err := generate()
		if err != nil {
			t.Fatal(err)
		}
		return func(r *issue.PodRequest) { r.CSR = csr(t, k, nil) }
	}
	curve := func(c elliptic.Curve) func() (crypto.Signer, error) {
		return func() (crypto.Signer, error) { return ecdsa.GenerateKey(c, rand.Reader) }
	}
	bits := func(n int) func() (crypto.Signer, error) {
		return func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, n) }
	}
	forged := csr(t, pki.NewKey(t), nil)
	forged[len(forged)-1] ^= 1
	cases := map[string]struct {
		change      func(*issue.PodRequest)
		pod         func(*issue.Pod)
		noPod       bool
		wantDenied  string
		wantPending string
	}{
		"The pod that it is for":                    {},
		"Another pod of the same name":              {pod: func(p *issue.Pod) { p.UID = "another" }, wantDenied: issue.ReasonPodReplaced},
		"Another ServiceAccount":                    {change: func(r *issue.PodRequest) { r.ServiceAccount = "admin" }, wantDenied: issue.ReasonPodMismatch},
		"Another node":                              {change: func(r *issue.PodRequest) { r.Node = "node-2" }, wantDenied: issue.ReasonPodMismatch},
		"A pod that has ended":                      {pod: func(p *issue.Pod) { p.Finished = true }, wantDenied: issue.ReasonPodFinished},
		"No pod":                                    {noPod: true, wantPending: issue.ReasonPodNotFound},
		"A pod on no node yet":                      {pod: func(p *issue.Pod) { p.Node = "" }, wantPending: issue.ReasonPodNotScheduled},
		"Annotations that mean nothing":             {change: func(r *issue.PodRequest) { r.Annotations = map[string]string{"example.com/a": "b"} }, wantDenied: issue.ReasonUnknownAnnotations},
		"A life shorter than Kubernetes takes":      {change: func(r *issue.PodRequest) { r.MaxLifetime = time.Minute }, wantDenied: issue.ReasonInvalidRequest},
		"A life in the negative":                    {change: func(r *issue.PodRequest) { r.MaxLifetime = -time.Hour }, wantDenied: issue.ReasonInvalidRequest},
		"The shortest life":                         {change: func(r *issue.PodRequest) { r.MaxLifetime = time.Hour }},
		"No PKCS#10 request":                        {change: func(r *issue.PodRequest) { r.CSR = nil }, wantDenied: issue.ReasonInvalidRequest},
		"Something else than a PKCS#10 request":     {change: func(r *issue.PodRequest) { r.CSR = []byte("hello") }, wantDenied: issue.ReasonInvalidRequest},
		"A megabyte of it":                          {change: func(r *issue.PodRequest) { r.CSR = make([]byte, 1<<20) }, wantDenied: issue.ReasonInvalidRequest},
		"More behind it":                            {change: func(r *issue.PodRequest) { r.CSR = append(r.CSR, 0) }, wantDenied: issue.ReasonInvalidRequest},
		"A signature that is not of the key":        {change: func(r *issue.PodRequest) { r.CSR = forged }, wantDenied: issue.ReasonInvalidRequest},
		"A key on P-384":                            {change: key(curve(elliptic.P384()))},
		"An RSA key of 2048 bits":                   {change: key(bits(2048))},
		"A key on P-521":                            {change: key(curve(elliptic.P521())), wantDenied: issue.ReasonUnsupportedKeyType},
		"A key on P-224":                            {change: key(curve(elliptic.P224())), wantDenied: issue.ReasonUnsupportedKeyType},
		"An RSA key of 1024 bits":                   {change: key(bits(1024)), wantDenied: issue.ReasonUnsupportedKeyType},
		"An RSA key of 512 bits":                    {change: func(r *issue.PodRequest) { r.CSR = tinyCSR(t) }, wantDenied: issue.ReasonUnsupportedKeyType},
		"A pod UID that certificates do not hold":   {change: func(r *issue.PodRequest) { r.PodUID = "a b" }, pod: func(p *issue.Pod) { p.UID = "a b" }, wantDenied: issue.ReasonInvalidIdentity},
		"A namespace that is none":                  {change: func(r *issue.PodRequest) { r.Namespace = "a/../b" }, wantDenied: issue.ReasonInvalidIdentity},
		"A ServiceAccount with dots":                {change: func(r *issue.PodRequest) { r.ServiceAccount = "web.v2" }, pod: func(p *issue.Pod) { p.ServiceAccount = "web.v2" }},
		"A ServiceAccount too long for DNS":         {change: func(r *issue.PodRequest) { r.ServiceAccount = strings.Repeat("w", 200) }, pod: func(p *issue.Pod) { p.ServiceAccount = strings.Repeat("w", 200) }},
		"A ServiceAccount with a regex in its name": {change: func(r *issue.PodRequest) { r.ServiceAccount = ".*" }, pod: func(p *issue.Pod) { p.ServiceAccount = ".*" }, wantDenied: issue.ReasonInvalidIdentity},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			req, pod := request(t)
			if tc.change != nil {
				tc.change(&req)
			}
			if tc.pod != nil {
				tc.pod(pod)
			}
			if tc.noPod {
				pod = nil
			}
			got, err := i.ForPod(within(t), req, pod)
			wantClass(t, err, tc.wantDenied, tc.wantPending)
			if err == nil && got.ID.ServiceAccount.Name != req.ServiceAccount {
				t.Errorf("issued to %s", got.ID.URI())
			}
		})
	}
}

// wantClass fails the test where an error is of another class or reason.
func wantClass(t *testing.T, err error, wantDenied, wantPending string) {
	t.Helper()
	var (
		deniedErr        *issue.DeniedError
		pendingErr       *issue.PendingError
		deniedAs, waitAs string
	)
	switch {
	case errors.As(err, &deniedErr):
		deniedAs = deniedErr.Reason
	case errors.As(err, &pendingErr):
		waitAs = pendingErr.Reason
	case err != nil:
		t.Fatalf("an error of no class: %v", err)
	}
	if deniedAs != wantDenied || waitAs != wantPending {
		t.Errorf("denied %q, pending %q (%v); want denied %q, pending %q", deniedAs, waitAs, err, wantDenied, wantPending)
	}
}

// tinyCSR is a request with an RSA key of 512 bits, which Go makes no more.
func tinyCSR(t *testing.T) []byte {
	t.Helper()
	key := pki.NewKey(t)
	raw := csr(t, key, nil)
	var outer struct{ Info, Algorithm, Signature asn1.RawValue }
	if _, err := asn1.Unmarshal(raw, &outer); err != nil {
		t.Fatal(err)
	}
	var info struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes asn1.RawValue `asn1:"optional,tag:0"`
	}
	if _, err := asn1.Unmarshal(outer.Info.FullBytes, &info); err != nil {
		t.Fatal(err)
	}
	n := new(big.Int).Lsh(big.NewInt(1), 511)
	public, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	info.Key = asn1.RawValue{FullBytes: public}
	if outer.Info.FullBytes, err = asn1.Marshal(info); err != nil {
		t.Fatal(err)
	}
	raw, err = asn1.Marshal(outer)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestNothingButTheKeyOfARequestIsAnswered is attack A6: a request that asks for what
// the pod is not.
func TestNothingButTheKeyOfARequestIsAnswered(t *testing.T) {
	i := issuer(t, intermediate(t, 30*24*time.Hour), 0)
	admin, err := url.Parse("spiffe://cluster.local/ns/kube-system/sa/admin")
	if err != nil {
		t.Fatal(err)
	}
	constraints, err := asn1.Marshal(struct{ CA bool }{true})
	if err != nil {
		t.Fatal(err)
	}
	extension := func(id asn1.ObjectIdentifier, value []byte) func(*x509.CertificateRequest) {
		return func(r *x509.CertificateRequest) {
			r.ExtraExtensions = []pkix.Extension{{Id: id, Critical: true, Value: value}}
		}
	}
	other, err := identity.PodUIDExtension("another-pod")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]func(*x509.CertificateRequest){
		"Nothing":                          nil,
		"Another identity":                 func(r *x509.CertificateRequest) { r.URIs = []*url.URL{admin} },
		"A wildcard":                       func(r *x509.CertificateRequest) { r.DNSNames = []string{"*.cluster.local"} },
		"A thousand names":                 func(r *x509.CertificateRequest) { r.DNSNames = strings.Split(strings.Repeat("a,", 1000)+"a", ",") },
		"An address":                       func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} },
		"A mail address":                   func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@b.c"} },
		"A common name":                    func(r *x509.CertificateRequest) { r.Subject.CommonName = "system:admin" },
		"An organisation of Kubernetes'":   func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"system:masters"} },
		"The rights of an authority":       extension(asn1.ObjectIdentifier{2, 5, 29, 19}, constraints),
		"Another pod":                      extension(other.Id, other.Value),
		"An extension that nobody knows":   extension(asn1.ObjectIdentifier{1, 2, 3, 4}, []byte{5, 0}),
		"The key usage of an authority":    extension(asn1.ObjectIdentifier{2, 5, 29, 15}, []byte{3, 2, 1, 6}),
		"An extended key usage of its own": extension(asn1.ObjectIdentifier{2, 5, 29, 37}, []byte{0x30, 6, 6, 4, 0x55, 0x1d, 0x25, 0}),
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			key := pki.NewKey(t)
			req, pod := request(t)
			req.CSR = csr(t, key, change)
			got, err := i.ForPod(within(t), req, pod)
			if err != nil {
				// Longer than the API server takes: refusing is as good.
				var deniedErr *issue.DeniedError
				if len(req.CSR) <= 10*1024 || !errors.As(err, &deniedErr) {
					t.Fatal(err)
				}
				return
			}
			chain, err := ca.ParseChain(got.ChainPEM)
			if err != nil {
				t.Fatal(err)
			}
			leaf := chain.Leaf()
			peer, err := identity.PeerOf(leaf)
			if err != nil || peer.ID.URI() != web || peer.PodUID != uid {
				t.Errorf("the certificate is of %+v, %v", peer, err)
			}
			if leaf.IsCA || len(leaf.DNSNames) != 1 || len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0 || leaf.Subject.String() != "" ||
				leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.ExtKeyUsage) != 2 || len(leaf.UnhandledCriticalExtensions) > 0 {
				t.Errorf("something of the request is in the certificate: %+v", leaf)
			}
			if !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(leaf.PublicKey) {
				t.Error("the certificate is of another key")
			}
		})
	}
}

// TestEveryAnswerIsOneThatKubernetesTakes holds whatever is issued to the rules of the
// API server. Source: ValidatePodCertificateRequestStatusUpdate of Kubernetes 1.37.
func TestEveryAnswerIsOneThatKubernetesTakes(t *testing.T) {
	req, pod := request(t)
	rapid.Check(t, func(rt *rapid.T) {
		left := time.Duration(rapid.Int64Range(-3600, 100*24*3600).Draw(rt, "left of the issuer")) * time.Second
		lifetime := time.Duration(rapid.Int64Range(-10, 91*24*3600).Draw(rt, "lifetime")) * time.Second
		req := req
		req.MaxLifetime = time.Duration(rapid.Int64Range(3600, 91*24*3600).Draw(rt, "longest")) * time.Second
		got, err := issuer(t, &limited{intermediate(t, 200*24*time.Hour), noon().Add(left)}, lifetime).ForPod(within(t), req, pod)
		if err != nil {
			var pendingErr *issue.PendingError
			if !errors.As(err, &pendingErr) || left >= 2*time.Hour {
				rt.Fatalf("not issued, %s before the issuer ends: %v", left, err)
			}
			return
		}
		life := got.NotAfter.Sub(got.NotBefore)
		switch {
		case got.NotBefore.Sub(noon()).Abs() >= 5*time.Minute:
			rt.Errorf("begins at %s", got.NotBefore)
		case life < time.Hour || life > req.MaxLifetime:
			rt.Errorf("good for %s, at most %s were wanted", life, req.MaxLifetime)
		case got.NotAfter.After(noon().Add(left)):
			rt.Errorf("ends at %s, after its issuer", got.NotAfter)
		case got.RefreshAt.Before(got.NotBefore.Add(10 * time.Minute)), got.RefreshAt.After(got.NotAfter.Add(-10 * time.Minute)):
			rt.Errorf("is renewed at %s, between %s and %s", got.RefreshAt, got.NotBefore, got.NotAfter)
		case got.NotBefore.Nanosecond()+got.RefreshAt.Nanosecond()+got.NotAfter.Nanosecond() != 0:
			rt.Error("times that are not written in whole seconds")
		}
	})
}

// limited is an authority that ends sooner, without being made anew for each end.
type limited struct {
	*builtin.Authority
	end time.Time
}

func (l *limited) Issue(ctx context.Context, req ca.Request) (ca.Chain, error) {
	if end := l.end.Truncate(time.Second); req.NotAfter.After(end) {
		req.NotAfter = end
	}
	if req.End().Sub(req.NotBefore) < req.MinLifetime {
		return nil, &ca.UnavailableError{Err: errors.New("ends too soon")}
	}
	return l.Authority.Issue(ctx, req)
}
