package cmd

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// proxy is a client that asks for what a sidecar asks for, and acknowledges all of it.
type proxy struct {
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	ended  chan error

	mu sync.Mutex
	// Protected by mu. slow, if set, is waited for before clusters are acknowledged.
	slow chan struct{}
	// refuses are types of which everything is rejected.
	refuses   map[string]bool
	resources map[string]map[string]*discoveryv3.Resource
	log       []string // of responses: type, and names that came and went
	changed   chan struct{}
}

// connectProxy opens a stream as a pod.
func connectProxy(t *testing.T, port int, authority *pki.Authority, certificate pki.Credentials, node string) *proxy {
	t.Helper()
	conn, err := grpc.NewClient(net.JoinHostPort("127.0.0.1", fmt.Sprint(port)), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate.TLS()}, RootCAs: authority.Pool(), ServerName: "osm-controller-v1.osm-system.svc",
	})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); _ = conn.Close() })
	p := &proxy{ended: make(chan error, 1), resources: map[string]map[string]*discoveryv3.Resource{}, changed: make(chan struct{}, 1)}
	if p.stream, err = discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx); err != nil {
		p.ended <- err
		return p
	}
	for i, kind := range []string{resource.ClusterType, resource.ListenerType} {
		req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: kind}
		if i == 0 {
			req.Node = &corev3.Node{Id: node}
		}
		p.send(req)
	}
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.SecretType, ResourceNamesSubscribe: []string{name.TrustBundle}})
	go p.receive()
	return p
}

func (p *proxy) send(req *discoveryv3.DeltaDiscoveryRequest) { _ = p.stream.Send(req) }

func (p *proxy) receive() {
	for {
		resp, err := p.stream.Recv()
		if err != nil {
			p.ended <- err
			return
		}
		gate := p.take(resp)
		select {
		case p.changed <- struct{}{}:
		default:
		}
		if resp.GetTypeUrl() == resource.ClusterType && gate != nil {
			<-gate
		}
		answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}
		p.mu.Lock()
		if p.refuses[resp.GetTypeUrl()] {
			answer.ErrorDetail = &statuspb.Status{Message: "cannot bind: address in use"}
		}
		p.mu.Unlock()
		p.send(answer)
	}
}

// refuse has the proxy reject all of a type, or no more.
func (p *proxy) refuse(kind string, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = map[string]bool{kind: on}
}

// take keeps what came, asks for the endpoints of new clusters, and returns what is to
// be waited for before clusters are acknowledged.
func (p *proxy) take(resp *discoveryv3.DeltaDiscoveryResponse) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	kind := resp.GetTypeUrl()
	if p.resources[kind] == nil {
		p.resources[kind] = map[string]*discoveryv3.Resource{}
	}
	var names, wanted []string
	for _, r := range resp.GetResources() {
		p.resources[kind][r.GetName()] = r
		names = append(names, "+"+r.GetName())
		if cluster := endpointsOf(r); cluster != "" {
			wanted = append(wanted, cluster)
		}
	}
	for _, gone := range resp.GetRemovedResources() {
		delete(p.resources[kind], gone)
		names = append(names, "-"+gone)
	}
	slices.Sort(names)
	p.log = append(p.log, kind[strings.LastIndexByte(kind, '.')+1:]+" "+strings.Join(names, " "))
	if len(wanted) > 0 {
		p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.EndpointType, ResourceNamesSubscribe: wanted})
	}
	return p.slow
}

// endpointsOf returns the load assignment that a cluster asks for.
func endpointsOf(r *discoveryv3.Resource) string {
	var c clusterv3.Cluster
	if r.GetResource().GetTypeUrl() != resource.ClusterType || r.GetResource().UnmarshalTo(&c) != nil || c.GetType() != clusterv3.Cluster_EDS {
		return ""
	}
	if n := c.GetEdsClusterConfig().GetServiceName(); n != "" {
		return n
	}
	return c.GetName()
}

// addresses are those that a load assignment holds; ok is false while there is none.
func (p *proxy) addresses(assignment string) (out []string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.resources[resource.EndpointType][assignment]
	if r == nil {
		return nil, false
	}
	var a endpointv3.ClusterLoadAssignment
	if err := proto.Unmarshal(r.GetResource().GetValue(), &a); err != nil {
		return []string{err.Error()}, true
	}
	for _, l := range a.GetEndpoints() {
		for _, e := range l.GetLbEndpoints() {
			out = append(out, e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
		}
	}
	return out, true
}

// has returns the names that the proxy has of a type, sorted.
func (p *proxy) has(kind string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for n := range p.resources[kind] {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// responses returns what came since the mark, and the mark for the next call.
func (p *proxy) responses(mark int) (names []string, next int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log[mark:]), len(p.log)
}

// until waits for something to be true of what the proxy has.
func (p *proxy) until(t *testing.T, what string, fits func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !fits() {
		select {
		case <-p.changed:
		case <-deadline:
			log, _ := p.responses(0)
			t.Fatalf("waiting for %s; responses were:\n%s", what, strings.Join(log, "\n"))
		}
	}
}
