package controlplane_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/controlplane"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// mounted is a control plane's volumes.
type mounted struct {
	*controlplane.Files
	roots    [][]byte
	lifetime time.Duration
}

func mount(t *testing.T) *mounted {
	t.Helper()
	m := &mounted{lifetime: 48 * time.Hour}
	m.Files = &controlplane.Files{
		Serving: t.TempDir(), Issuer: t.TempDir(), Trust: t.TempDir(), TrustDomain: identity.DefaultTrustDomain,
		Lifetime:     func() time.Duration { return m.lifetime },
		RootsChanged: func(_ context.Context, bundle []byte) { m.roots = append(m.roots, bundle) },
	}
	return m
}

func (m *mounted) write(t *testing.T, dir, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// from puts in place what an authority gives a control plane.
func (m *mounted) from(t *testing.T, a *pki.Authority) {
	t.Helper()
	serving := a.ControlPlane(t, "osm", "v1", pki.DNSNames("osm"))
	m.write(t, m.Serving, "tls.crt", serving.ChainPEM())
	m.write(t, m.Serving, "tls.key", serving.KeyPEM(t))
	m.write(t, m.Issuer, "tls.crt", a.Intermediate.ChainPEM())
	m.write(t, m.Issuer, "tls.key", a.Intermediate.KeyPEM(t))
	m.write(t, m.Trust, "ca.pem", a.RootsPEM())
}

func TestFilesAreReadAgain(t *testing.T) {
	ctx, m := t.Context(), mount(t)
	if err := errors.Join(m.Load(ctx), m.Ready()); err == nil {
		t.Fatal("empty folders are enough")
	}
	if _, err := m.Credentials(); err == nil || m.CurrentIssuer() != nil {
		t.Error("there are credentials, or an issuer, of nothing")
	}
	first, second := pki.New(t), pki.New(t)
	m.from(t, first)
	if err := errors.Join(m.Load(ctx), m.Ready()); err != nil {
		t.Fatal(err)
	}
	issuer := m.CurrentIssuer()
	if err := m.Load(ctx); err != nil || m.CurrentIssuer() != issuer || len(m.roots) != 1 {
		t.Error("the same files were taken for others")
	}
	m.lifetime = time.Hour
	if err := m.Load(ctx); err != nil || m.CurrentIssuer() == issuer {
		t.Error("another lifetime is not followed")
	}

	m.write(t, m.Serving, "tls.crt", []byte("broken"))
	m.write(t, m.Issuer, "tls.key", second.Intermediate.KeyPEM(t))
	m.write(t, m.Trust, "ca.pem", nil)
	issuer = m.CurrentIssuer()
	err := m.Load(ctx)
	if err == nil || m.Ready() != nil || m.CurrentIssuer() != issuer || len(m.roots) != 1 {
		t.Errorf("broken files took the place of good ones: %v", err)
	}
	if strings.Contains(err.Error(), "PRIVATE") || strings.Contains(err.Error(), "MII") {
		t.Errorf("the error quotes a key: %v", err)
	}

	m.from(t, second)
	if err := m.Load(ctx); err != nil {
		t.Fatal(err)
	}
	if len(m.roots) != 2 || !bytes.Equal(m.roots[1], second.RootsPEM()) || m.CurrentIssuer() == issuer {
		t.Error("new files are not followed")
	}
	handshake(t, m, second, second.Operator(t, "osm"), true)
	handshake(t, m, second, first.Operator(t, "osm"), false)
	handshake(t, m, second, pki.Credentials{}, false)
}

// TestWhatSignsIsVouchedForByTheRoots gives a control plane an issuer of other roots than
// those that proxies verify with: what it signs would be worth nothing.
func TestWhatSignsIsVouchedForByTheRoots(t *testing.T) {
	ctx, m := t.Context(), mount(t)
	first, second := pki.New(t), pki.New(t)
	m.from(t, first)
	if err := m.Load(ctx); err != nil {
		t.Fatal(err)
	}
	issuer := m.CurrentIssuer()
	m.write(t, m.Issuer, "tls.crt", second.Intermediate.ChainPEM())
	m.write(t, m.Issuer, "tls.key", second.Intermediate.KeyPEM(t))
	if err := m.Load(ctx); err == nil || m.CurrentIssuer() != issuer {
		t.Errorf("an issuer that no root vouches for is taken: %v", err)
	}
	m.write(t, m.Trust, "ca.pem", append(first.RootsPEM(), second.RootsPEM()...))
	if err := m.Load(ctx); err != nil || m.CurrentIssuer() == issuer {
		t.Errorf("an issuer whose root came is not taken: %v", err)
	}
	if len(m.roots) != 2 {
		t.Errorf("the roots were told %d times, want twice", len(m.roots))
	}
}

// handshake connects to what serves with these files, as a client with a certificate.
func handshake(t *testing.T, m *mounted, server *pki.Authority, client pki.Credentials, want bool) {
	t.Helper()
	plain, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := tls.NewListener(plain, m.ServerTLS(true, "h2"))
	defer listener.Close()
	accepted := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			accepted <- err
			return
		}
		defer conn.Close()
		secured, ok := conn.(*tls.Conn)
		if !ok {
			accepted <- net.ErrClosed
			return
		}
		accepted <- secured.HandshakeContext(t.Context())
	}()
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: server.Pool(), ServerName: "osm", NextProtos: []string{"h2"}}
	if client.Key != nil {
		config.Certificates = []tls.Certificate{client.TLS()}
	}
	dialer := &tls.Dialer{Config: config}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if conn, err := dialer.DialContext(ctx, "tcp", listener.Addr().String()); err == nil {
		defer conn.Close()
	}
	if err := <-accepted; (err == nil) != want {
		t.Errorf("the handshake ended with %v, want success: %t", err, want)
	}
}
