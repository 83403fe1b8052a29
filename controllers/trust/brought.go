package trust

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/observe"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
)

// The keys of a Secret with an authority, as Open Service Mesh wrote it.
const (
	osmCertificateKey = "ca.crt"
	osmPrivateKeyKey  = "private.key"
)

// broughtSecret returns the Secret that a Mesh names for its authority, if it does.
func broughtSecret(m *operatorv1alpha1.Mesh, operatorNamespace string) (client.ObjectKey, bool) {
	a := m.Spec.CertificateAuthority
	if a == nil || a.BuiltIn == nil || a.BuiltIn.Secret == nil {
		return client.ObjectKey{}, false
	}
	s := a.BuiltIn.Secret
	return client.ObjectKey{Namespace: cmp.Or(s.Namespace, operatorNamespace), Name: s.Name}, true
}

// bring returns the authority that a Mesh names, after it has shown that it can sign what
// the mesh needs. The error is a *problem where a person has to do something.
func (r *Reconciler) bring(ctx context.Context, m *operatorv1alpha1.Mesh, key client.ObjectKey) (*builtin.Authority, error) {
	secret, err := r.namedSecret(ctx, m, key)
	if err != nil {
		return nil, err
	}
	authority, err := builtin.Bring(broughtOf(secret.Data), r.Now())
	if err == nil {
		err = try(ctx, ofBuiltIn(authority), m, r.Now())
	}
	if err != nil {
		return nil, &problem{reason: operatorv1alpha1.ReasonAuthorityInvalid, err: fmt.Errorf("secret %s cannot be used: %w", key, err)}
	}
	return authority, nil
}

// broughtOf reads the data of a Secret: as Kubernetes writes it, or as Open Service Mesh did.
func broughtOf(data map[string][]byte) builtin.Brought {
	if len(data[corev1.TLSCertKey]) == 0 {
		return builtin.Brought{Certificate: data[osmCertificateKey], Key: data[osmPrivateKeyKey]}
	}
	return builtin.Brought{Certificate: data[corev1.TLSCertKey], Key: data[corev1.TLSPrivateKeyKey], Root: data[osmCertificateKey]}
}

// trustDomain is that of a Mesh.
func trustDomain(m *operatorv1alpha1.Mesh) identity.TrustDomain {
	return identity.TrustDomain(cmp.Or(m.Spec.TrustDomain, string(plan.DefaultTrustDomain)))
}

// try has an authority sign one of each that the mesh has signed, and looks at it as the
// mesh's proxies will: bounds on names and path lengths show there, and nowhere sooner.
func try(ctx context.Context, authority *anchor, m *operatorv1alpha1.Mesh, now time.Time) error {
	const revision = "trial"
	td := trustDomain(m)
	id, names := identity.ControlPlane(td, m.Name, revision), render.ServingNames(plan.MeshNamespace(m), revision)
	if _, err := newLeaf(ctx, authority, id, names, servingLifetime, now); err != nil {
		return fmt.Errorf("signing for the control plane's names %q: %w", names, err)
	}
	spec := operatorv1alpha1.MeshRevisionSpec{Mesh: m.Name, Revision: revision, TrustDomain: string(td)}
	made, err := newIntermediate(ctx, authority, defaultKeyType, spec, ca.LeafLifetime, now)
	if err != nil {
		return fmt.Errorf("certifying what a control plane signs with: %w", err)
	}
	below, err := builtin.Load(made.certificatePEM, made.keyPEM, authority.pem())
	if err != nil {
		return fmt.Errorf("certifying what a control plane signs with: %w", err)
	}
	return tryWorkload(ctx, below, td, now)
}

func tryWorkload(ctx context.Context, below *builtin.Authority, td identity.TrustDomain, now time.Time) error {
	worker := identity.ID{TrustDomain: td, ServiceAccount: identity.ServiceAccount{Namespace: "trial", Name: "trial"}}
	key, err := ca.GenerateKey(defaultKeyType)
	if err != nil {
		return err
	}
	begin := now.Truncate(time.Second)
	req := ca.Request{PublicKey: key.Public(), URI: worker.URI(), Usage: ca.Both, NotBefore: begin.Add(-time.Minute), NotAfter: begin.Add(ca.LeafLifetime)}
	if name, ok := worker.DNSName(); ok {
		req.DNSNames = []string{name}
	}
	chain, err := below.Issue(ctx, req)
	if err != nil {
		return fmt.Errorf("signing for a workload: %w", err)
	}
	roots, err := below.Bundle(ctx)
	if err != nil {
		return fmt.Errorf("signing for a workload: %w", err)
	}
	if err := ca.Check(req, chain, roots); err != nil {
		return fmt.Errorf("signing for a workload: %w", err)
	}
	return nil
}

// compareBrought says why the root that a mesh has is not the one that its spec asks for. A copy
// of what was brought is kept, so that its Secret may go.
func (r *Reconciler) compareBrought(ctx context.Context, m *operatorv1alpha1.Mesh, root *anchor) error {
	key, brought := broughtSecret(m, r.Namespace)
	if !brought {
		return nil
	}
	wanted, err := r.bring(ctx, m, key)
	if p, ok := errors.AsType[*problem](err); ok && p.reason == operatorv1alpha1.ReasonAuthorityUnreadable {
		return nil
	}
	if err != nil {
		return err
	}
	if wanted.Certificate().Equal(root.certificate) {
		return nil
	}
	return notFollowed("Secret %s holds %s, and workloads trust %s, which goes on: put that back into the Secret, or take the Secret out of the spec", key, describe(wanted.Certificate()), describe(root.certificate))
}

// published reports what a mesh trusts, as its control planes read it; nil if nothing has
// been published.
func (r *Reconciler) published(ctx context.Context, m *operatorv1alpha1.Mesh) ([]*x509.Certificate, error) {
	raw, err := observe.ReadTrustBundle(ctx, r.APIReader, m.Name, plan.MeshNamespace(m))
	if err != nil || len(bytes.TrimSpace(raw)) == 0 {
		return nil, err
	}
	roots, err := ca.ParseBundle(raw)
	if err != nil {
		return nil, fmt.Errorf("what workloads of Mesh %s trust cannot be read: %w", m.Name, err)
	}
	return roots, nil
}

// adopt returns the authority that a Mesh without a root is to have. Where the mesh has
// run, that is no other than the one that is trusted.
func (r *Reconciler) adopt(ctx context.Context, m *operatorv1alpha1.Mesh, key client.ObjectKey) (*builtin.Authority, error) {
	root, err := r.bring(ctx, m, key)
	if err != nil {
		return nil, err
	}
	trusted, err := r.published(ctx, m)
	if err != nil {
		return nil, err
	}
	if len(trusted) > 0 && !slices.ContainsFunc(trusted, root.Certificate().Equal) {
		return nil, notFollowed("Secret %s/%s is gone, and Secret %s holds %s, which workloads do not trust: restore either from a backup",
			r.Namespace, RootSecret(m.Name), key, describe(root.Certificate()))
	}
	return root, nil
}

// describe tells a certificate from others of its name.
func describe(c *x509.Certificate) string {
	id := c.SubjectKeyId
	if len(id) > 4 {
		id = id[:4]
	}
	return fmt.Sprintf("%q (key %x, until %s)", c.Subject, id, c.NotAfter.UTC().Format(time.DateOnly))
}
