package report

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/openservicemesh/osm-operator/internal/report/reportpb"
)

// silence is how long a replica may say nothing before it counts as unreadable.
const silence = 3*heartbeat + time.Second

// leastWait and mostWait bound the wait before a replica is dialled again.
const (
	leastWait = 500 * time.Millisecond
	mostWait  = 10 * time.Second
)

// Replica is where a replica serves its reports.
type Replica struct {
	Name, Address string
}

// Facts are what the replicas of a revision told.
type Facts struct {
	// Known says that every replica was read; the other facts are parts of the truth otherwise.
	Known bool
	// Unread names the replicas that were not.
	Unread []string
	// Connected counts proxies, Synced those that acknowledged all that they were
	// sent, Rejecting those that rejected something.
	Connected, Synced, Rejecting int
	// Waiting counts the pods that wait for a certificate, by reason, as far as it is known.
	// What lies for long all replicas look at, so that the largest count is the whole.
	Waiting map[string]int
}

// Proxy is what is known of a connected proxy.
type Proxy struct {
	// Replica is what it is connected to, Class what it is sent there.
	Replica, Class string
	// Connected is when it connected.
	Connected time.Time
	// Synced says that it acknowledged all that it was sent, Settled all but endpoints.
	Synced, Settled bool
	// Rejected is what it rejected and has not taken since, empty if nothing.
	Rejected string
}

// Dial opens a connection to a replica's report port.
type Dial func(ctx context.Context, address string) (*grpc.ClientConn, error)

// Collector reads the replicas of one revision. It is safe for concurrent use.
type Collector struct {
	// Read-only after NewCollector.
	dial    Dial
	changed func()
	silence time.Duration // tests shorten it

	mu sync.Mutex
	// Protected by mu.
	replicas map[Replica]*reading
	closed   bool
}

// reading is what one replica told.
type reading struct {
	stop context.CancelFunc
	done chan struct{}
	// proxies are what was told, whole once heard; protected by the collector's mu.
	heard   bool
	proxies map[string]*reportpb.Proxy
	waiting []*reportpb.Waiting
	// policies is the state of policies that was told with it.
	policies string
}

// NewCollector returns a Collector without replicas. changed is called when Facts may
// have changed, by each replica's reader for itself; it must not wait.
func NewCollector(dial Dial, changed func()) *Collector {
	return &Collector{dial: dial, changed: changed, silence: silence, replicas: map[Replica]*reading{}}
}

// SetReplicas says which replicas serve now: new ones are dialled, others forgotten.
func (c *Collector) SetReplicas(replicas []Replica) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	for r, reading := range c.replicas {
		if !slices.Contains(replicas, r) {
			reading.stop()
			delete(c.replicas, r)
		}
	}
	for _, r := range replicas {
		if c.replicas[r] != nil {
			continue
		}
		ctx, stop := context.WithCancel(context.Background())
		next := &reading{stop: stop, done: make(chan struct{})}
		c.replicas[r] = next
		go c.follow(ctx, r, next)
	}
}

// Close stops all reading and returns when it has stopped.
func (c *Collector) Close() {
	c.mu.Lock()
	c.closed = true
	readings := slices.Collect(maps.Values(c.replicas))
	clear(c.replicas)
	c.mu.Unlock()
	for _, r := range readings {
		r.stop()
		<-r.done
	}
}

// Facts returns what is known now. Each proxy counts once.
func (c *Collector) Facts() Facts {
	c.mu.Lock()
	defer c.mu.Unlock()
	latest, unread := c.latest()
	f := Facts{Known: len(unread) == 0, Unread: unread}
	for _, reading := range c.replicas {
		if !reading.heard {
			continue
		}
		for _, w := range reading.waiting {
			if f.Waiting == nil {
				f.Waiting = map[string]int{}
			}
			f.Waiting[w.GetReason()] = max(f.Waiting[w.GetReason()], int(w.GetPods()))
		}
	}
	for _, p := range latest {
		f.Connected++
		if p.GetInSync() {
			f.Synced++
		}
		if p.GetRejected() != nil {
			f.Rejecting++
		}
	}
	return f
}

// Proxies returns the connected proxies by pod UID, and whether every replica was read.
func (c *Collector) Proxies() (map[string]Proxy, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	latest, unread := c.latest()
	out := make(map[string]Proxy, len(latest))
	for uid, p := range latest {
		proxy := Proxy{
			Replica: p.at, Class: p.GetClass(), Connected: p.GetConnectedSince().AsTime(), Synced: p.GetInSync(), Settled: p.GetSettled(),
		}
		if r := p.GetRejected(); r != nil {
			proxy.Rejected = "rejected " + r.GetTypeUrl() + ": " + r.GetMessage()
		}
		out[uid] = proxy
	}
	return out, len(unread) == 0
}

// Policies returns the state of policies that each replica sends, by its name, and the
// replicas that were not read.
func (c *Collector) Policies() (states map[string]string, unread []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	states = map[string]string{}
	for r, reading := range c.replicas {
		if !reading.heard {
			unread = append(unread, r.Name)
			continue
		}
		states[r.Name] = reading.policies
	}
	slices.Sort(unread)
	return states, unread
}

// seen is what a replica told of a proxy.
type seen struct {
	*reportpb.Proxy
	at string
}

// latest returns what is known of each proxy, and the replicas that were not read; mu is
// held. A proxy that two replicas tell of, as it changes from one to the other, is the
// later connection.
func (c *Collector) latest() (proxies map[string]seen, unread []string) {
	proxies = map[string]seen{}
	for r, reading := range c.replicas {
		if !reading.heard {
			unread = append(unread, r.Name)
			continue
		}
		for uid, p := range reading.proxies {
			if old := proxies[uid]; old.Proxy == nil || old.GetConnectedSince().AsTime().Before(p.GetConnectedSince().AsTime()) {
				proxies[uid] = seen{p, r.Name}
			}
		}
	}
	slices.Sort(unread)
	return proxies, unread
}

// follow reads a replica until ctx is done, and dials again when the stream ends.
func (c *Collector) follow(ctx context.Context, r Replica, into *reading) {
	defer close(into.done)
	wait := leastWait
	for {
		started := time.Now()
		err := c.read(ctx, r, into)
		c.mu.Lock()
		into.heard, into.proxies, into.waiting, into.policies = false, nil, nil, ""
		c.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.changed()
		}
		if time.Since(started) > mostWait {
			wait = leastWait
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, mostWait)
	}
}

// read follows one stream until it ends or falls silent.
func (c *Collector) read(ctx context.Context, r Replica, into *reading) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn, err := c.dial(ctx, r.Address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	quiet := time.AfterFunc(c.silence, func() { cancel(errors.New("the replica fell silent")) })
	defer quiet.Stop()
	stream, err := reportpb.NewReportsClient(conn).Watch(ctx, &reportpb.WatchRequest{})
	if err != nil {
		return err
	}
	for {
		batch, err := stream.Recv()
		if err != nil {
			return err
		}
		quiet.Reset(c.silence)
		if told := batch.GetReplica(); told != "" && told != r.Name {
			return fmt.Errorf("at the address of %s answers %s", r.Name, told)
		}
		if c.take(into, batch) {
			c.changed()
		}
	}
}

// take puts a batch into what is known and reports whether that changed anything. A
// snapshot counts once all of it has come.
func (c *Collector) take(into *reading, batch *reportpb.Batch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if batch.GetSnapshot() {
		into.heard, into.proxies = false, map[string]*reportpb.Proxy{}
	}
	if into.proxies == nil {
		return false
	}
	for _, p := range batch.GetUpserts() {
		into.proxies[p.GetPodUid()] = p
	}
	for _, uid := range batch.GetRemoved() {
		delete(into.proxies, uid)
	}
	if batch.GetMore() {
		return false
	}
	first, same := !into.heard, sameWaiting(into.waiting, batch.GetWaiting()) && into.policies == batch.GetPolicies()
	into.heard, into.waiting, into.policies = true, batch.GetWaiting(), batch.GetPolicies()
	return first || !same || len(batch.GetUpserts()) > 0 || len(batch.GetRemoved()) > 0
}
