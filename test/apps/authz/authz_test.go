package authz

import (
	"context"
	"encoding/json"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/openservicemesh/osm-operator/test/apps/load"
)

func TestServerDecidesAsItIsTold(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New("one")
	server := s.GRPC()
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ask := func(ctx context.Context, what string) (*authv3.CheckResponse, error) {
		headers := map[string]string{"user-agent": "test"}
		if what != "" {
			headers[Header] = what
		}
		return authv3.NewAuthorizationClient(conn).Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Headers: headers}},
		}})
	}
	for range 2 {
		if got, err := ask(ctx, ""); err != nil || got.GetStatus().GetCode() != int32(codes.OK) || got.GetOkResponse() == nil {
			t.Errorf("without a word: %v, %v", got, err)
		}
	}
	if got, err := ask(ctx, Deny); err != nil || got.GetStatus().GetCode() != int32(codes.PermissionDenied) || got.GetDeniedResponse().GetStatus().GetCode() != 402 {
		t.Errorf("denied: %v, %v", got, err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if got, err := ask(short, Wait); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("waited: %v, %v", got, err)
	}
	counted := func(method, path string) map[string]int64 {
		t.Helper()
		rec := httptest.NewRecorder()
		s.AdminHandler().ServeHTTP(rec, httptest.NewRequestWithContext(ctx, method, path, nil))
		var r load.Report
		if err := json.Unmarshal(rec.Body.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		return r.Status
	}
	want := map[string]int64{"allowed": 2, "denied": 1, "waited": 1}
	if diff := cmp.Diff(want, counted("POST", "/reset")); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
	if got := counted("GET", "/counters"); len(got) != 0 {
		t.Errorf("counted anew: %v", got)
	}
}
