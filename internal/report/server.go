package report

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/report/reportpb"
)

const (
	// heartbeat is how often a replica without news gives a sign of life; a reader that
	// misses three takes the replica for unreadable.
	heartbeat = 5 * time.Second
	// gather is how long changes are gathered before they are sent: the reader counts,
	// and wants no message for each of a thousand proxies that reconnect.
	gather = 100 * time.Millisecond
	// batchSize bounds a message.
	batchSize = 500
)

// Server serves a Store to the operator, to the control planes of the mesh, and to nobody
// else.
type Server struct {
	reportpb.UnimplementedReportsServer
	// Store holds the proxies.
	Store *Store
	// Replica and Revision tell who serves.
	Replica, Revision string
	// Operator is the SPIFFE id of one reader; those of others begin with ControlPlanes,
	// unless that is empty.
	Operator, ControlPlanes string
}

// NewGRPCServer returns a gRPC server for it over mutual TLS; the configuration must
// require and verify client certificates.
func (s *Server) NewGRPCServer(config *tls.Config) *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(config)),
		grpc.MaxConcurrentStreams(8),
		grpc.MaxRecvMsgSize(1024),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	reportpb.RegisterReportsServer(g, s)
	return g
}

// Watch implements reportpb.ReportsServer.
func (s *Server) Watch(_ *reportpb.WatchRequest, stream grpc.ServerStreamingServer[reportpb.Batch]) error {
	if err := s.authorize(stream); err != nil {
		return err
	}
	w, all := s.Store.watch()
	defer s.Store.unwatch(w)
	if err := s.send(stream, w, all, nil, true); err != nil {
		return err
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-beat.C:
			if err := s.send(stream, w, nil, nil, false); err != nil {
				return err
			}
		case <-w.wake:
			select {
			case <-stream.Context().Done():
				return stream.Context().Err()
			case <-time.After(gather):
			}
			upserts, removed := s.Store.drain(w)
			if err := s.send(stream, w, upserts, removed, false); err != nil {
				return err
			}
		}
	}
}

// send sends changes in batches; at least one, so that an empty snapshot is told. The
// state of policies comes with the last, when all that belongs to it was told.
func (s *Server) send(stream grpc.ServerStreamingServer[reportpb.Batch], w *watcher, upserts []*reportpb.Proxy, removed []string, snapshot bool) error {
	for first := true; first || len(upserts) > 0; first = false {
		n := min(len(upserts), batchSize)
		batch := &reportpb.Batch{
			Replica: s.Replica, Revision: s.Revision, Snapshot: snapshot && first, Upserts: upserts[:n], More: len(upserts) > n,
			Waiting: s.Store.waits(), Policies: w.policies,
		}
		if first {
			batch.Removed = removed
		}
		if err := stream.Send(batch); err != nil {
			return err
		}
		upserts = upserts[n:]
	}
	return nil
}

// authorize lets readers in by the SPIFFE id of their verified certificates.
func (s *Server) authorize(stream grpc.ServerStream) error {
	p, ok := peer.FromContext(stream.Context())
	if !ok {
		return status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return status.Error(codes.Unauthenticated, "no verified certificate")
	}
	// The root itself signs for the operator and for control planes. What signs for workloads, as the issuer of
	// any control plane does, must not (record 0004).
	direct := func(chain []*x509.Certificate) bool { return len(chain) == 2 }
	if !slices.ContainsFunc(info.State.VerifiedChains, direct) {
		return status.Error(codes.PermissionDenied, "the certificate is not signed by a root")
	}
	subject, err := identity.SubjectOf(info.State.VerifiedChains[0][0])
	if err != nil {
		return status.Error(codes.PermissionDenied, err.Error())
	}
	if got := subject.URI(); got != s.Operator && (s.ControlPlanes == "" || !strings.HasPrefix(got, s.ControlPlanes)) {
		return status.Error(codes.PermissionDenied, fmt.Sprintf("%q may not read reports", got))
	}
	return nil
}
