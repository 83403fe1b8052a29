package echo

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/openservicemesh/osm-operator/test/apps/echopb"
)

// defaultInterval is the time between the answers of a stream.
const defaultInterval = 100 * time.Millisecond

// NewGRPC returns a gRPC server in clear that echoes, answers health checks and lists
// its methods.
func NewGRPC(identity string) *grpc.Server {
	s := grpc.NewServer()
	echopb.RegisterEchoServer(s, &grpcServer{identity: identity})
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	return s
}

// grpcServer answers gRPC requests.
type grpcServer struct {
	echopb.UnimplementedEchoServer
	identity string
}

// Say answers once.
func (s *grpcServer) Say(ctx context.Context, r *echopb.SayRequest) (*echopb.SayResponse, error) {
	if err := grpc.SetHeader(ctx, metadata.Pairs(IdentityHeader, s.identity)); err != nil {
		return nil, err
	}
	if d := r.GetDelayMillis(); d > 0 {
		select {
		case <-time.After(time.Duration(d) * time.Millisecond):
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	if r.GetCode() != 0 {
		return nil, status.Error(codes.Code(uint32(r.GetCode())), "as asked for")
	}
	return s.response(ctx, r.GetMessage(), 1), nil
}

// Watch answers again and again.
func (s *grpcServer) Watch(r *echopb.WatchRequest, stream grpc.ServerStreamingServer[echopb.SayResponse]) error {
	ctx := stream.Context()
	if err := stream.SetHeader(metadata.Pairs(IdentityHeader, s.identity)); err != nil {
		return err
	}
	interval := defaultInterval
	if r.GetIntervalMillis() > 0 {
		interval = time.Duration(r.GetIntervalMillis()) * time.Millisecond
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for n := int64(1); r.GetCount() == 0 || n <= r.GetCount(); n++ {
		if err := stream.Send(s.response(ctx, r.GetMessage(), n)); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	return nil
}

// response is the answer with this number.
func (s *grpcServer) response(ctx context.Context, message string, number int64) *echopb.SayResponse {
	md, _ := metadata.FromIncomingContext(ctx)
	headers := make(map[string]*echopb.Values, len(md))
	for name, values := range md {
		if strings.HasSuffix(name, "-bin") {
			continue // not text, and a proto's string has to be
		}
		headers[name] = &echopb.Values{Values: values}
	}
	return &echopb.SayResponse{Message: message, Identity: s.identity, Number: number, Headers: headers}
}
