package mesh

import (
	"maps"
	"reflect"
)

// State gathers facts and publishes Models. It is not safe for concurrent use.
// Facts of a namespace are joined again only when one of them changed; everything
// else of a Model is shared with the one before.
type State struct {
	monitored map[string]bool
	services  map[string]map[Key]*Service
	slices    map[string]map[Key]*Slice
	pods      map[string]map[Key]*Pod
	policies  Policies
	settings  Settings

	dirty                              map[string]struct{}
	policiesChanged, namespacesChanged bool
	last                               *Model
	classUsers                         map[string]int
}

// NewState returns a State without facts.
func NewState(settings Settings) *State {
	return &State{
		monitored: map[string]bool{}, services: map[string]map[Key]*Service{}, slices: map[string]map[Key]*Slice{},
		pods: map[string]map[Key]*Pod{}, settings: settings, dirty: map[string]struct{}{}, classUsers: map[string]int{},
		policies: emptyPolicies(), last: emptyModel(settings),
	}
}

func emptyPolicies() Policies {
	return Policies{}
}

func emptyModel(settings Settings) *Model {
	return &Model{
		Settings: settings, Namespaces: map[string]*Namespace{}, Services: map[Key]*Service{}, Endpoints: map[Key]*Endpoints{},
		Workloads: map[Key]*Workload{}, Classes: map[string]*Class{},
	}
}

// SetNamespace says whether a namespace belongs to the mesh.
func (s *State) SetNamespace(name string, monitored bool) {
	if s.monitored[name] == monitored {
		return
	}
	if monitored {
		s.monitored[name] = true
	} else {
		delete(s.monitored, name)
	}
	s.dirty[name] = struct{}{}
	s.namespacesChanged = true
}

// SetService adds or changes a Service; nil removes it.
func (s *State) SetService(key Key, service *Service) { put(s, s.services, key, service) }

// SetSlice adds or changes a part of a Service's endpoints; nil removes it.
func (s *State) SetSlice(key Key, slice *Slice) { put(s, s.slices, key, slice) }

// SetPod adds or changes a pod; nil removes it.
func (s *State) SetPod(key Key, pod *Pod) { put(s, s.pods, key, pod) }

// SetSettings changes the settings.
func (s *State) SetSettings(settings Settings) { s.settings = settings }

// put changes one fact, and marks its namespace if it differs.
func put[T any](s *State, facts map[string]map[Key]*T, key Key, value *T) {
	in := facts[key.Namespace]
	if value == nil {
		if _, ok := in[key]; !ok {
			return
		}
		delete(in, key)
	} else {
		if old, ok := in[key]; ok && reflect.DeepEqual(old, value) {
			return
		}
		if in == nil {
			in = map[Key]*T{}
			facts[key.Namespace] = in
		}
		in[key] = value
	}
	s.dirty[key.Namespace] = struct{}{}
}

// SetPolicy adds or changes a policy object of one of the maps of Policies; nil
// removes it. kind returns that map.
func SetPolicy[Spec any](s *State, kind func(*Policies) *map[Key]*Object[Spec], key Key, object *Object[Spec]) {
	current := kind(&s.policies)
	old, had := (*current)[key]
	if object == nil && !had {
		return
	}
	if object != nil && had && sameObject(old, object) {
		return
	}
	next := maps.Clone(*current)
	if next == nil {
		next = map[Key]*Object[Spec]{}
	}
	if object == nil {
		delete(next, key)
	} else {
		next[key] = object
	}
	*current = next
	s.policiesChanged = true
}

func sameObject[Spec any](a, b *Object[Spec]) bool {
	return a.UID == b.UID && a.Generation == b.Generation && reflect.DeepEqual(a.Spec, b.Spec)
}

// Publish returns the Model of all facts, and what differs from the one before. If
// nothing does, it is the one before.
func (s *State) Publish() (*Model, Change) {
	change := Change{
		Endpoints: map[Key]struct{}{}, Services: map[Key]struct{}{}, Classes: map[string]struct{}{}, Workloads: map[Key]struct{}{},
		Policies: s.policiesChanged, Settings: !reflect.DeepEqual(s.settings, s.last.Settings), Namespaces: s.namespacesChanged,
	}
	next := *s.last
	next.Settings, next.Policies = s.settings, s.ofMonitored()
	if len(s.dirty) > 0 {
		next.Namespaces = maps.Clone(next.Namespaces)
		next.Services = maps.Clone(next.Services)
		next.Endpoints = maps.Clone(next.Endpoints)
		next.Workloads = maps.Clone(next.Workloads)
		next.Classes = maps.Clone(next.Classes)
		next.ServiceAccounts = maps.Clone(next.ServiceAccounts)
		if next.ServiceAccounts == nil {
			next.ServiceAccounts = map[Key][]serviceAccount{}
		}
	}
	for name := range s.dirty {
		s.join(&next, name, &change)
	}
	clear(s.dirty)
	s.policiesChanged, s.namespacesChanged = false, false
	if change.Empty() {
		return s.last, change
	}
	s.last = &next
	return s.last, change
}

// ofMonitored returns the policies of the namespaces of the mesh.
func (s *State) ofMonitored() Policies {
	p := s.policies
	return Policies{
		TrafficTargets:          only(p.TrafficTargets, s.monitored),
		HTTPRouteGroups:         only(p.HTTPRouteGroups, s.monitored),
		TCPRoutes:               only(p.TCPRoutes, s.monitored),
		TrafficSplits:           only(p.TrafficSplits, s.monitored),
		Egresses:                only(p.Egresses, s.monitored),
		IngressBackends:         only(p.IngressBackends, s.monitored),
		Retries:                 p.Retries,
		UpstreamTrafficSettings: only(p.UpstreamTrafficSettings, s.monitored),
	}
}

func only[T any](all map[Key]*T, monitored map[string]bool) map[Key]*T {
	out := make(map[Key]*T, len(all))
	for k, v := range all {
		if monitored[k.Namespace] {
			out[k] = v
		}
	}
	return out
}
