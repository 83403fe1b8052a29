package serve

import (
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// version is that of a resource that a proxy has.
type version string

// Versions that are no hashes.
const (
	none      version = ""  // the proxy does not have it and need not be told
	absent    version = "-" // the proxy was told that there is no such resource
	uncertain version = "?" // what the proxy has is not known: it must be told
)

// subscription is what one proxy asked for of one kind, what it has, and what it is
// owed; protected by the stream's mu.
type subscription struct {
	holdings
	// rejected are versions that the proxy did not take and is not sent again.
	rejected map[string]version

	// dirty are names to look at when the next response is made; all looks at
	// everything. fresh says that what the proxy waits for is among them, greet that it
	// is owed a response even if there is nothing in it.
	dirty             map[string]struct{}
	all, fresh, greet bool
	since             time.Time // when the first of them became so
	// deferred are clusters that go once listeners and routes have changed.
	deferred map[string]struct{}
	// suspects are resources of a rejected response, sent one by one to find the culprit.
	suspects []string

	// listening says that the loop takes a response, queued that one is on its way to
	// it; flight is what was sent and not yet answered.
	listening, queued bool
	flight            *flight
	// waiting are closed once the subscription is idle.
	waiting []chan struct{}
}

// flight is a response that the proxy has not answered yet.
type flight struct {
	nonce string
	sent  []sent
	fresh bool
	since time.Time
}

// sent is a resource in a response: what the proxy had before, and has if it accepts.
type sent struct {
	name          string
	before, after version
}

// mark makes a resource be looked at.
func (b *subscription) mark(name string) {
	b.began()
	if b.dirty == nil {
		b.dirty = map[string]struct{}{}
	}
	b.dirty[name] = struct{}{}
}

// markAll makes everything be looked at.
func (b *subscription) markAll() {
	b.began()
	b.all = true
}

// began takes the time at which there came to be something to send.
func (b *subscription) began() {
	if !b.due() {
		b.since = time.Now()
	}
}

// owe makes a resource be sent, whatever the proxy has of it.
func (b *subscription) owe(name string) {
	b.set(name, uncertain)
	b.mark(name)
	b.fresh = true
}

// due reports whether there may be something to send.
func (b *subscription) due() bool {
	return b.all || b.greet || len(b.dirty) > 0 || len(b.suspects) > 0
}

// busy reports whether something is due or unanswered. Removals that wait do not count.
func (b *subscription) busy() bool {
	return b.asked && (b.due() || b.queued || b.flight != nil)
}

// pending counts what the proxy has not acknowledged.
func (b *subscription) pending() int {
	n := len(b.dirty) + len(b.deferred) + len(b.suspects) + len(b.rejected)
	if b.all || b.greet {
		n++
	}
	if b.flight != nil {
		n += max(1, len(b.flight.sent))
	}
	return n
}

// take takes what a request subscribes to and unsubscribes from. Names that a request
// mentions are answered, even if the proxy has the newest: it may have forgotten.
// Only the first request of a stream may tell what the proxy has from an earlier
// one, and only if it is to be believed.
func (b *subscription) take(k kind, req *discoveryv3.DeltaDiscoveryRequest, believe bool) {
	var initial map[string]string
	if !b.asked && believe {
		initial = req.GetInitialResourceVersions()
	}
	names := req.GetResourceNamesSubscribe()
	if !b.asked {
		names = b.greeted(k, names, initial)
	}
	b.asked = true
	for _, name := range names {
		if name == "*" && k.wildcard() {
			b.askAll(initial)
			continue
		}
		b.askFor(name, initial)
	}
	for _, name := range req.GetResourceNamesUnsubscribe() {
		if name == "*" && k.wildcard() {
			b.unaskAll()
			continue
		}
		b.unaskFor(name)
	}
}

// greeted takes the names of a stream's first request, and returns those that are left to take.
func (b *subscription) greeted(k kind, names []string, initial map[string]string) []string {
	switch {
	case k.wildcard() && len(names) == 0:
		b.askAll(initial)
	case !k.wildcard() && len(initial) == 0:
		b.begin(names)
		b.markAll()
		b.fresh = len(names) > 0
		return nil
	}
	return names
}

// askAll begins a wildcard subscription.
func (b *subscription) askAll(initial map[string]string) {
	if b.wildcard {
		return
	}
	b.spread()
	b.wildcard = true
	b.markAll()
	if len(initial)+len(b.names)+len(b.versions) == 0 {
		b.begin(nil)
	}
	for name, v := range initial {
		b.set(name, version(v))
	}
	// A proxy that starts waits for an answer, even if there is nothing for it.
	b.greet = len(b.versions) == 0
}

// unaskAll ends it.
func (b *subscription) unaskAll() {
	b.spread()
	b.wildcard = false
	for name := range b.versions {
		if !b.wants(name) {
			b.forget(name)
		}
	}
}

// askFor subscribes to a name.
func (b *subscription) askFor(name string, initial map[string]string) {
	b.ask(name)
	if v, ok := initial[name]; ok && b.version(name) != uncertain {
		b.set(name, version(v))
		b.mark(name)
		return
	}
	b.owe(name)
}

// unaskFor ends a subscription to a name. A proxy that has it by a wildcard as well is
// told what it now has.
func (b *subscription) unaskFor(name string) {
	if !b.asks(name) {
		return
	}
	b.unask(name)
	if b.wildcard {
		b.owe(name)
		return
	}
	b.forget(name)
}

// forget drops all that is known of a resource that the proxy has no use for.
func (b *subscription) forget(name string) {
	delete(b.versions, name)
	delete(b.rejected, name)
	delete(b.dirty, name)
	delete(b.deferred, name)
}

// rest does what there is to do for a subscription that is idle.
func (b *subscription) rest() {
	b.settle(false)
	if b.asked && !b.like && !b.busy() {
		b.condense()
	}
}

// settle closes what waits for the subscription, if it is idle.
func (b *subscription) settle(gone bool) {
	if gone || !b.busy() {
		for _, waiting := range b.waiting {
			close(waiting)
		}
		b.waiting = nil
	}
}
