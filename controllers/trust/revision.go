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
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
)

// revision gives a control plane its two certificates, and renews them. It returns those
// that the control plane has, whether they could be renewed or not.
func (r *Reconciler) revision(ctx context.Context, rev *operatorv1alpha1.MeshRevision, root *builtin.Authority) (issuer, serving *pair, err error) {
	spec := rev.Spec
	issuerKind, td := ca.ECDSAP256, identity.TrustDomain(spec.TrustDomain)
	if root.Certificate().PublicKeyAlgorithm == x509.RSA {
		issuerKind = ca.RSA3072
	}
	leaf, err := r.leafLifetime(ctx, spec)
	if err != nil {
		return nil, nil, err
	}
	issuer, err = r.certificate(ctx, rev, render.IssuerSecret(spec.Revision), root,
		func(p *pair) bool { return lasts(p.certificate, root.Certificate(), leaf) },
		func() (*pair, error) { return newIntermediate(ctx, root, issuerKind, spec, leaf, r.Now()) })
	if err != nil {
		return issuer, nil, err
	}
	id := identity.ControlPlane(td, spec.Mesh, spec.Revision)
	names := render.ServingNames(spec.Namespace, spec.Revision)
	serving, err = r.certificate(ctx, rev, render.ServingSecret(spec.Revision), root,
		func(p *pair) bool {
			return slices.Equal(p.certificate.DNSNames, names) && len(p.certificate.URIs) == 1 && p.certificate.URIs[0].String() == id
		},
		func() (*pair, error) { return newLeaf(ctx, root, id, names, servingLifetime, r.Now()) })
	return issuer, serving, err
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

// certificate makes a Secret hold a certificate of the root's that fits and is not
// due, and makes a new one where it does not. It returns what the Secret holds, where that
// is a certificate.
func (r *Reconciler) certificate(ctx context.Context, rev *operatorv1alpha1.MeshRevision, name string, root *builtin.Authority, fits func(*pair) bool, issue func() (*pair, error)) (*pair, error) {
	key := client.ObjectKey{Namespace: rev.Spec.Namespace, Name: name}
	var secret corev1.Secret
	err := r.APIReader.Get(ctx, key, &secret)
	found := err == nil
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	var current *pair
	if found {
		current, err = parsePair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
		owned := secret.Labels[operatorv1alpha1.LabelMesh] == rev.Spec.Mesh && metav1.IsControlledBy(&secret, rev)
		if err == nil && owned && root.Signed(current.certificate) && !due(current.certificate, r.Now()) && fits(current) {
			return current, nil
		}
	}
	next, err := issue()
	if err != nil {
		return current, fmt.Errorf("making a certificate for Secret %s: %w", key, err)
	}
	wanted := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: owned(key, rev.Spec.Mesh, ownerOf("MeshRevision", rev)),
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: next.certificatePEM, corev1.TLSPrivateKeyKey: next.keyPEM},
	}
	wanted.Labels[operatorv1alpha1.LabelRevision] = rev.Spec.Revision
	if _, err := r.applier.Apply(ctx, rev.Spec.Mesh, wanted); err != nil {
		return current, fmt.Errorf("writing Secret %s: %w", key, err)
	}
	logf.FromContext(ctx).Info("Made certificate", "Secret", key.String(), "notAfter", next.certificate.NotAfter)
	return next, nil
}
