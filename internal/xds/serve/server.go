package serve

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

// Options say what a Server serves, to whom, and how much.
type Options struct {
	// Cache holds what proxies are sent; required.
	Cache *Cache
	// TrustDomain is that of the mesh; required.
	TrustDomain identity.TrustDomain
	// Credentials are read at each handshake, so that a new certificate or another root
	// is in force at once; required.
	Credentials func() (Credentials, error)
	// Authenticate looks up the pod of each proxy; required.
	Authenticate Authenticator
	// Registerer takes the metrics; required.
	Registerer prometheus.Registerer
	// MaxProxies is how many proxies may be connected, read as each connects; nil and 0
	// are no limit.
	MaxProxies func() int
	// TrustBundle is the name of the secret that holds the roots that proxies verify
	// each other with: ProxyState tells which version a proxy has.
	TrustBundle string
	// Drain is the time over which streams are ended when the server stops, so that
	// proxies do not all move to the other replicas at once; 0 ends them at once.
	Drain time.Duration
	// Limits bound what one proxy can take.
	Limits Limits
}

// Server serves Envoy's aggregated discovery service, its delta protocol only.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	// Read-only after NewServer, but for log: read-only once Serve was called.
	options Options
	metrics *metrics
	grpc    *grpc.Server
	log     logr.Logger

	// watchersMu comes after all other locks but those of watchers.
	watchersMu sync.RWMutex
	watchers   map[*watcher]struct{} // protected by watchersMu

	mu sync.Mutex
	// Protected by mu.
	sessions map[string][]*session // by pod UID, in the order of their beginning
	count    int
	nacks    []NACK
	draining bool
}

// Reasons for which the server ends a stream.
var (
	errStuck    = status.Error(codes.DeadlineExceeded, "the proxy does not read")
	errSilent   = status.Error(codes.DeadlineExceeded, "the proxy does not say who it is")
	errRenew    = status.Error(codes.Unavailable, "connect again, with the newest certificate")
	errTooMany  = status.Error(codes.ResourceExhausted, "a newer stream of the same pod took its place")
	errDraining = status.Error(codes.Unavailable, "this replica stops")
)

// maxNACKs bounds how many rejections are kept for whoever asks.
const maxNACKs = 128

// NewServer returns a Server that does not serve yet.
func NewServer(o Options) (*Server, error) {
	if o.Cache == nil || o.TrustDomain == "" || o.Credentials == nil || o.Authenticate == nil || o.Registerer == nil {
		return nil, errors.New("a cache, a trust domain, credentials, an authenticator and a registerer are all needed")
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	o.Limits = o.Limits.withDefaults()
	s := &Server{options: o, metrics: m, log: logr.Discard(), sessions: map[string][]*session{}, watchers: map[*watcher]struct{}{}}
	s.grpc = grpc.NewServer(
		grpc.Creds(newHandshakes(o.Credentials)),
		grpc.StreamInterceptor(s.recovering), grpc.ForceServerCodecV2(newCodec()),
		grpc.ConnectionTimeout(handshakeTimeout),
		// A proxy has one stream; a few more are for those that end.
		grpc.MaxConcurrentStreams(8),
		grpc.MaxRecvMsgSize(o.Limits.RequestBytes),
		grpc.MaxHeaderListSize(16<<10),
		// What a proxy may send unread is bounded, and not probed for with pings.
		grpc.StaticStreamWindowSize(128<<10), grpc.StaticConnWindowSize(256<<10),
		// TLS has a buffer to read from; those to write to are shared by all connections.
		grpc.ReadBufferSize(0), grpc.WriteBufferSize(64<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: time.Minute, Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.grpc, s)
	return s, nil
}

// Serve serves on a listener until ctx is done, and returns when all streams have
// ended. It is called once. The logger is the context's.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	s.log = logr.FromContextOrDiscard(ctx)
	failed := make(chan error, 1)
	go func() { failed <- s.grpc.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.log.Info("Moving proxies to other replicas", "proxies", s.drain(), "over", s.options.Drain.String())
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.grpc.GracefulStop() }()
	const grace = 5 * time.Second
	select {
	case <-stopped:
	case <-time.After(s.options.Drain + grace):
		s.grpc.Stop()
		<-stopped
	}
	if err := <-failed; !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil // it was stopped before it had begun
}

// drain ends all streams within the time given, and returns how many there are.
func (s *Server) drain() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	for _, sessions := range s.sessions {
		for _, one := range sessions {
			time.AfterFunc(fraction(s.options.Drain, 0, 1), func() { one.end(errDraining) })
		}
	}
	return s.count
}

// fraction returns a random part of d, between two bounds.
func fraction(d time.Duration, least, most float64) time.Duration {
	return time.Duration(float64(d) * (least + (most-least)*rand.Float64())) //nolint:gosec // jitter needs no secrecy
}

// recovering ends the stream that panicked, and no other.
func (s *Server) recovering(srv any, g grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error(fmt.Errorf("panic: %v", r), "Ending a stream", "stack", string(debug.Stack()))
			err = status.Error(codes.Internal, "the stream failed")
		}
	}()
	return handle(srv, g)
}

// DeltaAggregatedResources serves one stream.
func (s *Server) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	v, err := visitorOf(g.Context(), s.options.TrustDomain, time.Now())
	if err != nil {
		s.metrics.unwelcome.Inc()
		s.log.Info("Refusing a proxy", "identity", v.ID.URI(), "podUID", v.PodUID, "reason", err.Error())
		if v.line != nil {
			v.line.hangUp()
		}
		return err
	}
	ctx, cancel := context.WithCancelCause(g.Context())
	defer cancel(nil)
	one := newSession(s, v, cancel)
	defer v.line.hangUp()
	defer one.close()
	if err := s.open(one); err != nil {
		s.metrics.tooMany.Inc()
		s.log.Info("Refusing a proxy", "identity", v.ID.URI(), "podUID", v.PodUID, "reason", err.Error())
		return err
	}
	defer s.forget(one)
	return one.serve(ctx, g)
}

// open makes room for a session.
func (s *Server) open(one *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return errDraining
	}
	if limit := s.maxProxies(); limit > 0 && s.count >= limit {
		return status.Errorf(codes.ResourceExhausted, "%d proxies are connected, and no more may be", limit)
	}
	mine := slices.Concat(s.sessions[one.visitor.PodUID], []*session{one})
	for _, oldest := range mine[:max(0, len(mine)-s.options.Limits.Streams)] {
		oldest.end(errTooMany)
	}
	s.sessions[one.visitor.PodUID] = mine
	s.count++
	return nil
}

func (s *Server) maxProxies() int {
	if s.options.MaxProxies == nil {
		return 0
	}
	return s.options.MaxProxies()
}

// forget takes a session out.
func (s *Server) forget(one *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	uid := one.visitor.PodUID
	s.count--
	s.sessions[uid] = slices.DeleteFunc(s.sessions[uid], func(other *session) bool { return other == one })
	if len(s.sessions[uid]) == 0 {
		delete(s.sessions, uid)
	}
	s.stir(uid)
}

// Disconnect ends the streams of a pod, as when the pod is gone.
func (s *Server) Disconnect(podUID, reason string) {
	for _, one := range s.of(podUID) {
		one.end(status.Error(codes.PermissionDenied, reason))
	}
}

// of lists the streams of a pod.
func (s *Server) of(podUID string) []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sessions[podUID])
}

// all lists all streams.
func (s *Server) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*session, 0, s.count)
	for _, sessions := range s.sessions {
		out = append(out, sessions...)
	}
	return out
}

// Recheck ends the streams whose certificates the roots of now do not verify. It is
// to be called when the roots change: handshakes use the new ones by themselves.
func (s *Server) Recheck() error {
	c, err := s.options.Credentials()
	if err != nil {
		return fmt.Errorf("reading the roots: %w", err)
	}
	for _, one := range s.all() {
		if err := one.visitor.verify(c.Roots, time.Now()); err != nil {
			one.end(status.Error(codes.Unauthenticated, err.Error()))
		}
	}
	return nil
}

// note keeps a rejection.
func (s *Server) note(n NACK) {
	s.log.Info("A proxy rejected its configuration", "podUID", n.PodUID, "Pod", n.Namespace+"/"+n.Pod,
		"type", n.TypeURL, "resources", n.Resources, "reason", n.Message)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.nacks) >= maxNACKs {
		s.nacks = slices.Delete(s.nacks, 0, len(s.nacks)-maxNACKs+1)
	}
	s.nacks = append(s.nacks, n)
}

// NACKs lists the last rejections, the oldest first.
func (s *Server) NACKs() []NACK {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.nacks)
}
