package trust

import (
	"context"
	"crypto/x509"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
)

const (
	// providerKey of the root's Secret says whose the root is; absent, it is the operator's.
	providerKey = "provider"
	// providerVault says that the root's key is in a Vault.
	providerVault = "vault"
)

// signer signs with what a mesh trusts.
type signer interface {
	Issue(ctx context.Context, req ca.Request) (ca.Chain, error)
	IssueIntermediate(ctx context.Context, req ca.IntermediateRequest) (ca.Chain, error)
}

// anchor is what workloads of a mesh trust, and what signs with it.
type anchor struct {
	certificate *x509.Certificate
	signer
	// vaults says that the key is in a Vault; vault is what speaks to it, nil where the Mesh
	// does not say how.
	vaults bool
	vault  *link
}

func ofBuiltIn(a *builtin.Authority) *anchor { return &anchor{certificate: a.Certificate(), signer: a} }

// pem returns what is trusted, as it is published.
func (a *anchor) pem() []byte { return ca.EncodeCertificates(a.roots()) }

func (a *anchor) roots() []*x509.Certificate { return []*x509.Certificate{a.certificate} }

// mute stands for an authority that cannot be asked, and says why.
type mute struct{ err error }

// Issue implements signer.
func (m mute) Issue(context.Context, ca.Request) (ca.Chain, error) { return nil, m.err }

// IssueIntermediate implements signer.
func (m mute) IssueIntermediate(context.Context, ca.IntermediateRequest) (ca.Chain, error) {
	return nil, m.err
}

// vaultOf returns the Vault that a Mesh names, if it does.
func vaultOf(m *operatorv1alpha1.Mesh) *operatorv1alpha1.VaultAuthority {
	if m.Spec.CertificateAuthority == nil {
		return nil
	}
	return m.Spec.CertificateAuthority.Vault
}
