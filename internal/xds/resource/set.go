package resource

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/openservicemesh/osm-operator/internal/ir"
)

// Set is all that one class of proxies is given: a layer of its own, and one that it may
// have in common with other classes. What is in its own is in place of what has the same
// type and name in the other.
type Set struct {
	own, shared *Layer
}

// NewSet returns a Set without contents.
func NewSet() *Set { return &Set{own: newLayer()} }

// Add puts a resource into the set's own layer while it is made, in place of one of the
// same type and name.
func (s *Set) Add(r *Resource) {
	byName, ok := s.own.resources[r.TypeURL]
	if !ok {
		byName = map[string]*Resource{}
		s.own.resources[r.TypeURL] = byName
	}
	byName[r.Name] = r
	s.own.inOrder.Delete(r.TypeURL)
}

// Refer adds a load assignment that clusters of the set's own layer refer to.
func (s *Set) Refer(name string, sets []ir.EndpointSet) { s.own.references[name] = sets }

// Over returns a set of this one's own layer and, below it, that of another. Both sets
// are done; neither is changed.
func (s *Set) Over(below *Set) *Set { return &Set{own: s.own, shared: below.own} }

// Get returns a resource of the set, nil if it has none of that type and name.
func (s *Set) Get(typeURL, name string) *Resource {
	for l := range s.Layers() {
		if r := l.resources[typeURL][name]; r != nil {
			return r
		}
	}
	return nil
}

// All yields the names and resources of a type, in no order.
func (s *Set) All(typeURL string) iter.Seq2[string, *Resource] {
	return func(yield func(string, *Resource) bool) {
		for n, r := range s.own.resources[typeURL] {
			if !yield(n, r) {
				return
			}
		}
		if s.shared == nil {
			return
		}
		for n, r := range s.shared.resources[typeURL] {
			if s.own.resources[typeURL][n] == nil && !yield(n, r) {
				return
			}
		}
	}
}

// Sorted returns the resources of a type in the order of their names.
func (s *Set) Sorted(typeURL string) []*Resource {
	own := s.own.sorted(typeURL)
	if s.shared == nil {
		return own
	}
	shared := s.shared.sorted(typeURL)
	if len(own) == 0 {
		return shared
	}
	out := make([]*Resource, 0, len(own)+len(shared))
	for _, r := range shared {
		for len(own) > 0 && own[0].Name < r.Name {
			out, own = append(out, own[0]), own[1:]
		}
		if len(own) > 0 && own[0].Name == r.Name {
			continue // the set's own is in its place
		}
		out = append(out, r)
	}
	return append(out, own...)
}

// Has reports whether there is any resource of a type.
func (s *Set) Has(typeURL string) bool {
	for range s.All(typeURL) {
		return true
	}
	return false
}

// References yields the load assignments that the clusters refer to, by name, in no
// order. Their contents change on a path of their own.
func (s *Set) References() iter.Seq2[string, []ir.EndpointSet] {
	return func(yield func(string, []ir.EndpointSet) bool) {
		for l := range s.Layers() {
			for n, sets := range l.references {
				if l != s.own && s.own.references[n] != nil {
					continue
				}
				if !yield(n, sets) {
					return
				}
			}
		}
	}
}

// RefersTo reports whether a cluster refers to a load assignment.
func (s *Set) RefersTo(name string) bool {
	for l := range s.Layers() {
		if _, ok := l.references[name]; ok {
			return true
		}
	}
	return false
}

// Layers yields the set's own layer, then the shared one, if there is one.
func (s *Set) Layers() iter.Seq[*Layer] {
	return func(yield func(*Layer) bool) {
		if yield(s.own) && s.shared != nil {
			yield(s.shared)
		}
	}
}

// Own returns the set's own layer.
func (s *Set) Own() *Layer { return s.own }

// Shared returns the layer that the set may have in common with others; nil if it has none.
func (s *Set) Shared() *Layer { return s.shared }

// Layer is a part of a Set. It is what accounts are kept by: sets by the thousand may
// hold the same.
type Layer struct {
	// resources are listeners, routes, clusters and secrets, by type URL, then name.
	resources map[string]map[string]*Resource
	// references are the load assignments that the clusters refer to, by name.
	references map[string][]ir.EndpointSet
	// inOrder are the resources by type in the order of their names, once somebody asked.
	inOrder sync.Map
}

// sorted returns the layer's resources of a type in the order of their names.
func (l *Layer) sorted(typeURL string) []*Resource {
	if known, ok := l.inOrder.Load(typeURL); ok {
		return known.([]*Resource) //nolint:forcetypeassert // nothing else is stored
	}
	out := slices.SortedFunc(maps.Values(l.resources[typeURL]), func(a, b *Resource) int { return strings.Compare(a.Name, b.Name) })
	l.inOrder.Store(typeURL, out)
	return out
}

func newLayer() *Layer {
	return &Layer{resources: map[string]map[string]*Resource{}, references: map[string][]ir.EndpointSet{}}
}

// References yields the load assignments that the layer's clusters refer to.
func (l *Layer) References() iter.Seq2[string, []ir.EndpointSet] {
	return func(yield func(string, []ir.EndpointSet) bool) {
		for n, sets := range l.references {
			if !yield(n, sets) {
				return
			}
		}
	}
}

// Difference returns the names of what is not the same in two layers, by type; of load
// assignments, those that only one of them refers to. A layer may be nil.
func Difference(a, b *Layer) map[string][]string {
	if a == b {
		return nil
	}
	if a == nil {
		a = newLayer()
	}
	if b == nil {
		b = newLayer()
	}
	out := map[string][]string{EndpointType: append(missing(a.references, b.references), missing(b.references, a.references)...)}
	for typeURL, before := range a.resources {
		after := b.resources[typeURL]
		out[typeURL] = missing(before, after)
		for name, r := range after {
			if was := before[name]; was != r && (was == nil || was.Version != r.Version) {
				out[typeURL] = append(out[typeURL], name)
			}
		}
	}
	for typeURL, after := range b.resources {
		if a.resources[typeURL] == nil {
			out[typeURL] = missing(after, nil)
		}
	}
	return out
}

// missing lists what is in one map and not in the other.
func missing[V any](in, from map[string]V) []string {
	var out []string
	for name := range in {
		if _, ok := from[name]; !ok {
			out = append(out, name)
		}
	}
	return out
}
