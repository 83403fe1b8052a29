package serve_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// BenchmarkServe changes the endpoints of one service that all proxies call, and
// waits until all of them have acknowledged that: ns/op is the time that takes.
//
// The proxies are delta clients over TLS on loopback in a process of their own; what
// is reported of CPU, bytes and memory is the server's alone. A service is a cluster
// and a listener of 1 KiB each, and ten endpoints. The first row of metrics is for
// one proxy and one change, the second, with "connect", for one proxy that connects
// and gets everything.
func BenchmarkServe(b *testing.B) {
	for _, services := range []int{100, 1000} {
		for _, proxies := range []int{100, 500} {
			b.Run(fmt.Sprintf("services=%d/proxies=%d", services, proxies), func(b *testing.B) { benchmark(b, services, proxies) })
		}
	}
}

func benchmark(b *testing.B, services, proxies int) {
	b.Helper()
	var wire traffic
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	h := startOn(b, &counting{l, &wire})
	all := make([]*resource.Resource, 0, 2*services)
	for i := range services {
		name := fmt.Sprintf("shop/service-%d|8080", i)
		all = append(all, padded(b, name), resource.Of(lds, "outbound/"+name, "1", make([]byte, 1024)))
		h.cache.SetShared(name, assignment(b, name, 0))
	}
	h.cache.SetClass("a", set(b, all...))

	join := h.fleet(b, proxies, "a")
	idle := heap()
	before, bytes := cpu(b), wire.out.Load()
	join()
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	synced := func() bool {
		n := 0
		for _, p := range h.server.Proxies() {
			if p.InSync {
				n++
			}
		}
		return n == proxies
	}
	for !synced() {
		select {
		case <-ctx.Done():
			b.Fatalf("after a long time not all are in sync: %+v", h.server.Proxies()[:1])
		case <-time.After(50 * time.Millisecond):
		}
	}
	each := float64(proxies)
	connectCPU, connectBytes := micros(cpu(b)-before)/each, float64(wire.out.Load()-bytes)/each
	memory := (heap() - idle) / each

	const changed = "shop/service-0|8080"
	before, bytes = cpu(b), wire.out.Load()
	i := 0
	for b.Loop() {
		i++
		h.cache.SetShared(changed, assignment(b, changed, i))
		if err := h.cache.Settled(ctx, eds, "a"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(micros(cpu(b)-before)/each/float64(i), "cpu-us/proxy")
	b.ReportMetric(float64(wire.out.Load()-bytes)/each/float64(i), "B/proxy")
	b.ReportMetric(connectCPU, "connect-cpu-us/proxy")
	b.ReportMetric(connectBytes, "connect-B/proxy")
	b.ReportMetric(memory, "heap-B/proxy")
}

// BenchmarkFloor sends what BenchmarkServe sends for one change, from a server that knows
// nothing and decides nothing: what is reported is the price of gRPC, TLS and the kernel for one
// response and its acknowledgement.
func BenchmarkFloor(b *testing.B) {
	const proxies = 500
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	h := start(b) // for its authority, and for the fleet
	h.address = l.Addr().String()
	f := &floor{turns: make(chan *turn)}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{h.shown}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: h.trusted,
	})), grpc.StaticStreamWindowSize(128<<10), grpc.StaticConnWindowSize(256<<10))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, f)
	go func() { _ = s.Serve(l) }()
	defer s.Stop()
	h.fleet(b, proxies, "a")()
	for f.streams.Load() < proxies {
		time.Sleep(50 * time.Millisecond)
	}
	r := assignment(b, "shop/service-0|8080", 0)
	before, i := cpu(b), 0
	for b.Loop() {
		i++
		t := &turn{response: &discoveryv3.DeltaDiscoveryResponse{TypeUrl: eds, Nonce: fmt.Sprint(i), Resources: []*discoveryv3.Resource{{Name: r.Name, Version: r.Version, Resource: anyOf(r)}}}}
		t.done.Add(proxies)
		for range proxies {
			f.turns <- t
		}
		t.done.Wait()
	}
	b.ReportMetric(micros(cpu(b)-before)/proxies/float64(i), "cpu-us/proxy")
}

// floor is a server that sends each stream what it is told to.
type floor struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	streams atomic.Int64
	turns   chan *turn
}

// turn is one response to all streams.
type turn struct {
	response *discoveryv3.DeltaDiscoveryResponse
	done     sync.WaitGroup
}

func (f *floor) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for range 2 { // what the proxy asks for
		if _, err := g.Recv(); err != nil {
			return err
		}
	}
	f.streams.Add(1)
	for {
		select {
		case <-g.Context().Done():
			return g.Context().Err()
		case t := <-f.turns:
			if err := g.Send(t.response); err != nil {
				return err
			}
			if _, err := g.Recv(); err != nil {
				return err
			}
			t.done.Done()
			// One that is done must not take another's share of this turn.
			t.done.Wait()
		}
	}
}

// padded makes a cluster of about 1 KiB.
func padded(tb testing.TB, name string) *resource.Resource {
	tb.Helper()
	r, err := resource.New(&clusterv3.Cluster{
		Name: name, AltStatName: strings.Repeat("x", 900),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{ServiceName: name},
	}, name)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// assignment makes ten endpoints, that differ from one generation to another.
func assignment(tb testing.TB, name string, generation int) *resource.Resource {
	tb.Helper()
	all := &endpointv3.LocalityLbEndpoints{}
	for i := range 10 {
		all.LbEndpoints = append(all.LbEndpoints, &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: fmt.Sprintf("10.%d.%d.%d", generation>>8&255, generation&255, i), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 8080},
			}}},
		}}})
	}
	r, err := resource.New(&endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{all}}, name)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// cpu returns the time that this process has computed.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// traffic counts bytes.
type traffic struct{ in, out atomic.Int64 }

type counting struct {
	net.Listener
	*traffic
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &counted{conn, c.traffic}, nil
}

type counted struct {
	net.Conn
	*traffic
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.Add(int64(n))
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.out.Add(int64(n))
	return n, err
}
