package rollout

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// mostNamed, longest and mostRecords bound what a status holds.
const (
	mostNamed   = 20
	longest     = 1000
	mostRecords = 10
)

// FromStatus reads what was remembered.
func FromStatus(m operatorv1alpha1.MeshStatus) State {
	s := State{Current: m.Revision}
	u := m.Upgrade
	if u == nil {
		return s
	}
	return State{
		Current: m.Revision, Target: u.Target, Phase: u.Phase, Wave: int(u.Wave), Progress: int(u.Progress),
		Started: moment(u.StartedAt), Since: moment(u.Since), Soaking: moment(u.SoakingSince), Unused: moment(u.UnusedSince), Paused: moment(u.PausedSince),
		Evidence: u.Evidence, FailedGeneration: u.FailedGeneration,
	}
}

// Status returns what is to be remembered and told; nil where there is nothing.
func (d Decision) Status() *operatorv1alpha1.UpgradeStatus {
	s := d.State
	if s.Phase == "" {
		return nil
	}
	u := &operatorv1alpha1.UpgradeStatus{
		Phase: s.Phase, Target: s.Target, Wave: int32(s.Wave), Progress: int32(s.Progress), Message: short(d.Message), Evidence: short(s.Evidence),
		StartedAt: stamp(s.Started), Since: stamp(s.Since), SoakingSince: stamp(s.Soaking), UnusedSince: stamp(s.Unused), PausedSince: stamp(s.Paused),
		FailedGeneration: s.FailedGeneration, Waves: d.Waves,
	}
	for _, g := range d.Gates {
		u.Gates = append(u.Gates, operatorv1alpha1.GateStatus{Name: g.Name, Verdict: string(g.Verdict), Message: short(g.Reason)})
	}
	if n := len(d.Untouched); n > 0 {
		u.Untouched = &operatorv1alpha1.UntouchedWorkloads{Count: int32(n), Names: d.Untouched[:min(n, mostNamed)]}
	}
	return u
}

// History returns the records with those that ended now before them.
func (d Decision) History(before []operatorv1alpha1.UpgradeRecord) []operatorv1alpha1.UpgradeRecord {
	out := before
	for _, r := range d.Ended {
		r.Evidence = short(r.Evidence)
		out = append([]operatorv1alpha1.UpgradeRecord{r}, out...)
	}
	return out[:min(len(out), mostRecords)]
}

// stamp and moment turn times into those of the API, which have whole seconds, and back.
func stamp(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return new(metav1.NewTime(t.UTC().Truncate(time.Second)))
}

func moment(t *metav1.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func short(s string) string {
	r := []rune(s)
	return string(r[:min(len(r), longest)])
}
