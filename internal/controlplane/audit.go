package controlplane

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/xds/endpoints"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
)

const (
	// auditPace is how often classes are made from nothing, and auditClasses how many: a
	// few milliseconds of each minute, most of them for reading all policies.
	auditPace    = time.Minute
	auditClasses = 8
	// auditTold is how many names of what differs are logged.
	auditTold = 8
)

// contents are what a class is sent, by type and name, in one form for all of it.
type contents map[string]string

// sample is a class to be made from nothing.
type sample struct {
	class *mesh.Class
	sent  contents
}

// Audit compares what proxies are sent with what is made from nothing, some classes at a
// time, until ctx is done. It finds a difference only if what was made step by step is
// wrong; then it tells, and has everything made from nothing.
func (e *Engine) Audit(ctx context.Context) {
	ticker := time.NewTicker(auditPace)
	defer ticker.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			last = e.audit(ctx, last)
		}
	}
}

// audit looks at the classes that come after one, and returns the last of them; none
// after the last of all.
func (e *Engine) audit(ctx context.Context, after string) (last string) {
	m, bundle, samples := e.samples(after)
	if len(samples) == 0 {
		return ""
	}
	compiler, translator := policy.New(m, bundle, nil), translate.New()
	sound := true
	for _, s := range samples {
		last = s.class.ID
		set, err := translator.Proxy(compiler.Proxy(s.class))
		if err != nil {
			continue // it keeps its last good form, which was told when it came to be so
		}
		names := s.differs(contentsOf(set, func(name string, sets []ir.EndpointSet) string { return built(m, s.sent[name], sets) }))
		e.Audited(len(names) == 0)
		if len(names) > 0 {
			sound = false
			logf.FromContext(ctx).Error(errors.New("what was made step by step is not what is made from nothing"), "Making all configuration from nothing",
				"class", last, "differences", len(names), "names", names[:min(len(names), auditTold)])
		}
	}
	if !sound {
		e.restart(ctx)
	}
	return last
}

// samples returns the classes that come after one, and what they were made of.
func (e *Engine) samples(after string) (*mesh.Model, []byte, []sample) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.Model()
	if m == nil {
		return nil, nil, nil
	}
	var out []sample
	for _, id := range slices.Sorted(maps.Keys(e.classes)) {
		if id <= after || m.Classes[id] == nil || e.failing[id] != "" {
			continue
		}
		sent := contentsOf(e.classes[id].set, func(name string, _ []ir.EndpointSet) string { return e.assignedVersion(name) })
		if out = append(out, sample{m.Classes[id], sent}); len(out) == auditClasses {
			break
		}
	}
	return m, e.bundle, out
}

// unsettled stands for a load assignment that is not what the Model says, for a reason.
const unsettled = "unsettled"

// assignedVersion returns the version of a load assignment; mu is held.
func (e *Engine) assignedVersion(name string) string {
	a := e.assignments.used[name]
	if a == nil || len(a.awaited) > 0 || e.failing[name] != "" {
		return unsettled
	}
	return a.version
}

// built returns the version of a load assignment that is made from nothing.
func built(m *mesh.Model, sent string, sets []ir.EndpointSet) string {
	if sent == unsettled {
		return sent
	}
	r, err := endpoints.Build(m, sets)
	if err != nil {
		return err.Error()
	}
	return r.Version
}

func contentsOf(set *resource.Set, version func(name string, sets []ir.EndpointSet) string) contents {
	out := contents{}
	for _, typeURL := range []string{resource.ListenerType, resource.RouteType, resource.ClusterType, resource.SecretType} {
		for name, r := range set.All(typeURL) {
			out[typeURL+" "+name] = r.Version
		}
	}
	for name, sets := range set.References() {
		out[name] = version(name, sets)
	}
	return out
}

// differs returns the names of what is made otherwise from nothing, in order.
func (s sample) differs(scratch contents) []string {
	var out []string
	for name, version := range s.sent {
		if other, ok := scratch[name]; !ok || other != version {
			out = append(out, name)
		}
	}
	for name := range scratch {
		if _, ok := s.sent[name]; !ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// restart has everything made from nothing. What comes out the same is not sent.
func (e *Engine) restart(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.Model()
	e.compiler, e.translator = nil, translate.New()
	e.compile(ctx, m)
	for name := range e.assignments.used {
		e.assign(ctx, m, name)
	}
}
