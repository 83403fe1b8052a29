package attest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/attest/attestpb"
	"github.com/openservicemesh/osm-operator/internal/issue"
)

const (
	// maxMessage bounds a request: a PKCS#10 request has 10 KiB at the most.
	maxMessage = 16 << 10
	// reviews is how many tokens are reviewed at once, answers how many callers wait
	// for that: whoever comes then is told to come later, before anything is spent on him.
	reviews, answers = 16, 512
	// patience is how long one answer may take.
	patience = 30 * time.Second
	// watchAge is how long a Watch lasts before the token has to be shown again.
	watchAge = time.Hour
)

// Options are what a Server needs; all are required but the last three, which tell
// nobody when they are nil.
type Options struct {
	// Log is told of what was answered.
	Log logr.Logger
	// Review says which pod a token is bound to. An error that is no *RefusedError says
	// that it could not be found out.
	Review func(ctx context.Context, token string) (Caller, error)
	// Front is what signs, and for whom.
	Front issue.Front
	// State returns what all pods are to follow: the roots as PEM, and the name of what
	// signs now.
	State func() (rootsPEM []byte, issuer string)
	// Issued is told of every certificate, and how long it took.
	Issued func(issued issue.Issued, took time.Duration)
	// Denied is told of whoever is denied for ever, Waiting of whoever is to come again;
	// the pod's UID is empty where it is not known.
	Denied, Waiting func(podUID, reason string)
}

// Server serves pods. It is safe for concurrent use.
type Server struct {
	attestpb.UnimplementedWorkloadIdentityServer
	Options
	reviewing chan struct{}
	answering chan struct{}

	mu sync.Mutex
	// changed is closed when the state changes, and made anew. Protected by mu.
	changed chan struct{}
}

// NewServer returns a Server.
func NewServer(o Options) *Server {
	if o.Issued == nil {
		o.Issued = func(issue.Issued, time.Duration) {}
	}
	if o.Denied == nil {
		o.Denied = func(string, string) {}
	}
	if o.Waiting == nil {
		o.Waiting = func(string, string) {}
	}
	return &Server{
		Options: o, changed: make(chan struct{}), reviewing: make(chan struct{}, reviews), answering: make(chan struct{}, answers),
	}
}

// NewGRPCServer returns a gRPC server for it; the configuration asks for no client
// certificate.
func (s *Server) NewGRPCServer(config *tls.Config) *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(config)),
		grpc.MaxConcurrentStreams(8),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(32<<10),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 20 * time.Second, PermitWithoutStream: true}),
	)
	attestpb.RegisterWorkloadIdentityServer(g, s)
	return g
}

// Changed says that what State returns may have changed.
func (s *Server) Changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Issue implements attestpb.WorkloadIdentityServer.
func (s *Server) Issue(ctx context.Context, req *attestpb.IssueRequest) (*attestpb.IssueResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	caller, err := s.identify(ctx)
	if err != nil {
		return nil, err
	}
	state, started := s.state(), time.Now()
	issued, err := s.issue(ctx, caller, req.GetCsr())
	log := s.Log.WithValues("Pod", caller.Namespace+"/"+caller.Pod)
	if denied, ok := errors.AsType[*issue.DeniedError](err); ok {
		log.Info("Denying a certificate", "reason", denied.Reason, "cause", denied.Message)
		s.Denied(caller.PodUID, denied.Reason)
		return nil, status.Error(codes.PermissionDenied, err.Error())
	}
	if err != nil {
		reason := issue.ReasonAuthorityUnavailable
		if pending, ok := errors.AsType[*issue.PendingError](err); ok {
			reason = pending.Reason
		}
		log.Info("Leaving a pod without a certificate for now", "reason", reason, "cause", err.Error())
		s.Waiting(caller.PodUID, reason)
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	log.Info("Issued certificate", "identity", issued.ID.URI(), "serial", issued.Serial, "notAfter", issued.NotAfter)
	s.Issued(issued, time.Since(started))
	return &attestpb.IssueResponse{
		ChainPem: issued.ChainPEM, NotBefore: timestamppb.New(issued.NotBefore),
		RefreshAt: timestamppb.New(issued.RefreshAt), NotAfter: timestamppb.New(issued.NotAfter),
		State: state,
	}, nil
}

// issue reads the pod live and has its certificate issued.
func (s *Server) issue(ctx context.Context, c Caller, csr []byte) (issue.Issued, error) {
	issuer, pod, err := s.Front.Look(ctx, client.ObjectKey{Namespace: c.Namespace, Name: c.Pod})
	if err != nil {
		return issue.Issued{}, err
	}
	node := c.Node
	if node == "" && pod != nil {
		node = pod.Node // older API servers do not write it into tokens; the pod they do
	}
	return issuer.ForPod(ctx, issue.PodRequest{
		Namespace: c.Namespace, PodName: c.Pod, PodUID: c.PodUID, ServiceAccount: c.ServiceAccount, Node: node, CSR: csr,
	}, pod)
}

// Watch implements attestpb.WorkloadIdentityServer.
func (s *Server) Watch(_ *attestpb.WatchRequest, stream grpc.ServerStreamingServer[attestpb.State]) error {
	ctx, cancel := context.WithTimeout(stream.Context(), watchAge)
	defer cancel()
	if _, err := s.identify(ctx); err != nil {
		return err
	}
	var told *attestpb.State
	for {
		next := s.next()
		if now := s.state(); !sameState(told, now) {
			if err := stream.Send(now); err != nil {
				return err
			}
			told = now
		}
		select {
		case <-next:
		case <-ctx.Done():
			if stream.Context().Err() == nil {
				return status.Error(codes.Unavailable, "show the token again")
			}
			return stream.Context().Err()
		}
	}
}

func (s *Server) state() *attestpb.State {
	roots, issuer := s.State()
	return &attestpb.State{RootsPem: roots, Issuer: issuer}
}

func sameState(a, b *attestpb.State) bool {
	return a != nil && a.GetIssuer() == b.GetIssuer() && bytes.Equal(a.GetRootsPem(), b.GetRootsPem())
}

// identify says which pod calls.
func (s *Server) identify(ctx context.Context) (Caller, error) {
	token, err := tokenOf(ctx)
	if err != nil {
		return Caller{}, status.Error(codes.Unauthenticated, err.Error())
	}
	select {
	case s.answering <- struct{}{}:
		defer func() { <-s.answering }()
	default:
		s.Waiting("", reasonBusy)
		return Caller{}, status.Error(codes.Unavailable, "too many pods ask at once: try again")
	}
	select {
	case s.reviewing <- struct{}{}:
		defer func() { <-s.reviewing }()
	case <-ctx.Done():
		return Caller{}, status.FromContextError(ctx.Err()).Err()
	}
	caller, err := s.Review(ctx, token)
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		s.Denied("", reasonToken)
		return Caller{}, status.Error(codes.Unauthenticated, refused.Error())
	case err != nil:
		s.Log.Error(err, "Leaving a token unreviewed")
		s.Waiting("", reasonUnreviewed)
		return Caller{}, status.Error(codes.Unavailable, "the token could not be reviewed: try again")
	}
	return caller, nil
}

// Reasons why no certificate was issued, besides those of package issue.
const (
	reasonToken      = "TokenRefused"
	reasonUnreviewed = "TokenUnreviewed"
	reasonBusy       = "Busy"
)
