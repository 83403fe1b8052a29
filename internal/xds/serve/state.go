package serve

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// ProxyState is what is known of a connected proxy. What it acknowledged, it has
// accepted; whether it works with it yet, it does not say.
type ProxyState struct {
	ProxyInfo
	// ConnectedSince is when its stream began.
	ConnectedSince time.Time
	// LeafSerial, LeafIssuer and LeafNotAfter tell of the certificate that its stream
	// was authenticated with.
	LeafSerial, LeafIssuer string
	LeafNotAfter           time.Time
	// TrustBundle is the version of the roots that it acknowledged, empty for none.
	TrustBundle string
	// InSync says that it acknowledged all that it is owed; Pending counts the
	// resources that it has not.
	InSync  bool
	Pending int
	// Settled says the same of all but endpoints, which come and go by themselves and hold
	// nothing of policies.
	Settled bool
	// Rejected is what it rejected last, nil if it has taken what replaced it.
	Rejected *NACK
}

// Proxies lists the connected proxies, by pod UID. Of the streams of one pod the
// newest tells.
func (s *Server) Proxies() []ProxyState {
	out := make([]ProxyState, 0)
	for _, one := range s.newest() {
		out = append(out, one.state(s.options.TrustBundle))
	}
	sortProxies(out)
	return out
}

// Watch calls f with all proxies, and then at each pace with those that changed and the pod
// UIDs of those that went, of which there may be none, until ctx is done. What is back as it
// was within a pace is not told. It costs what has changed, however many are connected.
func (s *Server) Watch(ctx context.Context, pace time.Duration, f func(changed []ProxyState, gone []string)) {
	w := &watcher{pods: map[string]struct{}{}}
	defer s.watch(w)()
	known := map[string]told{}
	changed := make([]ProxyState, 0)
	for uid, one := range s.newest() {
		known[uid] = told{one, one.stream.changed.Load()}
		changed = append(changed, one.state(s.options.TrustBundle))
	}
	sortProxies(changed)
	f(changed, nil)
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		f(s.news(w.take(), known))
	}
}

// told is the state of a proxy that was told last.
type told struct {
	one  *session
	when uint64
}

// news lists what changed of these pods since known, and brings that up to date.
func (s *Server) news(pods []string, known map[string]told) (changed []ProxyState, gone []string) {
	for _, uid := range pods {
		one := s.newestOf(uid)
		switch before, was := known[uid]; {
		case one == nil && was:
			delete(known, uid)
			gone = append(gone, uid)
		case one == nil:
		default:
			now := told{one, one.stream.changed.Load()}
			if before != now {
				known[uid] = now
				changed = append(changed, one.state(s.options.TrustBundle))
			}
		}
	}
	sortProxies(changed)
	slices.Sort(gone)
	return changed, gone
}

func sortProxies(all []ProxyState) {
	slices.SortFunc(all, func(a, b ProxyState) int { return strings.Compare(a.PodUID, b.PodUID) })
}

// watcher holds the pods of which something changed since it was last asked.
type watcher struct {
	mu   sync.Mutex
	pods map[string]struct{} // protected by mu
}

func (w *watcher) add(podUID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pods[podUID] = struct{}{}
}

func (w *watcher) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := slices.Collect(maps.Keys(w.pods))
	if len(out) > 0 {
		w.pods = map[string]struct{}{}
	}
	return out
}

// watch has a watcher told of changes, until the function is called that it returns.
func (s *Server) watch(w *watcher) (stop func()) {
	s.watchersMu.Lock()
	defer s.watchersMu.Unlock()
	s.watchers[w] = struct{}{}
	return func() {
		s.watchersMu.Lock()
		defer s.watchersMu.Unlock()
		delete(s.watchers, w)
	}
}

// stir says that what is known of a pod's proxies changed.
func (s *Server) stir(podUID string) {
	s.watchersMu.RLock()
	defer s.watchersMu.RUnlock()
	for w := range s.watchers {
		w.add(podUID)
	}
}

// newestOf returns the newest admitted session of a pod, nil for none.
func (s *Server) newestOf(podUID string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range slices.Backward(s.sessions[podUID]) {
		if one.proxy.Load() != nil {
			return one
		}
	}
	return nil
}

// newest returns the newest admitted session of each pod.
func (s *Server) newest() map[string]*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]*session, len(s.sessions))
	for uid, sessions := range s.sessions {
		for _, one := range sessions {
			if one.proxy.Load() != nil {
				out[uid] = one
			}
		}
	}
	return out
}

// state tells of an admitted proxy.
func (one *session) state(trustBundle string) ProxyState {
	leaf := one.visitor.leaf()
	out := ProxyState{
		ProxyInfo: *one.proxy.Load(), ConnectedSince: one.since,
		LeafSerial: one.visitor.Serial, LeafIssuer: one.visitor.Issuer, LeafNotAfter: leaf.NotAfter,
	}
	s := one.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Class = cmp.Or(s.class, out.Class)
	out.TrustBundle = s.acknowledged(secrets, trustBundle)
	out.InSync = s.view != nil && s.subs[clusters].asked && s.subs[listeners].asked
	out.Settled = out.InSync
	for k := range s.subs {
		pending := s.subs[k].pending()
		out.Pending += pending
		out.InSync = out.InSync && pending == 0
		out.Settled = out.Settled && (pending == 0 || kind(k) == endpoints)
		if len(s.subs[k].rejected)+len(s.subs[k].suspects) > 0 {
			bad := s.lastBad
			bad.PodUID, bad.Namespace, bad.Pod = out.PodUID, out.Namespace, out.Name
			out.Rejected = &bad
		}
	}
	return out
}

// acknowledged returns the version of a resource that the proxy said it has. The
// caller holds mu.
func (s *stream) acknowledged(k kind, name string) string {
	b := &s.subs[k]
	v := b.version(name)
	if b.flight != nil {
		for _, r := range b.flight.sent {
			if r.name == name {
				v = r.before
			}
		}
	}
	if v == absent || v == uncertain {
		return ""
	}
	return string(v)
}
