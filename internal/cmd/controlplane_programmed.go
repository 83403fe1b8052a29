package cmd

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/programmed"
	"github.com/openservicemesh/osm-operator/internal/report"
	"github.com/openservicemesh/osm-operator/internal/watch"
)

const (
	// countPace is how often it is looked at which proxies have acknowledged policies.
	countPace = time.Second
	// countIdle is after how many paces it is looked at though nothing is known to differ:
	// time itself makes some.
	countIdle = 5
)

// counting is what the writer of statuses knows of the proxies of all replicas: the
// replicas of all revisions are read, this one as well.
type counting struct {
	plane   *controlPlane
	tracker *programmed.Tracker
	readers *report.Collector
	changed atomic.Bool

	// What was looked at last, and how many paces ago.
	model *mesh.Model
	state string
	idle  int

	mu sync.Mutex
	// revisions are those of replicas, by address; protected by mu.
	revisions map[string]string
}

// count says which proxies have acknowledged policies, until ctx is done.
func (p *controlPlane) count(ctx context.Context) {
	c := &counting{plane: p, tracker: programmed.NewTracker(), revisions: map[string]string{}}
	c.changed.Store(true)
	c.readers = report.NewCollector(c.dial, func() { c.changed.Store(true) })
	defer c.readers.Close()
	ticker := time.NewTicker(countPace)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := c.find(ctx); err != nil {
			p.log.V(1).Info("Keeping to the replicas that were found before", "reason", err.Error())
		}
		if f, due := c.facts(); due {
			p.statuses.SetProgrammed(c.tracker.Look(f))
		}
	}
}

// find says which replicas there are.
func (c *counting) find(ctx context.Context) error {
	o := c.plane.options
	ctx, cancel := context.WithTimeout(ctx, countPace)
	defer cancel()
	found, err := watch.ReadReplicas(ctx, c.plane.manager.GetClient(), o.namespace, map[string]string{
		"app": render.ControllerService, operatorv1alpha1.LabelMesh: o.mesh,
	})
	if err != nil {
		return fmt.Errorf("looking for replicas: %w", err)
	}
	self := watch.Replica{Name: o.podName, Address: "127.0.0.1", Revision: o.revision}
	found = append(slices.DeleteFunc(found, func(r watch.Replica) bool { return r.Name == self.Name }), self)
	var at []report.Replica
	revisions := map[string]string{}
	for _, r := range found {
		port := render.ReportPort
		if r.Name == self.Name {
			port = o.reportPort
		}
		address := net.JoinHostPort(r.Address, strconv.Itoa(port))
		revisions[address] = r.Revision
		at = append(at, report.Replica{Name: r.Name, Address: address})
	}
	c.mu.Lock()
	c.revisions = revisions
	c.mu.Unlock()
	c.readers.SetReplicas(at) //nolint:contextcheck // streams outlast this look: the collector ends them
	return nil
}

// dial connects to a replica as one of the same mesh.
func (c *counting) dial(_ context.Context, address string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	revision := c.revisions[address]
	c.mu.Unlock()
	p := c.plane
	config := p.files.PeerTLS(identity.ControlPlane(p.trustDomain, p.options.mesh, revision))
	return grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
}

// facts are what is known now, and whether it may differ from before.
func (c *counting) facts() (programmed.Facts, bool) {
	p := c.plane
	model := p.engine.Model()
	reports := p.verdicts.OfPolicies()
	classes, state, failing := p.engine.Concerned()
	if model == nil || state == "" || policy.State(reports) != state {
		return programmed.Facts{}, false // it is being compiled
	}
	c.idle++
	differs := c.changed.Swap(false) || state != c.state || !sameWorkloads(model, c.model)
	if !differs && c.idle < countIdle {
		return programmed.Facts{}, false
	}
	c.model, c.state, c.idle = model, state, 0
	f := programmed.Facts{
		Now: time.Now(), Policies: reports, Classes: classes, Failing: map[string]string{},
		Pods: map[string]programmed.Pod{}, Proxies: map[string]programmed.Proxy{},
	}
	for class, why := range failing {
		f.Failing[class] = "goes on with what it had, since something cannot be made: " + why
	}
	for key, w := range model.Workloads {
		if w.Class != "" && !w.Terminating {
			f.Pods[w.UID] = programmed.Pod{Name: key.String(), Class: w.Class}
		}
	}
	c.told(&f, state)
	return f, true
}

// told adds what replicas tell of their proxies, and who of them is not heard, or is behind.
func (c *counting) told(f *programmed.Facts, state string) {
	states, unread := c.readers.Policies()
	for replica, sent := range states {
		if sent != state {
			unread = append(unread, replica)
		}
	}
	slices.Sort(unread)
	f.Unread = unread
	told, _ := c.readers.Proxies()
	for uid, t := range told {
		f.Proxies[uid] = programmed.Proxy{Class: t.Class, Settled: t.Settled && states[t.Replica] == state, Rejected: t.Rejected}
	}
}

// sameWorkloads reports whether two models have the same pods: they share what is.
func sameWorkloads(a, b *mesh.Model) bool {
	return b != nil && reflect.ValueOf(a.Workloads).UnsafePointer() == reflect.ValueOf(b.Workloads).UnsafePointer()
}
