package controlplane

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/xds/serve"
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

// Authenticate returns the pod of a stream: the node that it says it is, the pod that
// its certificate was issued to, and the pod that runs must be one and the same. A pod
// that is being deleted keeps its stream until it is gone. The class is empty while
// the Model has not seen the pod.
func (a *Authenticator) Authenticate(ctx context.Context, peer identity.Peer, node serve.NodeInfo) (serve.ProxyInfo, error) {
	key := mesh.Key{Namespace: node.Namespace, Name: node.Name}
	switch {
	case peer.ID.TrustDomain != a.TrustDomain:
		return serve.ProxyInfo{}, fmt.Errorf("%w: %s is of another trust domain", errRefused, peer.ID.URI())
	case peer.PodUID == "":
		return serve.ProxyInfo{}, fmt.Errorf("%w: the certificate of %s names no pod", errRefused, peer.ID.URI())
	case peer.PodUID != node.PodUID:
		return serve.ProxyInfo{}, fmt.Errorf("%w: node %s is not the pod that the certificate was issued to", errRefused, key)
	case peer.ID.ServiceAccount.Namespace != key.Namespace:
		return serve.ProxyInfo{}, fmt.Errorf("%w: node %s is not in the namespace of %s", errRefused, key, peer.ID.URI())
	}
	info := serve.ProxyInfo{PodUID: node.PodUID, Namespace: key.Namespace, Name: key.Name, ServiceAccount: peer.ID.ServiceAccount}
	if m := a.Model(); m != nil {
		if w := m.Workloads[key]; w != nil && w.UID == node.PodUID {
			if w.ServiceAccount != peer.ID.ServiceAccount {
				return serve.ProxyInfo{}, fmt.Errorf("%w: pod %s runs as %s", errRefused, key, w.ServiceAccount)
			}
			info.Class, info.Revision = w.Class, w.Revision
			return info, nil
		}
	}
	return info, a.lookUp(ctx, peer, node.PodUID, key)
}

// lookUp asks the API server whether a pod exists that the Model has not seen.
func (a *Authenticator) lookUp(ctx context.Context, peer identity.Peer, uid string, key mesh.Key) error {
	select {
	case a.lookups <- struct{}{}:
		defer func() { <-a.lookups }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var pod corev1.Pod
	if err := a.Reader.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: key.Name}, &pod); err != nil {
		return fmt.Errorf("looking up pod %s: %w", key, err)
	}
	if string(pod.UID) != uid || pod.Spec.ServiceAccountName != peer.ID.ServiceAccount.Name {
		return fmt.Errorf("%w: pod %s is another one, or runs as %s", errRefused, key, pod.Spec.ServiceAccountName)
	}
	return nil
}
