package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	envoy "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/test/bench/machine"
)

// given is a resource that a baseline serves.
type given struct {
	TypeURL, Name string
	Body          []byte
}

// order is what a baseline is told to do: change an endpoint of this load assignment, or,
// without a name, set again what there is.
type order struct {
	Assignment string
	Ready      bool
}

// began is its answer: when it began to do it.
type began struct{ At time.Time }

// baseline is a server of go-control-plane's, in a process of its own, fed with what our
// control plane sends to proxies of one class. All proxies are of that class there.
type baseline struct {
	cmd     *exec.Cmd
	in      *json.Encoder
	out     *bufio.Reader
	address string
	last    time.Time
}

// runBaseline starts one: "snapshot" or "linear".
func runBaseline(ctx context.Context, kind, dir string, t *trust, resources []given) (*baseline, error) {
	file := filepath.Join(dir, "resources.gob")
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := gob.NewEncoder(f).Encode(resources); err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &baseline{cmd: exec.CommandContext(context.WithoutCancel(ctx), self, "-baseline", kind, "-resources", file, "-serving", t.serving, "-trust", t.roots)}
	b.cmd.Stderr = os.Stderr
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := b.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	b.in, b.out = json.NewEncoder(in), bufio.NewReader(out)
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := b.out.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("starting the baseline %s: %w", kind, err)
	}
	b.address = line[:len(line)-1]
	return b, nil
}

func (b *baseline) stop() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
}

func (b *baseline) tell(o order) error {
	if err := b.in.Encode(o); err != nil {
		return err
	}
	line, err := b.out.ReadBytes('\n')
	if err != nil {
		return err
	}
	var answer began
	if err := json.Unmarshal(line, &answer); err != nil {
		return err
	}
	b.last = answer.At
	return nil
}

// subject is the baseline as it is measured: its event is the call that changes something.
func (b *baseline) subject(f *fleet) *subject {
	return &subject{
		fleet: f, cpu: func() (time.Duration, error) { return machine.CPU(b.cmd.Process.Pid) },
		stamps: func(context.Context, string) (event, sent time.Time, err error) { return b.last, time.Time{}, nil },
	}
}

// serveBaseline is the process.
func serveBaseline(ctx context.Context, kind, file, serving, trust string) error {
	resources, err := readGiven(file)
	if err != nil {
		return err
	}
	var store cache.Cache
	var change func(o order) error
	switch kind {
	case "snapshot":
		store, change, err = snapshots(ctx, resources)
	case "linear":
		store, change = linears(resources)
	default:
		err = fmt.Errorf("there is no baseline %q", kind)
	}
	if err != nil {
		return err
	}
	creds, err := baselineTLS(serving, trust)
	if err != nil {
		return err
	}
	g := grpc.NewServer(grpc.Creds(creds), grpc.MaxConcurrentStreams(1000))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, &deltas{loop: delta.NewServer(ctx, store, careless{})})
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = g.Serve(l) }()
	fmt.Println(l.Addr())
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		at := time.Now()
		if err := change(o); err != nil {
			return err
		}
		if err := out.Encode(began{at}); err != nil {
			return err
		}
	}
}

// deltas serves the delta protocol with go-control-plane's loop.
type deltas struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	loop delta.Server
}

// DeltaAggregatedResources implements the service.
func (d *deltas) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return d.loop.DeltaStreamHandler(g, envoy.AnyType)
}

// careless takes no notice of anything.
type careless struct{}

// OnDeltaStreamOpen implements delta.Callbacks.
func (careless) OnDeltaStreamOpen(context.Context, int64, string) error { return nil }

// OnDeltaStreamClosed implements delta.Callbacks.
func (careless) OnDeltaStreamClosed(int64, *corev3.Node) {}

// OnStreamDeltaRequest implements delta.Callbacks.
func (careless) OnStreamDeltaRequest(int64, *discoveryv3.DeltaDiscoveryRequest) error { return nil }

// OnStreamDeltaResponse implements delta.Callbacks.
func (careless) OnStreamDeltaResponse(int64, *discoveryv3.DeltaDiscoveryRequest, *discoveryv3.DeltaDiscoveryResponse) {
}

func readGiven(file string) (map[string][]types.Resource, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []given
	if err := gob.NewDecoder(f).Decode(&all); err != nil {
		return nil, err
	}
	out := map[string][]types.Resource{}
	for _, one := range all {
		m, err := (&anypb.Any{TypeUrl: one.TypeURL, Value: one.Body}).UnmarshalNew()
		if err != nil {
			return nil, err
		}
		out[one.TypeURL] = append(out[one.TypeURL], m)
	}
	return out, nil
}

func baselineTLS(serving, trust string) (credentials.TransportCredentials, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(serving, "tls.crt"), filepath.Join(serving, "tls.key"))
	if err != nil {
		return nil, err
	}
	roots, err := os.ReadFile(filepath.Join(trust, "ca.pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, SessionTicketsDisabled: true,
	}), nil
}

// everybody is one node: the best case for SnapshotCache, that is often used with a
// snapshot for each.
type everybody struct{}

// ID implements cache.NodeHash.
func (everybody) ID(*corev3.Node) string { return "all" }

func snapshots(ctx context.Context, resources map[string][]types.Resource) (cache.Cache, func(order) error, error) {
	store := cache.NewSnapshotCache(false, everybody{}, nil)
	n := 0
	set := func() error {
		n++
		s, err := cache.NewSnapshot(fmt.Sprint(n), resources)
		if err != nil {
			return err
		}
		return store.SetSnapshot(ctx, "all", s)
	}
	return store, func(o order) error {
		if o.Assignment != "" {
			if _, err := edit(resources, o); err != nil {
				return err
			}
		}
		return set()
	}, set()
}

func linears(resources map[string][]types.Resource) (served cache.Cache, change func(order) error) {
	byType := map[string]*cache.LinearCache{}
	mux := &cache.MuxCache{Classify: func(r *cache.Request) string { return r.GetTypeUrl() }, ClassifyDelta: func(r *cache.DeltaRequest) string { return r.GetTypeUrl() }, Caches: map[string]cache.Cache{}}
	for url, all := range resources {
		initial := map[string]types.Resource{}
		for _, r := range all {
			initial[cache.GetResourceName(r)] = r
		}
		byType[url] = cache.NewLinearCache(url, cache.WithInitialResources(initial))
		mux.Caches[url] = byType[url]
	}
	return mux, func(o order) error {
		if o.Assignment == "" {
			for _, r := range resources[resource.EndpointType][:1] {
				return byType[resource.EndpointType].UpdateResource(cache.GetResourceName(r), r)
			}
			return nil
		}
		r, err := edit(resources, o)
		if err != nil {
			return err
		}
		return byType[resource.EndpointType].UpdateResource(o.Assignment, r)
	}
}

// edit puts another form of a load assignment in the place of the one before.
func edit(resources map[string][]types.Resource, o order) (types.Resource, error) {
	all := resources[resource.EndpointType]
	i := slices.IndexFunc(all, func(r types.Resource) bool { return cache.GetResourceName(r) == o.Assignment })
	if i < 0 {
		return nil, fmt.Errorf("there is no load assignment %q", o.Assignment)
	}
	next, ok := proto.Clone(all[i]).(*endpointv3.ClusterLoadAssignment)
	if !ok || len(next.GetEndpoints()) == 0 || len(next.GetEndpoints()[0].GetLbEndpoints()) == 0 {
		return nil, fmt.Errorf("the load assignment %q has no endpoints", o.Assignment)
	}
	status := corev3.HealthStatus_UNHEALTHY
	if o.Ready {
		status = corev3.HealthStatus_UNKNOWN
	}
	next.Endpoints[0].LbEndpoints[0].HealthStatus = status
	all[i] = next
	return next, nil
}
