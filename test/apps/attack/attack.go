// Package attack asks a control plane for configuration as a sidecar does, with any
// certificate or none and under any name. Options come in; what was given, and how it
// ended, goes out. It judges nothing: who should have been refused is for the test to
// say.
package attack

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// types are what every sidecar asks for first, all of it.
func types() []string {
	return []string{"type.googleapis.com/envoy.config.cluster.v3.Cluster", "type.googleapis.com/envoy.config.listener.v3.Listener"}
}

// Options say whom to ask, and as whom.
type Options struct {
	// Target is host:port of the control plane.
	Target string
	// Node is the id that the sidecar says it has.
	Node string
	// Certificate is what is shown in the handshake; nil shows none.
	Certificate *tls.Certificate
	// Clear speaks without TLS.
	Clear bool
	// Timeout is how long an answer is waited for.
	Timeout time.Duration
}

// Result is what the control plane did.
type Result struct {
	// Resources counts what the first answer that was not empty held, by the last part
	// of its type.
	Resources map[string]int `json:"resources"`
	// Code is the gRPC status that ended the stream without one; DeadlineExceeded where
	// nothing came at all.
	Code string `json:"code,omitempty"`
	// Message says more.
	Message string `json:"message,omitempty"`
}

// Given counts the resources of all types.
func (r Result) Given() int {
	n := 0
	for _, count := range r.Resources {
		n += count
	}
	return n
}

// Run asks once, and returns when something came, the control plane refused, or the
// time is up. The error is about the options only.
func Run(ctx context.Context, o Options) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	transport := insecure.NewCredentials()
	if !o.Clear {
		transport = credentials.NewTLS(o.tls())
	}
	conn, err := grpc.NewClient("passthrough:///"+o.Target, grpc.WithTransportCredentials(transport))
	if err != nil {
		return Result{}, fmt.Errorf("preparing to ask %s: %w", o.Target, err)
	}
	defer conn.Close()
	got, err := ask(ctx, conn, o.Node)
	if err != nil {
		s := status.Convert(err)
		return Result{Resources: got, Code: s.Code().String(), Message: s.Message()}, nil
	}
	return Result{Resources: got}, nil
}

// tls believes any server: it is the server's eyes that are tested.
func (o Options) tls() *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // an attacker does not care
	if o.Certificate != nil {
		// Whatever the server says that it accepts, this is shown.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return o.Certificate, nil }
	}
	return config
}

// ask opens a stream and returns what the first answer with something in it holds.
func ask(ctx context.Context, conn *grpc.ClientConn, node string) (map[string]int, error) {
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return nil, err
	}
	for i, kind := range types() {
		req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: kind}
		if i == 0 {
			req.Node = &corev3.Node{Id: node}
		}
		if err := stream.Send(req); err != nil {
			break // what the server said is with Recv
		}
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if n := len(answer.GetResources()); n > 0 {
			kind := answer.GetTypeUrl()
			return map[string]int{kind[strings.LastIndexByte(kind, '.')+1:]: n}, nil
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: answer.GetTypeUrl(), ResponseNonce: answer.GetNonce()}); err != nil {
			continue // what the server said is with Recv
		}
	}
}
