package cmd

import (
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/controllers/trust"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/observe"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/report"
	"github.com/openservicemesh/osm-operator/internal/status"
)

// reportPace is how often a MeshRevision is woken at the most by what its proxies tell.
const reportPace = time.Second

// reports keeps a collector for each revision, and wakes its reconciler.
type reports struct {
	reader    client.Reader
	authority *trust.Reconciler
	log       logr.Logger
	changed   chan event.GenericEvent

	mu sync.Mutex
	// Protected by mu.
	collectors map[string]*report.Collector
	pending    map[string]bool
}

func newReports(reader client.Reader, authority *trust.Reconciler, log logr.Logger) *reports {
	return &reports{
		reader: reader, authority: authority, log: log, changed: make(chan event.GenericEvent, 64),
		collectors: map[string]*report.Collector{}, pending: map[string]bool{},
	}
}

// Changed wakes the reconciler of MeshRevisions.
func (r *reports) Changed() <-chan event.GenericEvent { return r.changed }

// Start implements manager.Runnable: it runs until the process ends, and then stops
// all collectors.
func (r *reports) Start(ctx context.Context) error {
	ticker := time.NewTicker(reportPace)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			r.close()
			return nil
		case <-ticker.C:
			for _, name := range r.takePending() {
				select {
				case r.changed <- event.GenericEvent{Object: &operatorv1alpha1.MeshRevision{ObjectMeta: metav1.ObjectMeta{Name: name}}}:
				case <-ctx.Done():
				}
			}
		}
	}
}

func (r *reports) close() {
	r.mu.Lock()
	all := r.collectors
	r.collectors = map[string]*report.Collector{}
	r.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

func (r *reports) takePending() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]string, 0, len(r.pending))
	for name := range r.pending {
		out = append(out, name)
	}
	clear(r.pending)
	return out
}

// Read implements revision.Reports.
func (r *reports) Read(mesh, revision string, replicas []observe.Replica) status.Proxies {
	name := plan.RevisionObjectName(mesh, revision)
	r.mu.Lock()
	c := r.collectors[name]
	if c == nil {
		c = report.NewCollector(r.dial(mesh, revision), func() {
			r.mu.Lock()
			r.pending[name] = true
			r.mu.Unlock()
		})
		r.collectors[name] = c
	}
	r.mu.Unlock()
	at := make([]report.Replica, 0, len(replicas))
	for _, replica := range replicas {
		at = append(at, report.Replica{Name: replica.Name, Address: replica.Address})
	}
	c.SetReplicas(at)
	f := c.Facts()
	return status.Proxies{
		Known: f.Known, Unread: f.Unread,
		Connected: int32(f.Connected), Synced: int32(f.Synced), Rejecting: int32(f.Rejecting),
		Waiting: f.Waiting,
	}
}

// Proxies implements mesh.Reports. A revision whose reader has not begun is not known.
func (r *reports) Proxies(mesh, revision string) (map[string]observe.Proxy, bool) {
	r.mu.Lock()
	c := r.collectors[plan.RevisionObjectName(mesh, revision)]
	r.mu.Unlock()
	if c == nil {
		return nil, false
	}
	told, known := c.Proxies()
	out := make(map[string]observe.Proxy, len(told))
	for uid, p := range told {
		out[uid] = observe.Proxy{Synced: p.Synced, Rejected: p.Rejected}
	}
	return out, known
}

// Forget implements revision.Reports.
func (r *reports) Forget(name string) {
	r.mu.Lock()
	c := r.collectors[name]
	delete(r.collectors, name)
	r.mu.Unlock()
	if c != nil {
		c.Close()
	}
}

// dial connects to a replica as the operator of the mesh.
func (r *reports) dial(mesh, revision string) report.Dial {
	return func(ctx context.Context, address string) (*grpc.ClientConn, error) {
		var m operatorv1alpha1.Mesh
		if err := r.reader.Get(ctx, client.ObjectKey{Name: mesh}, &m); err != nil {
			return nil, err
		}
		td := identity.TrustDomain(m.Spec.TrustDomain)
		if td == "" {
			td = plan.DefaultTrustDomain
		}
		config, err := r.authority.ClientTLS(ctx, mesh, td, revision)
		if err != nil {
			r.log.Info("Waiting to read a replica", "address", address, "reason", err.Error())
			return nil, err
		}
		return grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	}
}
