package controlplane

import (
	"context"

	"github.com/openservicemesh/osm-operator/internal/xds/endpoints"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// AuditPace is how often classes are audited.
const AuditPace = auditPace

// Forget makes the engine believe that it has sent a class nothing, as if something that
// the class depends on had gone unnoticed.
func (e *Engine) Forget(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.classes[id]
	e.release(c.set)
	c.set = resource.NewSet()
	e.classes[id] = c
	e.Cache.SetClass(id, c.set)
	e.hold(context.Background(), e.Model(), c.set)
}

// Overlook makes the engine believe that nobody serves what a load assignment is for.
func (e *Engine) Overlook(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	empty := *e.Model()
	empty.Endpoints = nil
	a := e.assignments.used[name]
	r, err := endpoints.Build(&empty, a.sets)
	if err != nil {
		return err
	}
	a.version = r.Version
	e.Cache.SetShared(name, r)
	return nil
}
