// Package authz is a server of Envoy's external authorization. What a request is answered
// with is in the request itself: tests say of each what is to become of it, and ask for
// how many of each there were. It opens no listener.
package authz

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/openservicemesh/osm-operator/test/apps/load"
)

const (
	// Header of a request says what is decided about it; whoever has none is allowed.
	Header = "x-decide"
	// Deny denies the request.
	Deny = "deny"
	// Wait decides nothing for as long as the proxy waits.
	Wait = "wait"
	// DeniedHeader is in the answers to requests that are denied.
	DeniedHeader = "x-denied-by"
)

// Names of what was decided, as they are counted.
const (
	allowed = "allowed"
	denied  = "denied"
	waited  = "waited"
)

// Server decides about requests, and counts. It is safe for concurrent use.
type Server struct {
	authv3.UnimplementedAuthorizationServer
	identity string

	mu sync.Mutex
	// decided counts by what was decided. Protected by mu.
	decided map[string]int64
}

// New returns a server that has been asked nothing yet.
func New(identity string) *Server {
	return &Server{identity: identity, decided: map[string]int64{}}
}

// GRPC returns the server in clear.
func (s *Server) GRPC() *grpc.Server {
	out := grpc.NewServer()
	authv3.RegisterAuthorizationServer(out, s)
	return out
}

// Check decides about one request.
func (s *Server) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	switch req.GetAttributes().GetRequest().GetHttp().GetHeaders()[Header] {
	case Wait:
		s.count(waited)
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	case Deny:
		s.count(denied)
		return &authv3.CheckResponse{
			Status: &rpcstatus.Status{Code: int32(codes.PermissionDenied)},
			HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
				Status:  &typev3.HttpStatus{Code: typev3.StatusCode_PaymentRequired},
				Headers: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: DeniedHeader, Value: s.identity}}},
			}},
		}, nil
	default:
		s.count(allowed)
		return &authv3.CheckResponse{Status: &rpcstatus.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}}, nil
	}
}

func (s *Server) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decided[what]++
}

// AdminHandler answers GET /counters, and POST /reset, which counts anew.
func (s *Server) AdminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /counters", func(w http.ResponseWriter, _ *http.Request) { s.tell(w, false) })
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) { s.tell(w, true) })
	return mux
}

// tell writes what was counted in the form of all applications.
func (s *Server) tell(w http.ResponseWriter, anew bool) {
	s.mu.Lock()
	r := load.Report{Protocol: "ext_authz", Status: maps.Clone(s.decided)}
	if anew {
		clear(s.decided)
	}
	s.mu.Unlock()
	r.Sent = load.Total(r.Status)
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(r); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
