package lineage

import (
	"iter"
	"maps"
	"reflect"
)

// Derived is a map of values that are made when they are asked for, each by a function
// of its key and of what it reads.
type Derived[K comparable, V any] struct {
	graph *Graph
	from  func(K) V
	// asked says that values are asked for from outside of the graph: they stay until
	// they are dropped.
	asked    bool
	values   map[K]*entry[V]
	suspects map[K]struct{}
	made     int
}

// NewDerived returns a map of values that others of the graph are made of; what none is
// made of any more is forgotten.
func NewDerived[K comparable, V any](g *Graph, from func(K) V) *Derived[K, V] {
	return &Derived[K, V]{graph: g, from: from, values: map[K]*entry[V]{}}
}

// NewResults returns a map of values that are asked for from outside of the graph. They
// are those that were told to Keep.
func NewResults[K comparable, V any](g *Graph, from func(K) V) *Derived[K, V] {
	d := NewDerived(g, from)
	d.asked, d.suspects = true, map[K]struct{}{}
	return d
}

// Get returns the value of a key.
func (d *Derived[K, V]) Get(k K) V {
	e := d.value(k)
	d.graph.refresh(&e.node)
	d.graph.read(&e.node)
	switch {
	case d.asked:
		delete(d.suspects, k)
	case len(e.users) == 0:
		e.forget() // nobody in the graph has asked
		e.abandon()
	}
	return e.value
}

func (d *Derived[K, V]) value(k K) *entry[V] {
	if e := d.values[k]; e != nil {
		return e
	}
	e := &entry[V]{}
	e.suspect = true
	e.remake = func() bool {
		d.made++
		v := d.from(k)
		if e.checked > 0 && reflect.DeepEqual(e.value, v) {
			return false
		}
		e.value = v
		return true
	}
	if d.asked {
		e.warn = func() { d.suspects[k] = struct{}{} }
		d.suspects[k] = struct{}{}
	} else {
		e.forget = func() { delete(d.values, k) }
	}
	d.values[k] = e
	return e
}

// Keep says which keys are asked for from now on; values of others are dropped.
func (d *Derived[K, V]) Keep(keys iter.Seq[K]) {
	wanted := map[K]struct{}{}
	for k := range keys {
		wanted[k] = struct{}{}
		d.value(k)
	}
	for k, e := range d.values {
		if _, ok := wanted[k]; !ok {
			delete(d.values, k)
			delete(d.suspects, k)
			e.abandon()
		}
	}
}

// Suspects returns the keys of values that may be others than when they were last asked
// for.
func (d *Derived[K, V]) Suspects() iter.Seq[K] { return maps.Keys(maps.Clone(d.suspects)) }

// Made returns how many values were made, whether they came out the same or not.
func (d *Derived[K, V]) Made() int { return d.made }
