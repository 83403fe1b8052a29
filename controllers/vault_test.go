package controllers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/controllers/trust"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/release"
	testvault "github.com/openservicemesh/osm-operator/internal/testkit/vault"
)

// byVault has a mesh hang on a Vault, with a login.
func byVault(t *testing.T, server *testvault.Server, login func(*operatorv1alpha1.VaultAuthority)) func(*operatorv1alpha1.MeshSpec) {
	t.Helper()
	address, err := url.Parse(server.Address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseInt(address.Port(), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return func(s *operatorv1alpha1.MeshSpec) {
		v := &operatorv1alpha1.VaultAuthority{Host: address.Hostname(), Port: int32(port), Protocol: "http"}
		login(v)
		s.CertificateAuthority = &operatorv1alpha1.CertificateAuthority{Vault: v}
	}
}

// says wants a reason and words of the condition of the authority.
func says(ctx context.Context, c client.Client, reason string, words ...string) func() error {
	return func() error {
		var m operatorv1alpha1.Mesh
		if err := c.Get(ctx, client.ObjectKey{Name: "osm"}, &m); err != nil {
			return err
		}
		got := meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionAuthorityReady)
		if got == nil || got.Reason != reason || got.ObservedGeneration != m.Generation {
			return fmt.Errorf("the condition is %+v, want reason %s", got, reason)
		}
		for _, word := range words {
			if !strings.Contains(got.Message, word) {
				return fmt.Errorf("the condition says %q, and nothing of %q", got.Message, word)
			}
		}
		return nil
	}
}

// issuer returns what signs for workloads.
func issuer(ctx context.Context, c client.Client) (*corev1.Secret, ca.Chain, error) {
	var secret corev1.Secret
	key := client.ObjectKey{Namespace: "osm-system", Name: render.IssuerSecret(release.RevisionName(release.Current))}
	if err := c.Get(ctx, key, &secret); err != nil {
		return nil, nil, err
	}
	chain, err := ca.ParseChain(secret.Data[corev1.TLSCertKey])
	return &secret, chain, err
}

// TestMeshHangsOnVault has a real Vault sign for a mesh; seals it, takes its token away and
// moves the mesh to another authority: all of it is told in Vault's words, and nothing that
// was signed is touched.
func TestMeshHangsOnVault(t *testing.T) {
	server := testvault.Start(t)
	server.MountPKI(t, "pki", nil)
	server.Policy(t, "mesh", "pki", "")
	ctx, c, config := serve(t)
	stop := run(ctx, t, config, c.Scheme(), noReports{})
	withToken := byVault(t, server, func(v *operatorv1alpha1.VaultAuthority) {
		v.Token = &operatorv1alpha1.VaultToken{SecretKeyRef: operatorv1alpha1.SecretKeyReference{Name: "vault", Key: "token"}}
	})
	if err := c.Create(ctx, newMesh("osm", withToken)); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "it waits for its token", says(ctx, c, operatorv1alpha1.ReasonAuthorityUnreadable, "vault", "create it"))
	token := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "vault"},
		Data:       map[string][]byte{"token": []byte(server.Token(t, "1h") + "\n")},
	}
	if err := c.Create(ctx, token); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "one that may not sign is told", says(ctx, c, operatorv1alpha1.ReasonAuthorityRefused, `path "pki/root/sign-intermediate"`))
	put := func(value string) {
		t.Helper()
		token.Data = map[string][]byte{"token": []byte(value)}
		if err := c.Update(ctx, token); err != nil {
			t.Fatal(err)
		}
	}
	good := server.Token(t, "1h", "mesh")
	put(good)
	eventually(ctx, t, "Vault signs", says(ctx, c, operatorv1alpha1.ReasonAuthorityReady, "root of pki", server.Address))
	var before *corev1.Secret
	eventually(ctx, t, "the revision has an issuer that Vault signed", func() error {
		secret, chain, err := issuer(ctx, c)
		if err != nil {
			return err
		}
		before = secret
		if chain.Leaf().Issuer.CommonName != "root of pki" || len(chain) != 1 {
			return fmt.Errorf("%d certificates, the first signed by %s", len(chain), chain.Leaf().Issuer)
		}
		return nil
	})
	var root corev1.Secret
	if err := c.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: trust.RootSecret("osm")}, &root); err != nil {
		t.Fatal(err)
	}
	if root.Data[corev1.TLSPrivateKeyKey] != nil || string(root.Data["provider"]) != "vault" {
		t.Errorf("the Secret of the root has a key, or the provider %q", root.Data["provider"])
	}

	server.Seal(t)
	eventually(ctx, t, "a sealed Vault is told", says(ctx, c, operatorv1alpha1.ReasonAuthorityUnavailable, "Vault is sealed", "unseal it"))
	eventually(ctx, t, "it shows where one looks first", condition(ctx, c, "osm", operatorv1alpha1.ConditionDegraded, operatorv1alpha1.ReasonAuthorityUnavailable))
	stop()
	run(ctx, t, config, c.Scheme(), noReports{})
	reads := trust.New(trust.Options{Client: c, APIReader: c, Namespace: operatorNamespace, Now: time.Now})
	speaks, err := reads.ClientTLS(ctx, "osm", identity.DefaultTrustDomain, release.RevisionName(release.Current))
	if err != nil || len(speaks.Certificates) != 1 {
		t.Errorf("the operator does not speak to its control planes while Vault is sealed: %v", err)
	}
	server.Unseal(t)
	eventually(ctx, t, "an unsealed one recovers", says(ctx, c, operatorv1alpha1.ReasonAuthorityReady))

	if err := server.Client(t, server.Root).Auth().Token().RevokeTree(good); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "a token that was revoked is told", says(ctx, c, operatorv1alpha1.ReasonAuthorityRefused, "permission denied"))
	put(server.Token(t, "1h", "mesh"))
	eventually(ctx, t, "another takes its place", says(ctx, c, operatorv1alpha1.ReasonAuthorityReady))

	eventually(ctx, t, "the spec changes", func() error {
		var m operatorv1alpha1.Mesh
		if err := c.Get(ctx, client.ObjectKey{Name: "osm"}, &m); err != nil {
			return err
		}
		m.Spec.CertificateAuthority = nil
		return c.Update(ctx, &m)
	})
	eventually(ctx, t, "another authority is not followed", says(ctx, c, operatorv1alpha1.ReasonRootChangeNotFollowed, "put spec.certificateAuthority.vault back"))
	after, _, err := issuer(ctx, c)
	if err != nil || !bytes.Equal(after.Data[corev1.TLSPrivateKeyKey], before.Data[corev1.TLSPrivateKeyKey]) {
		t.Errorf("what signs for workloads was made anew: %v", err)
	}
}

// TestVaultMayCutWhatItSigns has Vault allow less than is asked for: it is taken, and not
// asked for again and again; where it is too little to be of use, that is told.
func TestVaultMayCutWhatItSigns(t *testing.T) {
	server := testvault.Start(t)
	server.MountPKI(t, "pki", nil)
	server.Policy(t, "mesh", "pki", "")
	server.Write(t, "sys/mounts/pki/tune", map[string]any{"max_lease_ttl": "1h"})
	ctx, c, config := serve(t)
	run(ctx, t, config, c.Scheme(), noReports{})
	token := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "vault"}, Data: map[string][]byte{"token": []byte(server.Token(t, "1h", "mesh"))},
	}
	if err := c.Create(ctx, token); err != nil {
		t.Fatal(err)
	}
	mesh := newMesh("osm", byVault(t, server, func(v *operatorv1alpha1.VaultAuthority) {
		v.Token = &operatorv1alpha1.VaultToken{SecretKeyRef: operatorv1alpha1.SecretKeyReference{Name: "vault", Key: "token"}}
	}))
	if err := c.Create(ctx, mesh); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "an hour is too little", says(ctx, c, operatorv1alpha1.ReasonAuthorityRefused, "max_lease_ttl"))
	server.Write(t, "sys/mounts/pki/tune", map[string]any{"max_lease_ttl": "48h"})
	eventually(ctx, t, "two days are taken", says(ctx, c, operatorv1alpha1.ReasonAuthorityReady))
	var first *corev1.Secret
	eventually(ctx, t, "an issuer for two days", func() (err error) {
		first, _, err = issuer(ctx, c)
		return err
	})
	gateway := gatewayMesh{Client: c, t: t}
	if err := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ingress"}}); err != nil {
		t.Fatal(err)
	}
	gateway.ask(ctx, "ingress", "gateway")
	gateway.is(ctx, "a gateway gets what Vault signed", operatorv1alpha1.ReasonGatewayCertificateReady)
	var kept, still corev1.Secret
	if err := c.Get(ctx, client.ObjectKey{Namespace: "ingress", Name: "gateway"}, &kept); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "the mesh is looked at again", func() error {
		var m operatorv1alpha1.Mesh
		if err := c.Get(ctx, client.ObjectKey{Name: "osm"}, &m); err != nil {
			return err
		}
		m.Spec.CertificateAuthority.Vault.Role = "nobody"
		return c.Update(ctx, &m)
	})
	eventually(ctx, t, "what a login lacks for a role is told", says(ctx, c, operatorv1alpha1.ReasonAuthorityRefused, "pki/sign-verbatim/nobody"))
	again, _, err := issuer(ctx, c)
	if err != nil || again.ResourceVersion != first.ResourceVersion {
		t.Errorf("an issuer that Vault cut short was made anew: %v", err)
	}
	gateway.is(ctx, "the gateway's is looked at again", operatorv1alpha1.ReasonGatewayCertificateReady)
	if err := c.Get(ctx, client.ObjectKey{Namespace: "ingress", Name: "gateway"}, &still); err != nil || still.ResourceVersion != kept.ResourceVersion {
		t.Errorf("a gateway's certificate was made anew: %v", err)
	}
}

// TestVaultTakesTheOperatorsServiceAccount logs in with a token that the API server makes
// for the operator, and that Vault has it review.
func TestVaultTakesTheOperatorsServiceAccount(t *testing.T) {
	server := testvault.Start(t)
	server.MountPKI(t, "pki", nil)
	server.Policy(t, "mesh", "pki", "")
	ctx, c, config := serve(t)
	reviewer := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "vault"}}
	for _, o := range []client.Object{
		reviewer, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "osm-operator"}},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "vault"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:auth-delegator"},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: operatorNamespace, Name: "vault"}},
		},
	} {
		if err := c.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	review := &authenticationv1.TokenRequest{}
	if err := c.SubResource("token").Create(ctx, reviewer, review); err != nil {
		t.Fatal(err)
	}
	if err := server.Client(t, server.Root).Sys().EnableAuth("kubernetes", "kubernetes", ""); err != nil {
		t.Fatal(err)
	}
	server.Write(t, "auth/kubernetes/config", map[string]any{
		"kubernetes_host": config.Host, "kubernetes_ca_cert": string(config.CAData), "token_reviewer_jwt": review.Status.Token, "disable_local_ca_jwt": true,
	})
	server.Write(t, "auth/kubernetes/role/mesh", map[string]any{
		"bound_service_account_names": "osm-operator", "bound_service_account_namespaces": operatorNamespace,
		"audience": "vault", "token_policies": "mesh", "token_ttl": "1h",
	})
	run(ctx, t, config, c.Scheme(), noReports{})
	mesh := newMesh("osm", byVault(t, server, func(v *operatorv1alpha1.VaultAuthority) {
		v.Kubernetes = &operatorv1alpha1.VaultKubernetes{Role: "mesh"}
	}))
	if err := c.Create(ctx, mesh); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "Vault signs", says(ctx, c, operatorv1alpha1.ReasonAuthorityReady))

	// Of another audience, Vault takes none.
	eventually(ctx, t, "the spec changes", func() error {
		var m operatorv1alpha1.Mesh
		if err := c.Get(ctx, client.ObjectKey{Name: "osm"}, &m); err != nil {
			return err
		}
		m.Spec.CertificateAuthority.Vault.Kubernetes.Role = "nobody"
		return c.Update(ctx, &m)
	})
	eventually(ctx, t, "a role that is not there is told", says(ctx, c, operatorv1alpha1.ReasonAuthorityRefused, "auth/kubernetes", "invalid role name"))
}

// TestVaultHasOneLogin has the API server refuse what would mean nothing.
func TestVaultHasOneLogin(t *testing.T) {
	ctx, c, _ := serve(t)
	ref := operatorv1alpha1.VaultToken{SecretKeyRef: operatorv1alpha1.SecretKeyReference{Name: "vault", Key: "token"}}
	for name, a := range map[string]*operatorv1alpha1.CertificateAuthority{
		"no login":      {Vault: &operatorv1alpha1.VaultAuthority{Host: "vault"}},
		"two logins":    {Vault: &operatorv1alpha1.VaultAuthority{Host: "vault", Token: &ref, Kubernetes: &operatorv1alpha1.VaultKubernetes{Role: "mesh"}}},
		"two providers": {BuiltIn: &operatorv1alpha1.BuiltInAuthority{}, Vault: &operatorv1alpha1.VaultAuthority{Host: "vault", Token: &ref}},
		"a path as a mount": {Vault: &operatorv1alpha1.VaultAuthority{
			Host: "vault", Token: &ref, Mount: "../sys",
		}},
		"an address as a host": {Vault: &operatorv1alpha1.VaultAuthority{Host: "https://vault", Token: &ref}},
	} {
		err := c.Create(ctx, newMesh("osm", func(s *operatorv1alpha1.MeshSpec) { s.CertificateAuthority = a }))
		if err == nil {
			err = errors.Join(errors.New("it was taken"), c.Delete(ctx, newMesh("osm", nil)))
			t.Errorf("%s: %v", name, err)
		}
	}
}
