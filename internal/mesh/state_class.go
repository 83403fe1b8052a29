package mesh

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// workloadOf returns the workload of a pod, nil if it is not one of the mesh's
// namespaces or has ended. Its class is added to made.
func (s *State) workloadOf(key Key, made map[string]*Class) *Workload {
	sp := s.spaces[key.Namespace]
	pod := sp.pods[key]
	if pod == nil || pod.Ended || !sp.monitored {
		return nil
	}
	w := pod.Workload
	w.Zone, w.Class = s.zones[w.Node], ""
	if w.Meshed {
		class := s.classOf(sp, key, pod)
		w.Class = class.ID
		made[class.ID] = class
	}
	return &w
}

// classOf returns the class of a pod: all that decides what its proxy does.
func (s *State) classOf(sp *space, key Key, pod *Pod) *Class {
	c := &Class{
		ServiceAccount: pod.ServiceAccount, Metrics: pod.Scrape,
		Services: slices.SortedFunc(maps.Keys(sp.servicesOf[key]), CompareKeys),
	}
	for _, service := range c.Services {
		for _, port := range sp.services[service].Ports {
			number, ok := pod.NamedPorts[port.TargetPortName]
			if port.TargetPortName == "" || !ok {
				continue
			}
			if c.NamedPorts == nil {
				c.NamedPorts = map[string]uint16{}
			}
			c.NamedPorts[port.TargetPortName] = number
		}
	}
	if s.locality.zone {
		c.Zone = s.zones[pod.Node]
	}
	if s.locality.node {
		c.Node = pod.Node
	}
	c.ID = classID(c)
	return c
}

// classID is made of the contents of a class, so that replicas of the control plane
// agree, and begins with what a reader looks for.
func classID(c *Class) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %t %q %q\n", c.ServiceAccount.Namespace, c.ServiceAccount.Name, c.Metrics, c.Zone, c.Node)
	for _, service := range c.Services {
		fmt.Fprintf(h, "%q %q\n", service.Namespace, service.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(c.NamedPorts)) {
		fmt.Fprintf(h, "%q %d\n", name, c.NamedPorts[name])
	}
	return c.ServiceAccount.String() + "/" + hex.EncodeToString(h.Sum(nil)[:6])
}

// localityDemand tells whether any Service of the mesh asks that its callers' zone or
// node count. Who calls whom is not known here, so that one such Service makes classes
// by zone, or by node, of all.
type localityDemand struct {
	byZone, byNode keySet
	zone, node     bool
}

func newLocalityDemand() localityDemand {
	return localityDemand{byZone: keySet{}, byNode: keySet{}}
}

func (d *localityDemand) set(key Key, s *Service) {
	delete(d.byZone, key)
	delete(d.byNode, key)
	if s != nil && s.ByZone() {
		d.byZone[key] = struct{}{}
	}
	if s != nil && s.ByNode() {
		d.byNode[key] = struct{}{}
	}
}

// settle reports whether the demand changed.
func (d *localityDemand) settle(monitored func(string) bool) bool {
	asked := func(services keySet) bool {
		for key := range services {
			if monitored(key.Namespace) {
				return true
			}
		}
		return false
	}
	zone, node := asked(d.byZone), asked(d.byNode)
	changed := zone != d.zone || node != d.node
	d.zone, d.node = zone, node
	return changed
}
