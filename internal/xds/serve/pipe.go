package serve

import (
	"fmt"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// wire is the gRPC stream of a proxy.
type wire = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer

// pipe stands between the loop and the wire: it reads no faster than a proxy may
// send, and gives up on a proxy that does not read. The loop reads and writes in two
// goroutines.
type pipe struct {
	wire
	stream *stream
	// end ends the stream.
	end func(error)
	// stuck runs while a response waits for the proxy to read; the writer's alone.
	stuck *time.Timer
	// pace is the reader's alone.
	pace pace
}

// Send sends a response, unless there is nothing in it.
func (p *pipe) Send(response *discoveryv3.DeltaDiscoveryResponse) error {
	if response == p.stream.skip {
		return nil
	}
	if p.stuck == nil {
		p.stuck = time.AfterFunc(p.stream.limits.Stuck, func() { p.end(errStuck) })
	} else {
		p.stuck.Reset(p.stream.limits.Stuck)
	}
	defer p.stuck.Stop()
	err := p.wire.SendMsg(&packet{response: response, resources: p.stream.outgoing})
	p.stream.outgoing = nil
	if k, ok := kindOf(response.GetTypeUrl()); ok {
		if err != nil {
			p.stream.metrics.of[k].unsent.Inc()
		} else {
			p.stream.metrics.of[k].sent.Inc()
			p.stream.metrics.of[k].last.SetToCurrentTime()
		}
	}
	return err
}

// Recv reads a request. A proxy that answers what it was sent is limited by what it
// is sent; anything else waits its turn, and while it waits nothing more is read.
func (p *pipe) Recv() (req *discoveryv3.DeltaDiscoveryRequest, err error) {
	// The loop calls this in a goroutine of its own, where nothing else would recover.
	defer func() {
		if r := recover(); r != nil {
			err = status.Error(codes.Internal, "reading a request")
			p.end(fmt.Errorf("reading a request: %v", r))
		}
	}()
	req, err = p.wire.Recv()
	if err != nil {
		return nil, err
	}
	if !p.stream.awaits(req) {
		p.pace.wait(p.wire.Context())
	}
	return req, nil
}

// awaits reports whether a request is the answer to what the proxy was sent last.
func (s *stream) awaits(req *discoveryv3.DeltaDiscoveryRequest) bool {
	k, ok := kindOf(req.GetTypeUrl())
	if !ok || req.GetResponseNonce() == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.subs[k].flight
	return f != nil && f.nonce == req.GetResponseNonce()
}
