package serve

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/status"
)

// maxMessage bounds what is kept of a proxy's words.
const maxMessage = 2048

// NACK is a response that a proxy rejected. It keeps what it had.
type NACK struct {
	// PodUID, Namespace and Pod tell which proxy; Class what it is sent.
	PodUID, Namespace, Pod, Class string
	// TypeURL is the type, Resources the names in the response.
	TypeURL   string
	Resources []string
	// Message is what the proxy said.
	Message string
	Time    time.Time
}

// answered takes the proxy's word on the response in flight, and returns what it
// rejected. The caller holds mu.
func (s *stream) answered(k kind, refusal *status.Status) *NACK {
	b := &s.subs[k]
	f := b.flight
	b.flight = nil
	s.metrics.of[k].answered(refusal == nil, time.Since(f.since))
	if refusal == nil {
		for _, r := range f.sent {
			b.agree(r.name)
		}
		return nil
	}
	s.refused(k, f)
	n := NACK{Class: s.class, TypeURL: k.url(), Message: refusal.GetMessage(), Time: time.Now()}
	n.Message = n.Message[:min(len(n.Message), maxMessage)]
	for _, r := range f.sent {
		n.Resources = append(n.Resources, r.name)
	}
	s.lastBad = n
	return &n
}

// refused keeps a resource that was rejected alone from being sent again. Of several,
// Envoy may have taken some: each is sent once more, alone, until all are known. That
// a resource is gone cannot be rejected, nor what the proxy no longer asks for. The
// caller holds mu.
func (s *stream) refused(k kind, f *flight) {
	b := &s.subs[k]
	var suspects []sent
	for _, r := range f.sent {
		if r.after != absent && b.wants(r.name) {
			suspects = append(suspects, r)
		}
	}
	if len(suspects) == 1 {
		r := suspects[0]
		if b.rejected == nil {
			b.rejected = map[string]version{}
		}
		b.rejected[r.name] = r.after
		b.set(r.name, r.before)
		return
	}
	for _, r := range suspects {
		b.set(r.name, uncertain)
		b.suspects = append(b.suspects, r.name)
	}
}
