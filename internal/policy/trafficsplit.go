package policy

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// split is the TrafficSplit of a root Service.
type split struct {
	name     string
	backends []share
	// matches limit the split to some requests; nil is all.
	matches []namedMatch
	limited bool
}

// share is a back end of a split that exists, with its weight.
type share struct {
	service mesh.Key
	weight  uint32
}

// compileSplits reads all TrafficSplits. Of two for one root the older wins.
func (c *Compiler) compileSplits() {
	objects := slices.SortedFunc(maps.Values(c.model.Policies.TrafficSplits), mesh.Older[splitv1alpha4.TrafficSplitSpec, splitv1alpha4.TrafficSplitSpec])
	for _, o := range objects {
		r := &remarks{}
		// The root is named alone, or by a host name that begins with it.
		bare, _, _ := strings.Cut(o.Spec.Service, ".")
		root := mesh.Key{Namespace: o.Namespace, Name: bare}
		s := c.compileSplit(o, r)
		if first := c.splits[root]; first != nil {
			r.conflict = fmt.Sprintf("TrafficSplit %s is older and splits Service %s already", first.name, root)
		} else {
			c.splits[root] = s
		}
		if c.model.Services[root] == nil {
			r.missing = append(r.missing, "the root Service "+root.String()+" does not exist")
		}
		c.reports = append(c.reports, r.report("TrafficSplit", o.Key, o.UID, o.Generation))
	}
}

func (c *Compiler) compileSplit(o *mesh.Object[splitv1alpha4.TrafficSplitSpec], r *remarks) *split {
	s := &split{name: o.Key.String()}
	weights := scale(o.Spec.Backends)
	total := uint64(0)
	for i, b := range o.Spec.Backends {
		key := mesh.Key{Namespace: o.Namespace, Name: b.Service}
		if c.model.Services[key] == nil {
			r.missing = append(r.missing, "the back end "+key.String()+" does not exist: the others share its traffic")
			continue
		}
		total += uint64(weights[i])
		s.backends = append(s.backends, share{service: key, weight: weights[i]})
	}
	if total == 0 {
		r.invalid = append(r.invalid, "no back end has a weight: the Service gets no traffic")
	}
	for _, m := range o.Spec.Matches {
		s.limited = true
		g := c.groups[mesh.Key{Namespace: o.Namespace, Name: m.Name}]
		if m.Kind != "HTTPRouteGroup" || g == nil {
			r.missing = append(r.missing, m.Kind+" "+m.Name+" does not exist: it matches nothing")
			continue
		}
		all, _ := g.choose(nil)
		s.matches = append(s.matches, all...)
	}
	return s
}

// scale turns weights into whole numbers that add up to what Envoy takes, in the same
// proportions. A weight above zero stays above zero.
func scale(backends []splitv1alpha4.TrafficSplitBackend) []uint32 {
	sum, whole := 0.0, true
	for _, b := range backends {
		w := math.Max(b.Weight, 0)
		sum += w
		whole = whole && w == math.Trunc(w)
	}
	factor := 1.0
	if !whole {
		factor = 1000
	}
	if most := 1e9; sum*factor > most {
		factor = most / sum
	}
	out := make([]uint32, len(backends))
	for i, b := range backends {
		if b.Weight > 0 {
			out[i] = uint32(math.Max(1, math.Round(b.Weight*factor)))
		}
	}
	return out
}

// splitReachable reports whether a caller may reach any back end of a Service's split.
func (c *Compiler) splitReachable(caller identity.ServiceAccount, root mesh.Key) bool {
	s := c.splits[root]
	return s != nil && slices.ContainsFunc(s.backends, func(b share) bool {
		return b.weight > 0 && c.access(caller, b.service).ok
	})
}

// applySplit returns where requests and connections to a port of a Service go: to
// its own endpoints, or where its split sends them.
func (c *Compiler) applySplit(caller identity.ServiceAccount, root mesh.Key, port mesh.ServicePort, own []ir.WeightedBackend) ([]ir.HTTPRoute, []ir.WeightedBackend) {
	unsplit := ir.HTTPRoute{Name: root.String(), Backends: own}
	s := c.splits[root]
	if s == nil {
		return []ir.HTTPRoute{unsplit}, own
	}
	backends := c.shares(caller, s, port)
	if !s.limited {
		return []ir.HTTPRoute{{Name: s.name, Backends: backends}}, backends
	}
	var routes []ir.HTTPRoute
	for _, m := range s.matches {
		routes = append(routes, ir.HTTPRoute{Name: s.name + "/" + m.name, Match: m.match, Backends: backends})
	}
	return append(routes, unsplit), own
}

// shares returns the back ends of a split for a port of its root. A back end that the
// caller may not reach keeps its share and fails it.
func (c *Compiler) shares(caller identity.ServiceAccount, s *split, port mesh.ServicePort) []ir.WeightedBackend {
	var out []ir.WeightedBackend
	for _, b := range s.backends {
		if b.weight == 0 {
			continue
		}
		service := c.model.Services[b.service]
		target, ok := backendPort(service, port)
		if !ok {
			continue
		}
		a := c.access(caller, b.service)
		if !a.ok {
			out = append(out, ir.WeightedBackend{Weight: b.weight, Unresolved: true})
			continue
		}
		out = append(out, ir.WeightedBackend{Cluster: c.cluster(service, target, a), Weight: b.weight})
	}
	return out
}

// backendPort is the port of a back end that stands for the root's: the one of the
// same number, else one without name.
func backendPort(service *mesh.Service, root mesh.ServicePort) (mesh.ServicePort, bool) {
	if p, ok := service.Port(root.Number); ok {
		return p, true
	}
	for _, p := range service.Ports {
		if p.Name == "" {
			return p, true
		}
	}
	return mesh.ServicePort{}, false
}
