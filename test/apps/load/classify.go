package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Kinds of errors in a report.
const (
	ErrTimeout = "timeout"
	ErrRefused = "refused"
	ErrReset   = "reset"
	ErrClosed  = "closed"
	ErrDNS     = "dns"
	ErrTLS     = "tls"
	ErrOther   = "other"
)

// classify names the kind of an error, coarse enough to be compared in a test.
func classify(err error) string {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return ErrDNS
	}
	if timedOut(err) {
		return ErrTimeout
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return ErrRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ErrReset
	case aboutTLS(err):
		return ErrTLS
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), closedByServer(err):
		return ErrClosed
	}
	return ErrOther
}

// timedOut says whether an error is about time.
func timedOut(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout()
}

// aboutTLS says whether an error is about a handshake or a certificate. The http package
// has no type for a server that does not speak TLS.
func aboutTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	return strings.Contains(err.Error(), "tls: ") || strings.Contains(err.Error(), "gave HTTP response to HTTPS client")
}

// closedByServer says whether the server closed the connection. The http package tells
// it in texts only.
func closedByServer(err error) bool {
	for _, text := range []string{"server closed idle connection", "client connection lost", "server sent GOAWAY"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}
