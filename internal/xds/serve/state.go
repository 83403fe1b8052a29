package serve

import (
	"cmp"
	"context"
	"slices"
	"strings"
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
	slices.SortFunc(out, func(a, b ProxyState) int { return strings.Compare(a.PodUID, b.PodUID) })
	return out
}

// Watch calls f with all proxies, and then at each pace with those that changed and the pod
// UIDs of those that went, of which there may be none, until ctx is done. What is back as it
// was within a pace is not told.
func (s *Server) Watch(ctx context.Context, pace time.Duration, f func(changed []ProxyState, gone []string)) {
	known := map[string]told{}
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	seen := s.clock.Load()
	changed, gone := s.news(known)
	f(changed, gone)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, gone = nil, nil
		if now := s.clock.Load(); now != seen {
			seen = now
			changed, gone = s.news(known)
		}
		f(changed, gone)
	}
}

// told is the state of a proxy that was told last.
type told struct {
	one  *session
	when uint64
}

// news lists what changed since known, and brings that up to date.
func (s *Server) news(known map[string]told) (changed []ProxyState, gone []string) {
	present := s.newest()
	for uid, one := range present {
		now := told{one, one.stream.changed.Load()}
		if known[uid] == now {
			continue
		}
		known[uid] = now
		changed = append(changed, one.state(s.options.TrustBundle))
	}
	for uid := range known {
		if present[uid] == nil {
			delete(known, uid)
			gone = append(gone, uid)
		}
	}
	slices.SortFunc(changed, func(a, b ProxyState) int { return strings.Compare(a.PodUID, b.PodUID) })
	slices.Sort(gone)
	return changed, gone
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
