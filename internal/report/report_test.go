package report_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openservicemesh/osm-operator/internal/report"
	"github.com/openservicemesh/osm-operator/internal/report/reportpb"
)

const (
	operator      = "spiffe://cluster.local/mesh/osm/operator"
	controlPlanes = "spiffe://cluster.local/mesh/osm/control-plane/"
)

// replica is a running server with its store.
type replica struct {
	report.Replica
	store  *report.Store
	server *grpc.Server
}

func start(t *testing.T, p *pki, name string) *replica {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	store := report.NewStore()
	server := (&report.Server{Store: store, Replica: name, Revision: "v1", Operator: operator, ControlPlanes: controlPlanes}).NewGRPCServer(p.server(t))
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return &replica{Replica: report.Replica{Name: name, Address: listener.Addr().String()}, store: store, server: server}
}

func collect(t *testing.T, p *pki, id string) (c *report.Collector, changes <-chan struct{}) {
	t.Helper()
	changed := make(chan struct{}, 1)
	c = report.NewCollector(func(_ context.Context, address string) (*grpc.ClientConn, error) {
		return grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(p.client(t, id))))
	}, func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	t.Cleanup(c.Close)
	return c, changed
}

// until waits for facts that fit, woken by changes alone.
func until(t *testing.T, c *report.Collector, changed <-chan struct{}, what string, fits func(report.Facts) bool) report.Facts {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		f := c.Facts()
		if fits(f) {
			return f
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s: still %+v", what, f)
		}
	}
}

func proxy(uid string, since time.Time, synced bool) *reportpb.Proxy {
	return &reportpb.Proxy{PodUid: uid, ConnectedSince: timestamppb.New(since), InSync: synced}
}

func TestCollector(t *testing.T) {
	p, now := newPKI(t), time.Now()
	a, b := start(t, p, "a"), start(t, p, "b")
	a.store.Set(proxy("1", now, true))
	b.store.Set(proxy("2", now, true))
	c, changed := collect(t, p, operator)
	c.SetReplicas([]report.Replica{a.Replica, b.Replica})

	until(t, c, changed, "both replicas are read", func(f report.Facts) bool { return f.Known && f.Connected == 2 && f.Synced == 2 })

	b.store.Set(proxy("3", now, false))
	until(t, c, changed, "a change is told", func(f report.Facts) bool { return f.Connected == 3 && f.Synced == 2 })

	b.store.Set(proxy("1", now.Add(time.Second), false))
	until(t, c, changed, "a proxy that moved counts once, by its later stream", func(f report.Facts) bool { return f.Connected == 3 && f.Synced == 1 })

	b.store.Remove("3")
	until(t, c, changed, "a proxy that went is forgotten", func(f report.Facts) bool { return f.Connected == 2 })

	rejecting := proxy("2", now, true)
	rejecting.Rejected = &reportpb.Rejection{Message: "no"}
	b.store.Set(rejecting)
	until(t, c, changed, "a rejection is counted", func(f report.Facts) bool { return f.Rejecting == 1 })

	b.server.Stop()
	f := until(t, c, changed, "a replica that went makes the facts unknown", func(f report.Facts) bool { return !f.Known })
	if len(f.Unread) != 1 || f.Unread[0] != "b" {
		t.Errorf("unread are %v, want b", f.Unread)
	}

	c.SetReplicas([]report.Replica{a.Replica})
	if f := c.Facts(); !f.Known || f.Connected != 1 {
		t.Errorf("without the replica that went: %+v, want one known proxy", f)
	}
}

// TestPodsThatWaitAreTold has two replicas look at the same requests.
func TestPodsThatWaitAreTold(t *testing.T) {
	p := newPKI(t)
	a, b := start(t, p, "a"), start(t, p, "b")
	a.store.SetWaiting(map[string]int{"NoIssuer": 2})
	c, changed := collect(t, p, operator)
	c.SetReplicas([]report.Replica{a.Replica, b.Replica})
	until(t, c, changed, "what was there before", func(f report.Facts) bool { return f.Known && f.Waiting["NoIssuer"] == 2 })
	b.store.SetWaiting(map[string]int{"NoIssuer": 1, "AuthorityUnavailable": 1})
	until(t, c, changed, "the largest count", func(f report.Facts) bool {
		return f.Waiting["NoIssuer"] == 2 && f.Waiting["AuthorityUnavailable"] == 1
	})
	a.store.SetWaiting(nil)
	b.store.SetWaiting(nil)
	until(t, c, changed, "nobody waits any more", func(f report.Facts) bool { return f.Known && len(f.Waiting) == 0 })
}

func TestNoReplicaMeansNoProxy(t *testing.T) {
	c, _ := collect(t, newPKI(t), operator)
	if f := c.Facts(); !f.Known || f.Connected != 0 {
		t.Errorf("Facts of no replica: %+v, want a known nothing", f)
	}
}

func TestASnapshotCountsOnceItIsWhole(t *testing.T) {
	const many = 1234 // takes several batches
	p, now := newPKI(t), time.Now()
	a := start(t, p, "a")
	for i := range many {
		a.store.Set(proxy(fmt.Sprint(i), now, true))
	}
	c, _ := collect(t, p, operator)
	c.SetReplicas([]report.Replica{a.Replica})
	for deadline := time.Now().Add(20 * time.Second); ; {
		f := c.Facts() // looked at all the time, so as to see what is in between
		if f.Known && f.Connected != many {
			t.Fatalf("%+v, want unknown or all of %d", f, many)
		}
		if f.Known {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the replica is not read")
		}
	}
}

func TestAnotherReplicaAtTheAddressIsNotRead(t *testing.T) {
	p := newPKI(t)
	a := start(t, p, "a")
	a.store.Set(proxy("1", time.Now(), true))
	c, changed := collect(t, p, operator)
	c.SetReplicas([]report.Replica{{Name: "b", Address: a.Address}})
	select {
	case <-changed: // it was tried
	case <-time.After(20 * time.Second):
		t.Fatal("the replica was never tried")
	}
	if f := c.Facts(); f.Known || f.Connected != 0 {
		t.Errorf("%+v, want unknown", f)
	}
	c.SetReplicas([]report.Replica{a.Replica})
	until(t, c, changed, "the replica is read by its name", func(f report.Facts) bool { return f.Known && f.Connected == 1 })
}

// silent serves one snapshot, and never a sign of life.
type silent struct {
	reportpb.UnimplementedReportsServer
}

func (silent) Watch(_ *reportpb.WatchRequest, stream grpc.ServerStreamingServer[reportpb.Batch]) error {
	if err := stream.Send(&reportpb.Batch{Snapshot: true, Upserts: []*reportpb.Proxy{proxy("1", time.Now(), true)}}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

func TestAReplicaThatFallsSilentIsUnknown(t *testing.T) {
	p := newPKI(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(p.server(t))))
	reportpb.RegisterReportsServer(server, silent{})
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-done })
	c, changed := collect(t, p, operator)
	c.SetSilence(time.Second)
	c.SetReplicas([]report.Replica{{Name: "a", Address: listener.Addr().String()}})
	until(t, c, changed, "it is read", func(f report.Facts) bool { return f.Known && f.Connected == 1 })
	until(t, c, changed, "its silence makes it unknown", func(f report.Facts) bool { return !f.Known && f.Connected == 0 })
	until(t, c, changed, "it is asked again", func(f report.Facts) bool { return f.Known && f.Connected == 1 })
}

// TestTheStateOfPoliciesComesAfterTheProxies looks at what is told all the time: a state
// never comes before the proxies of which it was known by then.
func TestTheStateOfPoliciesComesAfterTheProxies(t *testing.T) {
	p := newPKI(t)
	a := start(t, p, "a")
	c, changed := collect(t, p, controlPlanes+"v1")
	c.SetReplicas([]report.Replica{a.Replica})
	until(t, c, changed, "it is read", func(f report.Facts) bool { return f.Known })
	const many = 1200 // more than a message holds
	for turn := range 3 {
		for i := range many {
			a.store.Set(&reportpb.Proxy{PodUid: fmt.Sprint(i), Class: fmt.Sprint(turn), ConnectedSince: timestamppb.Now(), Settled: true})
		}
		a.store.SetPolicies(fmt.Sprint(turn))
		until(t, c, changed, "the state is told", func(report.Facts) bool {
			states, unread := c.Policies()
			if len(unread) > 0 || states["a"] != fmt.Sprint(turn) {
				return false
			}
			proxies, _ := c.Proxies()
			for uid, proxy := range proxies {
				if proxy.Class != fmt.Sprint(turn) || proxy.Replica != "a" || !proxy.Settled {
					t.Fatalf("%s is %+v in state %d", uid, proxy, turn)
				}
			}
			return len(proxies) == many
		})
	}
	a.server.Stop()
	until(t, c, changed, "it went", func(f report.Facts) bool { return !f.Known })
	if states, unread := c.Policies(); len(states) > 0 || len(unread) != 1 {
		t.Errorf("states are %v and unread %v, want a unread", states, unread)
	}
}

func TestOnlyTheMeshMayRead(t *testing.T) {
	p := newPKI(t)
	r := start(t, p, "a")
	cases := map[string]struct {
		client *pki
		id     string
		want   codes.Code
	}{
		"The operator reads":                      {p, operator, codes.OK},
		"A control plane of the mesh reads":       {p, controlPlanes + "v2", codes.OK},
		"One of another mesh does not":            {p, "spiffe://cluster.local/mesh/other/control-plane/v1", codes.PermissionDenied},
		"The operator of another mesh does not":   {p, "spiffe://cluster.local/mesh/other/operator", codes.PermissionDenied},
		"A workload does not":                     {p, "spiffe://cluster.local/ns/default/sa/default", codes.PermissionDenied},
		"The right name from another root is not": {newPKI(t), operator, codes.Unavailable},
		"Nor is it from a control plane's issuer": {p.below(t), operator, codes.PermissionDenied},
		"Nor is a control plane's":                {p.below(t), controlPlanes + "v1", codes.PermissionDenied},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			config := tc.client.client(t, tc.id)
			config.RootCAs = p.pool // it would trust the server; the server must not trust it
			conn, err := grpc.NewClient(r.Address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			stream, err := reportpb.NewReportsClient(conn).Watch(ctx, &reportpb.WatchRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			if errors.Is(err, context.DeadlineExceeded) || status.Code(err) != tc.want {
				t.Errorf("Watch: %v, want code %s", err, tc.want)
			}
		})
	}
}
