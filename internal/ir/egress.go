package ir

import (
	"net/netip"
	"time"
)

// EgressPort is what a proxy may call outside the mesh on one port. Ways are told
// apart by the address that was called, the most exact range first, then by server
// name, then by what is spoken. What none of them is for is unknown.
type EgressPort struct {
	Port uint16
	Ways []EgressWay
}

// EgressKind says what a way out is told by.
type EgressKind string

const (
	// EgressHTTP is told by the host of each request; a host that is not listed is
	// answered 404.
	EgressHTTP EgressKind = "http"
	// EgressTLS is told by the server name that a client asks for; nothing is decrypted.
	EgressTLS EgressKind = "tls"
	// EgressBytes is anything.
	EgressBytes EgressKind = "bytes"
)

// EgressWay is one way out of the mesh. No two of a port have a range, a kind and a
// server name in common.
type EgressWay struct {
	Kind EgressKind
	// Ranges are the addresses that may be called; none is any.
	Ranges []netip.Prefix
	// ServerNames, for TLS, are the names that may be asked for, some with a leading
	// "*."; none is any.
	ServerNames []string
	// Hosts, for HTTP, are the hosts that may be called.
	Hosts []EgressHost
	// Upstream, for all but HTTP, bounds what is under way. Connections go to the
	// address that the application has called.
	Upstream EgressUpstream
	// ServerFirst says that the server may speak first.
	ServerFirst bool
}

// EgressHost is a host outside the mesh. A way without ranges finds its address by its
// name; one with ranges takes the address that the application has called.
type EgressHost struct {
	// Host is a name, without port; "*.name" is any below it, "*" any.
	Host string
	// Routes are the requests that may be sent; any other is answered 404.
	Routes []HTTPRoute
	// Upstream bounds what is under way to the host.
	Upstream EgressUpstream
}

// EgressUpstream bounds what a proxy has under way to a place outside the mesh.
type EgressUpstream struct {
	// Name tells it from other bounds of the proxy; empty where there are none.
	Name string
	// Request bounds a request of HTTP; Silence ends a connection of anything else on
	// which nothing is said. 0 is no bound.
	Request, Silence time.Duration
	Upstream
}
