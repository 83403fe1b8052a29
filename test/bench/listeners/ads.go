package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// server is a control plane of the simplest kind: one proxy, delta xDS, everything sent
// as soon as it is asked for, or changes.
type server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	mu sync.Mutex
	// What is served, and what the proxy has asked for, by type; protected by mu, as the rest.
	all     resources
	asked   map[string]map[string]bool
	stream  discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	nonce   int
	unacked map[string]bool
	refused error
	// sent counts what went out since it was reset.
	sentBytes, sentResources int
	// onDemand says that the clusters of services are sent only when asked for by name.
	onDemand bool
}

// unasked says whether a resource is sent without being asked for by name.
func (s *server) unasked(typeURL, name string) bool {
	return wildcard(typeURL) && (!s.onDemand || typeURL != resource.ClusterType || !strings.Contains(name, "|"))
}

func newServer(all resources) *server {
	return &server{all: all, asked: map[string]map[string]bool{}, unacked: map[string]bool{}}
}

// order is that in which changes are sent: what is referred to comes first.
func order() []string {
	return []string{resource.SecretType, resource.ClusterType, resource.EndpointType, resource.ListenerType, resource.RouteType}
}

// wildcard says whether a type is sent without being asked for by name.
func wildcard(typeURL string) bool {
	return typeURL == resource.ClusterType || typeURL == resource.ListenerType
}

// DeltaAggregatedResources serves the stream.
func (s *server) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	s.mu.Lock()
	s.stream = stream
	s.mu.Unlock()
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.handle(request); err != nil {
			return err
		}
	}
}

func (s *server) handle(r *discoveryv3.DeltaDiscoveryRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unacked, r.GetResponseNonce())
	if d := r.GetErrorDetail(); d != nil && s.refused == nil {
		s.refused = fmt.Errorf("refused: %s", d.GetMessage())
	}
	asked, known := s.asked[r.GetTypeUrl()]
	if !known {
		asked = map[string]bool{}
		s.asked[r.GetTypeUrl()] = asked
	}
	var names []string
	if !known && wildcard(r.GetTypeUrl()) {
		for n := range s.all[r.GetTypeUrl()] {
			if s.unasked(r.GetTypeUrl(), n) {
				names = append(names, n)
			}
		}
		slices.Sort(names)
	}
	for _, n := range r.GetResourceNamesSubscribe() {
		asked[n] = true
		if s.all[r.GetTypeUrl()][n] != nil {
			names = append(names, n)
		}
	}
	if len(names) == 0 && known {
		return nil
	}
	return s.send(r.GetTypeUrl(), names)
}

// send sends resources; the caller holds mu.
func (s *server) send(typeURL string, names []string) error {
	s.nonce++
	out := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, Nonce: fmt.Sprint(s.nonce)}
	for _, n := range names {
		r := s.all[typeURL][n]
		out.Resources = append(out.Resources, &discoveryv3.Resource{
			Name: n, Version: r.Version, Resource: &anypb.Any{TypeUrl: typeURL, Value: r.Body},
		})
	}
	s.unacked[out.GetNonce()] = true
	s.sentBytes += proto.Size(out)
	s.sentResources += len(names)
	return s.stream.Send(out)
}

// replace serves other resources from now on, and sends what has changed of those that
// the proxy has asked for. Nothing is ever taken away.
func (s *server) replace(all resources) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.all
	s.all = all
	for _, typeURL := range order() {
		var names []string
		for n, r := range all[typeURL] {
			old := before[typeURL][n]
			if (old == nil || old.Version != r.Version) && (s.unasked(typeURL, n) || s.asked[typeURL][n]) {
				names = append(names, n)
			}
		}
		if len(names) == 0 {
			continue
		}
		slices.Sort(names)
		if err := s.send(typeURL, names); err != nil {
			return err
		}
	}
	return nil
}

// idle says whether the proxy has answered everything, and has asked for all routes and
// endpoints that there are.
func (s *server) idle() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused != nil {
		return false, s.refused
	}
	for _, typeURL := range []string{resource.EndpointType, resource.RouteType} {
		if s.onDemand && typeURL == resource.EndpointType {
			continue
		}
		for n := range s.all[typeURL] {
			if !s.asked[typeURL][n] {
				return false, nil
			}
		}
	}
	return len(s.unacked) == 0 && s.nonce > 0, nil
}

// reset returns what was sent since the last reset.
func (s *server) reset() (bytes, count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes, count = s.sentBytes, s.sentResources
	s.sentBytes, s.sentResources = 0, 0
	return bytes, count
}
