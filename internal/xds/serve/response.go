package serve

import (
	"context"
	"iter"
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// reply is a response that is made when the loop is about to send it, so that it
// holds all that has changed until then. It implements cache.DeltaResponse.
type reply struct {
	stream  *stream
	kind    kind
	overdue bool // it has waited long enough for other kinds
}

var _ cache.DeltaResponse = (*reply)(nil)

// GetDeltaDiscoveryResponse makes the response; the loop calls it once.
func (r *reply) GetDeltaDiscoveryResponse() (*discoveryv3.DeltaDiscoveryResponse, error) {
	return r.stream.compose(r.kind, r.overdue), nil
}

// GetDeltaRequest tells the loop of which type the response is.
func (r *reply) GetDeltaRequest() *discoveryv3.DeltaDiscoveryRequest {
	return &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.kind.url()}
}

// GetSystemVersion returns nothing: versions are those of single resources.
func (*reply) GetSystemVersion() (string, error) { return "", nil }

// GetResponseVersion returns nothing, as GetSystemVersion.
func (*reply) GetResponseVersion() string { return "" }

// GetNextVersionMap returns nothing: what the proxy has is kept by the stream.
func (*reply) GetNextVersionMap() map[string]string { return nil }

// GetReturnedResources returns nothing, as GetNextVersionMap.
func (*reply) GetReturnedResources() map[string]string { return nil }

// GetContext returns a context that nobody uses.
func (*reply) GetContext() context.Context { return context.Background() }

// compose makes the next response of a kind. If there is nothing to send after all,
// it returns one that is skipped.
func (s *stream) compose(k kind, overdue bool) *discoveryv3.DeltaDiscoveryResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skip, s.outgoing = nil, nil
	b := &s.subs[k]
	b.queued = false
	response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: k.url()}
	// Clusters in the response may need endpoints; what waited may go if there is none.
	defer s.kick()
	if s.view == nil || !overdue && s.held(k) {
		s.skip = response
		return response
	}
	f := &flight{since: b.since, fresh: b.fresh}
	rest := s.fill(k, f, response, overdue)
	b.fresh = b.fresh && rest
	if len(f.sent) == 0 && !b.greet {
		s.skip = response
		return response
	}
	b.greet, b.flight = false, f
	s.touched()
	return response
}

// fill puts what the proxy is owed into a response and reports whether something is
// left for the next. The caller holds mu.
func (s *stream) fill(k kind, f *flight, response *discoveryv3.DeltaDiscoveryResponse, overdue bool) bool {
	b := &s.subs[k]
	for len(b.suspects) > 0 {
		name := b.suspects[0]
		b.suspects = b.suspects[1:]
		if b.wants(name) && s.put(k, name, f, response, overdue) > 0 {
			return b.due()
		}
	}
	names := s.candidates(k)
	b.all, b.dirty = false, nil
	if b.bare {
		f.sent, s.outgoing = make([]sent, 0, len(names)), make([]*resource.Resource, 0, len(names))
	}
	size := 0
	for i, name := range names {
		if size >= s.limits.ResponseBytes {
			for _, left := range names[i:] {
				b.mark(left)
			}
			b.given(names[i:])
			return true
		}
		size += s.put(k, name, f, response, overdue)
	}
	b.given(nil)
	return false
}

// candidates lists what may have changed for the proxy, in order. The caller holds mu.
func (s *stream) candidates(k kind) []string {
	b := &s.subs[k]
	if !b.all {
		return sortedNames(b.dirty)
	}
	switch {
	case b.bare && b.wildcard && len(b.names) == 0:
		return s.everything(k)
	case b.bare && !b.wildcard:
		return slices.Sorted(b.asking())
	}
	names := map[string]struct{}{}
	for _, some := range []iter.Seq[string]{b.asking(), b.held(), maps.Keys(b.rejected)} {
		for name := range some { // what the proxy never took may be gone: then it no longer rejects anything
			names[name] = struct{}{}
		}
	}
	if b.wildcard {
		for name := range s.view.All(k.url()) {
			names[name] = struct{}{}
		}
	}
	return sortedNames(names)
}

// sortedNames returns a set's names, in a slice of their number.
func sortedNames(set map[string]struct{}) []string {
	out := slices.AppendSeq(make([]string, 0, len(set)), maps.Keys(set))
	slices.Sort(out)
	return out
}

// everything lists the names of all that a proxy is sent that has nothing yet, in order. The
// caller holds mu.
func (s *stream) everything(k kind) []string {
	all := s.view.Sorted(k.url())
	names := make([]string, 0, len(all))
	for _, r := range all {
		names = append(names, r.Name)
	}
	return names
}

// put adds a resource to a response, or that it is gone, if the proxy has to be told.
// It returns about how many bytes that takes. The caller holds mu.
func (s *stream) put(k kind, name string, f *flight, response *discoveryv3.DeltaDiscoveryResponse, overdue bool) int {
	b := &s.subs[k]
	r, known := s.look(k, name)
	if !known {
		return 0
	}
	if r == nil {
		return s.remove(k, name, f, response, overdue)
	}
	if b.rejected[name] == version(r.Version) {
		return 0
	}
	delete(b.rejected, name)
	had, v := b.version(name), version(r.Version)
	if had == v {
		return 0
	}
	s.outgoing = append(s.outgoing, r)
	f.sent = append(f.sent, sent{name: r.Name, before: had, after: v})
	b.set(r.Name, v)
	if k == clusters {
		s.rewarm(r)
	}
	return len(r.Body) + len(r.Name)
}

// remove adds to a response that a resource is gone. Clusters stay while listeners or
// routes may use them. The caller holds mu.
func (s *stream) remove(k kind, name string, f *flight, response *discoveryv3.DeltaDiscoveryResponse, overdue bool) int {
	b := &s.subs[k]
	had, named := b.version(name), b.asks(name)
	delete(b.rejected, name)
	if had == absent || had == none && !named {
		return 0
	}
	if k == clusters && !named && !overdue && s.breaking() {
		if b.deferred == nil {
			b.deferred = map[string]struct{}{}
		}
		b.deferred[name] = struct{}{}
		return 0
	}
	response.RemovedResources = append(response.RemovedResources, name)
	f.sent = append(f.sent, sent{name: name, before: had, after: absent})
	if named {
		b.set(name, absent)
	} else {
		b.set(name, none)
	}
	return len(name)
}

// look returns a resource of the proxy's class; nil if there is none, and false if
// that is not known yet. The caller holds mu.
func (s *stream) look(k kind, name string) (*resource.Resource, bool) {
	if k == endpoints && !s.view.RefersTo(name) {
		return s.left[name], true
	}
	return s.subs[k].offer.get(name)
}

// rewarm makes the endpoints of a cluster be sent again after the cluster: Envoy takes
// a cluster that changed into use once it has got endpoints for it, and does not ask
// again for those that it has. The caller holds mu.
func (s *stream) rewarm(cluster *resource.Resource) {
	name := cluster.Awaits
	if name == "" {
		return
	}
	b := &s.subs[endpoints]
	switch {
	case b.wants(name):
		b.owe(name)
	case !b.asked: // what it says that it has will not count
		b.set(name, uncertain)
	}
}
