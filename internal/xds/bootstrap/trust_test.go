package bootstrap_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
	"github.com/openservicemesh/osm-operator/internal/xds/bootstrap"
)

// TestEnvoySpeaksToItsControlPlaneOnly has servers of all kinds answer a real Envoy that
// asks for its configuration.
func TestEnvoySpeaksToItsControlPlaneOnly(t *testing.T) {
	envoy := os.Getenv("OSM_TEST_ENVOY")
	if envoy == "" {
		t.Skip("OSM_TEST_ENVOY does not name an Envoy")
	}
	mesh, other := pki.New(t), pki.New(t)
	root, thief := confined(t)
	named := func(revision string) pki.Option { return pki.DNSNames(controlPlaneName(revision)) }
	for name, tc := range map[string]struct {
		server pki.Credentials
		wantOK bool
	}{
		"its control plane":                          {mesh.ControlPlane(t, "osm", "v1", pki.By(root), named("v1")), true},
		"the control plane of another revision":      {mesh.ControlPlane(t, "osm", "v2", pki.By(root), named("v2")), false},
		"the control plane of another authority":     {other.ControlPlane(t, "osm", "v1", named("v1")), false},
		"whoever has what signs for workloads":       {mesh.ControlPlane(t, "osm", "v1", pki.By(thief), named("v1")), false},
		"that one, under a name that it may sign":    {mesh.ControlPlane(t, "osm", "v1", pki.By(thief), pki.DNSNames(controlPlaneName("v1")+".cluster.local")), false},
		"that one, without a name":                   {mesh.ControlPlane(t, "osm", "v1", pki.By(thief)), false},
		"one whose certificate has ended":            {mesh.ControlPlane(t, "osm", "v1", pki.By(root), named("v1"), pki.Expired()), false},
		"a workload":                                 {mesh.Workload(t, "shop", "web", pki.By(thief)), false},
		"a workload that a root has signed for":      {mesh.Workload(t, "shop", "web", pki.By(root)), false},
		"one whose certificate is for clients alone": {mesh.ControlPlane(t, "osm", "v1", pki.By(root), named("v1"), pki.ClientOnly()), false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := visit(ctx, t, envoy, root, tc.server); (err == nil) != tc.wantOK {
				t.Errorf("the handshake: %v; want it to succeed: %t", err, tc.wantOK)
			}
		})
	}
}

func controlPlaneName(revision string) string {
	return "osm-controller-" + revision + ".osm-system.svc"
}

// confined returns a root, and what it has certified to sign for workloads: as whoever
// has stolen the key of that would use it.
func confined(t *testing.T) (root, intermediate pki.Credentials) {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	made, err := builtin.NewRoot(builtin.RootOptions{Name: "root", KeyType: ca.ECDSAP256, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	below, err := made.NewIntermediate(t.Context(), ca.ECDSAP256, ca.IntermediateRequest{
		Name: "issuer", TrustDomain: identity.DefaultTrustDomain, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	return stolen(t, made), stolen(t, below)
}

// stolen are the credentials of an authority, which signs anything with them.
func stolen(t *testing.T, a *builtin.Authority) pki.Credentials {
	t.Helper()
	raw, err := a.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.ParsePrivateKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return pki.Credentials{Chain: []*x509.Certificate{a.Certificate()}, Key: key.Signer()}
}

// visit starts Envoy with a server as its control plane, and returns what came of the
// first handshake.
func visit(ctx context.Context, t *testing.T, envoy string, root, server pki.Credentials) error {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	met := make(chan error, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			met <- err
			return
		}
		defer raw.Close()
		conn := tls.Server(raw, &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{server.TLS()}, NextProtos: []string{"h2"},
			ClientAuth: tls.RequireAnyClientCert,
		})
		met <- conn.HandshakeContext(ctx)
	}()
	c := config()
	c.ControlPlaneHost, c.ControlPlaneName = "127.0.0.1", controlPlaneName("v1")
	c.ControlPlanePort = uint16(listener.Addr().(*net.TCPAddr).Port)
	dir := t.TempDir()
	write(t, dir, bootstrap.CertificateFile, bootstrap.CertificateDocument)
	write(t, dir, bootstrap.ValidationFile, bootstrap.ValidationDocument)
	write(t, dir, bootstrap.BootstrapFile, func() ([]byte, error) {
		content, err := bootstrap.Build(c)
		return []byte(strings.NewReplacer(
			fmt.Sprintf(`"port_value":%d}`, bootstrap.AdminPort), fmt.Sprintf(`"port_value":%d}`, freePort(t)),
			fmt.Sprintf(`"port_value":%d}`, bootstrap.ReadyPort), fmt.Sprintf(`"port_value":%d}`, freePort(t)),
		).Replace(string(content))), err
	})
	for file, content := range map[string][]byte{
		bootstrap.CredentialsFile: pki.New(t).Workload(t, "shop", "web").BundlePEM(t), bootstrap.TrustFile: root.ChainPEM(),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	launch(ctx, t, envoy, dir)
	select {
	case err := <-met:
		return err
	case <-ctx.Done():
		t.Fatal("Envoy does not come")
		return nil
	}
}
