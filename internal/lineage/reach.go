package lineage

// Place is an entry of a table, or a derived value, in what it was read by. The zero
// Place is read by nobody.
type Place struct{ at *node }

// Place returns where an entry of the table is.
func (t *Table[K, V]) Place(k K) Place {
	if e := t.entries[k]; e != nil {
		return Place{&e.node}
	}
	return Place{}
}

// Reach finds which values of a Derived were made of something. It tells of the moment
// in which it was made: once anything is replaced or asked for, another is needed.
type Reach[K comparable] struct {
	results map[*node]K
	// known are the keys that are made of each node; those of nodes with one user are the
	// user's own.
	known map[*node][]K
}

// Reach returns what finds the values of d.
func (d *Derived[K, V]) Reach() *Reach[K] {
	r := &Reach[K]{results: make(map[*node]K, len(d.values)), known: map[*node][]K{}}
	for k, e := range d.values {
		r.results[&e.node] = k
	}
	return r
}

// From returns the keys of all values that were made of any of these places, however
// remotely, in no order. The slice must not be changed: what is read by the same values
// may share it.
func (r *Reach[K]) From(places ...Place) []K {
	var parts [][]K
	for _, p := range places {
		if p.at != nil {
			parts = append(parts, r.from(p.at))
		}
	}
	return union(parts)
}

func (r *Reach[K]) from(n *node) []K {
	if keys, ok := r.known[n]; ok {
		return keys
	}
	var parts [][]K
	if k, ok := r.results[n]; ok {
		parts = append(parts, []K{k})
	}
	for u := range n.users {
		parts = append(parts, r.from(u))
	}
	keys := union(parts)
	r.known[n] = keys
	return keys
}

// union puts slices together, each key once; one alone stays what it is.
func union[K comparable](parts [][]K) []K {
	var out []K
	var seen map[K]struct{}
	for _, part := range parts {
		switch {
		case len(part) == 0 || len(out) == len(part) && &out[0] == &part[0]:
			continue
		case out == nil:
			out = part
			continue
		case seen == nil:
			seen = make(map[K]struct{}, len(out)+len(part))
			for _, k := range out {
				seen[k] = struct{}{}
			}
			out = append(make([]K, 0, len(out)+len(part)), out...)
		}
		for _, k := range part {
			if _, twice := seen[k]; !twice {
				seen[k] = struct{}{}
				out = append(out, k)
			}
		}
	}
	return out
}
