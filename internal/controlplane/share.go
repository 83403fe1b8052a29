package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/watch"
)

// Share parts work among the replicas of a control plane, without them talking: each
// piece belongs to the replica that draws the highest number for it. Replicas may
// disagree for a moment about who there is; whoever uses a Share must not mind.
type Share struct {
	// Reader reads pods from the cache.
	Reader client.Reader
	// Namespace and Labels select the replicas; Self is this one's name.
	Namespace, Self string
	Labels          map[string]string
}

// Mine reports whether a piece of work, by its name, is this replica's. What cannot be
// told is everyone's.
func (s *Share) Mine(work string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	replicas, err := watch.ReadRunning(ctx, s.Reader, s.Namespace, s.Labels)
	if err != nil {
		return true
	}
	own := draw(s.Self, work)
	for _, replica := range replicas {
		if n := draw(replica, work); n > own || n == own && replica < s.Self {
			return false
		}
	}
	return true
}

func draw(replica, work string) uint64 {
	sum := sha256.Sum256([]byte(replica + "/" + work))
	return binary.BigEndian.Uint64(sum[:])
}
