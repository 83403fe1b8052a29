package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

// Credentials are what the server shows, and what it believes.
type Credentials struct {
	// Certificate is the control plane's own, with its key.
	Certificate tls.Certificate
	// Roots are the roots that proxies are verified with.
	Roots *x509.CertPool
}

// NodeInfo is what a proxy says of itself: <pod UID>.<pod name>.<namespace>.
type NodeInfo struct {
	PodUID, Name, Namespace string
}

// ProxyInfo is what is known of a proxy's pod.
type ProxyInfo struct {
	// PodUID, Namespace and Name are the pod's.
	PodUID, Namespace, Name string
	// ServiceAccount is what the pod runs as.
	ServiceAccount identity.ServiceAccount
	// Class is the ID of the pod's proxy class.
	Class string
	// Revision is the revision of the sidecar.
	Revision string
}

// Authenticator looks up the pod of a proxy: by what its verified certificate says,
// and by what it says itself. It returns an error for a pod that does not exist, or
// that runs as another ServiceAccount; a terminating pod still exists. A pod that is
// not known yet is looked up, within the context's deadline. An error with a gRPC
// status is passed on; another one refuses the proxy.
type Authenticator func(ctx context.Context, peer identity.Peer, node NodeInfo) (ProxyInfo, error)

// visitor is a connection's other end, before its pod is known.
type visitor struct {
	identity.Peer
	chain []*x509.Certificate // as it was sent, the leaf first
	line  *line
}

func (v visitor) leaf() *x509.Certificate { return v.chain[0] }

// visitorOf reads the certificate that a stream's connection was verified with.
func visitorOf(ctx context.Context, td identity.TrustDomain, now time.Time) (visitor, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return visitor{}, status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(connection)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.PeerCertificates) == 0 {
		return visitor{}, status.Error(codes.Unauthenticated, "no verified certificate")
	}
	v := visitor{chain: info.State.PeerCertificates, line: info.line}
	if v.line.spent.Load() {
		v.line.close()
		return v, errRenew
	}
	var err error
	if v.Peer, err = identity.PeerOf(v.leaf()); err != nil {
		return v, status.Error(codes.Unauthenticated, err.Error())
	}
	switch {
	case v.PodUID == "":
		return v, status.Errorf(codes.Unauthenticated, "the certificate of %s names no pod", v.ID.URI())
	case v.ID.TrustDomain != td:
		return v, status.Errorf(codes.PermissionDenied, "trust domain %s is not this mesh's", v.ID.TrustDomain)
	case !now.Before(v.leaf().NotAfter): // the connection is older than that
		return v, status.Errorf(codes.Unauthenticated, "the certificate of %s has ended", v.ID.URI())
	}
	return v, nil
}

// parseNode reads a node's id.
func parseNode(n *corev3.Node) (NodeInfo, error) {
	uid, rest, ok := strings.Cut(n.GetId(), ".")
	dot := strings.LastIndexByte(rest, '.')
	if !ok || dot <= 0 || uid == "" || dot == len(rest)-1 {
		return NodeInfo{}, status.Error(codes.InvalidArgument, "the node's id is not <pod UID>.<pod name>.<namespace>")
	}
	return NodeInfo{PodUID: uid, Name: rest[:dot], Namespace: rest[dot+1:]}, nil
}

// admit checks that a proxy is the pod that it says it is.
func (v visitor) admit(ctx context.Context, n *corev3.Node, authenticate Authenticator) (ProxyInfo, error) {
	node, err := parseNode(n)
	if err != nil {
		return ProxyInfo{}, err
	}
	if node.PodUID != v.PodUID || node.Namespace != v.ID.ServiceAccount.Namespace {
		return ProxyInfo{}, status.Errorf(codes.PermissionDenied,
			"the certificate is that of pod %s in %s, the node's id names another", v.PodUID, v.ID.ServiceAccount.Namespace)
	}
	info, err := authenticate(ctx, v.Peer, node)
	if err != nil {
		if _, ok := status.FromError(err); ok {
			return ProxyInfo{}, err
		}
		return ProxyInfo{}, status.Error(codes.PermissionDenied, err.Error())
	}
	if info.PodUID != v.PodUID || info.ServiceAccount != v.ID.ServiceAccount || info.Name != node.Name || info.Namespace != node.Namespace {
		return ProxyInfo{}, status.Errorf(codes.PermissionDenied,
			"pod %s/%s runs as %s, not as %s", info.Namespace, info.Name, info.ServiceAccount, v.ID.ServiceAccount)
	}
	return info, nil
}

// verify reports why a certificate that was good is not any more.
func (v visitor) verify(roots *x509.CertPool, now time.Time) error {
	between := x509.NewCertPool()
	for _, c := range v.chain[1:] {
		between.AddCert(c)
	}
	_, err := v.leaf().Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// connection is the authenticated other end of a connection, and the connection.
type connection struct {
	credentials.TLSInfo
	line *line
}

// line is a connection, that carries a proxy's stream and ends with it: the next
// stream begins with a new handshake, and with the certificate of then.
type line struct {
	conn  net.Conn
	spent atomic.Bool // nothing new is served on it
}

func (l *line) close() { _ = l.conn.Close() }

// hangUp closes the connection once what was said has been sent.
func (l *line) hangUp() {
	const farewell = 500 * time.Millisecond
	if !l.spent.Swap(true) {
		time.AfterFunc(farewell, l.close)
	}
}
