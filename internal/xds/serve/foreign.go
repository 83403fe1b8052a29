package serve

import (
	"context"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxForeign bounds the types that a stream may ask for though they are not served.
const maxForeign = 8

// foreign is what a proxy asks for of types that are not served. It is told that
// there is nothing of the kind, and the rest of the stream goes on.
type foreign struct {
	types []string
	next  *discoveryv3.DeltaDiscoveryResponse
}

// take reads a request.
func (f *foreign) take(req *discoveryv3.DeltaDiscoveryRequest) error {
	if req.GetTypeUrl() == "" || len(req.GetTypeUrl()) > 256 {
		return status.Error(codes.InvalidArgument, "a request needs a type URL")
	}
	if !slices.Contains(f.types, req.GetTypeUrl()) {
		if len(f.types) >= maxForeign {
			return status.Errorf(codes.InvalidArgument, "more than %d types that are not served", maxForeign)
		}
		f.types = append(f.types, req.GetTypeUrl())
	}
	f.next = nil
	if names := req.GetResourceNamesSubscribe(); len(names) > 0 {
		f.next = &discoveryv3.DeltaDiscoveryResponse{TypeUrl: req.GetTypeUrl(), RemovedResources: slices.Clone(names)}
	}
	return nil
}

// answer puts the answer, if there is one, into the loop's channel: it was emptied
// before the request was taken, and each request has one answer.
func (f *foreign) answer(out chan<- cache.DeltaResponse) {
	if f.next != nil {
		out <- &nothing{response: f.next}
		f.next = nil
	}
}

// nothing is a response that is made already. It implements cache.DeltaResponse.
type nothing struct {
	reply
	response *discoveryv3.DeltaDiscoveryResponse
}

// GetDeltaDiscoveryResponse returns the response.
func (n *nothing) GetDeltaDiscoveryResponse() (*discoveryv3.DeltaDiscoveryResponse, error) {
	return n.response, nil
}

// GetDeltaRequest tells the loop of which type the response is.
func (n *nothing) GetDeltaRequest() *discoveryv3.DeltaDiscoveryRequest {
	return &discoveryv3.DeltaDiscoveryRequest{TypeUrl: n.response.GetTypeUrl()}
}

// GetContext returns a context that nobody uses.
func (*nothing) GetContext() context.Context { return context.Background() }
