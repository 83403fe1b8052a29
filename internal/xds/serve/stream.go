package serve

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// stream is one proxy's stream. The loop that serves it calls it as the cache and as
// the callbacks of go-control-plane's server, one call after another; the Cache calls
// it with news.
type stream struct {
	// Read-only after newStream.
	cache   *Cache
	limits  Limits
	metrics *metrics
	// greet is called with the first request, before anything is served; rejected with
	// each rejection.
	greet    func(*corev3.Node) error
	rejected func(NACK)
	// stir tells that what is known of the proxy changed.
	stir func()

	// changed counts the changes of what is known of the proxy.
	changed atomic.Uint64

	// The loop alone uses these: whether the first request was accepted, a response
	// that is not worth sending, the resources of the response that is about to be sent,
	// and what was asked for that is not served.
	greeted  bool
	skip     *discoveryv3.DeltaDiscoveryResponse
	outgoing []*resource.Resource
	foreign  foreign

	mu sync.Mutex
	// Protected by mu, which is never held while something is sent or waited for.
	class string
	view  *resource.Set // nil until the class is compiled
	subs  [kinds]subscription
	out   chan cache.DeltaResponse
	// left are load assignments that the class no longer refers to, though clusters that
	// the proxy still has may wait for them.
	left map[string]*resource.Resource
	// resumed says that the proxy came with configuration from an earlier stream.
	resumed bool
	// hold runs while something waits for another kind, for the holds-th time; overdue
	// says that it waited long enough.
	hold    *time.Timer
	holds   int
	overdue bool
	gone    bool
	lastBad NACK
}

var _ cache.ConfigWatcher = (*stream)(nil)

// CreateWatch implements cache.ConfigWatcher: the state-of-the-world protocol is not served.
func (*stream) CreateWatch(*cache.Request, cache.Subscription, chan cache.Response) (func(), error) {
	return nil, status.Error(codes.Unimplemented, "only the delta protocol is served")
}

// CreateDeltaWatch implements cache.ConfigWatcher: from now on the loop takes a
// response of this type. What the request said was taken in OnStreamDeltaRequest.
func (s *stream) CreateDeltaWatch(req *cache.DeltaRequest, _ cache.Subscription, out chan cache.DeltaResponse) (func(), error) {
	k, ok := kindOf(req.GetTypeUrl())
	if !ok {
		s.foreign.answer(out)
		return func() {}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = out
	s.subs[k].listening = true
	s.kick()
	return func() { s.deafen(k) }, nil
}

// deafen says that the loop no longer takes responses of a kind. The loop calls it
// before it closes the channel, so that nothing is put there afterwards.
func (s *stream) deafen(k kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[k].listening = false
}

// OnDeltaStreamOpen implements the loop's callbacks.
func (*stream) OnDeltaStreamOpen(context.Context, int64, string) error { return nil }

// OnDeltaStreamClosed implements the loop's callbacks.
func (*stream) OnDeltaStreamClosed(int64, *corev3.Node) {}

// OnStreamDeltaRequest implements the loop's callbacks: it takes all that a request
// says, so that the loop need not keep any of it.
func (s *stream) OnStreamDeltaRequest(_ int64, req *discoveryv3.DeltaDiscoveryRequest) error {
	if err := s.limits.check(req); err != nil {
		return err
	}
	if !s.greeted {
		if err := s.greet(req.GetNode()); err != nil {
			return err
		}
		s.greeted = true
	}
	err := s.take(req)
	req.Node, req.InitialResourceVersions, req.ErrorDetail = nil, nil, nil
	req.ResourceNamesSubscribe, req.ResourceNamesUnsubscribe = nil, nil
	return err
}

// OnStreamDeltaResponse implements the loop's callbacks: it notes the number that the
// answer will bear.
func (s *stream) OnStreamDeltaResponse(_ int64, _ *discoveryv3.DeltaDiscoveryRequest, response *discoveryv3.DeltaDiscoveryResponse) {
	k, ok := kindOf(response.GetTypeUrl())
	if !ok || response == s.skip {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[k].flight.nonce = response.GetNonce()
}

// take brings what is known of the proxy up to date with a request.
func (s *stream) take(req *discoveryv3.DeltaDiscoveryRequest) error {
	k, known := kindOf(req.GetTypeUrl())
	if !known {
		s.metrics.foreign.Inc()
		return s.foreign.take(req)
	}
	s.metrics.of[k].requests.Inc()
	nack, err := s.takeKnown(k, req)
	if nack != nil {
		s.rejected(*nack)
	}
	return err
}

// takeKnown takes a request of a type that is served, and returns what it rejects.
func (s *stream) takeKnown(k kind, req *discoveryv3.DeltaDiscoveryRequest) (*NACK, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.subs[k]
	if !b.asked && !s.resumed && len(req.GetInitialResourceVersions()) > 0 {
		s.resumed = true
		s.metrics.reconnects.Inc()
	}
	var nack *NACK
	if nonce := req.GetResponseNonce(); nonce != "" && b.flight != nil && nonce == b.flight.nonce {
		nack = s.answered(k, req.GetErrorDetail())
	}
	// Envoy asks for endpoints before clusters only where it holds its clusters back
	// because some are warming, that is, waiting for endpoints that it may already have
	// for an older form of the same cluster. It gets them again.
	b.take(k, req, k != endpoints || s.subs[clusters].asked)
	if b.count > s.limits.Names {
		return nack, status.Errorf(codes.ResourceExhausted, "more than %d names of one type", s.limits.Names)
	}
	s.touched()
	return nack, nil
}

// update says of which class the proxy is, what that class is sent, and what differs
// from what it was.
func (s *stream) update(class string, view *resource.Set, changed change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(view, changed)
	s.class, s.view = class, view
	concerned := changed.all
	for k := range kind(kinds) {
		b := &s.subs[k]
		if changed.all || view == nil {
			b.spread()
		}
		b.turn(view, changed.names[k])
		if changed.all && b.asked {
			b.markAll()
		}
		for _, name := range changed.names[k] {
			if b.wants(name) {
				b.mark(name)
				concerned = true
			}
		}
	}
	if concerned {
		s.kick()
		s.touched()
	}
	if view == nil {
		for k := range s.subs {
			s.subs[k].settle(true)
		}
	}
}

// touch says that a load assignment was another one until now; nil for none.
func (s *stream) touch(name string, was *resource.Resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := &s.subs[endpoints]; b.wants(name) {
		b.outdate(name, was)
		b.mark(name)
		s.kick()
		s.touched()
	}
}

// settled returns a channel that is closed once the proxy has answered all that it is
// owed of a kind; nil if it has.
func (s *stream) settled(k kind) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.subs[k]
	if s.gone || s.view == nil || !b.busy() {
		return nil
	}
	waiting := make(chan struct{})
	b.waiting = append(b.waiting, waiting)
	return waiting
}

// close ends what waits for the stream, after its loop has ended.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	for k := range s.subs {
		s.subs[k].listening = false
		s.subs[k].settle(true)
	}
	if s.hold != nil {
		s.hold.Stop()
	}
}

// touched notes that what is known of the proxy changed.
func (s *stream) touched() {
	s.changed.Add(1)
	s.stir()
}
