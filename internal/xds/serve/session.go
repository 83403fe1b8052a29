package serve

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	envoy "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	delta "github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"google.golang.org/grpc/status"
)

// session is a stream from its opening to its end: who is there, and for how long.
type session struct {
	// Read-only after newSession.
	server  *Server
	visitor visitor
	since   time.Time
	stream  *stream
	// end ends the session, for a reason that the proxy is told.
	end context.CancelCauseFunc
	// silence ends a session that does not begin, renewal one that lasts long enough.
	silence, renewal *time.Timer

	// proxy is set once the proxy is admitted.
	proxy atomic.Pointer[ProxyInfo]
}

// newSession begins a session, that cancel ends. It ends by itself before the proxy's
// certificate does, at a time that differs from proxy to proxy.
func newSession(s *Server, v visitor, cancel context.CancelCauseFunc) *session {
	one := &session{server: s, visitor: v, since: time.Now()}
	// The loop of a proxy that does not read ends with its connection only.
	one.end = func(reason error) { cancel(reason); v.line.hangUp() }
	one.stream = &stream{cache: s.options.Cache, limits: s.options.Limits, metrics: s.metrics, rejected: one.rejected, stir: func() { s.stir(v.PodUID) }}
	for k := range kind(kinds) {
		one.stream.subs[k].offer = offer{kind: k, cache: s.options.Cache}
	}
	one.silence = time.AfterFunc(s.options.Limits.Greeting, func() { one.end(errSilent) })
	left := min(time.Until(v.leaf().NotAfter), s.options.Limits.Age)
	one.renewal = time.AfterFunc(fraction(left, 0.7, 0.95), func() { one.end(errRenew) })
	return one
}

// serve runs the loop until the proxy goes or the session ends.
func (one *session) serve(ctx context.Context, g wire) error {
	one.stream.greet = func(n *corev3.Node) error { return one.admit(ctx, n) }
	limits := one.server.options.Limits
	p := &pipe{wire: g, stream: one.stream, end: one.end, pace: pace{rate: float64(limits.RequestRate), burst: float64(limits.RequestBurst)}}
	err := delta.NewServer(ctx, one.stream, one.stream).DeltaStreamHandler(p, envoy.AnyType)
	if reason := context.Cause(ctx); reason != nil && !errors.Is(reason, context.Canceled) {
		return reason
	}
	return err
}

// admit lets a proxy in, by its first request.
func (one *session) admit(ctx context.Context, n *corev3.Node) error {
	one.silence.Stop()
	s := one.server
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	info, err := one.visitor.admit(ctx, n, s.options.Authenticate)
	if err != nil {
		s.metrics.unwelcome.Inc()
		s.log.Info("Refusing a proxy", "identity", one.visitor.ID.URI(), "podUID", one.visitor.PodUID, "reason", status.Convert(err).Message())
		return err
	}
	one.proxy.Store(&info)
	s.metrics.connected.Inc()
	s.options.Cache.attach(one.stream, info.PodUID, info.Class)
	s.log.V(1).Info("A proxy connected", "Pod", info.Namespace+"/"+info.Name, "podUID", info.PodUID, "class", info.Class)
	return nil
}

// rejected takes a rejection.
func (one *session) rejected(n NACK) {
	if info := one.proxy.Load(); info != nil {
		n.PodUID, n.Namespace, n.Pod = info.PodUID, info.Namespace, info.Name
	}
	one.server.note(n)
}

// close ends all that waits for the session. It is called when the loop has ended.
func (one *session) close() {
	one.silence.Stop()
	one.renewal.Stop()
	one.server.options.Cache.detach(one.stream, one.visitor.PodUID)
	one.stream.close()
	if one.proxy.Load() != nil {
		one.server.metrics.connected.Dec()
	}
}
