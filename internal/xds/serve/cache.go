package serve

import (
	"context"
	"maps"
	"sync"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// Cache holds what proxies are sent, and knows which streams a change concerns. Its
// methods return once the streams are marked; none of them waits for a proxy. It is
// safe for concurrent use.
type Cache struct {
	mu sync.Mutex
	// Protected by mu, which is held while streams are marked, so that all of them see
	// changes in one order. A stream's own lock comes after it.
	classes map[string]*class
	holders map[*resource.Layer]map[*class]struct{} // the classes whose sets hold a layer
	users   map[string]map[*resource.Layer]struct{} // the layers that refer to a load assignment
	places  map[string]map[*stream]*class           // where the streams of a pod are
	// compared is how layers differ that are in place of others for many classes at once.
	compared map[replaced]map[string][]string

	// sharedMu comes after all other locks.
	sharedMu sync.RWMutex
	// shared are the load assignments; nil for one that was removed while classes still
	// refer to it. Protected by sharedMu, and written with mu held as well.
	shared map[string]*resource.Resource
}

// replaced is a layer in place of another; either may be nil.
type replaced struct{ before, after *resource.Layer }

// class is what the proxies of a class are sent; protected by the cache's mu.
type class struct {
	id string
	// set is nil until the class is compiled.
	set     *resource.Set
	streams map[*stream]struct{}
}

// NewCache returns a Cache that holds nothing.
func NewCache() *Cache {
	return &Cache{
		classes:  map[string]*class{},
		holders:  map[*resource.Layer]map[*class]struct{}{},
		users:    map[string]map[*resource.Layer]struct{}{},
		places:   map[string]map[*stream]*class{},
		shared:   map[string]*resource.Resource{},
		compared: map[replaced]map[string][]string{},
	}
}

// SetClass says what the proxies of a class are sent, in place of what it was. The
// set is kept: it must not be changed afterwards.
func (c *Cache) SetClass(id string, set *resource.Set) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.class(id)
	changed := c.difference(cl.set, set)
	c.refer(cl, set)
	for s := range cl.streams {
		s.update(id, set, changed)
	}
}

// DeleteClass forgets a class. Proxies that are still of it keep what they have.
func (c *Cache) DeleteClass(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl, ok := c.classes[id]
	if !ok {
		return
	}
	c.refer(cl, nil)
	for s := range cl.streams {
		s.update(id, nil, change{})
	}
	c.drop(cl)
}

// SetShared says what a load assignment is for all classes that refer to it. With
// nil it is gone: those who ask are told that there is none, which Envoy takes as no
// endpoints for a new cluster, while it leaves those of a present one as they are. So
// a service without endpoints needs an empty load assignment, not nil. A load
// assignment that was never set keeps those who ask for it waiting.
func (c *Cache) SetShared(name string, r *resource.Resource) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, changed := c.putShared(name, r)
	if !changed {
		return
	}
	for layer := range c.users[name] {
		for cl := range c.holders[layer] {
			for s := range cl.streams {
				s.touch(name, was)
			}
		}
	}
}

// putShared returns what was there, and whether that changes anything. The caller holds mu.
func (c *Cache) putShared(name string, r *resource.Resource) (was *resource.Resource, changed bool) {
	c.sharedMu.Lock()
	defer c.sharedMu.Unlock()
	was, known := c.shared[name]
	switch {
	case r == nil && len(c.users[name]) == 0:
		delete(c.shared, name)
		return was, false
	case known && was == nil && r == nil, was != nil && r != nil && was.Version == r.Version:
		return was, false
	}
	c.shared[name] = r
	return was, true
}

// assignment returns a load assignment, and whether it was ever set.
func (c *Cache) assignment(name string) (*resource.Resource, bool) {
	c.sharedMu.RLock()
	defer c.sharedMu.RUnlock()
	r, ok := c.shared[name]
	return r, ok
}

// Move says that a pod is of another class now, as when a service begins to select
// it. It does nothing for a pod whose proxy is not connected here.
func (c *Cache) Move(podUID, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	to := c.class(id)
	for s, from := range c.places[podUID] {
		if from == to {
			continue
		}
		c.leave(s, from)
		c.join(s, podUID, to)
	}
	c.drop(to)
}

// Settled returns when every proxy of these classes has acknowledged, or rejected,
// all resources of a type that it was owed when Settled was called, or has gone. An
// endpoint of a new ServiceAccount waits for this before it is announced.
func (c *Cache) Settled(ctx context.Context, typeURL string, classes ...string) error {
	k, ok := kindOf(typeURL)
	if !ok {
		return nil
	}
	for _, settled := range c.unsettled(k, classes) {
		select {
		case <-settled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (c *Cache) unsettled(k kind, ids []string) []<-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []<-chan struct{}
	for _, id := range ids {
		cl, ok := c.classes[id]
		if !ok {
			continue
		}
		for s := range cl.streams {
			if settled := s.settled(k); settled != nil {
				out = append(out, settled)
			}
		}
	}
	return out
}

// attach puts a stream of a pod into a class.
func (c *Cache) attach(s *stream, podUID, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.join(s, podUID, c.class(id))
}

// detach takes a stream out.
func (c *Cache) detach(s *stream, podUID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from, ok := c.places[podUID][s]; ok {
		c.leave(s, from)
	}
	delete(c.places[podUID], s)
	if len(c.places[podUID]) == 0 {
		delete(c.places, podUID)
	}
}

// join puts a stream into a class; the caller holds mu.
func (c *Cache) join(s *stream, podUID string, to *class) {
	if c.places[podUID] == nil {
		c.places[podUID] = map[*stream]*class{}
	}
	c.places[podUID][s] = to
	to.streams[s] = struct{}{}
	s.update(to.id, to.set, change{all: true})
}

// leave takes a stream out of a class; the caller holds mu.
func (c *Cache) leave(s *stream, from *class) {
	delete(from.streams, s)
	c.drop(from)
}

// class returns the class of that name, new if there is none; the caller holds mu.
func (c *Cache) class(id string) *class {
	cl, ok := c.classes[id]
	if !ok {
		cl = &class{id: id, streams: map[*stream]struct{}{}}
		c.classes[id] = cl
	}
	return cl
}

// drop forgets a class of nothing and nobody; the caller holds mu.
func (c *Cache) drop(cl *class) {
	if cl.set == nil && len(cl.streams) == 0 {
		delete(c.classes, cl.id)
	}
}

// refer puts a set into a class and keeps account of who refers to which load
// assignment; the caller holds mu.
func (c *Cache) refer(cl *class, set *resource.Set) {
	old := cl.set
	cl.set = set
	if set != nil {
		for layer := range set.Layers() {
			c.hold(cl, layer)
		}
	}
	if old == nil {
		return
	}
	for layer := range old.Layers() {
		if set == nil || layer != set.Own() && layer != set.Shared() {
			c.letGo(cl, layer)
		}
	}
}

// hold notes that a class has a layer; the caller holds mu.
func (c *Cache) hold(cl *class, layer *resource.Layer) {
	if c.holders[layer] == nil {
		c.holders[layer] = map[*class]struct{}{}
		for name := range layer.References() {
			if c.users[name] == nil {
				c.users[name] = map[*resource.Layer]struct{}{}
			}
			c.users[name][layer] = struct{}{}
		}
	}
	c.holders[layer][cl] = struct{}{}
}

// letGo notes that a class no longer has a layer; the caller holds mu.
func (c *Cache) letGo(cl *class, layer *resource.Layer) {
	delete(c.holders[layer], cl)
	if len(c.holders[layer]) > 0 {
		return
	}
	delete(c.holders, layer)
	maps.DeleteFunc(c.compared, func(pair replaced, _ map[string][]string) bool { return pair.before == layer || pair.after == layer })
	for name := range layer.References() {
		delete(c.users[name], layer)
		if len(c.users[name]) == 0 {
			delete(c.users, name)
			c.forgetRemoved(name)
		}
	}
}

// forgetRemoved forgets that a load assignment was removed, once nobody refers to it.
func (c *Cache) forgetRemoved(name string) {
	c.sharedMu.Lock()
	defer c.sharedMu.Unlock()
	if r, ok := c.shared[name]; ok && r == nil {
		delete(c.shared, name)
	}
}

// change is what differs between two sets: names by kind, or everything.
type change struct {
	all   bool
	names [kinds][]string
}

// difference compares two sets; an unknown one differs in everything. The caller holds mu.
func (c *Cache) difference(old, set *resource.Set) change {
	if old == nil || set == nil {
		return change{all: true}
	}
	var out change
	for _, names := range []map[string][]string{resource.Difference(old.Own(), set.Own()), c.compare(old.Shared(), set.Shared())} {
		for k := range kind(kinds) {
			for _, name := range names[k.url()] {
				if differs(k, name, old, set) {
					out.names[k] = append(out.names[k], name)
				}
			}
		}
	}
	return out
}

// compare compares two shared layers, once for all classes that have both one after the
// other. The caller holds mu.
func (c *Cache) compare(before, after *resource.Layer) map[string][]string {
	pair := replaced{before, after}
	names, known := c.compared[pair]
	if !known {
		names = resource.Difference(before, after)
		c.compared[pair] = names
	}
	return names
}

// differs reports whether a name means something else in another set.
func differs(k kind, name string, old, set *resource.Set) bool {
	if k == endpoints {
		return old.RefersTo(name) != set.RefersTo(name)
	}
	before, after := old.Get(k.url(), name), set.Get(k.url(), name)
	return before != after && (before == nil || after == nil || before.Version != after.Version)
}
