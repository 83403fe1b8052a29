package serve_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

// model is what is set, and what proxies that follow the protocol must come to have.
type model struct {
	h      *harness
	t      *testing.T
	prefix string // makes the names of one case its own
	sets   map[string]*resource.Set
	shared map[string]*resource.Resource
	unset  map[string]bool // load assignments of which nothing is known
	all    []*proxy
}

// proxy is a proxy that accepts what is good and rejects what is bad.
type proxy struct {
	*client
	pod
	asked map[string]bool
	names map[string]map[string]bool
}

// TestProxiesComeToHaveWhatIsSet does anything in any order: it sets and deletes
// classes and load assignments, good and bad ones, moves pods between classes, and
// lets proxies subscribe, unsubscribe, answer late, reject, and connect again.
func TestProxiesComeToHaveWhatIsSet(t *testing.T) {
	t.Parallel()
	h := start(t, limits(serve.Limits{RequestRate: 100_000, RequestBurst: 100_000, ResponseBytes: 60}))
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		m := &model{h: h, t: t, prefix: fmt.Sprintf("%d-", n), sets: map[string]*resource.Set{}, shared: map[string]*resource.Resource{}, unset: map[string]bool{}}
		for i := range 2 {
			p := &proxy{pod: h.pod(fmt.Sprintf("%s%d", m.prefix, i), m.prefix+"a")}
			m.all = append(m.all, p)
			m.connect(p, nil)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"set a class":         m.setClass,
			"set it again":        m.setClass,
			"delete a class":      m.deleteClass,
			"set endpoints":       m.setShared,
			"set them again":      m.setShared,
			"move a pod":          m.move,
			"subscribe":           m.subscribe,
			"subscribe more":      m.subscribe,
			"unsubscribe":         m.unsubscribe,
			"connect again":       m.reconnect,
			"answer what arrived": m.answer,
		})
		for _, p := range m.all {
			m.askForAll(p)
			m.settle(rt, p)
			m.check(rt, p)
			p.close()
		}
	})
}

var (
	versions = []string{"1", "2", "3", "bad 1", "bad 2"}
	names    = []string{"a", "b", "c", "d"}
	types    = []string{cds, eds, sds, lds, rds}
)

func bad(version string) bool { return strings.HasPrefix(version, "bad") }

func (m *model) name(rt *rapid.T) string { return m.prefix + rapid.SampledFrom(names).Draw(rt, "name") }

func (m *model) class(rt *rapid.T) string {
	return m.prefix + rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "class")
}

func (m *model) proxy(rt *rapid.T) *proxy {
	return m.all[rapid.IntRange(0, len(m.all)-1).Draw(rt, "proxy")]
}

func (m *model) setClass(rt *rapid.T) {
	var all []*resource.Resource
	for _, typeURL := range []string{cds, sds, lds, rds} {
		for _, n := range names {
			version := rapid.SampledFrom(append([]string{""}, versions...)).Draw(rt, n)
			switch {
			case version == "":
			case typeURL == cds:
				all = append(all, cluster(m.t, m.prefix+n, version, m.prefix+rapid.SampledFrom(names).Draw(rt, "endpoints")))
			default:
				all = append(all, other(typeURL, m.prefix+n, version))
			}
		}
	}
	id := m.class(rt)
	s := set(m.t, all...)
	if rapid.Bool().Draw(rt, "with other endpoints") {
		s.Refer(m.name(rt), []ir.EndpointSet{})
	}
	if other := m.sets[m.class(rt)]; other != nil && rapid.Bool().Draw(rt, "with a layer of another class") {
		s = s.Over(other)
	}
	m.sets[id] = s
	m.h.cache.SetClass(id, s)
}

func (m *model) deleteClass(rt *rapid.T) {
	id := m.class(rt)
	delete(m.sets, id)
	m.h.cache.DeleteClass(id)
}

func (m *model) setShared(rt *rapid.T) {
	name, version := m.name(rt), rapid.SampledFrom(append([]string{""}, versions...)).Draw(rt, "version")
	if version == "" {
		m.shared[name] = nil
		m.h.cache.SetShared(name, nil)
		return
	}
	m.shared[name] = endpointsOf(name, version)
	m.h.cache.SetShared(name, m.shared[name])
}

func (m *model) move(rt *rapid.T) {
	p := m.proxy(rt)
	p.class = m.class(rt)
	m.h.mu.Lock()
	m.h.pods[p.uid] = p.pod
	m.h.mu.Unlock()
	// A proxy whose first request was not taken yet is looked up in its new class.
	p.ask("type.googleapis.com/probe", "probe")
	for r := p.next(rt); r.GetTypeUrl() != "type.googleapis.com/probe"; r = p.next(rt) {
		p.take(rt, r)
	}
	m.h.cache.Move(p.uid, p.class)
}

func (m *model) subscribe(rt *rapid.T) {
	p, typeURL := m.proxy(rt), rapid.SampledFrom(types).Draw(rt, "type")
	wildcard := typeURL == cds || typeURL == lds
	if wildcard {
		if !p.asked[typeURL] {
			p.asked[typeURL] = true
			p.ask(typeURL)
		}
		return
	}
	var some []string
	for range rapid.IntRange(1, 3).Draw(rt, "count") {
		name := m.name(rt)
		p.names[typeURL][name] = true
		some = append(some, name)
	}
	p.asked[typeURL] = true
	p.ask(typeURL, some...)
}

func (m *model) unsubscribe(rt *rapid.T) {
	p, typeURL := m.proxy(rt), rapid.SampledFrom([]string{eds, sds, rds}).Draw(rt, "type")
	if len(p.names[typeURL]) == 0 {
		rt.Skip("it asked for nothing")
	}
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(p.names[typeURL]))).Draw(rt, "name")
	delete(p.names[typeURL], name)
	delete(p.has[typeURL], name)
	p.unask(typeURL, name)
}

func (m *model) reconnect(rt *rapid.T) {
	p := m.proxy(rt)
	p.close()
	m.connect(p, rt)
}

// connect opens a stream; one that is not the first bears what the proxy has, or not.
func (m *model) connect(p *proxy, rt *rapid.T) {
	old := p.client
	p.client = m.h.connect(m.t, p.pod)
	if old == nil {
		p.asked, p.names = map[string]bool{}, map[string]map[string]bool{eds: {}, sds: {}, rds: {}}
		return
	}
	if rapid.Bool().Draw(rt, "with versions") {
		p.has = old.has
	}
	for _, typeURL := range types {
		if p.asked[typeURL] && rapid.Bool().Draw(rt, "at once") {
			p.resume(typeURL, p.has[typeURL], slices.Sorted(maps.Keys(p.names[typeURL]))...)
		} else {
			// It forgets, and may ask later.
			p.asked[typeURL] = false
			p.has[typeURL] = map[string]string{}
			if p.names[typeURL] != nil {
				p.names[typeURL] = map[string]bool{}
			}
		}
	}
}

func (m *model) answer(rt *rapid.T) {
	p := m.proxy(rt)
	for {
		select {
		case r := <-p.got:
			p.take(rt, r)
		default:
			return
		}
	}
}

// take accepts a response, or rejects all of it and keeps some.
func (p *proxy) take(rt *rapid.T, r *discoveryv3.DeltaDiscoveryResponse) {
	if strings.HasSuffix(r.GetTypeUrl(), "/probe") {
		return
	}
	unsubscribed := func(name string) bool {
		wanted, named := p.names[r.GetTypeUrl()]
		return named && !wanted[name]
	}
	var rejected []string
	for _, x := range r.GetResources() {
		switch {
		case unsubscribed(x.GetName()): // it was on its way
		case bad(contents(rt, x)):
			rejected = append(rejected, x.GetName())
		}
	}
	for _, x := range r.GetResources() {
		if unsubscribed(x.GetName()) || slices.Contains(rejected, x.GetName()) {
			continue
		}
		if len(rejected) == 0 || rapid.Bool().Draw(rt, "keeps it") {
			p.has[r.GetTypeUrl()][x.GetName()] = x.GetVersion()
		}
	}
	for _, name := range r.GetRemovedResources() {
		delete(p.has[r.GetTypeUrl()], name)
	}
	if len(rejected) > 0 {
		p.nack(r, strings.Join(rejected, ","))
		return
	}
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
}

// contents returns the version that a test gave to a resource.
func contents(rt *rapid.T, x *discoveryv3.Resource) string {
	if x.GetResource().GetTypeUrl() != cds {
		return x.GetVersion()
	}
	var c clusterv3.Cluster
	if err := unmarshal(x.GetResource().GetValue(), &c); err != nil {
		rt.Fatal(err)
	}
	return c.GetAltStatName()
}

// askForAll asks for what others wait for: a proxy that came with some of what it has gets
// listeners and routes once it has asked for clusters, and clusters go once it has asked
// for those.
func (m *model) askForAll(p *proxy) {
	if !p.asked[cds] {
		p.asked[cds] = true
		p.ask(cds)
	}
	if !p.asked[lds] {
		p.asked[lds] = true
		p.ask(lds)
	}
	if !p.asked[rds] {
		p.asked[rds], p.names[rds][m.prefix+"a"] = true, true
		p.ask(rds, m.prefix+"a")
	}
}

// settle lets a proxy answer until nothing more comes.
func (m *model) settle(rt *rapid.T, p *proxy) {
	for quiet := false; !quiet; {
		p.ask("type.googleapis.com/probe", "probe")
		quiet = true
		for r := p.next(rt); !strings.HasSuffix(r.GetTypeUrl(), "/probe"); r = p.next(rt) {
			p.take(rt, r)
			quiet = false
		}
	}
}

// check compares what a proxy has with what it should have.
func (m *model) check(rt *rapid.T, p *proxy) {
	s := m.sets[p.class]
	if s == nil {
		return // it keeps what it had
	}
	rejecting := false
	for _, typeURL := range types {
		if !p.asked[typeURL] {
			continue
		}
		wanted := maps.Keys(maps.Collect(s.All(typeURL)))
		if p.names[typeURL] != nil {
			wanted = maps.Keys(p.names[typeURL])
		}
		known := map[string]bool{}
		for name := range wanted {
			known[name] = true
			r, sure := m.current(s, typeURL, name)
			has := p.has[typeURL][name]
			switch {
			case !sure:
			case r == nil && has != "":
				rt.Errorf("%s has %s of %s, which is not there", p.uid, has, name)
			case r == nil:
			case bad(contents(rt, &discoveryv3.Resource{Version: r.Version, Resource: anyOf(r)})):
				rejecting = true
				if has == r.Version {
					rt.Errorf("%s has %s, which it rejected", p.uid, name)
				}
			case has != r.Version:
				rt.Errorf("%s has %q of %s %s, want %q", p.uid, has, typeURL, name, r.Version)
			}
		}
		for name := range p.has[typeURL] {
			if !known[name] {
				rt.Errorf("%s has %s %s, which is not there", p.uid, typeURL, name)
			}
		}
	}
	for _, state := range m.h.server.Proxies() {
		if state.PodUID == p.uid && (state.Rejected != nil) != rejecting {
			rt.Errorf("%s rejects something: %t, the server says %+v: %+v", p.uid, rejecting, state, state.Rejected)
		}
	}
}

// current returns what a class has of a name, and whether that is known at all.
func (m *model) current(s *resource.Set, typeURL, name string) (*resource.Resource, bool) {
	if typeURL != eds {
		return s.Get(typeURL, name), true
	}
	if !s.RefersTo(name) {
		return nil, true
	}
	r := m.shared[name]
	return r, r != nil // without one, it was removed or never set
}
