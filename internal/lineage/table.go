package lineage

import "reflect"

// Table is a map of facts. What is read of it is noted, also that there is no entry.
type Table[K comparable, V any] struct {
	graph   *Graph
	same    func(a, b V) bool
	now     map[K]V
	entries map[K]*entry[V]
}

// entry is what somebody has read of a table.
type entry[V any] struct {
	node
	value V
}

// NewTable returns an empty table; same compares entries completely.
func NewTable[K comparable, V any](g *Graph, same func(a, b V) bool) *Table[K, V] {
	return &Table[K, V]{graph: g, same: same, entries: map[K]*entry[V]{}}
}

// Same compares values of any type, as deep as they are.
func Same[V any](a, b V) bool { return reflect.DeepEqual(a, b) }

// Get returns an entry, the zero value if there is none.
func (t *Table[K, V]) Get(k K) V {
	e := t.entries[k]
	if e == nil {
		e = &entry[V]{value: t.now[k]}
		e.forget = func() { delete(t.entries, k) }
		if len(t.graph.making) == 0 {
			return e.value
		}
		t.entries[k] = e
	}
	t.graph.read(&e.node)
	return e.value
}

// Replace puts other facts in place of all. The map is kept, and must not be changed
// afterwards. An entry that is the same as before stays the one that it was.
func (t *Table[K, V]) Replace(now map[K]V) {
	if reflect.ValueOf(t.now).UnsafePointer() == reflect.ValueOf(now).UnsafePointer() {
		return
	}
	t.now = now
	for k, e := range t.entries {
		if v := now[k]; !t.same(e.value, v) {
			e.value, e.changed = v, t.graph.revision
			e.suspectUsers()
		}
	}
}

// Value is a single fact.
type Value[V any] struct {
	table *Table[struct{}, V]
}

// NewValue returns the zero value.
func NewValue[V any](g *Graph) *Value[V] { return &Value[V]{NewTable[struct{}](g, Same[V])} }

// Get returns the value.
func (v *Value[V]) Get() V { return v.table.Get(struct{}{}) }

// Set puts another in its place.
func (v *Value[V]) Set(now V) { v.table.Replace(map[struct{}]V{{}: now}) }
