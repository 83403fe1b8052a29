package attest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/openservicemesh/osm-operator/internal/attest"
	"github.com/openservicemesh/osm-operator/internal/attest/agent"
	"github.com/openservicemesh/osm-operator/internal/attest/attestpb"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/issue"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

const (
	podUID = "5f6c7c1e-9a51-4a4e-8a0e-3b1d5f0c2b77"
	web    = "spiffe://cluster.local/ns/shop/sa/web"
	token  = "header.web.signature"
)

// world is a control plane over loopback, and what it believes.
type world struct {
	authority *pki.Authority
	server    *attest.Server
	address   string

	// cluster is where the pod runs; the rest can be changed while it serves.
	cluster client.Client
	review  atomic.Pointer[func(token string) (attest.Caller, error)]
	state   atomic.Pointer[attestpb.State]
	signing atomic.Bool
	denied  atomic.Pointer[string]
	// accepted counts connections to the address.
	accepted atomic.Int32
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{authority: pki.New(t)}
	w.cluster = fake.NewClientBuilder().WithObjects(w.pod()).Build()
	w.state.Store(&attestpb.State{RootsPem: w.authority.RootsPEM(), Issuer: "first"})
	w.signing.Store(true)
	w.believe(func(shown string) (attest.Caller, error) {
		if shown != token {
			return attest.Caller{}, &attest.RefusedError{Message: "an unknown token"}
		}
		return attest.Caller{Namespace: "shop", ServiceAccount: "web", Pod: "web-1", PodUID: podUID, Node: "node-1"}, nil
	})
	signing, err := builtin.Load(w.authority.Intermediate.ChainPEM(), w.authority.Intermediate.KeyPEM(t), w.authority.RootsPEM())
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := issue.New(issue.Options{Authority: signing, TrustDomain: identity.DefaultTrustDomain, Lifetime: 2 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	w.server = attest.NewServer(attest.Options{
		Log:    testr.New(t),
		Review: func(_ context.Context, shown string) (attest.Caller, error) { return (*w.review.Load())(shown) },
		Front: issue.Front{
			Live: w.cluster, Enrolled: func(namespace string) bool { return namespace == "shop" },
			Issuer: func() *issue.Issuer {
				if !w.signing.Load() {
					return nil
				}
				return issuer
			},
		},
		State:  func() ([]byte, string) { s := w.state.Load(); return s.GetRootsPem(), s.GetIssuer() },
		Denied: func(_, reason string) { w.denied.Store(&reason) },
	})
	w.address = w.serve(t, w.authority.ControlPlane(t, "osm", "v1").TLS())
	return w
}

// counting counts what a listener accepts.
type counting struct {
	net.Listener
	accepted *atomic.Int32
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	c.accepted.Add(1)
	return conn, err
}

// pod is what runs.
func (*world) pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: podUID},
		Spec:       corev1.PodSpec{ServiceAccountName: "web", NodeName: "node-1"},
	}
}

func (w *world) believe(review func(string) (attest.Caller, error)) { w.review.Store(&review) }

// serve serves with a certificate until the test ends.
func (w *world) serve(t *testing.T, certificate tls.Certificate) string {
	t.Helper()
	g := w.server.NewGRPCServer(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	w.accepted.Store(0)
	go func() { done <- g.Serve(counting{listener, &w.accepted}) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serving: %v", err)
		}
	})
	return listener.Addr().String()
}

// ask asks for a certificate with a token.
func (w *world) ask(t *testing.T, authorization ...string) (*attestpb.IssueResponse, error) {
	t.Helper()
	conn, err := grpc.NewClient(w.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx := metadata.NewOutgoingContext(within(t), metadata.MD{"authorization": authorization})
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"db.shop"}}, pki.NewKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return attestpb.NewWorkloadIdentityClient(conn).Issue(ctx, &attestpb.IssueRequest{Csr: csr})
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestIssue(t *testing.T) {
	w := newWorld(t)
	got, err := w.ask(t, "Bearer "+token)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.ParseChain(got.GetChainPem())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := identity.PeerOf(chain.Leaf())
	if err != nil || peer.ID.URI() != web || peer.PodUID != podUID {
		t.Errorf("the certificate is of %+v, %v", peer, err)
	}
	if names := chain.Leaf().DNSNames; len(names) != 1 || names[0] != "web.shop.cluster.local" {
		t.Errorf("names %q: those that the request asks for are not answered", names)
	}
	if !got.GetRefreshAt().AsTime().Before(got.GetNotAfter().AsTime()) || got.GetState().GetIssuer() != "first" {
		t.Errorf("answered %v", got)
	}
}

func TestIssueRefuses(t *testing.T) {
	as := func(change func(*attest.Caller)) func(w *world) {
		return func(w *world) {
			w.believe(func(string) (attest.Caller, error) {
				c := attest.Caller{Namespace: "shop", ServiceAccount: "web", Pod: "web-1", PodUID: podUID, Node: "node-1"}
				change(&c)
				return c, nil
			})
		}
	}
	cases := map[string]struct {
		given  func(w *world)
		header []string
		want   codes.Code
	}{
		"no token":                            {header: []string{}, want: codes.Unauthenticated},
		"two tokens":                          {header: []string{"Bearer " + token, "Bearer " + token}, want: codes.Unauthenticated},
		"something else than a token":         {header: []string{"Bearer web"}, want: codes.Unauthenticated},
		"a token that the API server refuses": {header: []string{"Bearer a.b.c"}, want: codes.Unauthenticated},
		"a token that could not be reviewed": {given: func(w *world) {
			w.believe(func(string) (attest.Caller, error) { return attest.Caller{}, errors.New("away") })
		}, want: codes.Unavailable},
		"a token of a pod that was replaced":      {given: as(func(c *attest.Caller) { c.PodUID = "another" }), want: codes.PermissionDenied},
		"a token of another ServiceAccount":       {given: as(func(c *attest.Caller) { c.ServiceAccount = "db" }), want: codes.PermissionDenied},
		"a token that was used from another node": {given: as(func(c *attest.Caller) { c.Node = "node-2" }), want: codes.PermissionDenied},
		"a namespace that is not in the mesh":     {given: as(func(c *attest.Caller) { c.Namespace = "else" }), want: codes.Unavailable},
		"a pod that is not there":                 {given: as(func(c *attest.Caller) { c.Pod = "web-2" }), want: codes.Unavailable},
		"a pod that has ended": {given: func(w *world) {
			ended := w.pod()
			ended.Status.Phase = corev1.PodSucceeded
			w.cluster = fake.NewClientBuilder().WithObjects(ended).Build()
			w.server.Front.Live = w.cluster
		}, want: codes.PermissionDenied},
		"nothing to sign with": {given: func(w *world) { w.signing.Store(false) }, want: codes.Unavailable},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if tc.given != nil {
				tc.given(w)
			}
			header := tc.header
			if header == nil {
				header = []string{"Bearer " + token}
			}
			got, err := w.ask(t, header...)
			if status.Code(err) != tc.want {
				t.Errorf("answered %v, want %s", err, tc.want)
			}
			if len(got.GetChainPem()) > 0 {
				t.Error("a certificate came with the refusal")
			}
		})
	}
}

// pod is the side of the pod: an agent and its files.
type pod struct {
	folder string
	stop   context.CancelFunc
	done   chan struct{} // closed when it has ended, with err
	err    error
}

func (w *world) start(t *testing.T, folder string, firstRoots []byte) *pod {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, "token"), []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	p := &pod{folder: folder, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = agent.Run(ctx, agent.Options{
			Target: w.address, ServerID: identity.ControlPlane(identity.DefaultTrustDomain, "osm", "v1"),
			TokenFile: filepath.Join(folder, "token"), Files: p.files(), FirstRoots: firstRoots,
		})
	}()
	t.Cleanup(p.end)
	return p
}

func (p *pod) end() {
	p.stop()
	<-p.done
}

func (p *pod) files() agent.Files {
	return agent.Files{Credentials: filepath.Join(p.folder, "credentials.pem"), Roots: filepath.Join(p.folder, "ca.pem")}
}

// leaf reads the certificate as a sidecar would, with its key; nil if there is none.
func (p *pod) leaf(t *testing.T) *x509.Certificate {
	t.Helper()
	raw, err := os.ReadFile(p.files().Credentials)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(raw, raw)
	if err != nil {
		t.Fatalf("what the sidecar would read is no certificate with its key: %v", err)
	}
	if first, _ := pem.Decode(raw); first == nil || first.Type != "PRIVATE KEY" {
		t.Errorf("the key does not come first")
	}
	return pair.Leaf
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, tick := within(t), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting until %s: %v", what, ctx.Err())
		case <-tick.C:
		}
	}
}

func TestAgentKeepsTheFiles(t *testing.T) {
	w := newWorld(t)
	p := w.start(t, t.TempDir(), w.authority.RootsPEM())
	eventually(t, "the files are there", func() bool { return p.files().Complete() })
	if leaf := p.leaf(t); len(leaf.URIs) != 1 || leaf.URIs[0].String() != web {
		t.Errorf("the certificate is of %v", leaf.URIs)
	}
	info, err := os.Stat(p.files().Credentials)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key can be read by others: %v, %v", info.Mode(), err)
	}
	left, err := filepath.Glob(filepath.Join(p.folder, ".next-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("half-written files are left: %q, %v", left, err)
	}
}

func TestAgentWaitsForWhatMayPass(t *testing.T) {
	w := newWorld(t)
	w.signing.Store(false)
	p := w.start(t, t.TempDir(), w.authority.RootsPEM())
	eventually(t, "the roots are there", func() bool { _, err := os.Stat(p.files().Roots); return err == nil })
	if p.files().Complete() {
		t.Fatal("there is a certificate that nobody could sign")
	}
	w.signing.Store(true)
	eventually(t, "the certificate is there", p.files().Complete)
}

func TestAgentFollowsRootsAndIssuer(t *testing.T) {
	w := newWorld(t)
	p := w.start(t, t.TempDir(), w.authority.RootsPEM())
	eventually(t, "the files are there", p.files().Complete)
	first := p.leaf(t)

	both := append(w.authority.RootsPEM(), pki.New(t).RootsPEM()...)
	w.state.Store(&attestpb.State{RootsPem: both, Issuer: "first"})
	w.server.Changed()
	eventually(t, "the new roots are in the file", func() bool {
		raw, err := os.ReadFile(p.files().Roots)
		return err == nil && bytes.Equal(raw, both)
	})
	if p.leaf(t).SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("new roots made the pod renew its certificate")
	}

	// A restarted container starts with what it had, not with what its pod was created with.
	p.end()
	again := w.start(t, p.folder, pki.New(t).RootsPEM())
	eventually(t, "it has renewed", func() bool { return again.leaf(t).SerialNumber.Cmp(first.SerialNumber) != 0 })
}

func TestAgentRenewsWhenTheIssuerChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, t.TempDir(), w.authority.RootsPEM())
	eventually(t, "the files are there", p.files().Complete)
	first := p.leaf(t)
	w.state.Store(&attestpb.State{RootsPem: w.authority.RootsPEM(), Issuer: "second"})
	w.server.Changed()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for p.leaf(t).SerialNumber.Cmp(first.SerialNumber) == 0 {
		select {
		case <-ctx.Done():
			t.Fatal("the certificate is that of the old issuer after a minute")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestAgentTrustsOnlyItsControlPlane has servers that are not it answer: none of them
// gets to see the token.
func TestAgentTrustsOnlyItsControlPlane(t *testing.T) {
	stranger := pki.New(t)
	cases := map[string]func(w *world) tls.Certificate{
		"a control plane of another root":   func(*world) tls.Certificate { return stranger.ControlPlane(t, "osm", "v1").TLS() },
		"a workload of the mesh":            func(w *world) tls.Certificate { return w.authority.Workload(t, "shop", "web").TLS() },
		"the control plane of another mesh": func(w *world) tls.Certificate { return w.authority.ControlPlane(t, "other", "v1").TLS() },
		"one that an intermediate signed": func(w *world) tls.Certificate {
			return w.authority.ControlPlane(t, "osm", "v1", pki.By(w.authority.Intermediate)).TLS()
		},
		"one whose certificate has expired": func(w *world) tls.Certificate { return w.authority.ControlPlane(t, "osm", "v1", pki.Expired()).TLS() },
		"one that signed its certificate": func(w *world) tls.Certificate {
			return w.authority.ControlPlane(t, "osm", "v1", pki.SelfSigned()).TLS()
		},
		"one that may only be a TLS client": func(w *world) tls.Certificate {
			return w.authority.ControlPlane(t, "osm", "v1", pki.ClientOnly()).TLS()
		},
	}
	for name, certificate := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var shown atomic.Bool
			w.believe(func(string) (attest.Caller, error) {
				shown.Store(true)
				return attest.Caller{}, &attest.RefusedError{Message: "never"}
			})
			w.address = w.serve(t, certificate(w))
			p := w.start(t, t.TempDir(), w.authority.RootsPEM())
			eventually(t, "the roots are there", func() bool { _, err := os.Stat(p.files().Roots); return err == nil })
			eventually(t, "it has tried three times", func() bool { return w.accepted.Load() >= 3 })
			if shown.Load() {
				t.Error("the token was shown to it")
			}
		})
	}
}

func TestAgentNeedsRoots(t *testing.T) {
	w := newWorld(t)
	p := w.start(t, t.TempDir(), []byte("none"))
	select {
	case <-p.done:
		if p.err == nil {
			t.Error("it began without anything to verify a control plane with")
		}
	case <-within(t).Done():
		t.Fatal("it waits for ever")
	}
}
