package policy

import (
	"maps"
	"math"
	"slices"
	"strings"

	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// splits are the TrafficSplits that are followed.
type splits struct {
	// byRoot holds one for each root Service.
	byRoot map[mesh.Key]*split
	// rootsOf are the roots, callable themselves, that send something to a back end.
	rootsOf map[mesh.Key][]mesh.Key
}

// split is the TrafficSplit of a root Service.
type split struct {
	name string
	// backends are those that exist; none leaves the root without any.
	backends []splitBackend
	// limited says that only requests of the matches are split, the rest is not.
	limited bool
	matches []*routeMatch
}

// splitBackend is a Service and its share. It may be the root itself.
type splitBackend struct {
	service mesh.Key
	weight  uint32
}

// compileSplits reads all TrafficSplits, the older first: of several for one root only
// the first is followed, and all of them say so.
func (c *Compiler) compileSplits() {
	c.splits = &splits{byRoot: map[mesh.Key]*split{}, rootsOf: map[mesh.Key][]mesh.Key{}}
	older := mesh.Older[splitv1alpha4.TrafficSplitSpec, splitv1alpha4.TrafficSplitSpec]
	all := slices.SortedFunc(maps.Values(c.model.Policies.TrafficSplits), older)
	said, first := make([]remarks, len(all)), map[mesh.Key]*remarks{}
	for i, o := range all {
		r, root := &said[i], rootOf(o)
		s := c.compileSplit(root, o, r)
		c.checkRoot(root, o, r)
		if before := c.splits.byRoot[root]; before != nil {
			r.ignored(ReasonConflict, codeSecondSplit, "TrafficSplit %s splits Service %s already, and is older: it is followed there", before.name, root)
			first[root].partly(ReasonConflict, codeSecondSplit, "TrafficSplit %s splits Service %s too, and is younger: this one is followed there", o.Key, root)
			continue
		}
		c.splits.byRoot[root], first[root] = s, r
		c.splits.note(root, s, callable(c.model.Services[root]))
	}
	for i, o := range all {
		c.reports = append(c.reports, said[i].report("TrafficSplit", o.Key, o.UID, o.Generation))
	}
}

// rootOf returns the root: it is named alone, or by a host name that begins with its name.
func rootOf(o *mesh.Object[splitv1alpha4.TrafficSplitSpec]) mesh.Key {
	name, _, _ := strings.Cut(o.Spec.Service, ".")
	return mesh.Key{Namespace: o.Namespace, Name: name}
}

// note remembers by which back ends a root may be reached.
func (all *splits) note(root mesh.Key, s *split, callable bool) {
	if !callable {
		return
	}
	for _, b := range s.backends {
		if b.weight > 0 {
			all.rootsOf[b.service] = append(all.rootsOf[b.service], root)
		}
	}
}

// checkRoot tells what keeps a split from having an effect on its root.
func (c *Compiler) checkRoot(root mesh.Key, o *mesh.Object[splitv1alpha4.TrafficSplitSpec], r *remarks) {
	s := c.model.Services[root]
	switch {
	case s == nil:
		r.missing(ReasonServiceNotFound, "", "the root Service %s does not exist", root)
		return
	case s.ExternalName != "":
		r.missing(ReasonServiceNotFound, "", "the root Service %s is an ExternalName: it has no traffic of its own", root)
		return
	}
	for _, p := range s.Ports {
		if protocol(p.Protocol) == ir.HTTP {
			continue
		}
		if s.Headless {
			r.partly(ReasonNoEffect, "", "port %d of the root is not HTTP, and connections to pods of a headless Service go to those pods: they are not split", p.Number)
		} else if len(o.Spec.Matches) > 0 {
			r.partly(ReasonNoEffect, "", "port %d of the root is not HTTP: matches have no meaning there, and its connections are not split", p.Number)
		}
	}
}

func (c *Compiler) compileSplit(root mesh.Key, o *mesh.Object[splitv1alpha4.TrafficSplitSpec], r *remarks) *split {
	s := &split{name: o.Key.String(), limited: len(o.Spec.Matches) > 0}
	weights := wholeWeights(o.Spec.Backends, r)
	var total uint64
	place := map[mesh.Key]int{}
	for i, b := range o.Spec.Backends {
		key := mesh.Key{Namespace: o.Namespace, Name: b.Service}
		service := c.model.Services[key]
		if service == nil || service.ExternalName != "" {
			r.missing(ReasonBackendNotFound, "", "the back end %s does not exist: the others share its traffic", key)
			continue
		}
		total += uint64(weights[i])
		if at, twice := place[key]; twice {
			s.backends[at].weight += weights[i]
			continue
		}
		place[key] = len(s.backends)
		s.backends = append(s.backends, splitBackend{service: key, weight: weights[i]})
	}
	if total == 0 {
		r.partly(ReasonNoTraffic, "", "no back end that exists has a weight: what is split is refused")
	}
	c.checkPorts(root, s, r)
	for _, m := range o.Spec.Matches {
		group := c.groups[mesh.Key{Namespace: o.Namespace, Name: m.Name}]
		if m.Kind != kindHTTPRouteGroup || !specsGroup(m.APIGroup) || group == nil {
			r.missing(ReasonRouteNotFound, codeGroupNotFound, "%s %s does not exist: it matches nothing", m.Kind, m.Name)
			continue
		}
		s.matches = append(s.matches, group.usable...)
	}
	slices.SortStableFunc(s.matches, compareMatches)
	s.matches = slices.CompactFunc(s.matches, func(a, b *routeMatch) bool { return a.id == b.id })
	return s
}

// specsGroup reports whether an API group is that of SMI's routes; it may be left out,
// and may have a version.
func specsGroup(group *string) bool {
	if group == nil || *group == "" {
		return true
	}
	bare, _, _ := strings.Cut(*group, "/")
	return bare == "specs.smi-spec.io"
}

// checkPorts tells of ports of the root that back ends do not have.
func (c *Compiler) checkPorts(root mesh.Key, s *split, r *remarks) {
	service := c.model.Services[root]
	if service == nil {
		return
	}
	for _, p := range service.Ports {
		for _, b := range s.backends {
			if _, ok := portFor(c.model.Services[b.service], p.Number); !ok {
				r.missing(ReasonBackendNotFound, "", "the back end %s has no port %d: the others share that port's traffic", b.service, p.Number)
			}
		}
	}
}

// wholeWeights turns weights into whole numbers of the same proportions. What has a
// weight keeps one; what has none, or none that is a number, gets nothing.
func wholeWeights(backends []splitv1alpha4.TrafficSplitBackend, r *remarks) []uint32 {
	weights := make([]float64, len(backends))
	most := 0.0
	for i, b := range backends {
		if math.IsNaN(b.Weight) || math.IsInf(b.Weight, 0) || b.Weight < 0 {
			r.partly(ReasonInvalidWeight, "", "the weight %v of back end %s is no share: it gets no traffic", b.Weight, b.Service)
			continue
		}
		weights[i] = b.Weight
		most = max(most, b.Weight)
	}
	for factor := 1.0; factor <= 1e6; factor *= 10 {
		if out, ok := scaled(weights, factor); ok {
			return out
		}
	}
	out := make([]uint32, len(weights))
	for i, w := range weights {
		if w > 0 {
			out[i] = uint32(max(1, math.Round(w/most*1e6)))
		}
	}
	return out
}

// scaled multiplies weights; it fails if that does not make them whole, or makes them
// more than can be added up.
func scaled(weights []float64, factor float64) ([]uint32, bool) {
	const slack = 1e-6
	out := make([]uint32, len(weights))
	total := 0.0
	for i, w := range weights {
		whole := math.Round(w * factor)
		total += whole
		if total > math.MaxUint32 || math.Abs(w*factor-whole) > slack || w > 0 && whole < 1 {
			return nil, false
		}
		out[i] = uint32(whole)
	}
	return out, true
}

// shares returns the back ends of a split for a port of its root. One without such a
// port gets nothing; one that the caller may not reach keeps its share and fails it.
func (c *classes) shares(v *caller, s *split, root *mesh.Service, port mesh.ServicePort) []ir.WeightedBackend {
	var out []ir.WeightedBackend
	for _, b := range s.backends {
		p, ok := portFor(c.services.Get(b.service), port.Number)
		r := v.reach[b.service]
		switch {
		case !ok:
		case !r.ok:
			out = append(out, ir.WeightedBackend{Weight: b.weight, Unresolved: true})
		default:
			out = append(out, ir.WeightedBackend{Weight: b.weight, Cluster: c.cluster(v, r, clusterKey{
				service: b.service, port: p.Number, protocol: protocol(port.Protocol), dialled: root.Headless && b.service == root.Key,
			})})
		}
	}
	return out
}

// portFor returns the port of a back end that stands for a port of its root: that of
// the same number, else one without a name.
func portFor(backend *mesh.Service, number uint16) (mesh.ServicePort, bool) {
	if backend == nil {
		return mesh.ServicePort{}, false
	}
	if p, ok := backend.Port(number); ok {
		return p, true
	}
	for _, p := range backend.Ports {
		if p.Name == "" {
			return p, true
		}
	}
	return mesh.ServicePort{}, false
}
