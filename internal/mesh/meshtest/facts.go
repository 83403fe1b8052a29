// Package meshtest makes Models for tests from facts in short form: Services, pods and
// policy objects go in, from Go or from YAML, a Model comes out, with endpoints, classes
// and ServiceAccounts that follow from them. It is for tests only, and knows no cluster.
package meshtest

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// Facts are a mesh in short form. Names of Services and pods are namespace/name.
type Facts struct {
	Permissive bool `json:"permissive,omitempty"`
	Egress     bool `json:"egress,omitempty"`
	// NoRetries switches objects of kind Retry off.
	NoRetries bool `json:"noRetries,omitempty"`
	// HealthChecks has callers ask all pods whether they listen.
	HealthChecks bool `json:"healthChecks,omitempty"`
	// Namespaces are those of the mesh besides those of Services and pods.
	Namespaces []string  `json:"namespaces,omitempty"`
	Services   []Service `json:"services,omitempty"`
	Pods       []Pod     `json:"pods,omitempty"`

	Policies mesh.Policies `json:"-"`
}

// Service is a Service in short form.
type Service struct {
	Name string `json:"name"`
	// IPs are its addresses; without any it gets one, unless it is headless or external.
	IPs          []netip.Addr      `json:"ips,omitempty"`
	Headless     bool              `json:"headless,omitempty"`
	ExternalName string            `json:"externalName,omitempty"`
	Selector     map[string]string `json:"selector,omitempty"`
	Ports        []Port            `json:"ports,omitempty"`
	PreferZone   bool              `json:"preferZone,omitempty"`
	PreferNode   bool              `json:"preferNode,omitempty"`
	LocalOnly    bool              `json:"localOnly,omitempty"`
}

// Port is a port of a Service in short form.
type Port struct {
	Name   string `json:"name,omitempty"`
	Number uint16 `json:"number"`
	// Target is the pods' port; the same number if it is left out.
	Target     uint16        `json:"target,omitempty"`
	TargetName string        `json:"targetName,omitempty"`
	Protocol   mesh.Protocol `json:"protocol,omitempty"`
}

// Pod is a pod in short form.
type Pod struct {
	Name string `json:"name"`
	// Account is the name of its ServiceAccount; "default" if it is left out.
	Account  string            `json:"account,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Unmeshed bool              `json:"unmeshed,omitempty"`
	// Ports are the numbers of its named ports.
	Ports  map[string]uint16 `json:"ports,omitempty"`
	Zone   string            `json:"zone,omitempty"`
	Node   string            `json:"node,omitempty"`
	Scrape bool              `json:"scrape,omitempty"`
}

// Model returns the Model of these facts. The order of the facts makes no difference.
func (f *Facts) Model() *mesh.Model {
	settings := mesh.DefaultSettings("osm", "osm-system", "cluster.local")
	settings.Permissive, settings.Egress, settings.RetryPolicy = f.Permissive, f.Egress, !f.NoRetries
	settings.HealthChecks = f.HealthChecks
	m := &mesh.Model{
		Settings:        settings,
		Namespaces:      map[string]*mesh.Namespace{},
		Services:        map[mesh.Key]*mesh.Service{},
		Endpoints:       map[mesh.Key]*mesh.Endpoints{},
		Workloads:       map[mesh.Key]*mesh.Workload{},
		Classes:         map[string]*mesh.Class{},
		ServiceAccounts: map[mesh.Key][]identity.ServiceAccount{},
		Running:         map[identity.ServiceAccount]bool{},
		Policies:        f.Policies,
	}
	for _, n := range f.Namespaces {
		m.Namespaces[n] = &mesh.Namespace{Name: n}
	}
	for i := range f.Services {
		s := f.Services[i].service()
		m.Services[s.Key] = s
		m.Namespaces[s.Namespace] = &mesh.Namespace{Name: s.Namespace}
		m.Endpoints[s.Key] = &mesh.Endpoints{Service: s.Key}
	}
	pods := slices.SortedFunc(slices.Values(f.Pods), func(a, b Pod) int { return strings.Compare(a.Name, b.Name) })
	for i := range pods {
		addPod(m, &pods[i])
	}
	for k, e := range m.Endpoints {
		slices.SortFunc(e.Items, func(a, b mesh.Endpoint) int { return a.Address.Compare(b.Address) })
		if s := m.Services[k]; s.Headless {
			addPodPorts(s, e)
		}
	}
	return m
}

func (s *Service) service() *mesh.Service {
	out := &mesh.Service{
		Key: key(s.Name), ClusterIPs: s.IPs, Headless: s.Headless, ExternalName: s.ExternalName, Selector: s.Selector,
		PreferSameZone: s.PreferZone, PreferSameNode: s.PreferNode, LocalOnly: s.LocalOnly,
	}
	if len(out.ClusterIPs) == 0 && !s.Headless && s.ExternalName == "" {
		out.ClusterIPs = []netip.Addr{address(10, s.Name)}
	}
	for _, p := range s.Ports {
		port := mesh.ServicePort{Name: p.Name, Number: p.Number, TargetPortName: p.TargetName, Protocol: cmp.Or(p.Protocol, mesh.HTTP)}
		if p.TargetName == "" {
			port.TargetPort = cmp.Or(p.Target, p.Number)
		}
		out.Ports = append(out.Ports, port)
	}
	slices.SortFunc(out.Ports, func(a, b mesh.ServicePort) int { return cmp.Compare(a.Number, b.Number) })
	return out
}

// addPodPorts notes the ports that a headless Service's endpoints have.
func addPodPorts(s *mesh.Service, endpoints *mesh.Endpoints) {
	for i := range s.Ports {
		p := &s.Ports[i]
		for _, e := range endpoints.Items {
			if number, ok := e.Ports[p.Number]; ok {
				p.PodPorts = append(p.PodPorts, number)
			}
		}
		slices.Sort(p.PodPorts)
		p.PodPorts = slices.Compact(p.PodPorts)
	}
}

// addPod adds a pod, and all that follows from it.
func addPod(m *mesh.Model, p *Pod) {
	k := key(p.Name)
	m.Namespaces[k.Namespace] = &mesh.Namespace{Name: k.Namespace}
	w := &mesh.Workload{
		Key: k, UID: p.Name, ServiceAccount: identity.ServiceAccount{Namespace: k.Namespace, Name: cmp.Or(p.Account, "default")},
		Addresses: []netip.Addr{address(172, p.Name)}, Node: p.Node, Zone: p.Zone, Meshed: !p.Unmeshed,
	}
	class := &mesh.Class{ServiceAccount: w.ServiceAccount, Metrics: p.Scrape, Zone: p.Zone, Node: p.Node}
	for _, service := range slices.SortedFunc(maps.Keys(m.Services), mesh.CompareKeys) {
		s := m.Services[service]
		if service.Namespace != k.Namespace || !selects(s.Selector, p.Labels) {
			continue
		}
		class.Services = append(class.Services, service)
		accounts := append(slices.Clone(m.ServiceAccounts[service]), w.ServiceAccount)
		slices.SortFunc(accounts, identity.Compare)
		m.ServiceAccounts[service] = slices.Compact(accounts)
		m.Endpoints[service].Items = append(m.Endpoints[service].Items, endpoint(s, p, w, class))
	}
	m.Workloads[k], m.Running[w.ServiceAccount] = w, true
	if w.Meshed {
		class.ID = classID(class)
		w.Class = class.ID
		m.Classes[class.ID] = class
	}
}

// endpoint returns the pod as an endpoint of a Service, and notes the names of ports
// that the Service targets.
func endpoint(s *mesh.Service, p *Pod, w *mesh.Workload, class *mesh.Class) mesh.Endpoint {
	e := mesh.Endpoint{Address: w.Addresses[0], Ports: map[uint16]uint16{}, Ready: true, Serving: true, Node: p.Node, Zone: p.Zone, Pod: w.Key}
	for _, port := range s.Ports {
		if port.TargetPortName == "" {
			e.Ports[port.Number] = port.TargetPort
			continue
		}
		if number, ok := p.Ports[port.TargetPortName]; ok {
			e.Ports[port.Number] = number
			if class.NamedPorts == nil {
				class.NamedPorts = map[string]uint16{}
			}
			class.NamedPorts[port.TargetPortName] = number
		}
	}
	return e
}

// classID says in words what makes the class.
func classID(c *mesh.Class) string {
	var b strings.Builder
	b.WriteString(c.ServiceAccount.String())
	for _, s := range c.Services {
		b.WriteString(" " + s.Name)
	}
	for _, n := range slices.Sorted(maps.Keys(c.NamedPorts)) {
		fmt.Fprintf(&b, " %s=%d", n, c.NamedPorts[n])
	}
	for _, place := range []string{c.Zone, c.Node} {
		if place != "" {
			b.WriteString(" @" + place)
		}
	}
	if c.Metrics {
		b.WriteString(" scraped")
	}
	return b.String()
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return len(selector) > 0
}

// key reads namespace/name.
func key(s string) mesh.Key {
	namespace, name, _ := strings.Cut(s, "/")
	return mesh.Key{Namespace: namespace, Name: name}
}

// address is the same for the same name, and another for any other in a test.
func address(first byte, name string) netip.Addr {
	h := fnv.New32a()
	h.Write([]byte(name))
	n := h.Sum32()
	return netip.AddrFrom4([4]byte{first, byte(n >> 16), byte(n >> 8), byte(n)})
}
