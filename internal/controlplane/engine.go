package controlplane

import (
	"context"
	"maps"
	"sync"

	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/xds/endpoints"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
)

// Cache takes what proxies are sent; *serve.Cache is one.
type Cache interface {
	// SetClass replaces all that a class of proxies is sent.
	SetClass(id string, set *resource.Set)
	// DeleteClass forgets a class without proxies.
	DeleteClass(id string)
	// SetShared replaces a load assignment, for all that refer to it; nil removes it.
	SetShared(name string, r *resource.Resource)
	// Move gives a proxy another class.
	Move(podUID, id string)
}

// Engine turns Models into what proxies are sent.
type Engine struct {
	cache Cache
	// failed is told of each class or load assignment that could not be made.
	failed func(what string)

	mu sync.Mutex
	// Protected by mu.
	translator *translate.Translator
	compiler   *policy.Compiler
	model      *mesh.Model
	bundle     []byte
	classes    map[string]*resource.Set
	// used are the load assignments in use, byService their names by Service.
	used      map[string]use
	byService map[mesh.Key]map[string]struct{}
}

// use is a load assignment and how many classes refer to it.
type use struct {
	sets    []ir.EndpointSet
	classes int
}

// NewEngine returns an Engine that has sent nothing. failed may be nil.
func NewEngine(cache Cache, failed func(what string)) *Engine {
	if failed == nil {
		failed = func(string) {}
	}
	return &Engine{
		cache: cache, failed: failed, translator: translate.New(), classes: map[string]*resource.Set{},
		used: map[string]use{}, byService: map[mesh.Key]map[string]struct{}{},
	}
}

// SetTrustBundle changes the roots that proxies verify each other with, as PEM.
func (e *Engine) SetTrustBundle(ctx context.Context, bundle []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if string(e.bundle) == string(bundle) {
		return
	}
	e.bundle = bundle
	if e.model != nil {
		e.compile(ctx, e.model)
	}
}

// Update follows a Model. A change of endpoints alone touches their load assignments
// and nothing else.
func (e *Engine) Update(ctx context.Context, m *mesh.Model, change mesh.Change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	first := e.model == nil
	e.model = m
	e.updateEndpoints(ctx, m, change)
	if first || len(change.Services) > 0 || len(change.Classes) > 0 || change.Policies || change.Settings || change.Namespaces {
		e.compile(ctx, m)
	}
	for key := range change.Workloads {
		if w := m.Workloads[key]; w != nil && w.Class != "" {
			e.cache.Move(w.UID, w.Class)
		}
	}
}

// Reports returns what is to be said of policies.
func (e *Engine) Reports() []policy.ObjectReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.compiler == nil {
		return nil
	}
	return e.compiler.Report()
}

// Model returns the newest Model, nil before the first.
func (e *Engine) Model() *mesh.Model {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.model
}

// updateEndpoints makes the load assignments anew that a change concerns; mu is held.
func (e *Engine) updateEndpoints(ctx context.Context, m *mesh.Model, change mesh.Change) {
	services := maps.Clone(change.Endpoints)
	maps.Copy(services, change.Services)
	touchedByPods(m, change.Workloads, services)
	names := map[string]struct{}{}
	for service := range services {
		maps.Copy(names, e.byService[service])
	}
	for name := range names {
		e.buildEndpoints(ctx, m, name)
	}
}

// touchedByPods adds the Services whose endpoints are pods that changed: whether a pod
// is in the mesh decides how it is called.
func touchedByPods(m *mesh.Model, pods map[mesh.Key]struct{}, into map[mesh.Key]struct{}) {
	if len(pods) == 0 {
		return
	}
	namespaces := map[string]bool{}
	for pod := range pods {
		namespaces[pod.Namespace] = true
	}
	for key, e := range m.Endpoints {
		if !namespaces[key.Namespace] {
			continue
		}
		for i := range e.Items {
			if _, ok := pods[e.Items[i].Pod]; ok {
				into[key] = struct{}{}
				break
			}
		}
	}
}

// buildEndpoints makes one load assignment and hands it on; mu is held.
func (e *Engine) buildEndpoints(ctx context.Context, m *mesh.Model, name string) {
	u, ok := e.used[name]
	if !ok {
		return
	}
	r, err := endpoints.Build(m, u.sets)
	if err != nil {
		logf.FromContext(ctx).Error(err, "Keeping the endpoints as they were", "name", name)
		e.failed("endpoints")
		return
	}
	e.cache.SetShared(name, r)
}

// compile makes all classes anew. What is the same keeps its bytes, so that nothing is
// sent for it; mu is held.
func (e *Engine) compile(ctx context.Context, m *mesh.Model) {
	if len(e.bundle) == 0 {
		return
	}
	compiler := policy.New(m, e.bundle, e.compiler)
	e.compiler = compiler
	proxies := make([]*ir.Proxy, 0, len(m.Classes))
	for id, class := range m.Classes {
		proxy := compiler.Proxy(class)
		proxies = append(proxies, proxy)
		set, err := e.translator.Proxy(proxy)
		if err != nil {
			logf.FromContext(ctx).Error(err, "Keeping the configuration of a class as it was", "class", id)
			e.failed("class")
			continue
		}
		e.setClass(ctx, m, id, set)
	}
	for id := range e.classes {
		if m.Classes[id] == nil {
			e.cache.DeleteClass(id)
			e.release(e.classes[id])
			delete(e.classes, id)
		}
	}
	e.translator.Retain(proxies)
}

// setClass hands on what a class is sent, its load assignments first, so that no
// cluster waits for its own; mu is held.
func (e *Engine) setClass(ctx context.Context, m *mesh.Model, id string, set *resource.Set) {
	old := e.classes[id]
	for name, sets := range set.Endpoints {
		u, known := e.used[name]
		u.sets = sets
		u.classes++
		e.used[name] = u
		if !known {
			for _, s := range sets {
				key := mesh.Key{Namespace: s.Service.Namespace, Name: s.Service.Name}
				if e.byService[key] == nil {
					e.byService[key] = map[string]struct{}{}
				}
				e.byService[key][name] = struct{}{}
			}
			e.buildEndpoints(ctx, m, name)
		}
	}
	e.cache.SetClass(id, set)
	e.classes[id] = set
	if old != nil {
		e.release(old)
	}
}

// release gives up the load assignments that a set referred to; mu is held.
func (e *Engine) release(set *resource.Set) {
	for name := range set.Endpoints {
		u := e.used[name]
		if u.classes--; u.classes > 0 {
			e.used[name] = u
			continue
		}
		delete(e.used, name)
		for _, s := range u.sets {
			key := mesh.Key{Namespace: s.Service.Namespace, Name: s.Service.Name}
			delete(e.byService[key], name)
			if len(e.byService[key]) == 0 {
				delete(e.byService, key)
			}
		}
		e.cache.SetShared(name, nil)
	}
}
