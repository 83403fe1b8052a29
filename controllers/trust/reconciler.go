// Package trust reconciles what a mesh trusts: its root, which the operator alone
// holds, the bundle that everyone reads, for each revision an intermediate to sign workload
// certificates with and a certificate to serve with, and what an ingress gateway outside of
// the mesh shows to sidecars.
package trust

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/apply"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/observe"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/release"
)

// recheck is how often Secrets are looked at: the operator may not watch them, since
// it may list none.
const recheck = 10 * time.Second

// Options are what a Reconciler needs; all are required.
type Options struct {
	// Client reads from the cache and writes.
	Client client.Client
	// APIReader reads live.
	APIReader client.Reader
	Recorder  events.EventRecorder
	Catalogue release.Catalogue
	// Namespace is where the operator runs and keeps roots, ServiceAccount as whom.
	Namespace, ServiceAccount string
	// Expiry is told when certificates end.
	Expiry *Expiry
	// Now is the clock.
	Now func() time.Time
}

// Reconciler makes roots and what hangs on them.
type Reconciler struct {
	Options
	applier apply.Applier

	mu sync.Mutex
	// Protected by mu: the Vaults, by Mesh.
	links map[string]*link
}

// New returns a Reconciler.
func New(o Options) *Reconciler {
	return &Reconciler{Options: o, links: map[string]*link{}, applier: apply.Applier{Reader: o.APIReader, Writer: o.Client, Owner: operatorv1alpha1.ManagedBy}}
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var m operatorv1alpha1.Mesh
	if err := r.Client.Get(ctx, req.NamespacedName, &m); err != nil {
		if apierrors.IsNotFound(err) {
			r.Expiry.set(req.Name, nil)
			r.unlink(req.Name)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	wanted, err := r.wanted(ctx, &m)
	if err != nil || !wanted {
		return ctrl.Result{RequeueAfter: recheck}, err
	}
	root, err := r.root(ctx, &m)
	if err == nil {
		err = r.certify(ctx, &m, root)
	} else if _, expected := errors.AsType[*problem](explain(err)); !expected {
		err = fmt.Errorf("root of trust of Mesh %s: %w", m.Name, err)
	}
	if err == nil {
		err = r.compare(ctx, &m, root)
	}
	if err == nil {
		err = ends(root, r.Now())
	}
	err = r.tell(ctx, &m, root, explain(err))
	if root == nil {
		return ctrl.Result{RequeueAfter: recheck}, err
	}
	again, gatewayErr := r.gateway(ctx, &m, root)
	return ctrl.Result{RequeueAfter: again}, errors.Join(err, gatewayErr)
}

// compare says why what a mesh has is not what its spec asks for.
func (r *Reconciler) compare(ctx context.Context, m *operatorv1alpha1.Mesh, root *anchor) error {
	if vaultOf(m) != nil || root.vaults {
		return r.compareVault(ctx, root)
	}
	return r.compareBrought(ctx, m, root)
}

// certify gives a mesh all that hangs on its root.
func (r *Reconciler) certify(ctx context.Context, m *operatorv1alpha1.Mesh, root *anchor) error {
	if err := r.publish(ctx, m, root); err != nil {
		return err
	}
	var revisions operatorv1alpha1.MeshRevisionList
	if err := r.Client.List(ctx, &revisions, client.MatchingLabels{operatorv1alpha1.LabelMesh: m.Name}); err != nil {
		return fmt.Errorf("listing the revisions of Mesh %s: %w", m.Name, err)
	}
	ends := map[held]time.Time{{certificate: certificateRoot}: root.certificate.NotAfter}
	var errs []error
	if root.vaults {
		own, err := r.ownCertificate(ctx, m, root)
		errs = append(errs, err)
		if own != nil {
			ends[held{certificate: certificateClient}] = own.certificate.NotAfter
		}
	}
	for i := range revisions.Items {
		rev := &revisions.Items[i]
		if !rev.DeletionTimestamp.IsZero() {
			continue
		}
		issuer, serving, err := r.revision(ctx, rev, root)
		errs = append(errs, err)
		for certificate, current := range map[string]*pair{certificateIssuer: issuer, certificateServing: serving} {
			if current != nil {
				ends[held{certificate: certificate, revision: rev.Spec.Revision}] = current.certificate.NotAfter
			}
		}
	}
	r.Expiry.set(m.Name, ends)
	return errors.Join(errs...)
}

// wanted reports whether the Mesh may have a root: it is followed, and its
// namespace is there with the operator's rights in it.
func (r *Reconciler) wanted(ctx context.Context, m *operatorv1alpha1.Mesh) (bool, error) {
	if !m.DeletionTimestamp.IsZero() {
		return false, nil
	}
	var meshes operatorv1alpha1.MeshList
	if err := r.Client.List(ctx, &meshes); err != nil {
		return false, fmt.Errorf("listing Meshes: %w", err)
	}
	if plan.Holder(m, meshes.Items) != "" {
		return false, nil
	}
	if _, err := r.Catalogue.Resolve(m.Status.Version, m.Spec.Version); err != nil && m.Status.Version == "" {
		return false, nil // the mesh controller tells of it
	}
	var ns corev1.Namespace
	err := r.Client.Get(ctx, client.ObjectKey{Name: plan.MeshNamespace(m)}, &ns)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// RootSecret is the name of the Secret that holds the root of a mesh, in the
// operator's namespace.
func RootSecret(mesh string) string { return "osm-root-" + mesh }

// root returns the root of a mesh, and makes it, or takes what was brought, if there is none. A Secret that is
// there but cannot be read as a root is never replaced: every workload's trust
// hangs on it.
func (r *Reconciler) root(ctx context.Context, m *operatorv1alpha1.Mesh) (*anchor, error) {
	key := client.ObjectKey{Namespace: r.Namespace, Name: RootSecret(m.Name)}
	var secret corev1.Secret
	err := r.APIReader.Get(ctx, key, &secret)
	if err == nil {
		root, err := r.load(ctx, m, secret.Data)
		if err != nil {
			return nil, fmt.Errorf("secret %s is damaged and is left as it is; restore it from a backup: %w", key, err)
		}
		return root, r.keep(ctx, m, key, &secret)
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	if vaultOf(m) != nil {
		root, chain, err := r.adoptVault(ctx, m)
		if err != nil {
			return nil, err
		}
		data := map[string][]byte{providerKey: []byte(providerVault), corev1.TLSCertKey: chain.PEM()}
		return root, r.store(ctx, m, key, root, corev1.SecretTypeOpaque, data, "RootAdopted", "the root of trust is that of "+vaultName(root.vault))
	}
	if named, brought := broughtSecret(m, r.Namespace); brought {
		root, err := r.adopt(ctx, m, named)
		if err != nil {
			return nil, err
		}
		return r.storeBuiltIn(ctx, m, key, root, "RootAdopted", "the root of trust was taken from Secret "+named.String())
	}
	if m.Status.Version != "" {
		// The mesh has run: a new root would cut every workload off from the others
		// until all are restarted, so that it is said.
		r.Recorder.Eventf(m, nil, corev1.EventTypeWarning, "RootReplaced", "Trust",
			"Secret %s was deleted: a new root has been made, and workloads trust it as their certificates are renewed", key)
	}
	root, err := newRoot(keyType(m), m.Name, r.Now())
	if err != nil {
		return nil, err
	}
	return r.storeBuiltIn(ctx, m, key, root, "RootCreated", "a root of trust was made")
}

// load reads the root of a mesh from its Secret.
func (r *Reconciler) load(ctx context.Context, m *operatorv1alpha1.Mesh, data map[string][]byte) (*anchor, error) {
	switch provider := string(data[providerKey]); provider {
	case providerVault:
		return r.loadVault(ctx, m, data)
	case "":
		root, err := builtin.Load(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey], nil)
		if err != nil {
			return nil, err
		}
		return ofBuiltIn(root), nil
	default:
		return nil, fmt.Errorf("there is no provider %q", provider)
	}
}

// storeBuiltIn keeps a root with its key.
func (r *Reconciler) storeBuiltIn(ctx context.Context, m *operatorv1alpha1.Mesh, key client.ObjectKey, root *builtin.Authority, reason, message string) (*anchor, error) {
	keyPEM, err := root.KeyPEM()
	if err != nil {
		return nil, err
	}
	a, data := ofBuiltIn(root), map[string][]byte{corev1.TLSCertKey: root.ChainPEM(), corev1.TLSPrivateKeyKey: keyPEM}
	return a, r.store(ctx, m, key, a, corev1.SecretTypeTLS, data, reason, message)
}

// store keeps a root that the mesh has from now on.
func (r *Reconciler) store(ctx context.Context, m *operatorv1alpha1.Mesh, key client.ObjectKey, root *anchor, kind corev1.SecretType, data map[string][]byte, reason, message string) error {
	// Create, not apply: of two operators only one makes the root.
	secret := corev1.Secret{ObjectMeta: rootMeta(m, key), Type: kind, Data: data}
	if err := r.Client.Create(ctx, &secret); err != nil {
		return fmt.Errorf("writing Secret %s: %w", key, err)
	}
	logf.FromContext(ctx).Info("Stored root of trust", "reason", reason, "notAfter", root.certificate.NotAfter)
	r.Recorder.Eventf(m, nil, corev1.EventTypeNormal, reason, "Trust", "%s, good until %s", message, root.certificate.NotAfter.Format(time.DateOnly))
	return nil
}

// keep puts back the labels and the owner of the root's Secret.
func (r *Reconciler) keep(ctx context.Context, m *operatorv1alpha1.Mesh, key client.ObjectKey, live *corev1.Secret) error {
	wanted := rootMeta(m, key)
	intact := metav1.IsControlledBy(live, m)
	for k, v := range wanted.Labels {
		intact = intact && live.Labels[k] == v
	}
	if intact {
		return nil
	}
	before := live.DeepCopy()
	if live.Labels == nil {
		live.Labels = map[string]string{}
	}
	maps.Copy(live.Labels, wanted.Labels)
	live.OwnerReferences = wanted.OwnerReferences
	if err := r.Client.Patch(ctx, live, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("repairing Secret %s: %w", key, err)
	}
	r.Recorder.Eventf(m, nil, corev1.EventTypeWarning, "Repaired", "Trust", "Secret %s was changed and has been put back", key)
	return nil
}

func rootMeta(m *operatorv1alpha1.Mesh, key client.ObjectKey) metav1.ObjectMeta {
	return owned(key, m.Name, ownerOf("Mesh", m))
}

// publish writes the roots where everyone reads them: pods from the
// ClusterTrustBundle, the control plane from a ConfigMap.
func (r *Reconciler) publish(ctx context.Context, m *operatorv1alpha1.Mesh, root *anchor) error {
	clusterBundles, err := observe.HasTrustBundles(r.Client.RESTMapper())
	if err != nil {
		return err
	}
	results, err := r.applier.Apply(ctx, m.Name, bundles(m, root, clusterBundles)...)
	for _, result := range results {
		if result.Outcome == apply.Repaired {
			r.Recorder.Eventf(m, nil, corev1.EventTypeWarning, "Repaired", "Trust", "%s was changed and has been put back", result)
		}
	}
	if err != nil {
		return fmt.Errorf("publishing the roots of Mesh %s: %w", m.Name, err)
	}
	return nil
}

// errNoRoot says that a mesh has no root yet.
var errNoRoot = errors.New("the mesh has no root of trust yet")
