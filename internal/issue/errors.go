package issue

import (
	"errors"
	"fmt"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ca"
)

// Reasons of a DeniedError. Whoever is denied is denied for ever, at each renewal too.
const (
	// ReasonUnsupportedKeyType is Kubernetes' word for a key that is not certified.
	ReasonUnsupportedKeyType = "UnsupportedKeyType"
	// ReasonUnknownAnnotations is Kubernetes' word for annotations of the volume that
	// mean nothing to the signer.
	ReasonUnknownAnnotations = "InvalidUnverifiedUserAnnotations"
	// ReasonInvalidRequest says that the request cannot be read, or wants what
	// Kubernetes does not allow.
	ReasonInvalidRequest = "InvalidRequest"
	// ReasonInvalidIdentity says that the pod has names that no certificate can hold.
	ReasonInvalidIdentity = "InvalidIdentity"
	// ReasonPodReplaced says that another pod has the name now.
	ReasonPodReplaced = "PodReplaced"
	// ReasonPodMismatch says that the pod runs as somebody else, or somewhere else.
	ReasonPodMismatch = "PodMismatch"
	// ReasonPodFinished says that the pod has ended and will not run again.
	ReasonPodFinished = "PodFinished"
)

// Reasons of a PendingError.
const (
	// ReasonNoIssuer says that the control plane has nothing to sign with yet.
	ReasonNoIssuer = "NoIssuer"
	// ReasonNotEnrolled says that the pod's namespace is not in the mesh.
	ReasonNotEnrolled = "NamespaceNotEnrolled"
	// ReasonPodUnreadable says that the API server did not answer.
	ReasonPodUnreadable = "PodUnreadable"
	// ReasonPodNotFound says that there is no pod of that name now.
	ReasonPodNotFound = "PodNotFound"
	// ReasonPodNotScheduled says that the pod is on no node yet.
	ReasonPodNotScheduled = "PodNotScheduled"
	// ReasonAuthorityUnavailable says that the authority does not answer.
	ReasonAuthorityUnavailable = "AuthorityUnavailable"
	// ReasonAuthorityRefused says that the authority is set up so that it refuses.
	ReasonAuthorityRefused = "AuthorityRefused"
	// ReasonWrongCertificate says that the authority returned what nobody asked for.
	ReasonWrongCertificate = "WrongCertificate"
)

// Outage reports whether a pod that waits for a reason waits for the mesh. Whoever makes
// pods could otherwise have the mesh look bad.
func Outage(reason string) bool {
	switch reason {
	case ReasonNoIssuer, ReasonPodUnreadable, ReasonAuthorityUnavailable, ReasonAuthorityRefused, ReasonWrongCertificate:
		return true
	default:
		return false
	}
}

// DeniedError says that a request can never become right.
type DeniedError struct {
	// Reason is a word in CamelCase, Message a sentence for people.
	Reason, Message string
}

// Error implements error.
func (e *DeniedError) Error() string { return e.Reason + ": " + e.Message }

func denied(reason, format string, args ...any) error {
	return &DeniedError{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// PendingError says that a request cannot be answered now, and why.
type PendingError struct {
	// Reason is a word in CamelCase.
	Reason string
	Err    error
	// RetryAfter is how long the authority wants to be left alone; 0 if it does not say.
	RetryAfter time.Duration
}

// Error implements error.
func (e *PendingError) Error() string { return e.Reason + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *PendingError) Unwrap() error { return e.Err }

// classify says what an error of an authority means for a request. Only what the
// request itself has wrong denies it: an authority that refuses can be set right.
func classify(err error) error {
	var (
		invalid     *ca.InvalidError
		refused     *ca.RefusedError
		wrong       *ca.WrongError
		unavailable *ca.UnavailableError
	)
	switch {
	case errors.As(err, &invalid):
		return ofInvalid(invalid)
	case errors.As(err, &refused):
		return &PendingError{Reason: ReasonAuthorityRefused, Err: err}
	case errors.As(err, &wrong):
		return &PendingError{Reason: ReasonWrongCertificate, Err: err}
	case errors.As(err, &unavailable):
		return &PendingError{Reason: ReasonAuthorityUnavailable, Err: err, RetryAfter: unavailable.RetryAfter}
	default:
		return &PendingError{Reason: ReasonAuthorityUnavailable, Err: err}
	}
}

// ofInvalid denies what the pod's author chose. Life and usage were chosen here: if
// they are wrong, a clock or a setting is.
func ofInvalid(err *ca.InvalidError) error {
	switch err.Field {
	case ca.FieldPublicKey:
		return denied(ReasonUnsupportedKeyType, "%s", err.Message)
	case ca.FieldNames, ca.FieldPodUID:
		return denied(ReasonInvalidIdentity, "%s", err.Message)
	default:
		return &PendingError{Reason: ReasonAuthorityRefused, Err: err}
	}
}
