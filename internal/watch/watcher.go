package watch

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// retry is how long a kind that cannot be watched is left alone: the API server is
// away, or the kind is not installed.
const retry = 5 * time.Second

// Options are what a Watcher needs; those that are functions may be nil.
type Options struct {
	// Cache gives informers.
	Cache cache.Cache
	// Defaults are the settings where the MeshConfig is silent; they name the mesh and
	// its namespace.
	Defaults mesh.Settings
	// MeshConfig is told of the mesh's MeshConfig whenever it changes, and what of it
	// cannot be followed, in order and before the Model that comes of it.
	MeshConfig func(config *mesh.Object[configv1alpha2.MeshConfigSpec], problems []string)
	// Event is told of each event, for metrics: kind, what happened, and where.
	Event func(kind, what, namespace string)
}

// Watcher gathers events and publishes Models.
type Watcher struct {
	Options
	signer string
	wake   chan struct{}

	mu sync.Mutex
	// Protected by mu.
	state *mesh.State
	// configured says that the MeshConfig was seen: without one, nobody has said what is
	// to be let through.
	configured bool
	queued     int // events since the last Model
}

// New returns a Watcher that has read nothing.
func New(o Options) *Watcher {
	if o.MeshConfig == nil {
		o.MeshConfig = func(*mesh.Object[configv1alpha2.MeshConfigSpec], []string) {}
	}
	if o.Event == nil {
		o.Event = func(string, string, string) {}
	}
	return &Watcher{Options: o, signer: identity.SignerName(o.Defaults.Mesh), wake: make(chan struct{}, 1), state: mesh.NewState(o.Defaults)}
}

// Run watches until ctx is done. sink is called with the newest Model whenever
// something changed, one call at a time: at once while it is idle, and with all that
// came meanwhile when it returns. The first call comes when everything was read once
// and there is a MeshConfig. Kinds of policies that the cluster does not have count
// as without objects, and are followed from when it has them.
func (w *Watcher) Run(ctx context.Context, sink func(context.Context, *mesh.Model, mesh.Change)) error {
	group, ctx := errgroup.WithContext(ctx)
	synced := w.subscribe(ctx, group)
	if toolscache.WaitForCacheSync(ctx.Done(), synced...) && ctx.Err() == nil {
		logf.FromContext(ctx).Info("Read the cluster once")
		w.publish(ctx, sink)
	}
	return group.Wait()
}

// subscribe adds a handler for every kind, and returns what tells that its objects
// were read. Kinds that are not installed are looked for again in the background.
func (w *Watcher) subscribe(ctx context.Context, group *errgroup.Group) []toolscache.InformerSynced {
	var synced []toolscache.InformerSynced
	for _, k := range w.kinds() {
		read, err := w.follow(ctx, k)
		for err != nil && (!k.optional || !meta.IsNoMatchError(err)) {
			logf.FromContext(ctx).Error(err, "Waiting to watch a kind", "kind", k.name)
			if !pause(ctx) {
				return nil
			}
			read, err = w.follow(ctx, k)
		}
		if err == nil {
			synced = append(synced, read)
			continue
		}
		logf.FromContext(ctx).Info("Going without a kind that is not installed", "kind", k.name)
		group.Go(func() error {
			w.await(ctx, k)
			return nil
		})
	}
	return synced
}

// await follows a kind as soon as it is installed.
func (w *Watcher) await(ctx context.Context, k kind) {
	for pause(ctx) {
		_, err := w.follow(ctx, k)
		if err == nil {
			logf.FromContext(ctx).Info("Following a kind that was installed", "kind", k.name)
			return
		}
		if !meta.IsNoMatchError(err) {
			logf.FromContext(ctx).Error(err, "Waiting to watch a kind", "kind", k.name)
		}
	}
}

// pause reports whether to go on.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(retry):
		return true
	}
}

// follow adds a handler for a kind.
func (w *Watcher) follow(ctx context.Context, k kind) (toolscache.InformerSynced, error) {
	informer, err := w.Cache.GetInformer(ctx, k.object, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", k.name, err)
	}
	registration, err := informer.AddEventHandler(w.handler(logf.FromContext(ctx), k))
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", k.name, err)
	}
	return registration.HasSynced, nil
}

// publish hands on Models until ctx is done.
func (w *Watcher) publish(ctx context.Context, sink func(context.Context, *mesh.Model, mesh.Change)) {
	w.poke()
	waiting := false
	for first := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		w.mu.Lock()
		if !w.configured {
			w.mu.Unlock()
			if !waiting {
				logf.FromContext(ctx).Info("Waiting for the MeshConfig", "Namespace", w.Defaults.Namespace)
				waiting = true
			}
			continue
		}
		model, change := w.state.Publish()
		w.queued = 0
		w.mu.Unlock()
		if first || !change.Empty() {
			sink(ctx, model, change)
		}
		first = false
	}
}

// poke has the newest facts published.
func (w *Watcher) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Queued returns how many events are not in a Model yet.
func (w *Watcher) Queued() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queued
}

// handler turns events of a kind into facts. Events of one kind come one by one.
func (w *Watcher) handler(log logr.Logger, k kind) toolscache.ResourceEventHandler {
	take := func(o any, what string) {
		if tombstone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
			o = tombstone.Obj
		}
		object, ok := o.(client.Object)
		if !ok {
			log.Error(fmt.Errorf("an event of %s has a %T", k.name, o), "Leaving out an event")
			return
		}
		w.Event(k.name, what, object.GetNamespace())
		k.take(object, what == deleted)
		w.poke()
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { take(o, added) },
		UpdateFunc: func(_, o any) { take(o, updated) },
		DeleteFunc: func(o any) { take(o, deleted) },
	}
}

// What happened to an object.
const (
	added   = "added"
	updated = "updated"
	deleted = "deleted"
)

func (w *Watcher) apply(facts ...mesh.Fact) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queued++
	w.state.Apply(facts...)
}
