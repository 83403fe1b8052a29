package mesh

import (
	"maps"
	"reflect"
)

func (f NamespaceFact) apply(s *State) {
	sp := s.space(f.Name)
	if sp.monitored == f.Monitored {
		return
	}
	sp.monitored = f.Monitored
	s.marks.namespaces[f.Name] = struct{}{}
	for key := range sp.services {
		s.markService(key)
	}
	for key := range sp.pods {
		s.marks.pods[key] = struct{}{}
	}
	s.policies.markAll()
}

func (f ServiceFact) apply(s *State) {
	sp := s.space(f.Key.Namespace)
	old := sp.services[f.Key]
	if old == nil && f.Service == nil || old != nil && f.Service != nil && sameService(old, f.Service) {
		return
	}
	s.markService(f.Key)
	s.markPodsOf(sp, f.Key)
	sp.setService(f.Key, f.Service)
	s.markPodsOf(sp, f.Key)
	s.locality.set(f.Key, f.Service)
}

func (f SliceFact) apply(s *State) {
	sp := s.space(f.Key.Namespace)
	old := sp.slices[f.Key]
	if old == nil && f.Slice == nil || old != nil && f.Slice != nil && reflect.DeepEqual(old, f.Slice) {
		return
	}
	if f.Slice != nil && f.Slice.Service.Namespace != f.Key.Namespace {
		f.Slice = nil // a slice speaks of a Service of its own namespace
	}
	if old != nil && f.Slice != nil && maps.Equal(old.Ports, f.Slice.Ports) && old.Service == f.Slice.Service {
		s.marks.endpoints[old.Service] = struct{}{}
	} else {
		s.markServiceOf(old)
		s.markServiceOf(f.Slice)
	}
	sp.setSlice(f.Key, f.Slice)
}

func (f PodFact) apply(s *State) {
	sp := s.space(f.Key.Namespace)
	old := sp.pods[f.Key]
	if old == nil && f.Pod == nil || old != nil && f.Pod != nil && reflect.DeepEqual(old, f.Pod) {
		return
	}
	s.marks.pods[f.Key] = struct{}{}
	s.markServicesOf(sp, f.Key)
	sp.setPod(f.Key, f.Pod)
	s.markServicesOf(sp, f.Key)
	if old != nil {
		unlink(s.onNode, old.Node, f.Key)
	}
	if f.Pod != nil && f.Pod.Node != "" {
		link(s.onNode, f.Pod.Node, f.Key)
	}
}

func (f NodeFact) apply(s *State) {
	if s.zones[f.Name] == f.Zone {
		return
	}
	if f.Zone == "" {
		delete(s.zones, f.Name)
	} else {
		s.zones[f.Name] = f.Zone
	}
	for key := range s.onNode[f.Name] {
		s.marks.pods[key] = struct{}{}
	}
}

func (f SettingsFact) apply(s *State) { s.settings = f.Settings }

func (s *State) space(name string) *space {
	sp := s.spaces[name]
	if sp == nil {
		sp = newSpace()
		s.spaces[name] = sp
	}
	return sp
}

func (s *State) monitored(namespace string) bool {
	sp := s.spaces[namespace]
	return sp != nil && sp.monitored
}

func (s *State) markService(key Key) {
	s.marks.services[key] = struct{}{}
	s.marks.endpoints[key] = struct{}{}
}

// markServiceOf marks the Service of a slice, whose ports it may tell.
func (s *State) markServiceOf(slice *Slice) {
	if slice != nil {
		s.markService(slice.Service)
	}
}

// markPodsOf marks the pods that a Service selects: it is a part of their classes.
func (s *State) markPodsOf(sp *space, service Key) {
	for pod := range sp.podsOf[service] {
		s.marks.pods[pod] = struct{}{}
	}
}

// markServicesOf marks the Services that select a pod: its account is one of theirs.
func (s *State) markServicesOf(sp *space, pod Key) {
	for service := range sp.servicesOf[pod] {
		s.marks.services[service] = struct{}{}
	}
}

// markMeshed marks all pods whose class depends on where they run.
func (s *State) markMeshed() {
	for _, sp := range s.spaces {
		for key, pod := range sp.pods {
			if pod.Meshed {
				s.marks.pods[key] = struct{}{}
			}
		}
	}
}

// link and unlink keep sets by a key, without empty ones.
func link[A comparable](sets map[A]keySet, a A, b Key) {
	if sets[a] == nil {
		sets[a] = keySet{}
	}
	sets[a][b] = struct{}{}
}

func unlink[A comparable](sets map[A]keySet, a A, b Key) {
	delete(sets[a], b)
	if len(sets[a]) == 0 {
		delete(sets, a)
	}
}
