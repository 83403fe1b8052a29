package controlplane

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/issue"
	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

// Where the operator's Secrets and the roots are mounted.
const (
	// ServingDir holds the certificate that the control plane serves with.
	ServingDir = "/var/run/osm/serving"
	// IssuerDir holds the certificate that it signs with.
	IssuerDir = "/var/run/osm/issuer"
	// TrustDir holds the roots.
	TrustDir = "/var/run/osm/trust"

	certificateFile = "tls.crt"
	keyFile         = "tls.key"
	rootsFile       = "ca.pem"
)

// reread is how often mounted files are looked at.
const reread = 2 * time.Second

// Files are what a control plane reads from mounted volumes, always the newest. They
// are safe for concurrent use.
type Files struct {
	// Serving, Issuer and Trust are folders.
	Serving, Issuer, Trust string
	TrustDomain            identity.TrustDomain
	// Lifetime returns the lifetime of workloads' certificates.
	Lifetime func() time.Duration
	// RootsChanged is told of new roots, as PEM.
	RootsChanged func(ctx context.Context, bundle []byte)
	// IssuerChanged is told when another certificate signs, or signs for longer or less.
	IssuerChanged func()

	mu sync.RWMutex
	// Protected by mu; all are replaced as a whole, never changed.
	serving  *tls.Certificate
	issuer   *issue.Issuer
	roots    *x509.CertPool
	lifetime time.Duration
	raw      map[string][]byte // by who read it, and the name of the file
	rootsPEM []byte
	// issuerName tells what signs from what signed before, alike on all replicas.
	issuerName string
}

// Load reads all files. What cannot be read leaves what was there.
func (f *Files) Load(ctx context.Context) error {
	return errors.Join(f.loadServing(), f.loadIssuer(), f.loadRoots(ctx))
}

// Run looks at the files until ctx is done.
func (f *Files) Run(ctx context.Context) error {
	log := logf.FromContext(ctx)
	told := ""
	for {
		err := f.Load(ctx)
		switch {
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			log.Error(err, "Keeping the certificates as they were")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reread):
		}
	}
}

// Ready says what is missing.
func (f *Files) Ready() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	switch {
	case f.serving == nil:
		return errors.New("there is no certificate to serve with yet")
	case f.roots == nil:
		return errors.New("there are no roots yet")
	case f.issuer == nil:
		return errors.New("there is no certificate to sign with yet")
	}
	return nil
}

// CurrentIssuer returns what signs now, or nil.
func (f *Files) CurrentIssuer() *issue.Issuer {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.issuer
}

// State returns what all workloads are to follow: the newest roots as PEM, and a name
// that changes with what signs.
func (f *Files) State() (rootsPEM []byte, issuer string) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.rootsPEM, f.issuerName
}

// Roots returns the newest roots as PEM; empty before there are any.
func (f *Files) Roots() string {
	roots, _ := f.State()
	return string(roots)
}

// ServerTLS returns how the control plane serves: with the newest certificate, and if
// mutual to clients with a certificate of the newest roots only.
func (f *Files) ServerTLS(mutual bool, protocols ...string) *tls.Config {
	base := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protocols, SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.certificate() },
	}
	if !mutual {
		return base
	}
	base.ClientAuth = tls.RequireAndVerifyClientCert
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		f.mu.RLock()
		roots := f.roots
		f.mu.RUnlock()
		if roots == nil {
			return nil, errors.New("there are no roots yet")
		}
		config := base.Clone()
		config.GetConfigForClient = nil
		config.ClientCAs = roots
		return config, nil
	}
	return base
}

// PeerTLS returns how a replica speaks to another one, which must be who is wanted.
func (f *Files) PeerTLS(want string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.certificate() },
		// Replicas are dialled by address, and known by their identity.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies the chain and the identity
		VerifyConnection: func(state tls.ConnectionState) error {
			f.mu.RLock()
			roots := f.roots
			f.mu.RUnlock()
			if roots == nil {
				return errors.New("there are no roots yet")
			}
			return identity.VerifyControlPlane(state.PeerCertificates, roots, want, time.Now())
		},
	}
}

func (f *Files) certificate() (*tls.Certificate, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.serving == nil {
		return nil, errors.New("there is no certificate to serve with yet")
	}
	return f.serving, nil
}

// changed reads files and reports whether any differs from what the same reader read
// before. It remembers only when the caller says so, by calling remember.
func (f *Files) changed(reader string, names ...string) (contents [][]byte, remember func(), changed bool, err error) {
	for _, name := range names {
		raw, err := os.ReadFile(name) //nolint:gosec // a mounted file
		if err != nil {
			return nil, nil, false, fmt.Errorf("reading %s: %w", name, err)
		}
		contents = append(contents, raw)
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	for i, name := range names {
		changed = changed || !bytes.Equal(f.raw[reader+" "+name], contents[i])
	}
	return contents, func() {
		if f.raw == nil {
			f.raw = map[string][]byte{}
		}
		for i, name := range names {
			f.raw[reader+" "+name] = contents[i]
		}
	}, changed, nil
}

func (f *Files) loadServing() error {
	raw, remember, changed, err := f.changed("serving", filepath.Join(f.Serving, certificateFile), filepath.Join(f.Serving, keyFile))
	if err != nil || !changed {
		return err
	}
	pair, err := tls.X509KeyPair(raw[0], raw[1])
	if err != nil {
		return errors.New("the serving certificate and its key do not fit") // the cause could quote the key
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serving = &pair
	remember()
	return nil
}

// loadIssuer takes what signs only where the roots vouch for it: nobody would accept
// what it signs otherwise.
func (f *Files) loadIssuer() error {
	raw, remember, changed, err := f.changed("issuer", filepath.Join(f.Issuer, certificateFile), filepath.Join(f.Issuer, keyFile), filepath.Join(f.Trust, rootsFile))
	lifetime := f.Lifetime()
	f.mu.RLock()
	same := f.lifetime == lifetime
	f.mu.RUnlock()
	if err != nil || !changed && same {
		return err
	}
	authority, err := builtin.Load(raw[0], raw[1], raw[2])
	if err != nil {
		return fmt.Errorf("loading the issuing certificate: %w", err)
	}
	issuer, err := issue.New(issue.Options{Authority: authority, TrustDomain: f.TrustDomain, Lifetime: lifetime})
	if err != nil {
		return fmt.Errorf("loading the issuing certificate: %w", err)
	}
	sum := sha256.Sum256(append([]byte(lifetime.String()), raw[0]...))
	f.mu.Lock()
	f.issuer, f.lifetime, f.issuerName = issuer, lifetime, hex.EncodeToString(sum[:8])
	remember()
	f.mu.Unlock()
	if f.IssuerChanged != nil {
		f.IssuerChanged()
	}
	return nil
}

func (f *Files) loadRoots(ctx context.Context) error {
	raw, remember, changed, err := f.changed("roots", filepath.Join(f.Trust, rootsFile))
	if err != nil || !changed {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(raw[0]) {
		return errors.New("there is no certificate among the roots")
	}
	f.mu.Lock()
	f.roots, f.rootsPEM = roots, raw[0]
	remember()
	f.mu.Unlock()
	if f.RootsChanged != nil {
		f.RootsChanged(ctx, raw[0])
	}
	return nil
}

// WebhookTLS are the options of a webhook server that serves with the newest certificate.
func (f *Files) WebhookTLS() []func(*tls.Config) {
	return []func(*tls.Config){func(c *tls.Config) {
		c.MinVersion = tls.VersionTLS13
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.certificate() }
	}}
}

// Credentials are what the xDS server shows and believes.
func (f *Files) Credentials() (serve.Credentials, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.serving == nil || f.roots == nil {
		return serve.Credentials{}, errors.New("there is no certificate to serve with yet, or no roots")
	}
	return serve.Credentials{Certificate: *f.serving, Roots: f.roots}, nil
}
