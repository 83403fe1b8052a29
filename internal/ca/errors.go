package ca

import (
	"fmt"
	"time"
)

// InvalidError says that a request breaks a rule, whoever is asked: it can never
// become right.
type InvalidError struct {
	// Field is what is wrong in the request.
	Field InvalidField
	// Message is a sentence for people.
	Message string
}

// InvalidField is a part of a request.
type InvalidField string

// The parts of a request that can be wrong.
const (
	FieldPublicKey InvalidField = "PublicKey"
	FieldNames     InvalidField = "Names"
	FieldPodUID    InvalidField = "PodUID"
	FieldUsage     InvalidField = "Usage"
	FieldLifetime  InvalidField = "Lifetime"
)

// Error implements error.
func (e *InvalidError) Error() string {
	return fmt.Sprintf("invalid certificate request: %s: %s", e.Field, e.Message)
}

func invalid(field InvalidField, format string, args ...any) error {
	return &InvalidError{Field: field, Message: fmt.Sprintf(format, args...)}
}

// RefusedError says that the authority understood a request and will not have it, as
// it is set up now. Asking again helps once somebody has changed that.
type RefusedError struct{ Err error }

// Error implements error.
func (e *RefusedError) Error() string {
	return "refused by the certificate authority: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// UnavailableError says that the authority cannot answer now, and may later.
type UnavailableError struct {
	Err error
	// RetryAfter is how long the authority wants to be left alone; 0 if it does not say.
	RetryAfter time.Duration
}

// Error implements error.
func (e *UnavailableError) Error() string {
	return "the certificate authority cannot answer: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// WrongError says that what an authority returned is not what was asked for. It must
// not be used; somebody has to look at the authority.
type WrongError struct {
	// Message is a sentence for people.
	Message string
	// Err is the cause, if there is one.
	Err error
}

// Error implements error.
func (e *WrongError) Error() string {
	text := "the certificate authority returned what nobody asked for: " + e.Message
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *WrongError) Unwrap() error { return e.Err }

func wrong(format string, args ...any) error {
	return &WrongError{Message: fmt.Sprintf(format, args...)}
}
