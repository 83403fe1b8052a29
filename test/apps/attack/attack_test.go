package attack_test

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
	"github.com/openservicemesh/osm-operator/test/apps/attack"
)

// controlPlane serves one node and refuses the others.
type controlPlane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
}

func (controlPlane) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	switch req.GetNode().GetId() {
	case "good":
		err = stream.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: req.GetTypeUrl(), Nonce: "1"})
		if err == nil {
			err = stream.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: req.GetTypeUrl(), Nonce: "2", Resources: []*discoveryv3.Resource{{Name: "a"}, {Name: "b"}}})
		}
		<-stream.Context().Done()
		return err
	case "silent":
		<-stream.Context().Done()
		return nil
	default:
		return status.Error(codes.PermissionDenied, "not you")
	}
}

// TestRunTellsWhatCame has a control plane serve, refuse and say nothing: a client that
// took the one for the other would make every test that uses it worthless.
func TestRunTellsWhatCame(t *testing.T) {
	mesh, other := pki.New(t), pki.New(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{mesh.ControlPlane(t, "osm", "v1").TLS()},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: mesh.Pool(),
	})))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, controlPlane{})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)

	good, foreign := mesh.Workload(t, "shop", "web").TLS(), other.Workload(t, "shop", "web").TLS()
	for name, tc := range map[string]struct {
		options attack.Options
		given   int
		code    string
	}{
		"who is served is given configuration": {attack.Options{Node: "good", Certificate: &good}, 2, ""},
		"who is refused hears why":             {attack.Options{Node: "bad", Certificate: &good}, 0, "PermissionDenied"},
		"a foreign certificate is shown":       {attack.Options{Node: "good", Certificate: &foreign}, 0, "Unavailable"},
		"no certificate is shown":              {attack.Options{Node: "good"}, 0, "Unavailable"},
		"clear text is spoken":                 {attack.Options{Node: "good", Clear: true}, 0, "Unavailable"},
		"silence is not an answer":             {attack.Options{Node: "silent", Certificate: &good}, 0, "DeadlineExceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.options.Target, tc.options.Timeout = listener.Addr().String(), 2*time.Second
			got, err := attack.Run(t.Context(), tc.options)
			if err != nil {
				t.Fatal(err)
			}
			if got.Given() != tc.given || got.Code != tc.code {
				t.Errorf("got %+v, want %d resources and %q", got, tc.given, tc.code)
			}
		})
	}
}
