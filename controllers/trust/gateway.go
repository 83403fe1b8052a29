package trust

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/apply"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
)

const (
	// bindingSeen is within what time the API server follows a new RoleBinding.
	bindingSeen = 30 * time.Second
	// bindingCheck is how often that is looked at meanwhile.
	bindingCheck = time.Second
)

var (
	// errBindingUnseen says that the right to write a Secret was given a moment ago.
	errBindingUnseen = errors.New("the API server does not know yet what the operator may do there")
	// errPaused says that there was no certificate when the Mesh was paused.
	errPaused = errors.New("spec.paused is set")
)

// gateway keeps the certificate that the MeshConfig asks for an ingress gateway, and takes
// away what it asked for before. It returns when to look again.
func (r *Reconciler) gateway(ctx context.Context, m *operatorv1alpha1.Mesh, root *anchor) (time.Duration, error) {
	key := client.ObjectKey{Namespace: plan.MeshNamespace(m), Name: operatorv1alpha1.MeshConfigName}
	var config configv1alpha2.MeshConfig
	err := r.Client.Get(ctx, key, &config)
	if apierrors.IsNotFound(err) {
		return recheck, nil // it is made again; what it asked for stays
	}
	if err != nil {
		return recheck, fmt.Errorf("reading MeshConfig %s: %w", key, err)
	}
	wanted, _ := mesh.IngressGatewayFrom(config.Spec.Certificate)
	wrong := mesh.CheckIngressGateway(config.Spec.Certificate)
	switch {
	case len(wrong) > 0:
		err = &problem{reason: operatorv1alpha1.ReasonGatewayCertificateInvalid, err: fmt.Errorf("MeshConfig %s: spec.%s", key, strings.Join(wrong, "; "))}
	case wanted == nil:
		return recheck, r.withoutGateway(ctx, m)
	case wanted.Secret.Namespace == r.Namespace:
		err = &problem{reason: operatorv1alpha1.ReasonGatewayCertificateInvalid, err: fmt.Errorf(
			"MeshConfig %s: spec.certificate.ingressGateway.secret.namespace: the operator keeps roots of trust in %s, and writes nothing for others there", key, r.Namespace)}
	default:
		var current *pair
		current, err = r.keepGateway(ctx, m, root, *wanted)
		r.Expiry.setGateway(m.Name, current)
	}
	switch {
	case errors.Is(err, errBindingUnseen):
		return bindingCheck, nil
	case errors.Is(err, errPaused):
		return recheck, nil
	}
	return recheck, r.tellGateway(ctx, m, wanted, explain(err))
}

// withoutGateway removes all that there was for a gateway.
func (r *Reconciler) withoutGateway(ctx context.Context, m *operatorv1alpha1.Mesh) error {
	r.Expiry.setGateway(m.Name, nil)
	if m.Spec.Paused {
		return nil
	}
	if err := r.leaveGateways(ctx, m, nil); err != nil {
		return err
	}
	if meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionGatewayReady) == nil {
		return nil
	}
	before := m.DeepCopy()
	meta.RemoveStatusCondition(&m.Status.Conditions, operatorv1alpha1.ConditionGatewayReady)
	_, err := r.patch(ctx, m, before)
	return err
}

// keepGateway makes a Secret hold a certificate for the gateway, and returns it. The
// operator's RoleBinding in the namespace comes first: it gives the right to, and remembers
// which Secret is the mesh's. While the Mesh is paused a certificate is renewed where it is.
func (r *Reconciler) keepGateway(ctx context.Context, m *operatorv1alpha1.Mesh, root *anchor, g mesh.IngressGateway) (*pair, error) {
	binding := r.gatewayBinding(m, g.Secret)
	if m.Spec.Paused {
		var live rbacv1.RoleBinding
		err := r.Client.Get(ctx, client.ObjectKeyFromObject(binding), &live)
		if apierrors.IsNotFound(err) || err == nil && live.Annotations[operatorv1alpha1.AnnotationGatewaySecret] != g.Secret.Name {
			return nil, errPaused
		}
		if err != nil {
			return nil, fmt.Errorf("reading RoleBinding %s: %w", client.ObjectKeyFromObject(binding), err)
		}
	} else {
		if err := r.leaveGateways(ctx, m, &g.Secret); err != nil {
			return nil, err
		}
		results, err := r.applier.Apply(ctx, m.Name, binding)
		if err != nil {
			return nil, err
		}
		if results[0].Outcome == apply.Repaired {
			r.Recorder.Eventf(m, nil, corev1.EventTypeWarning, "Repaired", "Trust", "%s was changed and has been put back", results[0])
		}
	}
	current, err := r.gatewaySecret(ctx, m, root, g)
	if apierrors.IsForbidden(err) {
		var live rbacv1.RoleBinding
		if readErr := r.APIReader.Get(ctx, client.ObjectKeyFromObject(binding), &live); readErr == nil && r.Now().Sub(live.CreationTimestamp.Time) < bindingSeen {
			return current, errBindingUnseen
		}
	}
	return current, err
}

// gatewayBinding lets the operator keep a Secret.
func (r *Reconciler) gatewayBinding(m *operatorv1alpha1.Mesh, secret mesh.Key) *rbacv1.RoleBinding {
	out := &rbacv1.RoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
		ObjectMeta: owned(client.ObjectKey{Namespace: secret.Namespace, Name: render.GatewayBinding(m.Name)}, m.Name, ownerOf("Mesh", m)),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: render.GatewayRole},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: r.ServiceAccount, Namespace: r.Namespace}},
	}
	out.Annotations = map[string]string{operatorv1alpha1.AnnotationGatewaySecret: secret.Name}
	return out
}

// leaveGateways deletes the Secrets of gateways other than the one to keep, and the right to
// write them where that is not needed any more. The RoleBindings tell where they are.
func (r *Reconciler) leaveGateways(ctx context.Context, m *operatorv1alpha1.Mesh, keep *mesh.Key) error {
	var bindings rbacv1.RoleBindingList
	if err := r.Client.List(ctx, &bindings, client.MatchingLabels{operatorv1alpha1.LabelMesh: m.Name}); err != nil {
		return fmt.Errorf("listing the RoleBindings of Mesh %s: %w", m.Name, err)
	}
	for i := range bindings.Items {
		b := &bindings.Items[i]
		if b.Name != render.GatewayBinding(m.Name) || !metav1.IsControlledBy(b, m) {
			continue
		}
		old := mesh.Key{Namespace: b.Namespace, Name: b.Annotations[operatorv1alpha1.AnnotationGatewaySecret]}
		if keep != nil && old == *keep {
			continue
		}
		if old.Name != "" {
			if err := r.deleteGatewaySecret(ctx, m, old); err != nil {
				return err
			}
		}
		if keep != nil && old.Namespace == keep.Namespace {
			continue
		}
		if err := r.Client.Delete(ctx, b); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting RoleBinding %s: %w", client.ObjectKeyFromObject(b), err)
		}
	}
	return nil
}

func (r *Reconciler) deleteGatewaySecret(ctx context.Context, m *operatorv1alpha1.Mesh, key mesh.Key) error {
	var secret corev1.Secret
	err := r.APIReader.Get(ctx, client.ObjectKey(key), &secret)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading Secret %s: %w", key, err)
	}
	if !ofGateway(m, &secret) {
		return nil
	}
	err = r.Client.Delete(ctx, &secret, client.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting Secret %s: %w", key, err)
	}
	logf.FromContext(ctx).Info("Deleted certificate", "Secret", key.String())
	r.Recorder.Eventf(m, nil, corev1.EventTypeNormal, "GatewayCertificateDeleted", "Trust", "Secret %s was deleted: the MeshConfig asks for it no more", key)
	return nil
}

// ofGateway reports whether a Secret is the mesh's for a gateway, and nobody else's, nor
// one of the mesh's other Secrets.
func ofGateway(m *operatorv1alpha1.Mesh, secret *corev1.Secret) bool {
	return secret.Labels[operatorv1alpha1.LabelMesh] == m.Name && secret.Labels[operatorv1alpha1.LabelCertificate] == operatorv1alpha1.CertificateIngressGateway
}

// gatewaySecret reads the Secret, and writes it where what it holds does not fit or is due.
func (r *Reconciler) gatewaySecret(ctx context.Context, m *operatorv1alpha1.Mesh, root *anchor, g mesh.IngressGateway) (*pair, error) {
	var secret corev1.Secret
	err := r.APIReader.Get(ctx, client.ObjectKey(g.Secret), &secret)
	found := err == nil
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", g.Secret, err)
	}
	if found && !ofGateway(m, &secret) {
		return nil, &problem{reason: operatorv1alpha1.ReasonForeignObject, err: fmt.Errorf(
			"secret %s exists and is not the mesh's for an ingress gateway: rename or delete it, or label it %s=%s and %s=%s to hand it over",
			g.Secret, operatorv1alpha1.LabelMesh, m.Name, operatorv1alpha1.LabelCertificate, operatorv1alpha1.CertificateIngressGateway)}
	}
	id := identity.Gateway(trustDomain(m), m.Name)
	var current *pair
	if found {
		current, err = parsePair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
		if err == nil && bytes.Equal(secret.Data[osmCertificateKey], root.pem()) && fitsGateway(current.certificate, root, g, id, secret.Annotations[askedAnnotation], r.Now()) {
			return current, nil
		}
	}
	next, err := issueLeaf(ctx, root, ca.Client, id, []string{g.Name}, g.Lifetime, r.Now())
	if err != nil {
		return current, fmt.Errorf("making a certificate for Secret %s: %w", g.Secret, err)
	}
	wanted := &corev1.Secret{ObjectMeta: owned(client.ObjectKey(g.Secret), m.Name, ownerOf("Mesh", m)), Type: corev1.SecretTypeTLS}
	wanted.Labels[operatorv1alpha1.LabelCertificate] = operatorv1alpha1.CertificateIngressGateway
	wanted.Data = map[string][]byte{corev1.TLSCertKey: next.certificatePEM, corev1.TLSPrivateKeyKey: next.keyPEM, osmCertificateKey: root.pem()}
	if root.vaults {
		// Vault decides when what it signs begins and ends.
		wanted.Annotations = map[string]string{askedAnnotation: g.Lifetime.String()}
	}
	if !found {
		err = r.Client.Create(ctx, wanted)
	} else {
		// The resource version is in it: what somebody writes meanwhile is looked at first.
		wanted.ResourceVersion = secret.ResourceVersion
		err = r.Client.Update(ctx, wanted)
	}
	if err != nil {
		return current, fmt.Errorf("writing Secret %s: %w", g.Secret, err)
	}
	logf.FromContext(ctx).Info("Made certificate", "Secret", g.Secret.String(), "notAfter", next.certificate.NotAfter)
	return next, nil
}

// fitsGateway reports whether a certificate is as one made now would be, and is not due.
func fitsGateway(c *x509.Certificate, root *anchor, g mesh.IngressGateway, id, asked string, now time.Time) bool {
	lifetime := c.NotAfter.Sub(c.NotBefore.Add(backdating))
	lasts := root.vaults && asked == g.Lifetime.String() || lifetime == g.Lifetime || lifetime < g.Lifetime && !c.NotAfter.Before(root.certificate.NotAfter)
	named := len(c.DNSNames) == 1 && c.DNSNames[0] == g.Name && len(c.URIs) == 1 && c.URIs[0].String() == id
	return lasts && named && ca.SignedBy(c, root.certificate) && !due(c, now)
}

// tellGateway writes how the certificate is. It returns what is to be tried again at once.
func (r *Reconciler) tellGateway(ctx context.Context, m *operatorv1alpha1.Mesh, g *mesh.IngressGateway, err error) error {
	next := metav1.Condition{
		Type: operatorv1alpha1.ConditionGatewayReady, Status: metav1.ConditionTrue, ObservedGeneration: m.Generation,
		Reason: operatorv1alpha1.ReasonGatewayCertificateReady,
	}
	p, expected := errors.AsType[*problem](err)
	_, foreign := errors.AsType[*apply.ForeignError](err)
	switch {
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
		return err // the next look sees what happened
	case expected:
		next.Status, next.Reason, next.Message = metav1.ConditionFalse, p.reason, err.Error()
	case foreign:
		next.Status, next.Reason, next.Message = metav1.ConditionFalse, operatorv1alpha1.ReasonForeignObject, err.Error()
	case err != nil:
		next.Status, next.Reason, next.Message = metav1.ConditionFalse, operatorv1alpha1.ReasonGatewaySecretUnwritable, err.Error()
	default:
		next.Message = fmt.Sprintf("Secret %s is kept for %s", g.Secret, g.Name)
	}
	next.Message = next.Message[:min(len(next.Message), maxMessage)]
	// All of it is looked at again soon: an error more would only look faster.
	return r.write(ctx, m, next)
}
