package vault

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/openservicemesh/osm-operator/internal/ca"
)

// maxWords is how much is repeated of what Vault says: what stands in its place may
// answer with a page.
const maxWords = 300

func wrong(format string, args ...any) error {
	return &ca.WrongError{Message: fmt.Sprintf(format, args...)}
}

func refused(format string, args ...any) error {
	return &ca.RefusedError{Err: fmt.Errorf(format, args...)}
}

// classify turns an error of Vault's client into one of package ca: in Vault's words, and
// with what to do about it.
func (c *Client) classify(ctx context.Context, path string, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return cause // the asker has gone
	}
	answer, answered := errors.AsType[*api.ResponseError](err)
	if !answered {
		return &ca.UnavailableError{Err: fmt.Errorf("Vault at %s cannot be reached: %w%s", c.options.Address, err, hint(err))} //nolint:staticcheck // a name
	}
	words := wordsOf(answer)
	said := fmt.Errorf("Vault at %s says %q (%d) to %s", c.options.Address, words, answer.StatusCode, path) //nolint:staticcheck // a name
	switch code := answer.StatusCode; {
	case code == http.StatusServiceUnavailable && strings.Contains(words, "sealed"):
		return &ca.UnavailableError{Err: fmt.Errorf("%w: unseal it", said)}
	case code == http.StatusTooManyRequests || code == http.StatusPreconditionFailed || code >= http.StatusInternalServerError:
		return &ca.UnavailableError{Err: said}
	case code == http.StatusForbidden:
		return &deniedError{err: &ca.RefusedError{Err: said}}
	case code == http.StatusNotFound:
		return &ca.RefusedError{Err: fmt.Errorf("%w: look at the mount and at the namespace", said)}
	}
	return &ca.RefusedError{Err: said}
}

// wordsOf is what Vault says.
func wordsOf(answer *api.ResponseError) string {
	words := strings.TrimSpace(strings.Join(answer.Errors, "; "))
	if words == "" {
		words = http.StatusText(answer.StatusCode)
	}
	return words[:min(len(words), maxWords)]
}

// deniedError says that a token is not good, or not for this: another may be.
type deniedError struct{ err error }

// Error implements error.
func (e *deniedError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *deniedError) Unwrap() error { return e.err }

// hint says what to do where nothing answered.
func hint(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return ": set caBundle to the authority that vouches for it"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return ": set host to a name that is in its certificate"
	}
	if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return ": set protocol to http, or have it speak TLS"
	}
	return ""
}
