package main

import (
	"context"
	"crypto/tls"
	"maps"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

const method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

// proxy is a client that asks for what a sidecar asks for and acknowledges all of it. It
// connects until it is told to go, with what it has from before, as Envoy does.
type proxy struct {
	fleet       *fleet
	pod         podRef
	certificate tls.Certificate
	stop        context.CancelFunc
	done        chan struct{}

	// lastAck is when it last acknowledged something, in nanoseconds since 1970.
	lastAck atomic.Int64
	// synced is set once it has all that it asked for.
	synced atomic.Bool

	// The proxy's own goroutine alone uses these: the versions that it has, how often
	// each load assignment or route is referred to, and names that it waits for.
	has     [kindCount]map[string]string
	uses    [kindCount]map[string]int
	awaited [kindCount]map[string]struct{}
	greeted [kindCount]bool
}

// counts are what all proxies of a fleet got.
type counts struct {
	responses, resources, removed, bytes, streams, ended atomic.Int64
}

// fleet are proxies that connect to one server.
type fleet struct {
	trust     *trust
	address   string
	catalogue *catalogue
	counts    counts

	mu sync.Mutex
	// Protected by mu.
	proxies map[*proxy]struct{}
	lastEnd error
	// captured, if not nil, takes the contents of all resources.
	captured map[resourceID][]byte
}

func newFleet(t *trust, address string) *fleet {
	return &fleet{trust: t, address: address, catalogue: &catalogue{refers: map[resourceID][]string{}}, proxies: map[*proxy]struct{}{}}
}

// add makes a proxy for a pod, which connects at once.
func (f *fleet) add(ctx context.Context, pod podRef) error {
	certificate, err := f.trust.workload(ctx, pod)
	if err != nil {
		return err
	}
	f.make(pod, certificate).start(ctx)
	return nil
}

func (f *fleet) make(pod podRef, certificate tls.Certificate) *proxy {
	p := &proxy{fleet: f, pod: pod, certificate: certificate, done: make(chan struct{})}
	for k := range kindCount {
		p.has[k], p.uses[k], p.awaited[k] = map[string]string{}, map[string]int{}, map[string]struct{}{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.proxies[p] = struct{}{}
	return p
}

func (p *proxy) start(ctx context.Context) {
	ctx, p.stop = context.WithCancel(ctx)
	go func() {
		defer close(p.done)
		for ctx.Err() == nil {
			err := p.run(ctx)
			p.synced.Store(false)
			if ctx.Err() != nil {
				return
			}
			p.fleet.ended(err)
			const least, most = 100, 400 // milliseconds; Envoy's first pauses are alike
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(least+rand.IntN(most)) * time.Millisecond):
			}
		}
	}()
}

func (f *fleet) ended(err error) {
	f.counts.ended.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastEnd = err
}

// remove ends a proxy, as when its pod goes.
func (f *fleet) remove(p *proxy) {
	f.mu.Lock()
	delete(f.proxies, p)
	f.mu.Unlock()
	p.stop()
	<-p.done
}

// stopAll ends all proxies.
func (f *fleet) stopAll() {
	for p := range f.each() {
		p.stop()
	}
	for p := range f.each() {
		f.remove(p)
	}
}

func (f *fleet) each() map[*proxy]struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.proxies)
}

// insync counts proxies that have all they asked for.
func (f *fleet) insync() int {
	n := 0
	for p := range f.each() {
		if p.synced.Load() {
			n++
		}
	}
	return n
}

// counted counts the bytes of a connection.
type counted struct {
	net.Conn
	bytes *atomic.Int64
}

// Read implements net.Conn.
func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

// run is one connection.
func (p *proxy) run(ctx context.Context) error {
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return counted{conn, &p.fleet.counts.bytes}, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+p.fleet.address,
		grpc.WithTransportCredentials(credentials.NewTLS(p.fleet.trust.clientTLS(p.certificate))), grpc.WithContextDialer(dial),
		grpc.WithStaticStreamWindowSize(1<<20), grpc.WithStaticConnWindowSize(1<<20), // as the sidecar's bootstrap has them
		grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	p.fleet.counts.streams.Add(1)
	if err := p.greet(stream); err != nil {
		return err
	}
	for {
		var r response
		if err := stream.RecvMsg(&r); err != nil {
			return err
		}
		if err := p.take(stream, &r); err != nil {
			return err
		}
	}
}

// greet asks for everything, and says what is there from before.
func (p *proxy) greet(stream grpc.ClientStream) error {
	resumed := len(p.has[clusters]) > 0
	for k := range kindCount {
		clear(p.awaited[k])
		p.greeted[k] = resumed
	}
	first := true
	for _, k := range []int{clusters, endpoints, listeners, routes, secrets} {
		req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: kinds()[k], InitialResourceVersions: p.has[k]}
		switch k {
		case secrets:
			req.ResourceNamesSubscribe = []string{name.TrustBundle}
		case endpoints, routes:
			if len(p.uses[k]) == 0 {
				continue
			}
			for name := range p.uses[k] {
				req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, name)
			}
		}
		if first {
			req.Node = &corev3.Node{Id: p.pod.node(), Cluster: p.pod.account}
			first = false
		}
		if err := stream.SendMsg(req); err != nil {
			return err
		}
	}
	if resumed {
		p.synced.Store(true)
	}
	return nil
}

// take takes a response, asks for what it refers to, and acknowledges it.
func (p *proxy) take(stream grpc.ClientStream, r *response) error {
	before := map[string]struct{}{}
	of := map[int]int{clusters: endpoints, listeners: routes}
	referred, refers := of[r.kind]
	for _, one := range r.got {
		p.fleet.capture(r.kind, one)
		names, err := p.fleet.catalogue.references(r.kind, one)
		if err != nil {
			return err
		}
		if refers {
			p.drop(r.kind, referred, one.name, before)
			for _, name := range names {
				p.uses[referred][name]++
				if p.uses[referred][name] == 1 {
					before[name] = struct{}{}
				}
			}
		}
		p.has[r.kind][one.name] = one.version
		delete(p.awaited[r.kind], one.name)
	}
	for _, name := range r.removed {
		if refers {
			p.drop(r.kind, referred, name, before)
		}
		delete(p.has[r.kind], name)
		delete(p.awaited[r.kind], name)
	}
	p.greeted[r.kind] = true
	ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: kinds()[r.kind], ResponseNonce: r.nonce}
	if refers && len(before) > 0 {
		if err := stream.SendMsg(p.follow(referred, before)); err != nil {
			return err
		}
	}
	if err := stream.SendMsg(ack); err != nil {
		return err
	}
	p.lastAck.Store(time.Now().UnixNano())
	c := &p.fleet.counts
	c.resources.Add(int64(len(r.got)))
	c.removed.Add(int64(len(r.removed)))
	p.synced.Store(p.complete())
	c.responses.Add(1)
	return nil
}

// drop takes back what a cluster or a listener referred to; names that nobody refers to
// any more, or that are referred to again, are noted.
func (p *proxy) drop(kind, referred int, resource string, changed map[string]struct{}) {
	version, ok := p.has[kind][resource]
	if !ok {
		return
	}
	names, err := p.fleet.catalogue.references(kind, got{name: resource, version: version})
	if err != nil {
		return
	}
	for _, name := range names {
		p.uses[referred][name]--
		if p.uses[referred][name] == 0 {
			changed[name] = struct{}{}
		}
	}
}

// follow subscribes to what is referred to now, and unsubscribes from the rest.
func (p *proxy) follow(kind int, changed map[string]struct{}) *discoveryv3.DeltaDiscoveryRequest {
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: kinds()[kind]}
	for name := range changed {
		if p.uses[kind][name] > 0 {
			req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, name)
			p.awaited[kind][name] = struct{}{}
			continue
		}
		delete(p.uses[kind], name)
		delete(p.has[kind], name)
		delete(p.awaited[kind], name)
		req.ResourceNamesUnsubscribe = append(req.ResourceNamesUnsubscribe, name)
	}
	return req
}

func (p *proxy) complete() bool {
	waits := len(p.awaited[endpoints]) + len(p.awaited[routes])
	return waits == 0 && p.greeted[clusters] && p.greeted[listeners] && p.greeted[secrets]
}

func (f *fleet) capture(kind int, r got) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.captured != nil {
		f.captured[resourceID{kind, r.name, r.version}] = r.body
	}
}
