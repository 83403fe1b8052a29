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
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/encoding/protowire"
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
	// Awaits is the load assignment that a cluster waits for before it serves; empty for
	// one that waits for none, and for what is no cluster.
	Awaits string
	// Field is the resource as a field of a delta response, from its tag to its last byte:
	// what is sent of it to every proxy. It ends with Body, which is in it. It is shared.
	Field []byte
}

// New marshals a message once, the same bytes for the same contents.
func New(msg proto.Message, name string) (*Resource, error) {
	full := msg.ProtoReflect().Descriptor().FullName()
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	if err != nil {
		return nil, fmt.Errorf("marshalling %s %q: %w", full, name, err)
	}
	sum := sha256.Sum256(body)
	r := Of("type.googleapis.com/"+string(full), name, hex.EncodeToString(sum[:12]), body)
	if c, ok := msg.(*clusterv3.Cluster); ok && c.GetType() == clusterv3.Cluster_EDS {
		r.Awaits = cmp.Or(c.GetEdsClusterConfig().GetServiceName(), c.GetName())
	}
	return r, nil
}

// Of returns a resource of a message that is marshalled already. The body is copied.
func Of(typeURL, name, version string, body []byte) *Resource {
	// Source: envoy/service/discovery/v3/discovery.proto, google/protobuf/any.proto.
	const (
		resources, versions, names, contents protowire.Number = 2, 1, 3, 2
		typeURLs, values                     protowire.Number = 1, 2
	)
	of := func(length int) int { return protowire.SizeTag(resources) + protowire.SizeBytes(length) }
	message := of(len(typeURL)) + of(len(body))
	whole := of(len(version)) + of(len(name)) + of(message)
	field := make([]byte, 0, of(whole))
	begin := func(n protowire.Number, length int) {
		field = protowire.AppendTag(field, n, protowire.BytesType)
		field = protowire.AppendVarint(field, uint64(length))
	}
	text := func(n protowire.Number, s string) {
		begin(n, len(s))
		field = append(field, s...)
	}
	begin(resources, whole)
	text(versions, version)
	text(names, name)
	begin(contents, message)
	text(typeURLs, typeURL)
	begin(values, len(body))
	at := len(field)
	field = append(field, body...)
	return &Resource{TypeURL: typeURL, Name: name, Version: version, Body: field[at:], Field: field}
}
