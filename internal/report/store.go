package report

import (
	"maps"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/openservicemesh/osm-operator/internal/report/reportpb"
)

// Store holds the proxies of one replica. It is safe for concurrent use.
type Store struct {
	mu sync.Mutex
	// Protected by mu.
	proxies  map[string]*reportpb.Proxy
	waiting  []*reportpb.Waiting // sorted; replaced as a whole, never changed
	policies string
	watchers map[*watcher]struct{}
}

// watcher is a reader and what it has not read yet.
type watcher struct {
	wake chan struct{}
	// dirty are pod UIDs; protected by the store's mu.
	dirty map[string]struct{}
	// policies is the state of policies when the reader last read, for the reader alone.
	policies string
}

// NewStore returns an empty Store.
func NewStore() *Store {
	return &Store{proxies: map[string]*reportpb.Proxy{}, watchers: map[*watcher]struct{}{}}
}

// Set puts a proxy's state; p must not be changed afterwards.
func (s *Store) Set(p *reportpb.Proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if proto.Equal(s.proxies[p.GetPodUid()], p) {
		return
	}
	s.proxies[p.GetPodUid()] = p
	s.touch(p.GetPodUid())
}

// Remove forgets a proxy that went.
func (s *Store) Remove(podUID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.proxies[podUID]; !ok {
		return
	}
	delete(s.proxies, podUID)
	s.touch(podUID)
}

// SetWaiting puts how many pods wait for a certificate, by reason.
func (s *Store) SetWaiting(pods map[string]int) {
	var next []*reportpb.Waiting
	for _, reason := range slices.Sorted(maps.Keys(pods)) {
		next = append(next, &reportpb.Waiting{Reason: reason, Pods: uint32(max(0, pods[reason]))})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sameWaiting(s.waiting, next) {
		return
	}
	s.waiting = next
	for w := range s.watchers {
		w.rouse()
	}
}

// SetPolicies puts the name of the state of policies that all proxies are sent at the
// least. Proxies whose state was looked at before are to be put first.
func (s *Store) SetPolicies(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.policies == state {
		return
	}
	s.policies = state
	for w := range s.watchers {
		w.rouse()
	}
}

func sameWaiting(a, b []*reportpb.Waiting) bool {
	return slices.EqualFunc(a, b, func(a, b *reportpb.Waiting) bool { return proto.Equal(a, b) })
}

// waits returns what pods wait for.
func (s *Store) waits() []*reportpb.Waiting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// touch tells all watchers; mu is held.
func (s *Store) touch(podUID string) {
	for w := range s.watchers {
		w.dirty[podUID] = struct{}{}
		w.rouse()
	}
}

// rouse has the watcher read.
func (w *watcher) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// watch returns a watcher and all proxies as they are now.
func (s *Store) watch() (*watcher, []*reportpb.Proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &watcher{wake: make(chan struct{}, 1), dirty: map[string]struct{}{}, policies: s.policies}
	s.watchers[w] = struct{}{}
	all := make([]*reportpb.Proxy, 0, len(s.proxies))
	for _, uid := range slices.Sorted(maps.Keys(s.proxies)) {
		all = append(all, s.proxies[uid])
	}
	return w, all
}

func (s *Store) unwatch(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, w)
}

// drain returns what a watcher has not read.
func (s *Store) drain(w *watcher) (upserts []*reportpb.Proxy, removed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, uid := range slices.Sorted(maps.Keys(w.dirty)) {
		if p, ok := s.proxies[uid]; ok {
			upserts = append(upserts, p)
		} else {
			removed = append(removed, uid)
		}
	}
	clear(w.dirty)
	w.policies = s.policies
	return upserts, removed
}
