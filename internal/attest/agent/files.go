package agent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

// Files are where a sidecar reads its identity. Each is replaced as a whole, by
// renaming, which is what Envoy looks out for.
type Files struct {
	// Credentials gets the key and then the chain, Roots the roots, all as PEM.
	Credentials, Roots string
}

// Complete reports whether the sidecar finds all that it starts with.
func (f Files) Complete() bool {
	for _, name := range []string{f.Credentials, f.Roots} {
		if s, err := os.Stat(name); err != nil || s.Size() == 0 {
			return false
		}
	}
	return true
}

// newRequest returns a new key, as PEM, and a PKCS#10 request that proves that it is held.
func newRequest() (keyPEM, csr []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, errors.New("encoding a key") // the cause could quote it
	}
	csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("making a certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), csr, nil
}

// writeCredentials writes a key and its chain, if they fit, and returns the certificate.
func (f Files) writeCredentials(keyPEM, chainPEM []byte) (*x509.Certificate, error) {
	pair, err := tls.X509KeyPair(chainPEM, keyPEM)
	if err != nil {
		return nil, errors.New("the control plane's answer is no certificate for the key that was sent") // the cause could quote the key
	}
	return pair.Leaf, replace(f.Credentials, bytes.Join([][]byte{keyPEM, chainPEM}, nil), 0o600)
}

func (f Files) writeRoots(rootsPEM []byte) error { return replace(f.Roots, rootsPEM, 0o644) }

// replace writes a file so that nobody ever reads half of it.
func replace(name string, contents []byte, mode os.FileMode) error {
	next, err := os.CreateTemp(filepath.Dir(name), ".next-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = next.Write(contents)
	err = errors.Join(err, next.Chmod(mode), next.Close())
	if err == nil {
		err = os.Rename(next.Name(), name)
	}
	if err != nil {
		_ = os.Remove(next.Name())
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

func uriOf(c *x509.Certificate) string {
	if len(c.URIs) != 1 {
		return ""
	}
	return c.URIs[0].String()
}

// roots are what control planes are verified with, always the newest.
type roots struct {
	mu sync.Mutex
	// Protected by mu.
	pem  []byte
	pool *x509.CertPool
}

// newRoots returns the roots that an earlier run of this container has left, or else
// the first ones, and sees to it that they are in the file.
func newRoots(o Options) (*roots, error) {
	r := &roots{}
	if left, err := os.ReadFile(o.Files.Roots); err == nil {
		if _, err := r.set(left); err == nil {
			return r, nil
		}
	}
	if _, err := r.set(o.FirstRoots); err != nil {
		return nil, err
	}
	return r, o.Files.writeRoots(o.FirstRoots)
}

// set takes roots and reports whether they are others than before.
func (r *roots) set(rootsPEM []byte) (changed bool, err error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(rootsPEM) {
		return false, errNoRoots
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes.Equal(r.pem, rootsPEM) {
		return false, nil
	}
	r.pem, r.pool = rootsPEM, pool
	return true, nil
}

func (r *roots) current() *x509.CertPool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pool
}

// credentials verify a server by the newest roots and its SPIFFE ID.
func (r *roots) credentials(serverID string) credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		// The control plane is known by its identity, whatever name it is reached by.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies the chain and the identity
		VerifyConnection: func(state tls.ConnectionState) error {
			return identity.VerifyControlPlane(state.PeerCertificates, r.current(), serverID, time.Now())
		},
	})
}

// token is shown with each call, as it is in its file by then.
type token struct {
	file string
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	raw, err := os.ReadFile(t.file)
	if err != nil {
		return nil, fmt.Errorf("reading the pod's token: %w", err)
	}
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(string(raw))}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (token) RequireTransportSecurity() bool { return true }
