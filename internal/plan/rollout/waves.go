package rollout

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/gate"
)

// wave is a wave with its workloads.
type wave struct {
	WavePolicy
	workloads []Workload
}

// mark is what a workload is annotated with that moves in a wave.
func mark(target, wave string) string { return target + "/" + wave }

// waves puts each workload that may be moved into a wave: into the one that it moved in
// with this target, and else into the first that selects it.
func waves(f Facts, target string) []wave {
	out := make([]wave, 0, len(f.Policy.Waves))
	rest := movable(f.Workloads, target)
	for _, policy := range f.Policy.Waves {
		w := wave{WavePolicy: policy}
		rest = slices.DeleteFunc(rest, func(l Workload) bool {
			mine := l.Wave == mark(target, policy.Name)
			if mine {
				w.workloads = append(w.workloads, l)
			}
			return mine
		})
		out = append(out, w)
	}
	for i := range out {
		out[i].workloads, rest = out[i].take(rest)
	}
	return out
}

// movable returns those that may be given a revision, or have it, in an order that is the
// same each time and has nothing to do with names, so that a percentage is not always of
// the same team.
func movable(all []Workload, revision string) []Workload {
	out := slices.DeleteFunc(slices.Clone(all), func(l Workload) bool { return l.kept(revision) != "" })
	slices.SortFunc(out, func(a, b Workload) int {
		return cmp.Or(cmp.Compare(spread(a.Ref), spread(b.Ref)), strings.Compare(a.String(), b.String()))
	})
	return out
}

func spread(r Ref) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(r.String()))
	return h.Sum64()
}

// take takes the wave's share of those that it selects, and returns the others. Those
// that are in the wave already count as of the share.
func (w wave) take(from []Workload) (mine, others []Workload) {
	selected := func(l Workload) bool {
		return w.Namespaces.Matches(labels.Set(l.NamespaceLabels)) && w.Selector.Matches(labels.Set(l.Labels))
	}
	mine = w.workloads
	n := len(mine)
	for _, l := range from {
		if selected(l) {
			n++
		}
	}
	share := (n*w.Percent + 99) / 100
	for _, l := range from {
		if selected(l) && len(mine) < share {
			mine = append(mine, l)
		} else {
			others = append(others, l)
		}
	}
	return mine, others
}

// counts tells how far waves are on the way to the target.
func counts(all []wave, target string) []operatorv1alpha1.WaveStatus {
	out := make([]operatorv1alpha1.WaveStatus, 0, len(all))
	for _, w := range all {
		s := operatorv1alpha1.WaveStatus{Name: w.Name, Workloads: int32(len(w.workloads)), Ready: int32(w.ready(target))}
		for _, l := range w.workloads {
			if l.Revision == target {
				s.Moved++
			}
		}
		out = append(out, s)
	}
	return out
}

// has says that a workload is rolled out with a revision.
func (l Workload) has(revision string) bool {
	return l.Revision == revision && l.RolledOut && !l.onOther(revision)
}

// ready counts the workloads that are rolled out with a revision.
func (w wave) ready(revision string) int {
	n := 0
	for _, l := range w.workloads {
		if l.has(revision) {
			n++
		}
	}
	return n
}

// progress counts what has got so far as to have a revision and be ready: pods, for a
// large workload takes longer than any of its pods may, and workloads.
func (w wave) progress(revision string) int {
	n := w.ready(revision)
	for _, l := range w.workloads {
		for _, p := range l.Pods {
			if p.Revision == revision && p.Ready {
				n++
			}
		}
	}
	return n
}

// check runs the gates of a wave.
func (w wave) check(f Facts, target string) []gate.Result {
	facts := gate.Facts{Now: f.Now, Workloads: len(w.workloads), Ready: w.ready(target), ProxiesKnown: f.revision(target).SessionsKnown, Connect: f.Policy.Connect}
	for _, l := range w.workloads {
		if l.Revision == target {
			facts.Moved++
		}
		for _, p := range l.Pods {
			if p.Revision == target {
				facts.Pods = append(facts.Pods, p.Pod)
			}
		}
	}
	return gate.Check(facts)
}

// untouched names what is not restarted and has not the revision.
func untouched(f Facts, revision string) []string {
	var out []string
	for _, p := range f.Loose {
		if p.Revision != revision {
			out = append(out, "Pod "+p.Name+": "+p.Reason)
		}
	}
	for _, l := range f.Workloads {
		if why := l.kept(revision); why != "" && l.onOther(revision) {
			out = append(out, l.String()+": "+why)
		}
	}
	slices.Sort(out)
	return out
}
