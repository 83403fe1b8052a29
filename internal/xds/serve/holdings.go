package serve

import (
	"iter"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// holdings are what one proxy asked for by name of one kind, and what it has; protected
// by the stream's mu. What a proxy was last sent it has, whether it said so yet or not.
//
// Most proxies at most times asked for exactly what their class has, and have it as it is
// now. That is not written down for each: holdings that are like the offer hold only what
// differs from it. So a proxy that is up to date costs the same few bytes in a mesh of any
// size, and what is remembered of one grows with what it is owed.
type holdings struct {
	offer offer
	// like says that names and versions hold what differs from the offer only: a name
	// that names does not mention is asked for if the offer has it (of kinds that are
	// asked for by name), and one that versions does not mention is there as it is
	// offered, if the proxy wants it. Otherwise they hold all there is.
	like bool
	// bare says, of holdings that are like the offer, that the proxy has none of it yet but
	// what versions mention: it has just come, and is owed all of it at once.
	bare bool
	// asked says that the proxy asked for this kind on this stream, wildcard that it
	// wants all there is.
	asked, wildcard bool
	names           map[string]bool
	versions        map[string]version
	// count is how many names the proxy asks for.
	count int
}

// asks reports whether the proxy asked for a resource by name.
func (h *holdings) asks(name string) bool {
	if asked, ok := h.names[name]; ok {
		return asked
	}
	return h.presumed(name)
}

// presumed reports whether a name that names does not mention is asked for.
func (h *holdings) presumed(name string) bool {
	return h.like && !h.offer.kind.wildcard() && h.offer.has(name)
}

// wants reports whether the proxy asked for a resource, by name or with all others.
func (h *holdings) wants(name string) bool { return h.asked && (h.wildcard || h.asks(name)) }

// version returns what the proxy has of a resource.
func (h *holdings) version(name string) version {
	if v, ok := h.versions[name]; ok {
		return v
	}
	return h.offered(name)
}

// offered returns what the proxy has of a resource that versions does not mention.
func (h *holdings) offered(name string) version {
	if !h.like || h.bare || !h.wants(name) {
		return none
	}
	return h.offer.version(name)
}

// begin notes that a proxy that has nothing asks for these names, of a kind that is asked
// for by name, or that it asks for all there is.
func (h *holdings) begin(names []string) {
	h.like, h.bare = true, true
	if h.wildcard {
		return
	}
	asked := make(map[string]struct{}, len(names))
	for _, name := range names {
		asked[name] = struct{}{}
	}
	for name := range asked {
		h.note(name, true)
	}
	for name := range h.offer.all() {
		if _, ok := asked[name]; !ok {
			h.note(name, false)
		}
	}
	h.count = len(asked)
}

// given notes that the proxy was sent all of the offer but these names, where there is
// something of it: holdings that were bare are no more.
func (h *holdings) given(but []string) {
	if !h.bare {
		return
	}
	h.bare = false
	for _, name := range but {
		h.set(name, none)
	}
}

// set notes what the proxy has of a resource now.
func (h *holdings) set(name string, v version) {
	now := h.offered(name)
	if h.bare && h.wants(name) {
		now = h.offer.version(name) // as it will be taken to be, once all is given
	}
	if v == now && (v == none || h.bare) {
		delete(h.versions, name)
		return
	}
	h.keep(name, v)
}

// keep writes down what the proxy has of a resource.
func (h *holdings) keep(name string, v version) {
	if h.versions == nil {
		h.versions = map[string]version{}
	}
	h.versions[name] = v
}

// agree notes that the proxy accepted what it was sent of a resource: there is nothing to
// remember if that is what is offered.
func (h *holdings) agree(name string) {
	v, ok := h.versions[name]
	if !ok || !h.like {
		return
	}
	delete(h.versions, name)
	if h.version(name) != v {
		h.versions[name] = v
	}
	if len(h.versions) == 0 {
		h.versions = nil
	}
}

// ask notes that the proxy asks for a name.
func (h *holdings) ask(name string) {
	if !h.asks(name) {
		h.count++
	}
	h.note(name, true)
}

// unask notes that it no longer does.
func (h *holdings) unask(name string) {
	if h.asks(name) {
		h.count--
	}
	h.note(name, false)
}

// note writes down whether a name is asked for, where that is not presumed.
func (h *holdings) note(name string, asked bool) {
	if h.presumed(name) == asked {
		delete(h.names, name)
		return
	}
	if h.names == nil {
		h.names = map[string]bool{}
	}
	h.names[name] = asked
}

// asking yields the names that the proxy asks for, in no order.
func (h *holdings) asking() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name, asked := range h.names {
			if asked && !yield(name) {
				return
			}
		}
		if !h.like || h.offer.kind.wildcard() {
			return
		}
		for name := range h.offer.all() {
			if _, noted := h.names[name]; !noted && !yield(name) {
				return
			}
		}
	}
}

// held yields the names of what the proxy has or was told of, in no order.
func (h *holdings) held() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name, v := range h.versions {
			if v != none && !yield(name) {
				return
			}
		}
		if !h.like {
			return
		}
		for name := range h.offer.all() {
			if _, noted := h.versions[name]; !noted && h.offered(name) != none && !yield(name) {
				return
			}
		}
	}
}

// turn says that another set is offered from now on, which differs in these names.
func (h *holdings) turn(to *resource.Set, differs []string) {
	if !h.like {
		h.offer.set = to
		return
	}
	asked, had := make([]bool, len(differs)), make([]version, len(differs))
	for i, name := range differs {
		asked[i], had[i] = h.asks(name), h.version(name)
	}
	h.offer.set = to
	for i, name := range differs {
		h.note(name, asked[i])
		if h.version(name) != had[i] {
			h.set(name, had[i])
		}
	}
}

// outdate says that a load assignment was another one until now; nil for none.
func (h *holdings) outdate(name string, was *resource.Resource) {
	if _, noted := h.versions[name]; noted || !h.like || h.bare {
		return
	}
	old := none
	if was != nil {
		old = version(was.Version)
	}
	h.set(name, old)
}

// condense makes the holdings like the offer.
func (h *holdings) condense() {
	names, versions := h.names, h.versions
	h.names, h.versions, h.like = nil, nil, true
	for name := range names {
		h.note(name, true)
	}
	offered := 0
	for name, r := range h.offer.all() {
		if !names[name] {
			h.note(name, false)
		}
		v, has := versions[name]
		if has {
			offered++
		}
		now := none
		if r != nil && (h.wildcard || names[name]) {
			now = version(r.Version)
		}
		if v != now {
			h.keep(name, v)
		}
	}
	if offered == len(versions) {
		return
	}
	for name, v := range versions {
		if !h.offer.has(name) {
			h.keep(name, v)
		}
	}
}

// spread makes them hold all there is.
func (h *holdings) spread() {
	if !h.like {
		return
	}
	names, versions := map[string]bool{}, map[string]version{}
	for name := range h.asking() {
		names[name] = true
	}
	for name := range h.held() {
		versions[name] = h.version(name)
	}
	h.names, h.versions, h.like, h.bare = names, versions, false, false
}

// offer is what a class is sent of one kind.
type offer struct {
	kind  kind
	cache *Cache
	set   *resource.Set // nil until the class is compiled
}

// has reports whether the class is sent a resource, or would be if it were known.
func (o offer) has(name string) bool {
	switch {
	case o.set == nil:
		return false
	case o.kind == endpoints:
		return o.set.RefersTo(name)
	default:
		return o.set.Get(o.kind.url(), name) != nil
	}
}

// get returns a resource, nil if there is none, and false if that is not known yet.
func (o offer) get(name string) (*resource.Resource, bool) {
	switch {
	case o.set == nil:
		return nil, false
	case o.kind != endpoints:
		return o.set.Get(o.kind.url(), name), true
	case !o.set.RefersTo(name):
		return nil, true
	default:
		return o.cache.assignment(name)
	}
}

// version returns that of a resource.
func (o offer) version(name string) version {
	r, _ := o.get(name)
	if r == nil {
		return none
	}
	return version(r.Version)
}

// all yields the names of all of it, and what there is now, nil for a load assignment that
// is not known.
func (o offer) all() iter.Seq2[string, *resource.Resource] {
	return func(yield func(string, *resource.Resource) bool) {
		if o.set == nil {
			return
		}
		if o.kind == endpoints {
			for name := range o.set.References() {
				r, _ := o.cache.assignment(name)
				if !yield(name, r) {
					return
				}
			}
			return
		}
		for name, r := range o.set.All(o.kind.url()) {
			if !yield(name, r) {
				return
			}
		}
	}
}
