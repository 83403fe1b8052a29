package mesh

import (
	"cmp"
	"maps"
	"slices"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

type serviceAccount = identity.ServiceAccount

// space is what is known of one namespace, and who selects whom in it.
type space struct {
	monitored bool
	services  map[Key]*Service
	slices    map[Key]*Slice
	pods      map[Key]*Pod

	slicesOf   map[Key]keySet   // slices by Service
	podsOf     map[Key]keySet   // pods by the Services that select them
	servicesOf map[Key]keySet   // Services by the pods that they select
	byLabel    map[label]keySet // Services by one label of their selector
	// labelled are pods by the value of a label, for those names that byLabel has, or has
	// had: a Service finds its pods without a look at all others.
	labelled map[string]map[string]keySet
}

// label is a label with its value.
type label struct{ name, value string }

func newSpace() *space {
	return &space{
		services: map[Key]*Service{}, slices: map[Key]*Slice{}, pods: map[Key]*Pod{},
		slicesOf: map[Key]keySet{}, podsOf: map[Key]keySet{}, servicesOf: map[Key]keySet{}, byLabel: map[label]keySet{},
		labelled: map[string]map[string]keySet{},
	}
}

func (sp *space) setService(key Key, now *Service) {
	old := sp.services[key]
	if now == nil {
		delete(sp.services, key)
	} else {
		sp.services[key] = now
	}
	if old != nil && now != nil && maps.Equal(old.Selector, now.Selector) {
		return
	}
	if old != nil {
		for pod := range sp.podsOf[key] {
			unlink(sp.servicesOf, pod, key)
		}
		delete(sp.podsOf, key)
		if l, ok := anchor(old.Selector); ok {
			unlink(sp.byLabel, l, key)
		}
	}
	if now == nil {
		return
	}
	if l, ok := anchor(now.Selector); ok {
		link(sp.byLabel, l, key)
		for pod := range sp.podsWith(l) {
			if selects(now, sp.pods[pod]) {
				link(sp.podsOf, key, pod)
				link(sp.servicesOf, pod, key)
			}
		}
	}
}

func (sp *space) setPod(key Key, now *Pod) {
	old := sp.pods[key]
	if now == nil {
		delete(sp.pods, key)
	} else {
		sp.pods[key] = now
	}
	if old != nil && now != nil && maps.Equal(old.Labels, now.Labels) {
		return
	}
	sp.label(key, old, now)
	for service := range sp.servicesOf[key] {
		unlink(sp.podsOf, service, key)
	}
	delete(sp.servicesOf, key)
	if now == nil {
		return
	}
	for name, value := range now.Labels {
		for service := range sp.byLabel[label{name, value}] {
			if selects(sp.services[service], now) {
				link(sp.podsOf, service, key)
				link(sp.servicesOf, key, service)
			}
		}
	}
}

// podsWith returns the pods that have a label.
func (sp *space) podsWith(l label) keySet {
	byValue := sp.labelled[l.name]
	if byValue == nil {
		byValue = map[string]keySet{}
		sp.labelled[l.name] = byValue
		for pod, p := range sp.pods {
			if value, ok := p.Labels[l.name]; ok {
				link(byValue, value, pod)
			}
		}
	}
	return byValue[l.value]
}

// label notes that a pod has other labels than before; either may be nil.
func (sp *space) label(key Key, old, now *Pod) {
	for name, byValue := range sp.labelled {
		if old != nil {
			if value, ok := old.Labels[name]; ok {
				unlink(byValue, value, key)
			}
		}
		if now != nil {
			if value, ok := now.Labels[name]; ok {
				link(byValue, value, key)
			}
		}
	}
}

func (sp *space) setSlice(key Key, now *Slice) {
	if old := sp.slices[key]; old != nil {
		unlink(sp.slicesOf, old.Service, key)
	}
	if now == nil {
		delete(sp.slices, key)
		return
	}
	sp.slices[key] = now
	link(sp.slicesOf, now.Service, key)
}

// anchor is the label of a selector that its Service is found by: the first by name.
// A Service without selector selects nothing.
func anchor(selector map[string]string) (label, bool) {
	if len(selector) == 0 {
		return label{}, false
	}
	name := slices.Min(slices.Collect(maps.Keys(selector)))
	return label{name, selector[name]}, true
}

// selects reports whether a Service selects a pod; one without selector selects none.
func selects(service *Service, pod *Pod) bool {
	if len(service.Selector) == 0 {
		return false
	}
	for k, v := range service.Selector {
		if got, ok := pod.Labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// accountsOf returns the ServiceAccounts of the running pods that a Service selects,
// nil if there are none.
func (sp *space) accountsOf(service Key) []serviceAccount {
	if sp.services[service] == nil {
		return nil
	}
	var out []serviceAccount
	for key := range sp.podsOf[service] {
		if pod := sp.pods[key]; !pod.Ended {
			out = append(out, pod.ServiceAccount)
		}
	}
	slices.SortFunc(out, identity.Compare)
	return slices.Compact(out)
}

// serviceOf returns a Service, a headless one with the ports of its endpoints; nil if
// there is none.
func (sp *space) serviceOf(key Key) *Service {
	service := sp.services[key]
	if service == nil || !service.Headless {
		return service
	}
	out := *service
	out.Ports = slices.Clone(service.Ports)
	for i := range out.Ports {
		p := &out.Ports[i]
		for name := range sp.slicesOf[key] {
			if number, ok := sp.slices[name].Ports[p.Name]; ok {
				p.PodPorts = append(p.PodPorts, number)
			}
		}
		slices.Sort(p.PodPorts)
		p.PodPorts = slices.Compact(p.PodPorts)
	}
	return &out
}

// endpointsOf merges the slices of a Service; nil if there is no such Service.
func (sp *space) endpointsOf(key Key) *Endpoints {
	service := sp.services[key]
	if service == nil {
		return nil
	}
	out := &Endpoints{Service: key}
	for name := range sp.slicesOf[key] {
		out.Items = append(out.Items, itemsOf(service, sp.slices[name])...)
	}
	slices.SortFunc(out.Items, compareEndpoints)
	// An address may be in two slices while it moves from one to the other: the better
	// one is believed.
	out.Items = slices.CompactFunc(out.Items, func(a, b Endpoint) bool {
		return a.Address == b.Address && maps.Equal(a.Ports, b.Ports)
	})
	return out
}

// itemsOf returns the endpoints of a slice, with their ports by the Service's.
func itemsOf(service *Service, slice *Slice) []Endpoint {
	ports := map[uint16]uint16{}
	for _, p := range service.Ports {
		if number, ok := slice.Ports[p.Name]; ok {
			ports[p.Number] = number
		}
	}
	var out []Endpoint
	for _, e := range slice.Endpoints {
		for _, address := range e.Addresses {
			out = append(out, Endpoint{
				Address: address, Ports: ports, Ready: e.Ready, Serving: e.Serving, Terminating: e.Terminating,
				Hostname: e.Hostname, Node: e.Node, Zone: e.Zone, ZoneHints: e.ZoneHints, Pod: e.Pod,
			})
		}
	}
	return out
}

// compareEndpoints orders endpoints completely: by address and ports, of equal ones
// the better first.
func compareEndpoints(a, b Endpoint) int {
	first := func(yes, other bool) int {
		switch {
		case yes == other:
			return 0
		case yes:
			return -1
		default:
			return 1
		}
	}
	return cmp.Or(
		a.Address.Compare(b.Address), comparePorts(a.Ports, b.Ports),
		first(a.Ready, b.Ready), first(a.Serving, b.Serving), first(!a.Terminating, !b.Terminating),
		CompareKeys(a.Pod, b.Pod), cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Zone, b.Zone),
		slices.Compare(a.ZoneHints, b.ZoneHints),
	)
}

func comparePorts(a, b map[uint16]uint16) int {
	if maps.Equal(a, b) {
		return 0
	}
	flat := func(m map[uint16]uint16) []uint16 {
		var out []uint16
		for _, k := range slices.Sorted(maps.Keys(m)) {
			out = append(out, k, m[k])
		}
		return out
	}
	return slices.Compare(flat(a), flat(b))
}
