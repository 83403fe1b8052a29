package controlplane

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// errRefused says that a stream is not that of the pod that it claims to be.
var errRefused = errors.New("refused")

// mostLookups bounds how many pods are looked up live at once: pods that the cache has
// not seen yet are few, and whoever makes up names must not load the API server.
const mostLookups = 8

// Authenticator decides which pod a stream is from.
type Authenticator struct {
	// Model returns the newest Model, nil before the first.
	Model func() *mesh.Model
	// Reader reads pods live.
	Reader client.Reader
	// TrustDomain is the only one whose workloads are served.
	TrustDomain identity.TrustDomain

	lookups chan struct{}
}

// NewAuthenticator returns an Authenticator.
func NewAuthenticator(model func() *mesh.Model, reader client.Reader, td identity.TrustDomain) *Authenticator {
	return &Authenticator{Model: model, Reader: reader, TrustDomain: td, lookups: make(chan struct{}, mostLookups)}
}

// Pod is the pod that a stream is from. Class is empty while the Model has not seen it.
type Pod struct {
	Key   mesh.Key
	UID   string
	Class string
	// Revision is the one that the pod was injected with, as far as is known.
	Revision string
}

// Authenticate returns the pod of a stream: its node id, the pod that its certificate
// was issued to, and the pod that runs must be one and the same. A pod that is being
// deleted keeps its stream until it is gone.
func (a *Authenticator) Authenticate(ctx context.Context, peer identity.Peer, nodeID string) (Pod, error) {
	uid, key, err := parseNode(nodeID)
	if err != nil {
		return Pod{}, err
	}
	switch {
	case peer.ID.TrustDomain != a.TrustDomain:
		return Pod{}, fmt.Errorf("%w: %s is of another trust domain", errRefused, peer.ID.URI())
	case peer.PodUID == "":
		return Pod{}, fmt.Errorf("%w: the certificate of %s names no pod", errRefused, peer.ID.URI())
	case peer.PodUID != uid:
		return Pod{}, fmt.Errorf("%w: node %s is not the pod that the certificate was issued to", errRefused, nodeID)
	case peer.ID.ServiceAccount.Namespace != key.Namespace:
		return Pod{}, fmt.Errorf("%w: node %s is not in the namespace of %s", errRefused, nodeID, peer.ID.URI())
	}
	if m := a.Model(); m != nil {
		if w := m.Workloads[key]; w != nil && w.UID == uid {
			if w.ServiceAccount != peer.ID.ServiceAccount {
				return Pod{}, fmt.Errorf("%w: pod %s runs as %s", errRefused, key, w.ServiceAccount)
			}
			return Pod{Key: key, UID: uid, Class: w.Class, Revision: w.Revision}, nil
		}
	}
	return a.lookUp(ctx, peer, uid, key)
}

// lookUp asks the API server for a pod that the Model has not seen.
func (a *Authenticator) lookUp(ctx context.Context, peer identity.Peer, uid string, key mesh.Key) (Pod, error) {
	select {
	case a.lookups <- struct{}{}:
		defer func() { <-a.lookups }()
	case <-ctx.Done():
		return Pod{}, ctx.Err()
	}
	var pod corev1.Pod
	if err := a.Reader.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: key.Name}, &pod); err != nil {
		return Pod{}, fmt.Errorf("looking up pod %s: %w", key, err)
	}
	if string(pod.UID) != uid || pod.Spec.ServiceAccountName != peer.ID.ServiceAccount.Name {
		return Pod{}, fmt.Errorf("%w: pod %s is another one, or runs as %s", errRefused, key, pod.Spec.ServiceAccountName)
	}
	return Pod{Key: key, UID: uid}, nil
}

// parseNode reads a node id: the pod's UID, its name and its namespace with dots
// between. A pod's name may have dots of its own.
func parseNode(id string) (uid string, key mesh.Key, err error) {
	uid, rest, ok := strings.Cut(id, ".")
	last := strings.LastIndexByte(rest, '.')
	if !ok || last < 1 || uid == "" || last == len(rest)-1 || len(id) > 1024 {
		return "", mesh.Key{}, fmt.Errorf("%w: the node id %.100q is not that of a sidecar", errRefused, id)
	}
	return uid, mesh.Key{Namespace: rest[last+1:], Name: rest[:last]}, nil
}
