package echo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/openservicemesh/osm-operator/test/apps/echopb"
)

// ask serves one request in memory.
func ask(t *testing.T, s *HTTP, method, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	r.Header.Set("X-Forwarded-Client-Cert", "URI=spiffe://cluster.local/ns/a/sa/b")
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, r)
	return rec
}

func TestHTTPEchoes(t *testing.T) {
	t.Parallel()
	s := NewHTTP("echo-1")
	tests := map[string]struct {
		method, target, body string
		code                 int
		path                 string // of the echo; empty where there is none
	}{
		"any path":                 {http.MethodPost, "/some/path?q=1", "hello", http.StatusOK, "/some/path"},
		"a status":                 {http.MethodGet, "/status/503", "", http.StatusServiceUnavailable, "/status/503"},
		"a status without a body":  {http.MethodGet, "/status/204", "", http.StatusNoContent, ""},
		"a status that is none":    {http.MethodGet, "/status/99", "", http.StatusBadRequest, ""},
		"a delay":                  {http.MethodGet, "/delay/1ms", "", http.StatusOK, "/delay/1ms"},
		"a delay that is none":     {http.MethodGet, "/delay/soon", "", http.StatusBadRequest, ""},
		"chunks that are none":     {http.MethodGet, "/stream?chunks=x", "", http.StatusBadRequest, ""},
		"an interval that is none": {http.MethodGet, "/stream?interval=0s", "", http.StatusBadRequest, ""},
		"a health that is none":    {http.MethodPost, "/healthz", "", http.StatusBadRequest, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := ask(t, s, tt.method, tt.target, tt.body)
			if rec.Code != tt.code || rec.Header().Get(IdentityHeader) != "echo-1" {
				t.Fatalf("status %d, headers %v", rec.Code, rec.Header())
			}
			if tt.path == "" {
				return
			}
			var got Request
			if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
				t.Fatalf("%v: %s", err, rec.Body)
			}
			if got.Path != tt.path || got.Method != tt.method || got.Body != tt.body || got.Identity != "echo-1" ||
				got.Headers.Get("X-Forwarded-Client-Cert") != "URI=spiffe://cluster.local/ns/a/sa/b" {
				t.Errorf("echo %+v", got)
			}
		})
	}
}

func TestHTTPHealthCanBeChanged(t *testing.T) {
	t.Parallel()
	s := NewHTTP("echo-1")
	for _, step := range []struct {
		target string
		want   int
	}{{"", http.StatusOK}, {"/healthz?ok=false", http.StatusServiceUnavailable}, {"/healthz?ok=true", http.StatusOK}} {
		if step.target != "" {
			ask(t, s, http.MethodPost, step.target, "")
		}
		if got := ask(t, s, http.MethodGet, "/healthz", "").Code; got != step.want {
			t.Errorf("after %q: %d, want %d", step.target, got, step.want)
		}
	}
}

func TestHTTPStreams(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(NewHTTP("echo-1").Handler())
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/stream?chunks=3&interval=1ms", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "1 echo-1\n2 echo-1\n3 echo-1\n" {
		t.Errorf("streamed %q, %v", body, err)
	}
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewGRPC("echo-1")
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(lis) }()
	t.Cleanup(func() { s.Stop(); <-ended })
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "client-app", "test"), 10*time.Second)
	defer cancel()
	client := echopb.NewEchoClient(conn)

	resp, err := client.Say(ctx, &echopb.SayRequest{Message: "hello", DelayMillis: 1})
	if err != nil || resp.GetMessage() != "hello" || resp.GetIdentity() != "echo-1" || resp.GetHeaders()["client-app"].GetValues()[0] != "test" {
		t.Errorf("answer %v, %v", resp, err)
	}
	_, err = client.Say(ctx, &echopb.SayRequest{Code: int32(codes.ResourceExhausted)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("asked to fail, got %v", err)
	}
	stream, err := client.Watch(ctx, &echopb.WatchRequest{Count: 3, IntervalMillis: 1})
	if err != nil {
		t.Fatal(err)
	}
	for want := int64(1); ; want++ {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if want != 4 {
				t.Errorf("the stream ended before number %d", want)
			}
			break
		}
		if err != nil || resp.GetNumber() != want {
			t.Fatalf("message %v, %v, want number %d", resp, err, want)
		}
	}
	health, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil || health.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health %v, %v", health, err)
	}
}

func TestTCPEchoesLines(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		TCP("echo-1")(server)
	}()
	if err := client.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(client, "hello")
	if line, err := bufio.NewReader(client).ReadString('\n'); err != nil || line != "echo-1: hello\n" {
		t.Errorf("echo %q, %v", line, err)
	}
	client.Close()
	<-done
}
