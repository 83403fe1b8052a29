package ir

import "net/netip"

// Ingress lets gateways outside the mesh send requests to a port of the pod.
type Ingress struct {
	// Sources are the addresses of the gateways; none is any.
	Sources []netip.Prefix
	// TLS is how gateways encrypt; nil is not at all.
	TLS *IngressTLS
	// Routes are the requests that may be sent, tried in order; any other is answered 404.
	Routes []IngressRoute
}

// IngressTLS is how gateways encrypt, and which of them are trusted.
type IngressTLS struct {
	// ServerNames are the names that gateways ask for; none is any but those of Services.
	ServerNames []string
	// NoCertificate asks for no certificate: any gateway is trusted.
	NoCertificate bool
	// AnyName trusts every certificate of the mesh, Names those with one of these names.
	AnyName bool
	Names   []string
}

// IngressRoute is a kind of request.
type IngressRoute struct {
	// Name is for logs and metrics: the object it comes from.
	Name  string
	Match HTTPMatch
}
