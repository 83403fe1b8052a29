package serve

import (
	"time"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// Make before break, on one stream:
//
//	clusters ──> endpoints, secrets ──> listeners ──> routes ──> clusters that go
//
// The endpoints of clusters that go are there until these have gone: a cluster that is told
// that there are none, while it warms, takes the place of one that has some.
//
// Listeners and routes wait until the proxy acknowledged clusters: Envoy does so only
// once they are warm, so that nothing refers to what cannot serve yet. Clusters go
// only once listeners and routes that may have used them were acknowledged. Endpoints
// and secrets never wait: clusters need them to become warm. A wait has a limit, so
// that a proxy that never acknowledges clusters gets the rest all the same.

// kick wakes the loop for all kinds of which something can be sent. The caller holds mu.
func (s *stream) kick() {
	if s.view == nil || s.gone {
		return
	}
	s.release()
	held := false
	for k := range kind(kinds) {
		b := &s.subs[k]
		if !b.listening || !b.due() || b.queued || b.flight != nil {
			continue
		}
		if !s.overdue && s.held(k) {
			held = true
			continue
		}
		b.queued = true
		// There is room: the loop's channel takes two of each kind, and there is one at a time.
		s.out <- &reply{stream: s, kind: k, overdue: s.overdue}
	}
	s.time(held)
	for k := range s.subs {
		s.subs[k].rest()
	}
}

// held reports whether a kind waits for another. A proxy that comes back while clusters
// warm asks for clusters last: until then nothing may refer to those that it has not.
// The caller holds mu.
func (s *stream) held(k kind) bool {
	if k != listeners && k != routes {
		return false
	}
	awaited := &s.subs[endpoints]
	warming := awaited.asked && (awaited.fresh && awaited.due() || awaited.flight != nil && awaited.flight.fresh)
	unasked := s.resumed && !s.subs[clusters].asked
	return unasked || s.subs[clusters].busy() || warming || k == routes && s.subs[listeners].busy()
}

// breaking reports whether listeners or routes may still use clusters that go. A
// proxy that comes with configuration from before has yet to ask for its own. The
// caller holds mu.
func (s *stream) breaking() bool {
	l, r := &s.subs[listeners], &s.subs[routes]
	unasked := !l.asked || !r.asked && s.view.Has(routes.url())
	return l.busy() || r.busy() || s.resumed && unasked
}

// release lets clusters go that nothing uses any more, and after them the load assignments
// that they may have waited for. The caller holds mu.
func (s *stream) release() {
	b := &s.subs[clusters]
	if len(b.deferred)+len(s.left) == 0 || !s.overdue && s.breaking() {
		return
	}
	for name := range b.deferred {
		b.mark(name)
	}
	b.deferred = nil
	if !s.overdue && (b.busy() || !b.asked) {
		return
	}
	for name := range s.left {
		if e := &s.subs[endpoints]; e.wants(name) {
			e.mark(name)
		}
	}
	s.left = nil
}

// leave keeps the load assignments that the class refers to until now, and will not. The
// caller holds mu.
func (s *stream) leave(view *resource.Set, changed change) {
	if s.view == nil || view == nil {
		s.left = nil
		return
	}
	leave := func(name string) {
		if view.RefersTo(name) {
			delete(s.left, name)
			return
		}
		if r, _ := s.cache.assignment(name); r != nil && s.view.RefersTo(name) && s.subs[endpoints].wants(name) {
			if s.left == nil {
				s.left = map[string]*resource.Resource{}
			}
			s.left[name] = r
		}
	}
	for _, name := range changed.names[endpoints] {
		leave(name)
	}
	if changed.all {
		for name := range s.subs[endpoints].asking() {
			leave(name)
		}
	}
}

// time runs a clock while something is held, and stops it when nothing is. The caller
// holds mu.
func (s *stream) time(held bool) {
	switch {
	case !held && len(s.subs[clusters].deferred) == 0 && len(s.left) == 0:
		if s.hold != nil {
			s.hold.Stop()
			s.hold = nil
		}
		s.overdue = false
	case s.hold == nil:
		s.holds++
		this := s.holds
		s.hold = time.AfterFunc(s.limits.Hold, func() { s.expire(this) })
	}
}

// expire ends a wait that took too long, unless it has ended already.
func (s *stream) expire(hold int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hold == nil || s.holds != hold {
		return
	}
	s.hold, s.overdue = nil, true
	s.kick()
}
