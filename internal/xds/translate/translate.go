// Package translate turns the intermediate representation into Envoy's resources:
// what one proxy must do goes in; listeners, routes, clusters and secrets come out,
// marshalled once, with the names of the load assignments that they refer to.
//
// One file is about one concept of Envoy's. The same representation gives the same
// bytes, and values that proxies share give the same *resource.Resource. Nothing is
// decided here about who may do what: where the representation allows nobody, so does
// Envoy, and where it is silent, Envoy refuses. The package knows neither Kubernetes
// nor the kinds of policies.
package translate

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// Translator remembers what it made of values that proxies share. It is safe for
// concurrent use.
type Translator struct {
	mu sync.Mutex
	// shared is what the rest of these fields was made with; protected by mu, like all of them.
	shared       *ir.Shared
	parts        *parts
	destinations map[*ir.Destination]*piece
	clusters     map[*ir.Cluster]*piece
	ports        map[portKey][]portPiece
	egresses     map[egressKey][]egressPiece
	outbounds    map[outboundKey][]outboundSet
	inbounds     map[string]inboundSet // by class
	// swept is the number of values that the last Retain left behind.
	swept int
}

// New returns a Translator that remembers nothing yet.
func New() *Translator { return &Translator{} }

// piece is what was made of one value: resources, and the load assignments that
// they refer to.
type piece struct {
	resources []*resource.Resource
	endpoints map[string][]ir.EndpointSet
}

func (p *piece) addTo(s *resource.Set) {
	for _, r := range p.resources {
		s.Add(r)
	}
	for n, sets := range p.endpoints {
		s.Refer(n, sets)
	}
}

// include takes over what another piece holds.
func (p *piece) include(other *piece) {
	p.resources = append(p.resources, other.resources...)
	for n, sets := range other.endpoints {
		p.use(n, sets)
	}
}

func (p *piece) use(n string, sets []ir.EndpointSet) {
	if p.endpoints == nil {
		p.endpoints = map[string][]ir.EndpointSet{}
	}
	p.endpoints[n] = sets
}

// Proxy returns all resources of one proxy class. An error says which of them
// cannot be made; the caller then keeps what it had.
func (t *Translator) Proxy(p *ir.Proxy) (*resource.Set, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.reset(p.Shared); err != nil {
		return nil, err
	}
	above, err := t.own(p)
	below, failed := t.common(p)
	if err = errors.Join(failed, err); err != nil {
		return nil, fmt.Errorf("translating for proxies of class %s: %w", p.Class, err)
	}
	return above.Over(below), nil
}

// reset forgets everything when the settings of all proxies change: they are in most
// of what is made. The caller holds mu.
func (t *Translator) reset(shared *ir.Shared) error {
	if shared == nil {
		return errors.New("a proxy without shared settings")
	}
	if t.shared == shared && t.parts != nil {
		return nil
	}
	made, err := newParts(shared)
	if err != nil {
		return fmt.Errorf("translating the settings of all proxies: %w", err)
	}
	t.shared, t.parts = shared, made
	t.destinations = map[*ir.Destination]*piece{}
	t.clusters = map[*ir.Cluster]*piece{}
	t.ports = map[portKey][]portPiece{}
	t.egresses = map[egressKey][]egressPiece{}
	t.outbounds, t.inbounds = map[outboundKey][]outboundSet{}, map[string]inboundSet{}
	t.swept = 0
	return nil
}

// Retain forgets what was made of values that none of these proxies holds any more, and
// layers that no set holds. It may be called after every compilation: but for layers it
// does nothing until what is remembered has doubled.
func (t *Translator) Retain(proxies iter.Seq[*ir.Proxy], held func(*resource.Layer) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, sets := range t.outbounds {
		t.outbounds[key] = slices.DeleteFunc(sets, func(o outboundSet) bool { return !held(o.made.Own()) })
		if len(t.outbounds[key]) == 0 {
			delete(t.outbounds, key)
		}
	}
	maps.DeleteFunc(t.inbounds, func(_ string, i inboundSet) bool { return !held(i.made.Own()) })
	const slack = 256
	if t.remembered() <= 2*t.swept+slack {
		return
	}
	destinations := map[*ir.Destination]struct{}{}
	clusters := map[*ir.Cluster]struct{}{}
	outside := map[*ir.EgressPort]struct{}{}
	for p := range proxies {
		for _, e := range p.Egress {
			outside[e] = struct{}{}
		}
		for _, d := range p.Outbound {
			if _, seen := destinations[d]; seen {
				continue
			}
			destinations[d] = struct{}{}
			for c := range clustersOf(d) {
				clusters[c] = struct{}{}
			}
		}
	}
	maps.DeleteFunc(t.destinations, func(d *ir.Destination, _ *piece) bool { _, ok := destinations[d]; return !ok })
	maps.DeleteFunc(t.clusters, func(c *ir.Cluster, _ *piece) bool { _, ok := clusters[c]; return !ok })
	for key, pieces := range t.ports {
		t.ports[key] = slices.DeleteFunc(pieces, func(p portPiece) bool {
			return slices.ContainsFunc(p.destinations, func(d *ir.Destination) bool { _, ok := destinations[d]; return !ok })
		})
	}
	for key, pieces := range t.egresses {
		t.egresses[key] = slices.DeleteFunc(pieces, func(p egressPiece) bool {
			return slices.ContainsFunc(p.ports, func(e *ir.EgressPort) bool { _, ok := outside[e]; return !ok })
		})
		if len(t.egresses[key]) == 0 {
			delete(t.egresses, key)
		}
	}
	t.swept = t.remembered()
}

// remembered counts what is remembered. The caller holds mu.
func (t *Translator) remembered() int {
	n := len(t.destinations) + len(t.clusters)
	for _, pieces := range t.ports {
		n += len(pieces)
	}
	for _, pieces := range t.egresses {
		n += len(pieces)
	}
	return n
}
