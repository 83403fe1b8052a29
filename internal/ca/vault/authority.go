package vault

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/openservicemesh/osm-operator/internal/ca"
)

// margin is how much before its issuer a certificate ends: Vault counts from when it
// signs, and by its own clock.
const margin = time.Minute

// Authority is what a mount of Vault's signs with. Where workloads are concerned, it
// certifies an authority of the mesh's own: it wants requests that are signed with the key
// that it certifies, and has no place for the pod in them.
type Authority struct {
	client *Client
	// chain is the certificate that signs, then what leads to its root, without the root
	// unless it is that itself. Read-only.
	chain ca.Chain
}

var (
	_ ca.Authority             = (*Authority)(nil)
	_ ca.IntermediateAuthority = (*Authority)(nil)
)

// Chain reads what the mount signs with: its certificate, and what leads to its root,
// without the root, unless it is that itself.
func (c *Client) Chain(ctx context.Context) (ca.Chain, error) {
	answer, err := c.read(ctx, Secret{}, c.options.Mount+"/cert/ca_chain")
	if err != nil {
		return nil, err
	}
	text, _ := answer.Data["ca_chain"].(string)
	if text == "" {
		text, _ = answer.Data["certificate"].(string)
	}
	if text == "" {
		return nil, refused("the mount %s has no authority: make one, or set another mount", c.options.Mount)
	}
	chain, err := ca.ParseChain([]byte(text))
	if err != nil {
		return nil, wrong("the mount %s has certificates that cannot be read: %v", c.options.Mount, err)
	}
	if last := len(chain) - 1; last > 0 && ca.SelfSigned(chain[last]) {
		chain = chain[:last]
	}
	return chain, nil
}

// Authority returns what signs with the first certificate of a chain, as Chain returned it
// at some time. If the mount signs with another by now, what comes back does not pass the
// checks of package ca.
func (c *Client) Authority(chain ca.Chain) *Authority {
	return &Authority{client: c, chain: slices.Clone(chain)}
}

// Bundle implements ca.Authority.
func (a *Authority) Bundle(ctx context.Context) ([]*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return []*x509.Certificate{a.chain.Leaf()}, nil
}

// Issue implements ca.Authority, for subjects whose key is at hand.
func (a *Authority) Issue(ctx context.Context, req ca.Request) (ca.Chain, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	life, err := a.life(req.End(), req.MinLifetime)
	if err != nil {
		return nil, err
	}
	template, err := ca.LeafTemplate(req)
	if err != nil {
		return nil, err
	}
	csr, err := newRequest(template, req.Key)
	if err != nil {
		return nil, err
	}
	return a.sign(ctx, a.client.leafPath(), map[string]any{"csr": csr, "ttl": life})
}

// IssueIntermediate implements ca.IntermediateAuthority.
func (a *Authority) IssueIntermediate(ctx context.Context, req ca.IntermediateRequest) (ca.Chain, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	if a.chain.Leaf().MaxPathLenZero {
		return nil, refused("%q may certify no other authority", a.chain.Leaf().Subject)
	}
	life, err := a.life(req.NotAfter, 0)
	if err != nil {
		return nil, err
	}
	template, err := ca.IntermediateTemplate(req)
	if err != nil {
		return nil, err
	}
	csr, err := newRequest(template, req.Key)
	if err != nil {
		return nil, err
	}
	return a.sign(ctx, a.client.intermediatePath(), map[string]any{
		"csr": csr, "ttl": life, "use_csr_values": true, "max_path_length": 0,
		"not_before_duration": seconds(a.backdating(req.NotBefore)),
	})
}

// life is how long a certificate is asked for that is to end at a time, as Vault writes
// it: Vault may cut it, and would sign beyond the end of what it signs with.
func (a *Authority) life(end time.Time, shortest time.Duration) (string, error) {
	for _, issuer := range a.chain {
		if last := issuer.NotAfter.Add(-margin); last.Before(end) {
			end = last
		}
	}
	life := end.Sub(a.client.options.Now()).Truncate(time.Second)
	if life < max(shortest, time.Second) {
		own := a.chain.Leaf()
		return "", &ca.UnavailableError{Err: fmt.Errorf("%q ends at %s, too soon to sign for %s", own.Subject, own.NotAfter.UTC().Format(time.RFC3339), shortest)}
	}
	return seconds(life), nil
}

// backdating is how long ago a certificate is to begin that others are signed with: leaves
// are backdated, and none begins before its issuer.
func (a *Authority) backdating(begin time.Time) time.Duration {
	for _, issuer := range a.chain {
		if issuer.NotBefore.After(begin) {
			begin = issuer.NotBefore
		}
	}
	return a.client.options.Now().Sub(begin)
}

// seconds is a duration as Vault writes it.
func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int64(d.Seconds())) }

func (a *Authority) sign(ctx context.Context, path string, data map[string]any) (ca.Chain, error) {
	data["format"] = "pem"
	answer, err := a.client.do(ctx, path, data)
	if err != nil {
		return nil, err
	}
	certificate, err := certificateOf(answer)
	if err != nil {
		return nil, err
	}
	chain := ca.Chain{certificate}
	if !ca.SelfSigned(a.chain.Leaf()) {
		chain = append(chain, a.chain...)
	}
	return chain, nil
}

func certificateOf(answer *api.Secret) (*x509.Certificate, error) {
	if answer == nil {
		return nil, wrong("no certificate")
	}
	text, _ := answer.Data["certificate"].(string)
	chain, err := ca.ParseChain([]byte(text))
	if err != nil {
		return nil, wrong("no certificate: %v", err)
	}
	return chain.Leaf(), nil
}

// newRequest returns a PKCS#10 request for what a template says, as PEM. Vault copies the
// subject and the extensions, and writes what says that an authority is one by itself.
func newRequest(template *x509.Certificate, key ca.PrivateKey) (string, error) {
	if key.Signer() == nil {
		return "", refused("Vault certifies keys that sign their request, and this one is elsewhere")
	}
	// What Go writes of a template is taken from a certificate that nobody sees.
	template.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key.Signer())
	if err != nil {
		return "", fmt.Errorf("writing a request: %w", err)
	}
	written, err := x509.ParseCertificate(der)
	if err != nil {
		return "", fmt.Errorf("writing a request: %w", err)
	}
	request := &x509.CertificateRequest{Subject: template.Subject}
	for _, extension := range written.Extensions {
		if !byVault(extension) {
			request.ExtraExtensions = append(request.ExtraExtensions, extension)
		}
	}
	raw, err := x509.CreateCertificateRequest(rand.Reader, request, key.Signer())
	if err != nil {
		return "", errors.New("the request cannot be signed") // the cause could quote the key
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: raw})), nil
}

// byVault reports whether an extension is for Vault to write: basic constraints, and the
// identifiers of the two keys.
func byVault(e pkix.Extension) bool {
	return slices.Contains([]string{"2.5.29.19", "2.5.29.14", "2.5.29.35"}, e.Id.String())
}
