package controllers_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/controllers/trust"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// newAuthority makes an authority as somebody would bring it.
func newAuthority(t *testing.T, options ...pki.Option) pki.Credentials {
	t.Helper()
	now := time.Now()
	return pki.New(t).Certificate(t, "", append([]pki.Option{
		pki.SelfSigned(), pki.AsAuthority(), pki.Lifetime(now.Add(-time.Hour), now.Add(2*365*24*time.Hour)),
		pki.Template(func(c *x509.Certificate) {
			c.Subject, c.MaxPathLen, c.MaxPathLenZero = pkix.Name{CommonName: "brought"}, -1, false
		}),
	}, options...)...)
}

func bringing(namespace, name string) func(*operatorv1alpha1.MeshSpec) {
	return func(s *operatorv1alpha1.MeshSpec) {
		s.CertificateAuthority = &operatorv1alpha1.CertificateAuthority{BuiltIn: &operatorv1alpha1.BuiltInAuthority{
			Secret: &operatorv1alpha1.AuthoritySecret{Namespace: namespace, Name: name},
		}}
	}
}

// trusts reports whether a mesh trusts one root and no other.
func trusts(ctx context.Context, c client.Client, root pki.Credentials) func() error {
	return func() error {
		var bundle corev1.ConfigMap
		if err := c.Get(ctx, client.ObjectKey{Namespace: "osm-system", Name: operatorv1alpha1.TrustBundleConfigMap}, &bundle); err != nil {
			return err
		}
		if got := bundle.Data[operatorv1alpha1.TrustBundleKey]; got != string(root.ChainPEM()) {
			return fmt.Errorf("the mesh trusts %s", got)
		}
		return nil
	}
}

// TestBroughtRootIsKept brings a root, and then spoils, changes and deletes its Secret, and
// restarts the operator: the mesh goes on with what it has, and says what is the matter.
func TestBroughtRootIsKept(t *testing.T) {
	ctx, c, config := serve(t)
	stop := run(ctx, t, config, c.Scheme(), noReports{})
	is := func(what, reason string) {
		t.Helper()
		eventually(ctx, t, what, condition(ctx, c, "osm", operatorv1alpha1.ConditionAuthorityReady, reason))
	}
	if err := c.Create(ctx, newMesh("osm", bringing("", "company"))); err != nil {
		t.Fatal(err)
	}
	is("nothing is made while nothing is brought", operatorv1alpha1.ReasonAuthorityUnreadable)
	eventually(ctx, t, "it shows where one looks first", condition(ctx, c, "osm", operatorv1alpha1.ConditionDegraded, operatorv1alpha1.ReasonAuthorityUnreadable))

	root := newAuthority(t)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "company"}, Data: map[string][]byte{
		"ca.crt": root.ChainPEM(), "private.key": newAuthority(t).KeyPEM(t), // as Open Service Mesh named them
	}}
	if err := c.Create(ctx, secret); err != nil {
		t.Fatal(err)
	}
	is("a key of another is refused", operatorv1alpha1.ReasonAuthorityInvalid)
	put := func(certificate, key []byte) {
		t.Helper()
		secret.Data = map[string][]byte{"ca.crt": certificate, "private.key": key}
		if err := c.Update(ctx, secret); err != nil {
			t.Fatal(err)
		}
	}
	put(root.ChainPEM(), root.KeyPEM(t))
	is("it is taken", operatorv1alpha1.ReasonAuthorityReady)
	eventually(ctx, t, "workloads trust it", trusts(ctx, c, root))

	put([]byte("no certificate"), root.KeyPEM(t))
	is("a spoilt Secret is told", operatorv1alpha1.ReasonAuthorityInvalid)
	other := newAuthority(t)
	put(other.ChainPEM(), other.KeyPEM(t))
	is("another root is told", operatorv1alpha1.ReasonRootChangeNotFollowed)
	eventually(ctx, t, "it shows where one looks first", condition(ctx, c, "osm", operatorv1alpha1.ConditionDegraded, operatorv1alpha1.ReasonRootChangeNotFollowed))
	stop()
	if err := c.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: trust.RootSecret("osm")}}); err != nil {
		t.Fatal(err)
	}
	stop = run(ctx, t, config, c.Scheme(), noReports{})
	is("nor is it followed where the copy is lost", operatorv1alpha1.ReasonRootChangeNotFollowed)
	if err := trusts(ctx, c, root)(); err != nil {
		t.Error(err)
	}
	put(root.ChainPEM(), root.KeyPEM(t))
	is("the copy comes back from what was brought", operatorv1alpha1.ReasonAuthorityReady)
	if err := c.Delete(ctx, secret); err != nil {
		t.Fatal(err)
	}
	stop()
	run(ctx, t, config, c.Scheme(), noReports{})
	is("what was brought may go", operatorv1alpha1.ReasonAuthorityReady)
	if err := trusts(ctx, c, root)(); err != nil {
		t.Error(err)
	}
}

// TestBroughtRootHasToSignForTheMesh refuses authorities that look good and could not sign
// what is needed, and Secrets that are none of the operator's affair.
func TestBroughtRootHasToSignForTheMesh(t *testing.T) {
	ctx, c := start(t)
	elsewhere := newAuthority(t, pki.Template(func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
	}))
	company := newAuthority(t)
	below := newAuthority(t, pki.By(company), pki.Template(func(c *x509.Certificate) { c.Subject.CommonName = "below" }))
	for name, data := range map[string]map[string][]byte{
		"elsewhere":    {corev1.TLSCertKey: elsewhere.ChainPEM(), corev1.TLSPrivateKeyKey: elsewhere.KeyPEM(t)},
		"incomplete":   {corev1.TLSCertKey: below.ChainPEM(), corev1.TLSPrivateKeyKey: below.KeyPEM(t)},
		"intermediate": {corev1.TLSCertKey: below.ChainPEM(), corev1.TLSPrivateKeyKey: below.KeyPEM(t), "ca.crt": company.ChainPEM()},
	} {
		if err := c.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: name}, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	mesh := newMesh("osm", bringing("kube-system", "elsewhere"))
	if err := c.Create(ctx, mesh); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "the namespace is refused", condition(ctx, c, "osm", operatorv1alpha1.ConditionAuthorityReady, operatorv1alpha1.ReasonAuthorityUnreadable))
	name := func(name string) {
		t.Helper()
		eventually(ctx, t, "the Mesh is changed", func() error {
			if err := c.Get(ctx, client.ObjectKeyFromObject(mesh), mesh); err != nil {
				return err
			}
			bringing("", name)(&mesh.Spec)
			return c.Update(ctx, mesh)
		})
	}
	for _, bad := range []string{"elsewhere", "incomplete"} {
		name(bad)
		eventually(ctx, t, bad+" is refused", condition(ctx, c, "osm", operatorv1alpha1.ConditionAuthorityReady, operatorv1alpha1.ReasonAuthorityInvalid))
	}
	name("intermediate")
	eventually(ctx, t, "an intermediate is taken", condition(ctx, c, "osm", operatorv1alpha1.ConditionAuthorityReady, operatorv1alpha1.ReasonAuthorityReady))
	eventually(ctx, t, "workloads trust it", trusts(ctx, c, below))
}

// TestExamplesOfAuthoritiesAreTaken has the API server read what docs/certificates.md shows.
func TestExamplesOfAuthoritiesAreTaken(t *testing.T) {
	ctx, c, _ := serve(t)
	files, err := filepath.Glob("../docs/examples/authority-*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var m operatorv1alpha1.Mesh
		if err := yaml.UnmarshalStrict(raw, &m); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := c.Create(ctx, &m, client.DryRunAll); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
