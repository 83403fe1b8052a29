// Package resource is a piece of Envoy configuration, ready to be sent: an Envoy
// message goes in, its bytes and a version made of them come out.
//
// The same message gives the same bytes and the same version in every process, so
// that replicas of the control plane agree, and a proxy that changes from one to
// another is sent nothing. A Resource, a Layer and a Set are immutable once published;
// the sets of many proxies hold the same *Layer, and layers the same *Resource. The
// package knows no mesh.
package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// The type URLs of what proxies are sent.
const (
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	SecretType   = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// Resource is one named Envoy message in the form it is sent in.
type Resource struct {
	// TypeURL says what message Body is.
	TypeURL string
	// Name is the name that proxies subscribe to.
	Name string
	// Version is a hash of Body: it changes exactly when the bytes do.
	Version string
	// Body is the marshalled message. It is shared: never written to.
	Body []byte
}

// New marshals a message once, the same bytes for the same contents.
func New(msg proto.Message, name string) (*Resource, error) {
	full := msg.ProtoReflect().Descriptor().FullName()
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	if err != nil {
		return nil, fmt.Errorf("marshalling %s %q: %w", full, name, err)
	}
	sum := sha256.Sum256(body)
	return &Resource{
		TypeURL: "type.googleapis.com/" + string(full),
		Name:    name,
		Version: hex.EncodeToString(sum[:12]),
		Body:    body,
	}, nil
}
