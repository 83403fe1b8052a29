package mesh

import (
	"maps"
	"reflect"
)

// State gathers facts and publishes Models. It is not safe for concurrent use.
//
// Each fact marks what depends on it; Publish makes these parts anew, compares them
// with what they were, and shares everything else with the Model before:
//
//	slice ──────────────> endpoints of its Service, and their ports for a headless one
//	service ──> itself, its endpoints, its ServiceAccounts, the classes of its pods
//	pod ──────> its workload and class, the ServiceAccounts of its Services
//	node ─────> the workloads that run there
type State struct {
	spaces   map[string]*space
	zones    map[string]string // of nodes
	onNode   map[string]keySet // pods by node
	policies policyTables
	settings Settings
	locality localityDemand

	marks marks
	last  *Model
	users map[string]int         // pods of each class
	runs  map[serviceAccount]int // pods of each ServiceAccount
}

type keySet = map[Key]struct{}

// marks are what Publish has to look at.
type marks struct {
	namespaces                map[string]struct{}
	services, endpoints, pods keySet
}

func newMarks() marks {
	return marks{namespaces: map[string]struct{}{}, services: keySet{}, endpoints: keySet{}, pods: keySet{}}
}

func (m *marks) clear() {
	clear(m.namespaces)
	clear(m.services)
	clear(m.endpoints)
	clear(m.pods)
}

// NewState returns a State without facts.
func NewState(settings Settings) *State {
	return &State{
		spaces: map[string]*space{}, zones: map[string]string{}, onNode: map[string]keySet{}, policies: newPolicyTables(),
		settings: settings, locality: newLocalityDemand(), marks: newMarks(), users: map[string]int{}, runs: map[serviceAccount]int{},
		last: &Model{
			Settings: settings, Namespaces: map[string]*Namespace{}, Services: map[Key]*Service{}, Endpoints: map[Key]*Endpoints{},
			Workloads: map[Key]*Workload{}, Classes: map[string]*Class{}, ServiceAccounts: map[Key][]serviceAccount{},
			Running:  map[serviceAccount]bool{},
			Policies: noPolicies(),
		},
	}
}

// Apply takes facts. What they point to is kept, and must not be changed afterwards.
func (s *State) Apply(facts ...Fact) {
	for _, f := range facts {
		f.apply(s)
	}
}

// Publish returns the Model of all facts, and what differs from the one before. If
// nothing does, it is the one before.
func (s *State) Publish() (*Model, Change) {
	change := Change{
		Endpoints: keySet{}, Services: keySet{}, Classes: map[string]struct{}{}, Workloads: keySet{},
		Settings: !reflect.DeepEqual(s.settings, s.last.Settings),
	}
	next := *s.last
	next.Settings = s.settings
	change.Namespaces = s.publishNamespaces(&next)
	change.Policies = s.publishPolicies(&next)
	s.publishServices(&next, change.Services)
	s.publishAccounts(&next, change.Services)
	s.publishEndpoints(&next, change.Endpoints)
	s.publishWorkloads(&next, change)
	s.marks.clear()
	if !change.Empty() {
		s.last = &next
	}
	return s.last, change
}

// publishNamespaces reports whether a namespace joined or left.
func (s *State) publishNamespaces(m *Model) bool {
	all := draftOf(m.Namespaces)
	for name := range s.marks.namespaces {
		switch monitored := s.monitored(name); {
		case monitored && all.get(name) == nil:
			all.put(name, &Namespace{Name: name})
		case !monitored && all.get(name) != nil:
			all.drop(name)
		}
	}
	m.Namespaces = all.now
	return all.edited
}

func (s *State) publishServices(m *Model, changed keySet) {
	all := draftOf(m.Services)
	for key := range s.marks.services {
		var now *Service
		if sp := s.spaces[key.Namespace]; sp.monitored {
			now = sp.serviceOf(key)
		}
		replace(&all, key, now, changed, sameService)
	}
	m.Services = all.now
}

func (s *State) publishAccounts(m *Model, changed keySet) {
	all := draftOf(m.ServiceAccounts)
	for key := range s.marks.services {
		var now []serviceAccount
		if sp := s.spaces[key.Namespace]; sp.monitored {
			now = sp.accountsOf(key)
		}
		if sameAccounts(all.get(key), now) {
			continue
		}
		changed[key] = struct{}{}
		if now == nil {
			all.drop(key)
			continue
		}
		all.put(key, now)
	}
	m.ServiceAccounts = all.now
}

func (s *State) publishEndpoints(m *Model, changed keySet) {
	all := draftOf(m.Endpoints)
	for key := range s.marks.endpoints {
		var now *Endpoints
		if sp := s.spaces[key.Namespace]; sp.monitored {
			now = sp.endpointsOf(key)
		}
		replace(&all, key, now, changed, sameEndpoints)
	}
	m.Endpoints = all.now
}

func (s *State) publishWorkloads(m *Model, change Change) {
	if s.locality.settle(s.monitored) {
		s.markMeshed()
	}
	workloads, classes := draftOf(m.Workloads), draftOf(m.Classes)
	made := map[string]*Class{}
	touched, moved := map[string]struct{}{}, map[serviceAccount]struct{}{}
	count := func(w *Workload, n int) {
		if w != nil {
			s.runs[w.ServiceAccount] += n
			moved[w.ServiceAccount] = struct{}{}
		}
		if w != nil && w.Class != "" {
			s.users[w.Class] += n
			touched[w.Class] = struct{}{}
		}
	}
	for key := range s.marks.pods {
		now := s.workloadOf(key, made)
		count(workloads.get(key), -1)
		count(now, 1)
		replace(&workloads, key, now, change.Workloads, sameWorkload)
	}
	for id := range touched {
		switch used, known := s.users[id] > 0, classes.get(id) != nil; {
		case used && !known:
			classes.put(id, made[id])
			change.Classes[id] = struct{}{}
		case !used && known:
			classes.drop(id)
			change.Classes[id] = struct{}{}
		}
		if s.users[id] == 0 {
			delete(s.users, id)
		}
	}
	m.Workloads, m.Classes = workloads.now, classes.now
	s.publishRunning(m, moved)
}

// publishRunning looks at the ServiceAccounts of pods that came or went.
func (s *State) publishRunning(m *Model, moved map[serviceAccount]struct{}) {
	all := draftOf(m.Running)
	for account := range moved {
		switch used, known := s.runs[account] > 0, m.Running[account]; {
		case used && !known:
			all.put(account, true)
		case !used && known:
			all.drop(account)
		}
		if s.runs[account] == 0 {
			delete(s.runs, account)
		}
	}
	m.Running = all.now
}

// draft is a map of a Model in the making: it is cloned before the first edit.
type draft[K comparable, V any] struct {
	now    map[K]V
	edited bool
}

func draftOf[K comparable, V any](published map[K]V) draft[K, V] { return draft[K, V]{now: published} }

func (d *draft[K, V]) get(k K) V { return d.now[k] }

func (d *draft[K, V]) put(k K, v V) {
	d.own()
	d.now[k] = v
}

func (d *draft[K, V]) drop(k K) {
	d.own()
	delete(d.now, k)
}

func (d *draft[K, V]) own() {
	if !d.edited {
		d.now, d.edited = maps.Clone(d.now), true
	}
}

// replace puts what is now, nil for nothing, unless it is the same as before.
func replace[V any](all *draft[Key, *V], key Key, now *V, changed keySet, same func(a, b *V) bool) {
	before := all.get(key)
	if before == now || before != nil && now != nil && same(before, now) {
		return
	}
	changed[key] = struct{}{}
	if now == nil {
		all.drop(key)
		return
	}
	all.put(key, now)
}
