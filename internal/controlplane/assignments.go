package controlplane

import (
	"context"
	"maps"
	"slices"
	"time"

	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/xds/endpoints"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// patience is how long an endpoint of a new ServiceAccount waits for proxies to
// acknowledge that they may call it.
const patience = 5 * time.Second

type set[K comparable] = map[K]struct{}

// assignments know which load assignments are in use, and what each depends on.
type assignments struct {
	used      map[string]*assignment
	byService map[mesh.Key]set[string]   // the names of those that a Service is in
	ofPod     map[mesh.Key]set[mesh.Key] // the Services whose endpoints a pod is
}

// assignment is a load assignment in use.
type assignment struct {
	sets []ir.EndpointSet
	// layers counts those that refer to it.
	layers int
	// announced are the ServiceAccounts whose endpoints may be in it, awaited those that
	// wait until proxies know that they may call them.
	announced, awaited set[identity.ServiceAccount]
	made               bool
	version            string
}

func newAssignments() assignments {
	return assignments{used: map[string]*assignment{}, byService: map[mesh.Key]set[string]{}, ofPod: map[mesh.Key]set[mesh.Key]{}}
}

// use notes that a layer refers to a load assignment, and reports whether it is to be
// made, being the first.
func (a *assignments) use(name string, sets []ir.EndpointSet) bool {
	u := a.used[name]
	if u != nil {
		u.layers++
		return false
	}
	a.used[name] = &assignment{
		sets: sets, layers: 1,
		announced: set[identity.ServiceAccount]{}, awaited: set[identity.ServiceAccount]{},
	}
	for _, s := range sets {
		link(a.byService, serviceOf(s), name)
	}
	return true
}

// release notes that a layer no longer refers to a load assignment, and reports
// whether it was the last.
func (a *assignments) release(name string) bool {
	u := a.used[name]
	if u == nil {
		return false
	}
	u.layers--
	if u.layers > 0 {
		return false
	}
	delete(a.used, name)
	for _, s := range u.sets {
		unlink(a.byService, serviceOf(s), name)
	}
	return true
}

func serviceOf(s ir.EndpointSet) mesh.Key {
	return mesh.Key{Namespace: s.Service.Namespace, Name: s.Service.Name}
}

// touched returns the names of those that a change may concern.
func (a *assignments) touched(before, now *mesh.Model, change mesh.Change) set[string] {
	services := set[mesh.Key]{}
	for key := range change.Endpoints {
		a.follow(key, before.Endpoints[key], now.Endpoints[key])
		services[key] = struct{}{}
	}
	maps.Copy(services, change.Services)
	for pod := range change.Workloads {
		if old, w := before.Workloads[pod], now.Workloads[pod]; !calledAlike(old, w) {
			maps.Copy(services, a.ofPod[pod])
		}
	}
	names := set[string]{}
	for key := range services {
		maps.Copy(names, a.byService[key])
	}
	return names
}

// calledAlike reports whether a pod is called as before, if it is an endpoint.
func calledAlike(a, b *mesh.Workload) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.UID == b.UID && a.Meshed == b.Meshed && a.ServiceAccount == b.ServiceAccount && slices.Equal(a.Addresses, b.Addresses)
}

// follow notes which pods are the endpoints of a Service.
func (a *assignments) follow(service mesh.Key, before, now *mesh.Endpoints) {
	if before != nil {
		for i := range before.Items {
			unlink(a.ofPod, before.Items[i].Pod, service)
		}
	}
	if now != nil {
		for i := range now.Items {
			link(a.ofPod, now.Items[i].Pod, service)
		}
	}
}

// assign makes a load assignment and hands it on; the engine's mu is held.
//
// An endpoint that brings a ServiceAccount is left out until the proxies that may call
// it have acknowledged their clusters: before that they would refuse its certificate.
func (e *Engine) assign(ctx context.Context, m *mesh.Model, name string) {
	u := e.assignments.used[name]
	if u == nil {
		return
	}
	behind := accountsBehind(m, u.sets)
	if !u.made {
		u.announced = behind
	}
	maps.DeleteFunc(u.announced, func(account identity.ServiceAccount, _ struct{}) bool { _, still := behind[account]; return !still })
	fresh := set[identity.ServiceAccount]{}
	for account := range behind {
		if _, ok := u.announced[account]; !ok {
			fresh[account] = struct{}{}
		}
	}
	if len(fresh) > 0 {
		e.await(ctx, name, u, fresh)
		m = without(m, u.sets, fresh)
	}
	r, err := endpoints.Build(m, u.sets)
	if err != nil {
		e.fail(ctx, "endpoints", name, err)
		return
	}
	delete(e.failing, name)
	u.made, u.version = true, r.Version
	e.Cache.SetShared(name, r)
}

// await announces ServiceAccounts once the proxies concerned know them, or have had
// their time; the engine's mu is held. What is sent to classes now is waited for too,
// since waiting begins when mu is free.
func (e *Engine) await(ctx context.Context, name string, u *assignment, fresh set[identity.ServiceAccount]) {
	var begun []identity.ServiceAccount
	for account := range fresh {
		if _, already := u.awaited[account]; !already {
			u.awaited[account] = struct{}{}
			begun = append(begun, account)
		}
	}
	if len(begun) == 0 {
		return
	}
	e.background.Go(func() {
		classes := e.callers(name)
		waiting, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := e.Cache.Settled(waiting, resource.ClusterType, classes...); err != nil && ctx.Err() == nil {
			logf.FromContext(ctx).Info("Announcing endpoints though not every proxy knows their ServiceAccount", "name", name, "reason", err.Error())
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, account := range begun {
			delete(u.awaited, account)
			u.announced[account] = struct{}{}
		}
		if e.assignments.used[name] == u {
			e.assign(ctx, e.Model(), name)
		}
	})
}

// callers returns the classes that refer to a load assignment.
func (e *Engine) callers(name string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for id, c := range e.classes {
		if c.set.RefersTo(name) {
			out = append(out, id)
		}
	}
	return out
}

// accountsBehind returns the ServiceAccounts of the pods in the mesh that are endpoints
// of these sets.
func accountsBehind(m *mesh.Model, sets []ir.EndpointSet) set[identity.ServiceAccount] {
	out := set[identity.ServiceAccount]{}
	for _, s := range sets {
		if e := m.Endpoints[serviceOf(s)]; e != nil {
			for i := range e.Items {
				if w := m.Workloads[e.Items[i].Pod]; w != nil && w.Meshed {
					out[w.ServiceAccount] = struct{}{}
				}
			}
		}
	}
	return out
}

// without returns the Model without the endpoints of some ServiceAccounts.
func without(m *mesh.Model, sets []ir.EndpointSet, accounts set[identity.ServiceAccount]) *mesh.Model {
	next := *m
	next.Endpoints = maps.Clone(m.Endpoints)
	for _, s := range sets {
		key := serviceOf(s)
		e := next.Endpoints[key]
		if e == nil {
			continue
		}
		next.Endpoints[key] = &mesh.Endpoints{Service: e.Service, Items: slices.DeleteFunc(slices.Clone(e.Items), func(item mesh.Endpoint) bool {
			w := m.Workloads[item.Pod]
			if w == nil || !w.Meshed {
				return false
			}
			_, out := accounts[w.ServiceAccount]
			return out
		})}
	}
	return &next
}

// link and unlink keep sets by a key, without empty ones.
func link[A, B comparable](sets map[A]set[B], a A, b B) {
	if sets[a] == nil {
		sets[a] = set[B]{}
	}
	sets[a][b] = struct{}{}
}

func unlink[A, B comparable](sets map[A]set[B], a A, b B) {
	delete(sets[a], b)
	if len(sets[a]) == 0 {
		delete(sets, a)
	}
}
