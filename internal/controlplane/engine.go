package controlplane

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"

	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/policy"
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
	// Settled waits until proxies of classes have answered what they are owed of a type.
	Settled(ctx context.Context, typeURL string, classes ...string) error
}

// EngineOptions are what an Engine needs; functions that are nil tell nobody.
type EngineOptions struct {
	// Cache takes the results; required.
	Cache Cache
	// Compiled is told of what is to be said of policies, after each compilation.
	Compiled func(reports []policy.ObjectReport)
	// Recompiled is told, after each compilation, how many classes were compiled.
	Recompiled func(classes int)
	// Audited is told of each class that was made from nothing, and whether it is sent that.
	Audited func(same bool)
	// Failed is told of each class or load assignment that could not be made.
	Failed func(what string)
	// Gone is told of pods of the mesh that are no more.
	Gone func(podUID string)
}

// Engine turns Models into what proxies are sent:
//
//	Model ─┬─ endpoints alone ──────────────────────────> load assignments in use
//	       └─ anything else ── policy.Compiler ── ir.Proxy ── translate ──> classes
//
// What cannot be made keeps its last good form. It is safe for concurrent use.
type Engine struct {
	// Read-only after NewEngine.
	EngineOptions

	model    atomic.Pointer[mesh.Model]
	compiled atomic.Bool
	policies atomic.Pointer[string] // the state of those that all proxies are sent at the least
	// background are what waits for proxies.
	background sync.WaitGroup

	mu sync.Mutex
	// Protected by mu.
	translator  *translate.Translator
	compiler    *policy.Compiler
	bundle      []byte
	classes     map[string]class
	layers      map[*resource.Layer]int // how many classes hold each
	failing     map[string]string       // what went wrong with classes and load assignments, by name
	assignments assignments
	concerned   concerned
}

// class is what was made for a class of proxies.
type class struct {
	proxy *ir.Proxy
	set   *resource.Set
}

// NewEngine returns an Engine that has sent nothing.
func NewEngine(o EngineOptions) *Engine {
	if o.Compiled == nil {
		o.Compiled = func([]policy.ObjectReport) {}
	}
	if o.Recompiled == nil {
		o.Recompiled = func(int) {}
	}
	if o.Audited == nil {
		o.Audited = func(bool) {}
	}
	if o.Failed == nil {
		o.Failed = func(string) {}
	}
	if o.Gone == nil {
		o.Gone = func(string) {}
	}
	return &Engine{
		EngineOptions: o, translator: translate.New(), classes: map[string]class{}, layers: map[*resource.Layer]int{}, failing: map[string]string{}, assignments: newAssignments(),
	}
}

// Model returns the newest Model, nil before the first.
func (e *Engine) Model() *mesh.Model { return e.model.Load() }

// Ready says what is missing before proxies can be served.
func (e *Engine) Ready() error {
	switch {
	case e.Model() == nil:
		return errors.New("the cluster has not been read yet")
	case !e.compiled.Load():
		return errors.New("the mesh has not been compiled yet")
	}
	return nil
}

// Policies names the state of the policies that were compiled last, by now sent to all
// proxies that they concern; empty before the first.
func (e *Engine) Policies() string {
	if s := e.policies.Load(); s != nil {
		return *s
	}
	return ""
}

// Concerned returns the classes of proxies whose configuration policies are a part of, as
// they were compiled last, the state of policies that it tells of, and for which classes
// that could not be made, and why.
func (e *Engine) Concerned() (classes map[policy.ObjectName][]string, state string, failing map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.compiler == nil {
		return nil, "", nil
	}
	if e.concerned.of != e.compiler {
		e.concerned = concerned{e.compiler, e.compiler.Dependents()}
	}
	return e.concerned.classes, e.Policies(), maps.Clone(e.failing)
}

// concerned are the classes that policies concern, of one Compiler.
type concerned struct {
	of      *policy.Compiler
	classes map[policy.ObjectName][]string
}

// Wait returns when nothing waits for proxies any more; the contexts that were given
// to Update must be done.
func (e *Engine) Wait() { e.background.Wait() }

// SetTrustBundle changes the roots that proxies verify each other with, as PEM.
func (e *Engine) SetTrustBundle(ctx context.Context, bundle []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if bytes.Equal(e.bundle, bundle) {
		return
	}
	e.bundle = bundle
	if m := e.Model(); m != nil {
		e.compile(ctx, m)
	}
}

// Update follows a Model. A change touches what depends on it and nothing else: that of
// endpoints alone their load assignments, any other the classes that are compiled from
// what it changes. ctx bounds what waits for proxies.
func (e *Engine) Update(ctx context.Context, m *mesh.Model, change mesh.Change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.model.Swap(m)
	if before == nil {
		before = &mesh.Model{}
	}
	// Endpoints first: one that is gone should not wait for a compilation.
	for name := range e.assignments.touched(before, m, change) {
		e.assign(ctx, m, name)
	}
	e.compile(ctx, m)
	for id := range change.Classes {
		e.forget(id, m)
	}
	e.place(before, m, change)
}

// place gives proxies the class that their pods have now, and lets go of pods that are
// no more. Pods of a namespace that left the mesh go on with what they have.
func (e *Engine) place(before, now *mesh.Model, change mesh.Change) {
	for key := range change.Workloads {
		old, w := before.Workloads[key], now.Workloads[key]
		if w != nil && w.Class != "" && (old == nil || old.UID != w.UID || old.Class != w.Class) {
			e.Cache.Move(w.UID, w.Class)
		}
		if old != nil && (w == nil || w.UID != old.UID) && now.Namespaces[key.Namespace] != nil {
			e.Gone(old.UID)
		}
	}
}

// Place gives a proxy that has connected the class that its pod has now: it may have
// changed while the proxy was looked up.
func (e *Engine) Place(pod mesh.Key, podUID, class string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.Model()
	if m == nil {
		return
	}
	if w := m.Workloads[pod]; w != nil && w.UID == podUID && w.Class != "" && w.Class != class {
		e.Cache.Move(podUID, w.Class)
	}
}

// compile makes those classes anew that are made of something that differs. What is the
// same keeps its bytes, so that nothing is sent for it; mu is held.
func (e *Engine) compile(ctx context.Context, m *mesh.Model) {
	if len(e.bundle) == 0 {
		return
	}
	next := policy.New(m, e.bundle, e.compiler)
	if next == e.compiler {
		return // nothing that policies are compiled from differs
	}
	e.compiler = next
	before := next.Compiled()
	for id := range next.Affected() {
		e.translate(ctx, m, id, next.Proxy(m.Classes[id]))
	}
	e.translator.Retain(func(yield func(*ir.Proxy) bool) {
		for _, c := range e.classes {
			if !yield(c.proxy) {
				return
			}
		}
	}, func(l *resource.Layer) bool { return e.layers[l] > 0 })
	e.compiled.Store(true)
	e.Recompiled(next.Compiled() - before)
	reports := next.Report()
	e.policies.Store(new(policy.State(reports)))
	e.Compiled(reports)
}

// forget lets go of a class that is no more; mu is held.
func (e *Engine) forget(id string, m *mesh.Model) {
	if m.Classes[id] != nil {
		return
	}
	delete(e.failing, id)
	if c, known := e.classes[id]; known {
		e.Cache.DeleteClass(id)
		e.release(c.set)
		delete(e.classes, id)
	}
}

// translate hands on what a class is sent, unless that is the same as before; mu is held.
func (e *Engine) translate(ctx context.Context, m *mesh.Model, id string, proxy *ir.Proxy) {
	old, known := e.classes[id]
	if known && old.proxy == proxy {
		return
	}
	set, err := e.translator.Proxy(proxy)
	if err != nil {
		e.fail(ctx, "class", id, err)
		return
	}
	delete(e.failing, id)
	e.classes[id] = class{proxy: proxy, set: set}
	// Load assignments first, so that no cluster waits for its own.
	e.hold(ctx, m, set)
	e.Cache.SetClass(id, set)
	if known {
		e.release(old.set)
	}
}

// hold makes the load assignments that a class is the first to refer to; mu is held.
func (e *Engine) hold(ctx context.Context, m *mesh.Model, set *resource.Set) {
	for layer := range set.Layers() {
		e.layers[layer]++
		if e.layers[layer] > 1 {
			continue
		}
		for name, sets := range layer.References() {
			if e.assignments.use(name, sets) {
				e.assign(ctx, m, name)
			}
		}
	}
}

// release gives up the load assignments that nobody refers to any more, now that a class
// has another set; mu is held.
func (e *Engine) release(old *resource.Set) {
	for layer := range old.Layers() {
		e.layers[layer]--
		if e.layers[layer] > 0 {
			continue
		}
		delete(e.layers, layer)
		for name := range layer.References() {
			if e.assignments.release(name) {
				e.Cache.SetShared(name, nil)
				delete(e.failing, name)
			}
		}
	}
}

// fail tells of what keeps its last good form, once for each reason; mu is held.
func (e *Engine) fail(ctx context.Context, what, name string, err error) {
	e.Failed(what)
	if e.failing[name] == err.Error() {
		return
	}
	e.failing[name] = err.Error()
	logf.FromContext(ctx).Error(err, "Keeping the last good configuration", what, name)
}

// Failing returns what cannot be made now, and why, by the name of the class or the
// load assignment.
func (e *Engine) Failing() map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.failing)
}

// Resources returns the names and versions of what a class is sent, by type, for
// people: no contents.
func (e *Engine) Resources(id string) (map[string]map[string]string, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.classes[id]
	if !ok {
		return nil, false
	}
	out := map[string]map[string]string{}
	for _, kind := range []string{resource.ListenerType, resource.RouteType, resource.ClusterType, resource.SecretType} {
		out[kind] = map[string]string{}
		for name, r := range c.set.All(kind) {
			out[kind][name] = r.Version
		}
	}
	out[resource.EndpointType] = map[string]string{}
	for name := range c.set.References() {
		out[resource.EndpointType][name] = e.assignments.used[name].version
	}
	return out, true
}
