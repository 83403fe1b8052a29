package watch

import (
	"context"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// Options are what a Watcher needs; all are required.
type Options struct {
	// Cache gives informers.
	Cache cache.Cache
	// Defaults are the settings where the MeshConfig is silent; they name the mesh and
	// its namespace.
	Defaults mesh.Settings
	// Event is told of each event by kind, for metrics; nil tells nobody.
	Event func(kind string)
}

// Watcher gathers events and publishes Models.
type Watcher struct {
	Options
	signer string
	wake   chan struct{}

	mu sync.Mutex
	// Protected by mu.
	state    *mesh.State
	problems []string
}

// New returns a Watcher that has read nothing.
func New(o Options) *Watcher {
	return &Watcher{Options: o, signer: identity.SignerName(o.Defaults.Mesh), wake: make(chan struct{}, 1), state: mesh.NewState(o.Defaults)}
}

// Run watches until ctx is done. sink is called with the newest Model whenever
// something changed, one call at a time: at once while it is idle, and with all that
// came meanwhile when it returns. The first call comes when everything was read once.
func (w *Watcher) Run(ctx context.Context, sink func(context.Context, *mesh.Model, mesh.Change)) error {
	var synced []toolscache.InformerSynced
	for _, kind := range w.kinds() {
		informer, err := w.Cache.GetInformer(ctx, kind.object, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watching %s: %w", kind.name, err)
		}
		registration, err := informer.AddEventHandler(w.handler(kind))
		if err != nil {
			return fmt.Errorf("watching %s: %w", kind.name, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return ctx.Err()
	}
	logf.FromContext(ctx).Info("Read the cluster once")
	for first := true; ; first = false {
		if !first {
			select {
			case <-ctx.Done():
				return nil
			case <-w.wake:
			}
		}
		w.mu.Lock()
		model, change := w.state.Publish()
		w.mu.Unlock()
		if first || !change.Empty() {
			sink(ctx, model, change)
		}
	}
}

// Problems returns what of the MeshConfig could not be followed.
func (w *Watcher) Problems() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.problems)
}

// kind is a kind of objects and what becomes of one; deleted objects come with gone set.
type kind struct {
	name   string
	object client.Object
	take   func(o client.Object, gone bool)
}

func (w *Watcher) kinds() []kind {
	return []kind{
		{"Namespace", &corev1.Namespace{}, func(o client.Object, gone bool) {
			w.state.SetNamespace(o.GetName(), !gone && o.GetLabels()[operatorv1alpha1.LabelMonitoredBy] == w.Defaults.Mesh)
		}},
		{"Service", &corev1.Service{}, fact(func(s *corev1.Service) *mesh.Service { return serviceOf(s) }, func(k mesh.Key, v *mesh.Service) { w.state.SetService(k, v) })},
		{"EndpointSlice", &discoveryv1.EndpointSlice{}, fact(sliceOf, func(k mesh.Key, v *mesh.Slice) { w.state.SetSlice(k, v) })},
		{"Pod", &corev1.Pod{}, fact(func(p *corev1.Pod) *mesh.Pod { return podOf(p, w.signer) }, func(k mesh.Key, v *mesh.Pod) { w.state.SetPod(k, v) })},
		{"MeshConfig", &configv1alpha2.MeshConfig{}, w.meshConfig},
		{"TrafficTarget", &accessv1alpha3.TrafficTarget{}, policy(w, func(p *mesh.Policies) *map[mesh.Key]*mesh.Object[accessv1alpha3.TrafficTargetSpec] {
			return &p.TrafficTargets
		},
			func(o *accessv1alpha3.TrafficTarget) accessv1alpha3.TrafficTargetSpec { return o.Spec })},
		{"HTTPRouteGroup", &specsv1alpha4.HTTPRouteGroup{}, policy(w, func(p *mesh.Policies) *map[mesh.Key]*mesh.Object[specsv1alpha4.HTTPRouteGroupSpec] {
			return &p.HTTPRouteGroups
		},
			func(o *specsv1alpha4.HTTPRouteGroup) specsv1alpha4.HTTPRouteGroupSpec { return o.Spec })},
		{"TCPRoute", &specsv1alpha4.TCPRoute{}, policy(w, func(p *mesh.Policies) *map[mesh.Key]*mesh.Object[specsv1alpha4.TCPRouteSpec] { return &p.TCPRoutes },
			func(o *specsv1alpha4.TCPRoute) specsv1alpha4.TCPRouteSpec { return o.Spec })},
		{"TrafficSplit", &splitv1alpha4.TrafficSplit{}, policy(w, func(p *mesh.Policies) *map[mesh.Key]*mesh.Object[splitv1alpha4.TrafficSplitSpec] {
			return &p.TrafficSplits
		},
			func(o *splitv1alpha4.TrafficSplit) splitv1alpha4.TrafficSplitSpec { return o.Spec })},
		{"UpstreamTrafficSetting", &policyv1alpha1.UpstreamTrafficSetting{}, policy(w, func(p *mesh.Policies) *map[mesh.Key]*mesh.Object[policyv1alpha1.UpstreamTrafficSettingSpec] {
			return &p.UpstreamTrafficSettings
		},
			func(o *policyv1alpha1.UpstreamTrafficSetting) policyv1alpha1.UpstreamTrafficSettingSpec {
				return o.Spec
			})},
	}
}

// meshConfig follows the mesh's one MeshConfig; without it the defaults hold.
func (w *Watcher) meshConfig(o client.Object, gone bool) {
	config, ok := o.(*configv1alpha2.MeshConfig)
	if !ok || config.Namespace != w.Defaults.Namespace || config.Name != operatorv1alpha1.MeshConfigName {
		return
	}
	if gone {
		w.state.SetSettings(w.Defaults)
		w.problems = nil
		return
	}
	settings, problems := mesh.SettingsFrom(w.Defaults, config.Spec)
	w.state.SetSettings(settings)
	w.problems = problems
}

// fact takes a kind that converts to one fact.
func fact[O client.Object, F any](convert func(O) *F, put func(mesh.Key, *F)) func(client.Object, bool) {
	return func(o client.Object, gone bool) {
		typed, ok := o.(O)
		if !ok {
			return
		}
		if gone {
			put(keyOf(o), nil)
			return
		}
		put(keyOf(o), convert(typed))
	}
}

// policy takes a kind of policy.
func policy[O client.Object, S any](w *Watcher, kind func(*mesh.Policies) *map[mesh.Key]*mesh.Object[S], spec func(O) S) func(client.Object, bool) {
	return func(o client.Object, gone bool) {
		typed, ok := o.(O)
		if !ok {
			return
		}
		if gone {
			mesh.SetPolicy(w.state, kind, keyOf(o), nil)
			return
		}
		mesh.SetPolicy(w.state, kind, keyOf(o), &mesh.Object[S]{
			Key: keyOf(o), UID: string(o.GetUID()), Generation: o.GetGeneration(), Created: o.GetCreationTimestamp().Time, Spec: spec(typed),
		})
	}
}

// handler turns events of a kind into facts.
func (w *Watcher) handler(k kind) toolscache.ResourceEventHandler {
	take := func(o any, gone bool) {
		if tombstone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
			o = tombstone.Obj
		}
		object, ok := o.(client.Object)
		if !ok {
			return
		}
		w.mu.Lock()
		k.take(object, gone)
		w.mu.Unlock()
		if w.Event != nil {
			w.Event(k.name)
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { take(o, false) },
		UpdateFunc: func(_, o any) { take(o, false) },
		DeleteFunc: func(o any) { take(o, true) },
	}
}

// ByObject is how the cache that a Watcher reads from is to hold pods.
func ByObject() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{&corev1.Pod{}: {Transform: StripPod}}
}
