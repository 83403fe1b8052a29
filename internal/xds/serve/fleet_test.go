package serve_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// fleetVariable makes the test's program a fleet of proxies, described on its input.
const fleetVariable = "OSM_TEST_SERVE_FLEET"

func TestMain(m *testing.M) {
	if os.Getenv(fleetVariable) == "" {
		os.Exit(m.Run())
	}
	if err := runFleet(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

// member is a proxy of a fleet.
type member struct {
	Node             string
	Certificate, Key []byte
}

// fleetConfig is what a fleet connects to.
type fleetConfig struct {
	Address string
	Root    []byte
	Members []member
}

// fleet makes proxies in a process of their own, that connect when the function is
// called that it returns, and go when the test ends.
func (h *harness) fleet(tb testing.TB, size int, class string) func() {
	tb.Helper()
	config := fleetConfig{Address: h.address, Root: h.ca.cert.Raw}
	for i := range size {
		p := h.pod(fmt.Sprint("fleet-", i), class)
		c := h.ca.workload(tb, p)
		key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			tb.Fatal(err)
		}
		config.Members = append(config.Members, member{Node: p.node(), Certificate: c.Certificate[0], Key: key})
	}
	program, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), program)
	cmd.Env = append(os.Environ(), fleetVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return func() {
		if err := gob.NewEncoder(in).Encode(config); err != nil {
			tb.Fatal(err)
		}
	}
}

// runFleet runs proxies that accept everything, until its input ends.
func runFleet(in io.Reader) error {
	var config fleetConfig
	if err := gob.NewDecoder(in).Decode(&config); err != nil {
		return err
	}
	root, err := x509.ParseCertificate(config.Root)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	g, ctx := errgroup.WithContext(context.Background())
	for _, m := range config.Members {
		g.Go(func() error {
			for ctx.Err() == nil {
				// A busy machine may not come to shake hands in time: it is tried again.
				fmt.Fprintln(os.Stderr, "fleet: connecting again:", m.run(ctx, config.Address, roots))
			}
			return nil
		})
	}
	return g.Wait()
}

// run is one proxy: it wants all clusters and listeners, and the endpoints of clusters.
func (m member) run(ctx context.Context, address string, roots *x509.CertPool) error {
	key, err := x509.ParsePKCS8PrivateKey(m.Key)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: roots, ServerName: "osm-controller", Certificates: []tls.Certificate{{Certificate: [][]byte{m.Certificate}, PrivateKey: key}},
	})), grpc.WithStaticStreamWindowSize(1<<20), grpc.WithStaticConnWindowSize(1<<20)) // as the sidecar's bootstrap has them
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: m.Node}, TypeUrl: cds}); err != nil {
		return err
	}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: lds}); err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if r.GetTypeUrl() == cds && len(r.GetResources()) > 0 {
			ask := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds}
			for _, x := range r.GetResources() {
				ask.ResourceNamesSubscribe = append(ask.ResourceNamesSubscribe, x.GetName())
			}
			if err := stream.Send(ask); err != nil {
				return err
			}
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}); err != nil {
			return err
		}
	}
}
