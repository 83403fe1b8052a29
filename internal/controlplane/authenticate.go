package controlplane

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/watch"
	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

const (
	// mostLookups bounds how many pods are looked up live at once: pods that have not
	// been seen yet are few, and whoever connects again and again must not load the API
	// server.
	mostLookups = 8
	// lookupTimeout bounds one of them.
	lookupTimeout = 3 * time.Second
)

// Authenticator decides which pod a stream is from.
type Authenticator struct {
	// Read-only after NewAuthenticator.
	model   func() *mesh.Model
	reader  client.Reader
	mesh    string
	lookups chan struct{}
}

// NewAuthenticator returns an Authenticator for a mesh. model returns the newest Model,
// nil before the first; reader reads pods live.
func NewAuthenticator(meshName string, model func() *mesh.Model, reader client.Reader) *Authenticator {
	return &Authenticator{model: model, reader: reader, mesh: meshName, lookups: make(chan struct{}, mostLookups)}
}

// Authenticate implements serve.Authenticator: the node that a proxy says it is, the
// pod that its certificate was issued to, and the pod that exists must be one and the
// same. A pod that is being deleted keeps its stream until it is gone. The class is
// empty until the Model has the pod.
func (a *Authenticator) Authenticate(ctx context.Context, peer identity.Peer, node serve.NodeInfo) (serve.ProxyInfo, error) {
	key := mesh.Key{Namespace: node.Namespace, Name: node.Name}
	if peer.PodUID == "" || peer.PodUID != node.PodUID || peer.ID.ServiceAccount.Namespace != key.Namespace {
		return serve.ProxyInfo{}, status.Errorf(codes.PermissionDenied, "the certificate of %s is not that of pod %s", peer.ID.URI(), key)
	}
	w, err := a.workload(ctx, key, node.PodUID)
	if err != nil {
		return serve.ProxyInfo{}, err
	}
	switch {
	case w.UID != node.PodUID:
		return serve.ProxyInfo{}, status.Errorf(codes.PermissionDenied, "pod %s is another one by now", key)
	case w.ServiceAccount != peer.ID.ServiceAccount:
		return serve.ProxyInfo{}, status.Errorf(codes.PermissionDenied, "pod %s runs as %s, not as %s", key, w.ServiceAccount, peer.ID.ServiceAccount)
	}
	return serve.ProxyInfo{
		PodUID: w.UID, Namespace: key.Namespace, Name: key.Name, ServiceAccount: w.ServiceAccount, Class: w.Class, Revision: w.Revision,
	}, nil
}

// workload returns a pod from the Model, or live if the Model has not seen it: it may
// be seconds old, or not of the mesh's namespaces any more.
func (a *Authenticator) workload(ctx context.Context, key mesh.Key, uid string) (*mesh.Workload, error) {
	if m := a.model(); m != nil {
		if w := m.Workloads[key]; w != nil && w.UID == uid {
			return w, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	select {
	case a.lookups <- struct{}{}:
		defer func() { <-a.lookups }()
	case <-ctx.Done():
		return nil, status.Errorf(codes.Unavailable, "pod %s cannot be looked up: too many are", key)
	}
	pod, err := watch.ReadPod(ctx, a.reader, key, a.mesh)
	switch {
	case apierrors.IsNotFound(err):
		return nil, status.Errorf(codes.PermissionDenied, "there is no pod %s", key)
	case err != nil:
		return nil, status.Errorf(codes.Unavailable, "pod %s cannot be looked up: %v", key, err)
	case pod.Ended:
		return nil, status.Errorf(codes.PermissionDenied, "pod %s has ended", key)
	}
	return &pod.Workload, nil
}
