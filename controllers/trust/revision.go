package trust

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
)

// askedAnnotation says how long a certificate was asked for that may be good for less.
const askedAnnotation = "openservicemesh.io/asked-lifetime"

// revision gives a control plane its two certificates, and renews them. It returns those
// that the control plane has, whether they could be renewed or not.
func (r *Reconciler) revision(ctx context.Context, rev *operatorv1alpha1.MeshRevision, root *anchor) (issuer, serving *pair, err error) {
	spec := rev.Spec
	issuerKind, td := ca.ECDSAP256, identity.TrustDomain(spec.TrustDomain)
	if root.certificate.PublicKeyAlgorithm == x509.RSA {
		issuerKind = ca.RSA3072
	}
	leaf, err := r.leafLifetime(ctx, spec)
	if err != nil {
		return nil, nil, err
	}
	issuer, err = r.certificate(ctx, slotOf(rev, render.IssuerSecret(spec.Revision)), root,
		func(p *pair) bool { return lasts(p, root.certificate, leaf) },
		func() (*pair, error) { return newIntermediate(ctx, root, issuerKind, spec, leaf, r.Now()) })
	if err != nil {
		return issuer, nil, err
	}
	id := identity.ControlPlane(td, spec.Mesh, spec.Revision)
	names := render.ServingNames(spec.Namespace, spec.Revision)
	serving, err = r.certificate(ctx, slotOf(rev, render.ServingSecret(spec.Revision)), root,
		func(p *pair) bool { return slices.Equal(p.certificate.DNSNames, names) && isOf(p.certificate, id) },
		func() (*pair, error) { return newLeaf(ctx, root, id, names, servingLifetime, r.Now()) })
	return issuer, serving, err
}

// isOf reports whether a certificate is that of a subject.
func isOf(c *x509.Certificate, id string) bool {
	return len(c.URIs) == 1 && c.URIs[0].String() == id
}

// leafLifetime is how long the certificates of workloads are good, as the control plane
// reads it of the MeshConfig: an issuer that ends sooner would cut them short.
func (r *Reconciler) leafLifetime(ctx context.Context, spec operatorv1alpha1.MeshRevisionSpec) (time.Duration, error) {
	key := client.ObjectKey{Namespace: spec.Namespace, Name: operatorv1alpha1.MeshConfigName}
	var config configv1alpha2.MeshConfig
	if err := r.Client.Get(ctx, key, &config); client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("reading MeshConfig %s: %w", key, err)
	}
	settings, _ := mesh.SettingsFrom(mesh.DefaultSettings(spec.Mesh, spec.Namespace, identity.TrustDomain(spec.TrustDomain)), config.Spec)
	return settings.LeafLifetime, nil
}

// slot is a Secret for one certificate and its key.
type slot struct {
	key            client.ObjectKey
	mesh, revision string
	owner          metav1.OwnerReference
}

func slotOf(rev *operatorv1alpha1.MeshRevision, name string) slot {
	return slot{
		key:  client.ObjectKey{Namespace: rev.Spec.Namespace, Name: name},
		mesh: rev.Spec.Mesh, revision: rev.Spec.Revision, owner: ownerOf("MeshRevision", rev),
	}
}

// read returns what is in the Secret, and whether the Secret is as the operator makes it;
// nil where it is no certificate with its key.
func (s slot) read(ctx context.Context, reader client.Reader) (current *pair, intact bool, err error) {
	var secret corev1.Secret
	if err := reader.Get(ctx, s.key, &secret); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("reading Secret %s: %w", s.key, err)
	}
	current, err = parsePair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, false, nil //nolint:nilerr // it is made anew, as where there is none
	}
	if asked, err := time.ParseDuration(secret.Annotations[askedAnnotation]); err == nil {
		current.asked = asked
	}
	owner := metav1.GetControllerOf(&secret)
	return current, secret.Labels[operatorv1alpha1.LabelMesh] == s.mesh && owner != nil && owner.UID == s.owner.UID, nil
}

// secret returns the Secret with a certificate in it.
func (s slot) secret(p *pair) *corev1.Secret {
	out := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: owned(s.key, s.mesh, s.owner),
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: p.certificatePEM, corev1.TLSPrivateKeyKey: p.keyPEM},
	}
	if s.revision != "" {
		out.Labels[operatorv1alpha1.LabelRevision] = s.revision
	}
	if p.asked > 0 {
		out.Annotations = map[string]string{askedAnnotation: p.asked.String()}
	}
	return out
}

// certificate makes a slot hold a certificate of the root's that fits and is not due, and
// makes a new one where it does not. It returns what the slot holds, where that is a
// certificate.
func (r *Reconciler) certificate(ctx context.Context, s slot, root *anchor, fits func(*pair) bool, issue func() (*pair, error)) (*pair, error) {
	current, intact, err := s.read(ctx, r.APIReader)
	if err != nil {
		return nil, err
	}
	if current != nil && intact && ca.SignedBy(current.certificate, root.certificate) && !due(current.certificate, r.Now()) && fits(current) {
		return current, nil
	}
	next, err := issue()
	if err != nil {
		return current, fmt.Errorf("making a certificate for Secret %s: %w", s.key, err)
	}
	if _, err := r.applier.Apply(ctx, s.mesh, s.secret(next)); err != nil {
		return current, fmt.Errorf("writing Secret %s: %w", s.key, err)
	}
	logf.FromContext(ctx).Info("Made certificate", "Secret", s.key.String(), "notAfter", next.certificate.NotAfter)
	return next, nil
}
