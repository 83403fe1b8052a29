package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/identity"
)

const (
	meshName      = "osm"
	meshNamespace = "osm-system"
	revision      = "v1"
	serverName    = "osm-controller-v1.osm-system.svc"
	injectorName  = "osm-injector.osm-system.svc"
)

// trust makes the certificates that an operator and kubelets would have made: a root, an
// intermediate that the control plane signs with, and a certificate for each pod.
type trust struct {
	root, intermediate *builtin.Authority
	pool               *x509.CertPool
	// key is that of all proxies: each has a certificate of its own.
	key ca.PrivateKey
	// serving, issuer and roots are the folders that a control plane mounts.
	serving, issuer, roots string
}

func newTrust(ctx context.Context, dir string) (*trust, error) {
	now := time.Now()
	begin, end := now.Add(-time.Hour).Truncate(time.Second), now.Add(24*time.Hour).Truncate(time.Second)
	root, err := builtin.NewRoot(builtin.RootOptions{Name: "bench", KeyType: ca.ECDSAP256, NotBefore: begin, NotAfter: end})
	if err != nil {
		return nil, err
	}
	t := &trust{root: root, serving: filepath.Join(dir, "serving"), issuer: filepath.Join(dir, "issuer"), roots: filepath.Join(dir, "trust")}
	if t.intermediate, err = root.NewIntermediate(ctx, ca.ECDSAP256, ca.IntermediateRequest{Name: "bench issuer", NotBefore: begin, NotAfter: end}); err != nil {
		return nil, err
	}
	if t.key, err = ca.GenerateKey(ca.ECDSAP256); err != nil {
		return nil, err
	}
	chain, err := root.Issue(ctx, ca.Request{
		PublicKey: t.key.Public(), URI: identity.ControlPlane(identity.DefaultTrustDomain, meshName, revision),
		DNSNames: []string{serverName, injectorName}, Usage: ca.Server, NotBefore: begin, NotAfter: end,
	})
	if err != nil {
		return nil, err
	}
	t.pool = x509.NewCertPool()
	t.pool.AddCert(root.Certificate())
	err = t.write(chain)
	return t, err
}

func (t *trust) write(serving ca.Chain) error {
	key, err := t.key.PEM()
	if err != nil {
		return err
	}
	issuerKey, err := t.intermediate.KeyPEM()
	if err != nil {
		return err
	}
	for file, content := range map[string][]byte{
		filepath.Join(t.serving, "tls.crt"): serving.PEM(), filepath.Join(t.serving, "tls.key"): key,
		filepath.Join(t.issuer, "tls.crt"): t.intermediate.ChainPEM(), filepath.Join(t.issuer, "tls.key"): issuerKey,
		filepath.Join(t.roots, "ca.pem"): t.root.RootsPEM(),
	} {
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// workload makes the certificate of a pod.
func (t *trust) workload(ctx context.Context, p podRef) (tls.Certificate, error) {
	now := time.Now().Truncate(time.Second)
	id := identity.ID{TrustDomain: identity.DefaultTrustDomain, ServiceAccount: identity.ServiceAccount{Namespace: p.namespace, Name: p.account}}
	chain, err := t.intermediate.Issue(ctx, ca.Request{
		PublicKey: t.key.Public(), URI: id.URI(), PodUID: p.uid, Usage: ca.Both, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(20 * time.Hour),
	})
	if err != nil {
		return tls.Certificate{}, err
	}
	out := tls.Certificate{PrivateKey: t.key.Signer(), Leaf: chain.Leaf()}
	for _, c := range chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

// clientTLS is how a proxy connects.
func (t *trust) clientTLS(certificate tls.Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, RootCAs: t.pool, ServerName: serverName}
}
