// Package vault is HashiCorp Vault's PKI engine as a certificate authority. Requests go to
// Vault and certificates come back, which a mount's authority signed whose key never leaves
// Vault. It logs in, and keeps the login alive while it is asked; it stores nothing, and
// repeats nothing by itself: when to try again is for its callers to say.
package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/openservicemesh/osm-operator/internal/ca"
)

// Options say where a Vault is, and what is asked of it.
type Options struct {
	// Address is its URL, without a path.
	Address string
	// Namespace is of Vault's own; empty for the root.
	Namespace string
	// CABundle is what vouches for its address, as PEM; empty for the system's.
	CABundle string
	// Mount is where the PKI engine is mounted.
	Mount string
	// Role bounds how long certificates are good; may be empty.
	Role  string
	Login Login
	// Timeout is how long an answer may take.
	Timeout time.Duration
	// Now is the clock.
	Now func() time.Time
}

// Equal reports whether the same is asked, of the same, in the same name.
func (o Options) Equal(other Options) bool {
	return o.Address == other.Address && o.Namespace == other.Namespace && o.CABundle == other.CABundle &&
		o.Mount == other.Mount && o.Role == other.Role && o.Login.Equal(other.Login)
}

// Client speaks to a Vault. It is safe for concurrent use.
type Client struct {
	options Options
	http    *api.Client

	mu sync.Mutex
	// Protected by mu.
	session *session
}

// NewClient returns a Client; it asks nothing yet.
func NewClient(o Options) (*Client, error) {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true, TLSHandshakeTimeout: o.Timeout, IdleConnTimeout: time.Minute,
	}
	if o.CABundle != "" {
		roots, err := ca.ParseBundle([]byte(o.CABundle))
		if err != nil {
			return nil, fmt.Errorf("reading caBundle: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		for _, root := range roots {
			transport.TLSClientConfig.RootCAs.AddCert(root)
		}
	}
	client, err := api.NewClient(&api.Config{
		Address: o.Address, Timeout: o.Timeout, DisableRedirects: true,
		HttpClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	if err != nil {
		return nil, fmt.Errorf("the address %s: %w", o.Address, err)
	}
	// Nothing is taken from the environment.
	client.ClearToken()
	client.ClearNamespace()
	if o.Namespace != "" {
		client.SetNamespace(o.Namespace)
	}
	return &Client{options: o, http: client}, nil
}

// Address is where the Vault is.
func (c *Client) Address() string { return c.options.Address }

// Close lets go of connections.
func (c *Client) Close() { c.http.CloneConfig().HttpClient.CloseIdleConnections() }

func (c *Client) with(token Secret) (*api.Logical, error) {
	client, err := c.http.CloneWithHeaders()
	if err != nil {
		return nil, err
	}
	client.SetToken(token.reveal())
	return client.Logical(), nil
}

func (c *Client) read(ctx context.Context, token Secret, path string) (*api.Secret, error) {
	logical, err := c.with(token)
	if err != nil {
		return nil, err
	}
	answer, err := logical.ReadWithContext(ctx, path)
	if err == nil && answer == nil {
		return nil, refused("Vault at %s knows nothing of %s", c.options.Address, path)
	}
	return answer, c.classify(ctx, path, err)
}

func (c *Client) write(ctx context.Context, token Secret, path string, data map[string]any) (*api.Secret, error) {
	logical, err := c.with(token)
	if err != nil {
		return nil, err
	}
	answer, err := logical.WriteWithContext(ctx, path, data)
	return answer, c.classify(ctx, path, err)
}

// token returns one that is good, and renews it or logs in again where that is due.
func (c *Client) token(ctx context.Context) (Secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.options.Now()
	if s := c.session; s != nil {
		switch {
		case s.ends.IsZero() || now.Before(s.renewAt):
			return s.token, nil
		case s.renewable:
			renewed, err := c.renew(ctx, s)
			if err == nil {
				c.session = renewed
				return renewed.token, nil
			}
			if now.Before(s.ends) && c.options.Login.Token != nil {
				return s.token, nil // it is good for a while, and there is no other
			}
		case now.Before(s.ends) && c.options.Login.Token != nil:
			return s.token, nil
		}
	}
	next, err := c.begin(ctx)
	if err != nil {
		c.session = nil
		return Secret{}, err
	}
	c.session = next
	return next.token, nil
}

// forget has the next request log in again, if a token is still the one that was used.
func (c *Client) forget(token Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil && c.session.token.Equal(token) {
		c.session = nil
	}
}

// do writes with a good token; where that is denied, once more with another, since tokens
// are also revoked.
func (c *Client) do(ctx context.Context, path string, data map[string]any) (*api.Secret, error) {
	for again := true; ; again = false {
		token, err := c.token(ctx)
		if err != nil {
			return nil, err
		}
		answer, err := c.write(ctx, token, path, data)
		if _, denied := errors.AsType[*deniedError](err); !denied {
			return answer, err
		}
		c.forget(token)
		if !again {
			return nil, err
		}
	}
}

// Check reports why Vault would not sign now: it cannot be reached, is sealed, does not
// take the login, or denies it what it needs. Nothing is signed for it.
func (c *Client) Check(ctx context.Context) error {
	paths := []string{c.intermediatePath(), c.leafPath()}
	answer, err := c.do(ctx, "sys/capabilities-self", map[string]any{"paths": paths})
	if err != nil {
		return err
	}
	if answer == nil {
		return wrong("it told nothing of what the login may do")
	}
	for _, path := range paths {
		may, ok := answer.Data[path].([]any)
		if !ok {
			return wrong("it told nothing of what the login may do at %s", path)
		}
		if !slices.Contains(may, any("update")) && !slices.Contains(may, any("root")) {
			return refused("the login may not do what it has to: give a policy of its path %q { capabilities = [\"update\"] }; it has %v", path, may)
		}
	}
	return nil
}

func (c *Client) intermediatePath() string { return c.options.Mount + "/root/sign-intermediate" }

func (c *Client) leafPath() string {
	path := c.options.Mount + "/sign-verbatim"
	if c.options.Role != "" {
		path += "/" + c.options.Role
	}
	return path
}
