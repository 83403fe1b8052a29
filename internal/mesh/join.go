package mesh

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

type serviceAccount = identity.ServiceAccount

// joined is what the facts of one namespace make.
type joined struct {
	services  map[Key]*Service
	endpoints map[Key]*Endpoints
	workloads map[Key]*Workload
	accounts  map[Key][]serviceAccount
	classes   map[string]*Class
}

// join makes the part of a Model that belongs to one namespace, and tells what changed.
func (s *State) join(m *Model, namespace string, change *Change) {
	var j joined
	if s.monitored[namespace] {
		j = s.joinNamespace(namespace)
		if m.Namespaces[namespace] == nil {
			m.Namespaces[namespace] = &Namespace{Name: namespace}
		}
	} else {
		delete(m.Namespaces, namespace)
	}
	s.countClasses(m, namespace, j, change)
	replace(m.Services, j.services, namespace, change.Services)
	replace(m.Endpoints, j.endpoints, namespace, change.Endpoints)
	replace(m.Workloads, j.workloads, namespace, change.Workloads)
	for key, accounts := range m.ServiceAccounts {
		if key.Namespace == namespace && !slices.Equal(accounts, j.accounts[key]) {
			change.Services[key] = struct{}{}
			delete(m.ServiceAccounts, key)
		}
	}
	for key, accounts := range j.accounts {
		if _, ok := m.ServiceAccounts[key]; !ok {
			change.Services[key] = struct{}{}
			m.ServiceAccounts[key] = accounts
		}
	}
}

// replace puts what a namespace has now into a map, keeping values that are equal.
func replace[T any](all, now map[Key]*T, namespace string, changed map[Key]struct{}) {
	for key := range all {
		if key.Namespace != namespace {
			continue
		}
		if _, ok := now[key]; !ok {
			delete(all, key)
			changed[key] = struct{}{}
		}
	}
	for key, value := range now {
		if old, ok := all[key]; ok && reflect.DeepEqual(old, value) {
			continue
		}
		all[key] = value
		changed[key] = struct{}{}
	}
}

// countClasses counts the pods of each class, since a class may have pods in one
// namespace only but is told of mesh-wide.
func (s *State) countClasses(m *Model, namespace string, j joined, change *Change) {
	for key, w := range m.Workloads {
		if key.Namespace == namespace && w.Class != "" {
			s.classUsers[w.Class]--
		}
	}
	for _, w := range j.workloads {
		if w.Class == "" {
			continue
		}
		s.classUsers[w.Class]++
		if m.Classes[w.Class] == nil {
			m.Classes[w.Class] = j.classes[w.Class]
			change.Classes[w.Class] = struct{}{}
		}
	}
	for id, users := range s.classUsers {
		if users <= 0 {
			delete(s.classUsers, id)
			delete(m.Classes, id)
			change.Classes[id] = struct{}{}
		}
	}
}

func (s *State) joinNamespace(namespace string) joined {
	j := joined{
		services: maps.Clone(s.services[namespace]), endpoints: map[Key]*Endpoints{}, workloads: map[Key]*Workload{},
		accounts: map[Key][]serviceAccount{}, classes: map[string]*Class{},
	}
	for key, service := range j.services {
		j.endpoints[key] = &Endpoints{Service: key}
		if selected := s.accountsOf(namespace, service); len(selected) > 0 {
			j.accounts[key] = selected
		}
	}
	for _, key := range sortedKeys(s.slices[namespace]) {
		slice := s.slices[namespace][key]
		service, endpoints := j.services[slice.Service], j.endpoints[slice.Service]
		if service != nil {
			endpoints.Items = append(endpoints.Items, endpointsOf(service, slice)...)
		}
	}
	for _, e := range j.endpoints {
		slices.SortStableFunc(e.Items, func(a, b Endpoint) int { return a.Address.Compare(b.Address) })
	}
	for key, pod := range s.pods[namespace] {
		if pod.Ended {
			continue
		}
		w := pod.Workload
		if w.Meshed {
			class := s.classOf(namespace, pod)
			w.Class = class.ID
			j.classes[class.ID] = class
		}
		j.workloads[key] = &w
	}
	return j
}

// accountsOf returns the ServiceAccounts of the running pods that a Service selects.
func (s *State) accountsOf(namespace string, service *Service) []serviceAccount {
	var out []serviceAccount
	for _, pod := range s.pods[namespace] {
		if !pod.Ended && selects(service, pod) {
			out = append(out, pod.ServiceAccount)
		}
	}
	slices.SortFunc(out, identity.Compare)
	return slices.Compact(out)
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

// classOf returns the class of a pod: all that decides what its proxy does.
func (s *State) classOf(namespace string, pod *Pod) *Class {
	c := &Class{ServiceAccount: pod.ServiceAccount, Metrics: pod.Scrape}
	for key, service := range s.services[namespace] {
		if !selects(service, pod) {
			continue
		}
		c.Services = append(c.Services, key)
		for _, port := range service.Ports {
			if number, ok := pod.NamedPorts[port.TargetPortName]; ok && port.TargetPortName != "" {
				if c.NamedPorts == nil {
					c.NamedPorts = map[string]uint16{}
				}
				c.NamedPorts[port.TargetPortName] = number
			}
		}
	}
	slices.SortFunc(c.Services, CompareKeys)
	raw, err := json.Marshal(c) // maps are written in the order of their keys
	if err != nil {
		raw = []byte(c.ServiceAccount.String())
	}
	sum := sha256.Sum256(raw)
	c.ID = c.ServiceAccount.Namespace + "/" + c.ServiceAccount.Name + "/" + hex.EncodeToString(sum[:6])
	return c
}

// endpointsOf returns the endpoints of a slice, with their ports by the Service's.
func endpointsOf(service *Service, slice *Slice) []Endpoint {
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

func sortedKeys[T any](m map[Key]T) []Key {
	return slices.SortedFunc(maps.Keys(m), CompareKeys)
}

// ProtocolOf decides what is spoken on a Service's port: by appProtocol, then by the
// prefix of the port's name, else HTTP. An appProtocol that is not known is passed as
// bytes.
func ProtocolOf(appProtocol, portName string) Protocol {
	switch strings.ToLower(appProtocol) {
	case "":
	case "http", "http1", "http2", "h2c", "grpc", "grpc-web", "ws", "kubernetes.io/h2c", "kubernetes.io/ws":
		return HTTP
	case "tcp-server-first":
		return TCPServerFirst
	default:
		return TCP
	}
	for _, p := range []struct {
		prefix   string
		protocol Protocol
	}{{"tcp-server-first-", TCPServerFirst}, {"http-", HTTP}, {"tcp-", TCP}, {"grpc-", HTTP}} {
		if strings.HasPrefix(portName, p.prefix) {
			return p.protocol
		}
	}
	return HTTP
}

// Older reports whether a policy object wins over another that speaks of the same
// thing: the older does, and of equals the one with the lesser key.
func Older[A, B any](a *Object[A], b *Object[B]) int {
	return cmp.Or(a.Created.Compare(b.Created), CompareKeys(a.Key, b.Key))
}
