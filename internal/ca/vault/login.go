package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/vault/api"
)

// Secret is a token or a password that does not show itself: whatever prints it, logs it
// or encodes it gets REDACTED. The zero value is empty.
type Secret struct {
	// held is a function since some printers go around the methods, as fmt does where a
	// Secret is in a field that is not exported: they find an address.
	held func() string
}

// Conceal returns a text as a Secret.
func Conceal(text string) Secret { return Secret{held: func() string { return text }} }

// reveal returns the text, for Vault.
func (s Secret) reveal() string {
	if s.held == nil {
		return ""
	}
	return s.held()
}

// Equal reports whether two are the same.
func (s Secret) Equal(other Secret) bool { return s.reveal() == other.reveal() }

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "REDACTED") }

// MarshalText implements encoding.TextMarshaler, and with it JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte("REDACTED"), nil }

// Login is how the mesh proves itself to Vault; exactly one is set.
type Login struct {
	// Token is one that somebody made.
	Token *Secret
	// AppRole and Kubernetes are exchanged for a token.
	AppRole    *AppRole
	Kubernetes *Kubernetes
}

// AppRole is a login of Vault's AppRole method.
type AppRole struct {
	// Mount is where the method is mounted, such as approle.
	Mount    string
	RoleID   string
	SecretID Secret
}

// Kubernetes is a login of Vault's Kubernetes method.
type Kubernetes struct {
	// Mount is where the method is mounted, such as kubernetes.
	Mount, Role string
	// JWT returns a token of the ServiceAccount that logs in.
	JWT func(ctx context.Context) (Secret, error)
}

// Equal reports whether two logins prove the same.
func (l Login) Equal(other Login) bool {
	switch {
	case l.Token != nil:
		return other.Token != nil && l.Token.Equal(*other.Token)
	case l.AppRole != nil:
		return other.AppRole != nil && l.AppRole.Mount == other.AppRole.Mount &&
			l.AppRole.RoleID == other.AppRole.RoleID && l.AppRole.SecretID.Equal(other.AppRole.SecretID)
	case l.Kubernetes != nil:
		return other.Kubernetes != nil && l.Kubernetes.Mount == other.Kubernetes.Mount && l.Kubernetes.Role == other.Kubernetes.Role
	}
	return other == Login{}
}

// session is a token, and how long it is good.
type session struct {
	token Secret
	// renewAt is when a part of its life is over; ends is when all of it is. Both are zero
	// for a token that never ends.
	renewAt, ends time.Time
	renewable     bool
}

// begin returns a session of a login.
func (c *Client) begin(ctx context.Context) (*session, error) {
	login := c.options.Login
	switch {
	case login.Token != nil:
		return c.lookUp(ctx, *login.Token)
	case login.AppRole != nil:
		a := login.AppRole
		return c.exchange(ctx, a.Mount, map[string]any{"role_id": a.RoleID, "secret_id": a.SecretID.reveal()})
	case login.Kubernetes != nil:
		k := login.Kubernetes
		jwt, err := k.JWT(ctx)
		if err != nil {
			return nil, fmt.Errorf("making a token of the operator's ServiceAccount: %w", err)
		}
		return c.exchange(ctx, k.Mount, map[string]any{"role": k.Role, "jwt": jwt.reveal()})
	}
	return nil, errors.New("there is no login")
}

// exchange has an auth method make a token.
func (c *Client) exchange(ctx context.Context, mount string, proof map[string]any) (*session, error) {
	answer, err := c.write(ctx, Secret{}, "auth/"+mount+"/login", proof)
	if err != nil {
		return nil, fmt.Errorf("logging in by auth/%s: %w", mount, err)
	}
	if answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "" {
		return nil, wrong("auth/%s let nobody in and told no error", mount)
	}
	return c.sessionOf(Conceal(answer.Auth.ClientToken), answer.Auth), nil
}

func (c *Client) sessionOf(token Secret, auth *api.SecretAuth) *session {
	s := &session{token: token, renewable: auth.Renewable}
	if life := time.Duration(auth.LeaseDuration) * time.Second; life > 0 {
		s.renewAt, s.ends = c.options.Now().Add(life/3), c.options.Now().Add(life)
	}
	return s
}

// lookUp returns the session of a token that somebody made.
func (c *Client) lookUp(ctx context.Context, token Secret) (*session, error) {
	answer, err := c.read(ctx, token, "auth/token/lookup-self")
	if err != nil {
		return nil, fmt.Errorf("looking at the token: %w", err)
	}
	life, err := answer.TokenTTL()
	if err != nil {
		return nil, wrong("what it tells of the token cannot be read: %v", err)
	}
	renewable, err := answer.TokenIsRenewable()
	if err != nil {
		return nil, wrong("what it tells of the token cannot be read: %v", err)
	}
	s := &session{token: token, renewable: renewable}
	if life > 0 {
		// How long it was good at first is not asked: a third of what is left is soon enough.
		s.renewAt, s.ends = c.options.Now().Add(life/3), c.options.Now().Add(life)
	}
	return s, nil
}

// renew has a token last longer.
func (c *Client) renew(ctx context.Context, old *session) (*session, error) {
	answer, err := c.write(ctx, old.token, "auth/token/renew-self", map[string]any{})
	if err != nil {
		return nil, fmt.Errorf("renewing the token: %w", err)
	}
	if answer == nil || answer.Auth == nil {
		return nil, wrong("the token was renewed for nobody knows how long")
	}
	return c.sessionOf(old.token, answer.Auth), nil
}
