package controllers_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/controllers/trust"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/release"
)

const gatewayName = "gate.ingress.cluster.local"

// gatewayMesh is a Mesh whose MeshConfig can ask for the certificate of a gateway.
type gatewayMesh struct {
	client.Client
	t *testing.T
}

// newGatewayMesh runs the operator with a Mesh, and namespaces ingress and other.
func newGatewayMesh(t *testing.T) (context.Context, gatewayMesh) {
	t.Helper()
	ctx, c := start(t)
	for _, name := range []string{"ingress", "other"} {
		if err := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Create(ctx, newMesh("osm", nil)); err != nil {
		t.Fatal(err)
	}
	return ctx, gatewayMesh{Client: c, t: t}
}

// ask has the MeshConfig ask for a certificate in a Secret; for none without a name.
func (m gatewayMesh) ask(ctx context.Context, namespace, name string) {
	m.t.Helper()
	eventually(ctx, m.t, "the MeshConfig is written", func() error {
		var config configv1alpha2.MeshConfig
		if err := m.Get(ctx, client.ObjectKey{Namespace: "osm-system", Name: operatorv1alpha1.MeshConfigName}, &config); err != nil {
			return err
		}
		config.Spec.Certificate = nil
		if name != "" {
			config.Spec.Certificate = &configv1alpha2.CertificateSpec{IngressGateway: &configv1alpha2.IngressGatewayCertSpec{
				SubjectAltNames: []string{gatewayName}, ValidityDuration: "24h", Secret: corev1.SecretReference{Namespace: namespace, Name: name},
			}}
		}
		return m.Update(ctx, &config)
	})
}

// is waits for a reason of the condition of the gateway's certificate.
func (m gatewayMesh) is(ctx context.Context, what, reason string) {
	m.t.Helper()
	eventually(ctx, m.t, what, condition(ctx, m, "osm", operatorv1alpha1.ConditionGatewayReady, reason))
}

// root is the root of the Mesh.
func (m gatewayMesh) root(ctx context.Context) (*builtin.Authority, error) {
	var secret corev1.Secret
	if err := m.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: trust.RootSecret("osm")}, &secret); err != nil {
		return nil, err
	}
	return builtin.Load(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey], nil)
}

// holds says why a Secret does not hold a certificate that sidecars take of the gateway.
func (m gatewayMesh) holds(ctx context.Context, namespace, name string, secret *corev1.Secret) error {
	if err := m.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, secret); err != nil {
		return err
	}
	root, err := m.root(ctx)
	if err != nil {
		return err
	}
	chain, err := ca.ParseChain(secret.Data[corev1.TLSCertKey])
	if err != nil {
		return err
	}
	key, err := ca.ParsePrivateKey(secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return err
	}
	leaf, roots := chain.Leaf(), x509.NewCertPool()
	roots.AppendCertsFromPEM(secret.Data["ca.crt"])
	_, verifyErr := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, DNSName: gatewayName})
	_, serverErr := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	left := time.Until(leaf.NotAfter)
	switch {
	case verifyErr != nil:
		return verifyErr
	case serverErr == nil:
		return errors.New("it is good for a server, too")
	case !key.Matches(leaf.PublicKey):
		return errors.New("the key is another's")
	case secret.Type != corev1.SecretTypeTLS:
		return fmt.Errorf("the Secret is of type %s", secret.Type)
	case !bytes.Equal(secret.Data["ca.crt"], root.RootsPEM()):
		return errors.New("ca.crt is not what the mesh trusts")
	case len(leaf.URIs) != 1 || leaf.URIs[0].String() != "spiffe://cluster.local/mesh/osm/ingress-gateway":
		return fmt.Errorf("it is for %v", leaf.URIs)
	case left > 24*time.Hour || left < 16*time.Hour:
		return fmt.Errorf("%s are left", left)
	}
	return nil
}

// gone says why a Secret, and the operator's right to it, are still there.
func (m gatewayMesh) gone(ctx context.Context, namespace, name string, binding bool) error {
	err := m.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &corev1.Secret{})
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("Secret %s: %w", name, err)
	}
	err = m.Get(ctx, client.ObjectKey{Namespace: namespace, Name: render.GatewayBinding("osm")}, &rbacv1.RoleBinding{})
	if binding && !apierrors.IsNotFound(err) {
		return fmt.Errorf("RoleBinding: %w", err)
	}
	return nil
}

// TestGatewayCertificateIsKept spoils, ages and deletes the Secret of a gateway, and has
// the Mesh get another root.
func TestGatewayCertificateIsKept(t *testing.T) {
	ctx, m := newGatewayMesh(t)
	m.ask(ctx, "ingress", "gate")
	m.is(ctx, "it is made", operatorv1alpha1.ReasonGatewayCertificateReady)
	var secret corev1.Secret
	if err := m.holds(ctx, "ingress", "gate", &secret); err != nil {
		t.Fatal(err)
	}
	var binding rbacv1.RoleBinding
	if err := m.Get(ctx, client.ObjectKey{Namespace: "ingress", Name: render.GatewayBinding("osm")}, &binding); err != nil {
		t.Fatal(err)
	}
	if binding.RoleRef.Name != render.GatewayRole || len(binding.Subjects) != 1 || binding.Subjects[0].Namespace != operatorNamespace {
		t.Errorf("the RoleBinding is %+v", binding)
	}
	again := func(what string) {
		t.Helper()
		before := secret.Data[corev1.TLSCertKey]
		eventually(ctx, t, what, func() error {
			if err := m.holds(ctx, "ingress", "gate", &secret); err != nil {
				return err
			}
			if bytes.Equal(secret.Data[corev1.TLSCertKey], before) {
				return errors.New("still the same")
			}
			return nil
		})
	}
	t.Run("deleted", func(t *testing.T) {
		if err := m.Delete(ctx, &secret); err != nil {
			t.Fatal(err)
		}
		again("it is made again")
	})
	t.Run("a third is over", func(t *testing.T) {
		root, err := m.root(ctx)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ca.GenerateKey(ca.ECDSAP256)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now().Add(-9 * time.Hour).Truncate(time.Second)
		chain, err := root.Issue(ctx, ca.Request{
			PublicKey: key.Public(), URI: "spiffe://cluster.local/mesh/osm/ingress-gateway", DNSNames: []string{gatewayName}, Usage: ca.Client,
			NotBefore: begin.Add(-5 * time.Minute), NotAfter: begin.Add(24 * time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		keyPEM, err := key.PEM()
		if err != nil {
			t.Fatal(err)
		}
		secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey] = chain.PEM(), keyPEM
		if err := m.Update(ctx, &secret); err != nil {
			t.Fatal(err)
		}
		again("it is renewed")
	})
	t.Run("another root", func(t *testing.T) {
		if err := m.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: trust.RootSecret("osm")}}); err != nil {
			t.Fatal(err)
		}
		again("it is of the new root")
	})
	t.Run("no right any more", func(t *testing.T) {
		if err := m.Delete(ctx, &binding); err != nil {
			t.Fatal(err)
		}
		eventually(ctx, t, "the right is back", func() error {
			return m.Get(ctx, client.ObjectKeyFromObject(&binding), &rbacv1.RoleBinding{})
		})
	})
}

// TestGatewayCertificateGoesWithItsField moves the Secret of a gateway about.
func TestGatewayCertificateGoesWithItsField(t *testing.T) {
	ctx, m := newGatewayMesh(t)
	var secret corev1.Secret
	there := func(namespace, name string) {
		t.Helper()
		m.ask(ctx, namespace, name)
		eventually(ctx, t, "it is in "+namespace+"/"+name, func() error { return m.holds(ctx, namespace, name, &secret) })
	}
	there("ingress", "gate")
	there("ingress", "door")
	eventually(ctx, t, "the old Secret goes", func() error { return m.gone(ctx, "ingress", "gate", false) })
	there("other", "door")
	eventually(ctx, t, "all that was there goes", func() error { return m.gone(ctx, "ingress", "door", true) })
	there("osm-system", "door")
	eventually(ctx, t, "all that was there goes", func() error { return m.gone(ctx, "other", "door", true) })
	m.ask(ctx, "", "")
	eventually(ctx, t, "all goes", func() error { return m.gone(ctx, "osm-system", "door", true) })
	eventually(ctx, t, "nothing is told of it", func() error {
		var mesh operatorv1alpha1.Mesh
		if err := m.Get(ctx, client.ObjectKey{Name: "osm"}, &mesh); err != nil {
			return err
		}
		if c := meta.FindStatusCondition(mesh.Status.Conditions, operatorv1alpha1.ConditionGatewayReady); c != nil {
			return fmt.Errorf("the condition is %+v", c)
		}
		return nil
	})
}

// TestGatewayCertificateTakesNothingOfOthers names Secrets that are somebody else's, and the
// mesh's own.
func TestGatewayCertificateTakesNothingOfOthers(t *testing.T) {
	ctx, m := newGatewayMesh(t)
	secretOf := func(namespace, name string) *corev1.Secret {
		t.Helper()
		var out corev1.Secret
		eventually(ctx, t, "Secret "+name+" is there", func() error { return m.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &out) })
		return &out
	}
	if err := m.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ingress", Name: "gate"}, StringData: map[string]string{"tls.key": "a secret"}}); err != nil {
		t.Fatal(err)
	}
	issuer := render.IssuerSecret(release.RevisionName(release.Current))
	for _, tc := range []struct{ namespace, name, reason string }{
		{"ingress", "gate", operatorv1alpha1.ReasonForeignObject},
		{operatorNamespace, trust.RootSecret("osm"), operatorv1alpha1.ReasonGatewayCertificateInvalid},
		{"osm-system", issuer, operatorv1alpha1.ReasonForeignObject},
		{"nowhere", "gate", operatorv1alpha1.ReasonGatewaySecretUnwritable},
		{"ingress", "not a name", operatorv1alpha1.ReasonGatewayCertificateInvalid},
	} {
		var before *corev1.Secret
		there := tc.namespace != "nowhere" && tc.name != "not a name"
		if there {
			before = secretOf(tc.namespace, tc.name)
		}
		m.ask(ctx, tc.namespace, tc.name)
		m.is(ctx, tc.namespace+"/"+tc.name+" is told", tc.reason)
		if there && secretOf(tc.namespace, tc.name).ResourceVersion != before.ResourceVersion {
			t.Errorf("%s/%s was written", tc.namespace, tc.name)
		}
	}
	eventually(ctx, t, "it shows where one looks first", condition(ctx, m, "osm", operatorv1alpha1.ConditionDegraded, operatorv1alpha1.ReasonGatewayCertificateInvalid))
	m.ask(ctx, "ingress", "gate")
	m.is(ctx, "it is told again", operatorv1alpha1.ReasonForeignObject)
	if err := m.Delete(ctx, secretOf("ingress", "gate")); err != nil {
		t.Fatal(err)
	}
	m.is(ctx, "the way is free", operatorv1alpha1.ReasonGatewayCertificateReady)
	m.ask(ctx, "", "")
	eventually(ctx, t, "all goes", func() error { return m.gone(ctx, "ingress", "gate", true) })
	secretOf("osm-system", issuer)
}

// TestExampleOfAGatewayIsTaken has the API server read what docs/certificates.md shows.
func TestExampleOfAGatewayIsTaken(t *testing.T) {
	ctx, c, _ := serve(t)
	raw, err := os.ReadFile("../docs/examples/ingress-gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(raw), "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &o.Object); err != nil {
			t.Fatal(err)
		}
		if err := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.GetNamespace()}}); err != nil {
			t.Fatal(err)
		}
		if err := c.Create(ctx, o); err != nil {
			t.Error(err)
		}
	}
}
