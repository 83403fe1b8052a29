package trust

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/vault"
	"github.com/openservicemesh/osm-operator/internal/plan"
)

const (
	// vaultTimeout is how long an answer of Vault's may take.
	vaultTimeout = 10 * time.Second
	// firstPause and longestPause are how long Vault is left alone after it failed: some of
	// its logins are locked after a few that are wrong.
	firstPause, longestPause = 5 * time.Second, 2 * time.Minute
	// tokenLifetime is how long the token of the operator's ServiceAccount is good that Vault
	// gets. Kubernetes makes none for less.
	tokenLifetime = 10 * time.Minute
	// usefulLifetime is the shortest life of an intermediate that is of use: a third is over
	// when it is renewed, and leaves have an hour.
	usefulLifetime = 3 * time.Hour
)

// link is what the operator has to do with one Vault, kept so that a login lasts.
type link struct {
	client  *vault.Client
	options vault.Options
	now     func() time.Time

	mu sync.Mutex
	// Protected by mu: how often in a row it failed, with what, and until when it is left
	// alone for it.
	failures int
	failure  error
	until    time.Time
}

// ask asks Vault, unless it failed a moment ago: then it says with what.
func (l *link) ask(ask func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure != nil && l.now().Before(l.until) {
		return l.failure
	}
	err := ask()
	if errors.Is(err, context.Canceled) {
		return err
	}
	if l.failure = err; err == nil {
		l.failures = 0
		return nil
	}
	l.until = l.now().Add(min(firstPause<<min(l.failures, 10), longestPause))
	l.failures++
	return err
}

// below returns what signs with a chain of Vault's.
func (l *link) below(chain ca.Chain) signer {
	return &linked{link: l, authority: l.client.Authority(chain)}
}

// linked signs with Vault, and lets it rest where it fails.
type linked struct {
	link      *link
	authority *vault.Authority
}

// Issue implements signer.
func (l *linked) Issue(ctx context.Context, req ca.Request) (chain ca.Chain, err error) {
	err = l.link.ask(func() error {
		chain, err = l.authority.Issue(ctx, req)
		return err
	})
	return chain, err
}

// IssueIntermediate implements signer.
func (l *linked) IssueIntermediate(ctx context.Context, req ca.IntermediateRequest) (chain ca.Chain, err error) {
	err = l.link.ask(func() error {
		chain, err = l.authority.IssueIntermediate(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	if life := chain.Leaf().NotAfter.Sub(chain.Leaf().NotBefore); life < usefulLifetime {
		return nil, &ca.RefusedError{Err: fmt.Errorf("%s signs for %s at most, and what a control plane signs with has to be good for %s: raise max_lease_ttl of the mount", vaultName(l.link), life, usefulLifetime)}
	}
	return chain, nil
}

func vaultName(l *link) string { return "Vault at " + l.options.Address }

// link returns what speaks to the Vault of a Mesh: the one that did before, as long as
// nothing else is asked for.
func (r *Reconciler) link(ctx context.Context, m *operatorv1alpha1.Mesh) (*link, error) {
	v := vaultOf(m)
	if v == nil {
		return nil, notFollowed("what workloads trust is Vault's, and the Mesh names no Vault: put spec.certificateAuthority.vault back")
	}
	login, err := r.login(ctx, m, v)
	if err != nil {
		return nil, err
	}
	o := vault.Options{
		Address:   cmp.Or(v.Protocol, "https") + "://" + net.JoinHostPort(v.Host, strconv.Itoa(int(cmp.Or(v.Port, 8200)))),
		Namespace: v.Namespace, CABundle: v.CABundle, Mount: cmp.Or(v.Mount, "pki"), Role: v.Role,
		Login: login, Timeout: vaultTimeout, Now: r.Now,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	current := r.links[m.Name]
	if current != nil && current.options.Equal(o) {
		return current, nil
	}
	c, err := vault.NewClient(o)
	if err != nil {
		return nil, &problem{reason: operatorv1alpha1.ReasonAuthorityInvalid, err: fmt.Errorf("Vault cannot be asked: %w", err)} //nolint:staticcheck // a name
	}
	if current != nil {
		current.client.Close()
	}
	next := &link{client: c, options: o, now: r.Now}
	r.links[m.Name] = next
	return next, nil
}

// unlink forgets the Vault of a Mesh.
func (r *Reconciler) unlink(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.links[name]; l != nil {
		l.client.Close()
		delete(r.links, name)
	}
}

// login reads what the operator proves itself to Vault with.
func (r *Reconciler) login(ctx context.Context, m *operatorv1alpha1.Mesh, v *operatorv1alpha1.VaultAuthority) (vault.Login, error) {
	switch {
	case v.Token != nil:
		token, err := r.concealed(ctx, m, v.Token.SecretKeyRef)
		return vault.Login{Token: &token}, err
	case v.AppRole != nil:
		id, err := r.concealed(ctx, m, v.AppRole.SecretID.SecretKeyRef)
		return vault.Login{AppRole: &vault.AppRole{Mount: cmp.Or(v.AppRole.Mount, "approle"), RoleID: v.AppRole.RoleID, SecretID: id}}, err
	case v.Kubernetes != nil:
		audience := cmp.Or(v.Kubernetes.Audience, "vault")
		return vault.Login{Kubernetes: &vault.Kubernetes{
			Mount: cmp.Or(v.Kubernetes.Mount, "kubernetes"), Role: v.Kubernetes.Role,
			JWT: func(ctx context.Context) (vault.Secret, error) { return r.ownToken(ctx, audience) },
		}}, nil
	}
	return vault.Login{}, notFollowed("set a login of Vault: token, appRole or kubernetes")
}

// concealed reads one key of a Secret.
func (r *Reconciler) concealed(ctx context.Context, m *operatorv1alpha1.Mesh, ref operatorv1alpha1.SecretKeyReference) (vault.Secret, error) {
	key := client.ObjectKey{Namespace: cmp.Or(ref.Namespace, r.Namespace), Name: ref.Name}
	secret, err := r.namedSecret(ctx, m, key)
	if err != nil {
		return vault.Secret{}, err
	}
	value := bytes.TrimSpace(secret.Data[ref.Key])
	if len(value) == 0 {
		return vault.Secret{}, unreadable("Secret %s has no key %s: write it, or name another", key, ref.Key)
	}
	return vault.Conceal(string(value)), nil
}

// ownToken makes a token of the operator's ServiceAccount that is good for an audience and
// nothing else.
func (r *Reconciler) ownToken(ctx context.Context, audience string) (vault.Secret, error) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: r.ServiceAccount}}
	token := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{audience}, ExpirationSeconds: new(int64(tokenLifetime / time.Second)),
	}}
	if err := r.Client.SubResource("token").Create(ctx, account, token); err != nil {
		return vault.Secret{}, err
	}
	return vault.Conceal(token.Status.Token), nil
}

// loadVault returns the root of a mesh whose key is in Vault. It is that whether Vault can
// be asked or not: what has been signed goes on.
func (r *Reconciler) loadVault(ctx context.Context, m *operatorv1alpha1.Mesh, data map[string][]byte) (*anchor, error) {
	chain, err := ca.ParseChain(data[corev1.TLSCertKey])
	if err != nil {
		return nil, err
	}
	a := &anchor{certificate: chain.Leaf(), vaults: true}
	l, unusable := r.link(ctx, m)
	if unusable != nil {
		a.signer = mute{unusable}
	} else {
		a.vault, a.signer = l, l.below(chain)
	}
	return a, nil
}

// adoptVault returns the root of a mesh that has none yet: what Vault signs with, after it
// has shown that it can sign what the mesh needs.
func (r *Reconciler) adoptVault(ctx context.Context, m *operatorv1alpha1.Mesh) (*anchor, ca.Chain, error) {
	l, err := r.link(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	chain, err := r.vaultChain(ctx, l)
	if err != nil {
		return nil, nil, err
	}
	a := &anchor{certificate: chain.Leaf(), signer: l.below(chain), vaults: true, vault: l}
	if err := try(ctx, a, m, r.Now()); err != nil {
		return nil, nil, err
	}
	trusted, err := r.published(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	if len(trusted) > 0 && !slices.ContainsFunc(trusted, a.certificate.Equal) {
		return nil, nil, notFollowed("Secret %s/%s is gone, and %s signs with %s, which workloads do not trust: restore the Secret from a backup",
			r.Namespace, RootSecret(m.Name), vaultName(l), describe(a.certificate))
	}
	return a, chain, nil
}

// vaultChain reads what Vault signs with, and checks that a mesh can hang on it.
func (r *Reconciler) vaultChain(ctx context.Context, l *link) (chain ca.Chain, err error) {
	err = l.ask(func() error {
		if err := l.client.Check(ctx); err != nil {
			return err
		}
		chain, err = l.client.Chain(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := ca.CheckAnchor(chain, r.Now()); err != nil {
		return nil, &problem{reason: operatorv1alpha1.ReasonAuthorityInvalid, err: fmt.Errorf("mount %s of %s cannot be used: %w", l.options.Mount, vaultName(l), err)}
	}
	return chain, nil
}

// compareVault says why the root that a mesh has is not the one of the Vault that its spec
// names, or why that Vault would not sign.
func (r *Reconciler) compareVault(ctx context.Context, root *anchor) error {
	if silent, ok := root.signer.(mute); ok {
		return silent.err
	}
	if !root.vaults {
		return notFollowed("the Mesh names a Vault, and workloads trust %s, which goes on: take the Vault out of the spec", describe(root.certificate))
	}
	chain, err := r.vaultChain(ctx, root.vault)
	if err != nil {
		return err
	}
	if !chain.Leaf().Equal(root.certificate) {
		return notFollowed("mount %s of %s signs with %s, and workloads trust %s: make that the default issuer of the mount, or name the mount that has it",
			root.vault.options.Mount, vaultName(root.vault), describe(chain.Leaf()), describe(root.certificate))
	}
	return nil
}

// namedSecret reads a Secret that a Mesh names, live.
func (r *Reconciler) namedSecret(ctx context.Context, m *operatorv1alpha1.Mesh, key client.ObjectKey) (*corev1.Secret, error) {
	if key.Namespace != r.Namespace && key.Namespace != plan.MeshNamespace(m) {
		return nil, unreadable("Secret %s is neither in the operator's namespace %s nor in the mesh's, %s, and the operator reads none elsewhere: copy it to one of them",
			key, r.Namespace, plan.MeshNamespace(m))
	}
	var secret corev1.Secret
	err := r.APIReader.Get(ctx, key, &secret)
	if apierrors.IsNotFound(err) {
		return nil, unreadable("Secret %s is not there: create it, or name another", key)
	}
	if apierrors.IsForbidden(err) {
		return nil, unreadable("Secret %s may not be read: %v", key, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	return &secret, nil
}
