package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/gate"
)

// Step says what follows from where an upgrade was and what was observed. It takes one
// step at a time: a phase that is left is told before the next one acts.
func Step(s State, f Facts) Decision {
	d := &Decision{State: s}
	if s.Current == "" {
		// The first control plane of a mesh has nothing beside it.
		d.State = State{Current: f.Wanted}
		return *d
	}
	if f.Paused {
		if s.Phase != "" && s.Paused.IsZero() {
			d.State.Paused = f.Now
		}
		d.Message = "spec.paused is set"
		d.tell(f)
		return *d
	}
	d.resume(f)
	d.retarget(f)
	d.act(f)
	d.tell(f)
	return *d
}

// resume takes the time of a pause out of all clocks.
func (d *Decision) resume(f Facts) {
	s := &d.State
	if s.Paused.IsZero() {
		return
	}
	pause := f.Now.Sub(s.Paused)
	for _, t := range []*time.Time{&s.Since, &s.Soaking, &s.Unused} {
		if !t.IsZero() {
			*t = t.Add(pause)
		}
	}
	s.Paused = time.Time{}
}

// retarget follows the spec: to another target, back to the current one, or once more
// to one that failed where the spec was changed since.
func (d *Decision) retarget(f Facts) {
	s := &d.State
	switch {
	case f.Wanted == s.Current:
		if s.Target != "" && s.Phase != operatorv1alpha1.UpgradeRollingBack {
			d.enter(operatorv1alpha1.UpgradeRollingBack, f)
		}
	case f.Wanted != s.Target:
		if s.Target != "" && s.Phase != operatorv1alpha1.UpgradeFailed {
			d.end(operatorv1alpha1.UpgradeSuperseded, f)
		}
		d.begin(f)
	case s.Phase == operatorv1alpha1.UpgradeRollingBack,
		s.Phase == operatorv1alpha1.UpgradeFailed && s.FailedGeneration != f.Generation:
		d.begin(f)
	}
}

func (d *Decision) begin(f Facts) {
	d.State = State{Current: d.State.Current, Target: f.Wanted, Started: f.Now}
	d.enter(operatorv1alpha1.UpgradePreparing, f)
}

// enter begins a step and its clock.
func (d *Decision) enter(phase operatorv1alpha1.UpgradePhase, f Facts) {
	d.State.Phase, d.State.Since, d.State.Progress = phase, f.Now, 0
	d.State.Soaking, d.State.Unused = time.Time{}, time.Time{}
}

// end remembers how the upgrade ended.
func (d *Decision) end(outcome operatorv1alpha1.UpgradeOutcome, f Facts) {
	s := d.State
	d.Ended = append(d.Ended, operatorv1alpha1.UpgradeRecord{
		From: s.Current, To: s.Target, Outcome: outcome, Evidence: s.Evidence, StartedAt: stamp(s.Started), EndedAt: stamp(f.Now),
	})
}

// act does what the phase is for.
func (d *Decision) act(f Facts) {
	switch d.State.Phase {
	case operatorv1alpha1.UpgradePreparing:
		d.prepare(f)
	case operatorv1alpha1.UpgradeAwaitingApproval:
		d.enterWave(d.State.Wave, f)
	case operatorv1alpha1.UpgradeMoving, operatorv1alpha1.UpgradeSoaking:
		d.move(f)
	case operatorv1alpha1.UpgradePromoting:
		d.promote(f)
	case operatorv1alpha1.UpgradeUndoing:
		d.undo(f)
	case operatorv1alpha1.UpgradeRollingBack:
		d.rollBack(f)
	case operatorv1alpha1.UpgradeFailed:
		d.Message = fmt.Sprintf("the upgrade to %s was undone and is not tried again until the spec changes: %s", d.State.Target, d.State.Evidence)
	default:
		d.retire(f)
	}
}

// prepare waits for the new control plane. Nothing has moved yet that could be undone.
func (d *Decision) prepare(f Facts) {
	target := f.revision(d.State.Target)
	if target.Ready && target.Settled {
		d.enterWave(0, f)
		return
	}
	d.Message = fmt.Sprintf("waiting for the control plane %s: %s", target.Name, target.Reason)
	if f.Now.Sub(d.State.Since) > f.Policy.Deadline {
		d.State.Evidence = fmt.Sprintf("the control plane %s was not ready within %s: %s", target.Name, f.Policy.Deadline, target.Reason)
		d.fail(f)
	}
}

// fail gives up, until the spec changes.
func (d *Decision) fail(f Facts) {
	d.end(operatorv1alpha1.UpgradeUndone, f)
	d.State.FailedGeneration = f.Generation
	d.enter(operatorv1alpha1.UpgradeFailed, f)
}

// enterWave begins the first wave from i that has something in it, or ends the moving.
func (d *Decision) enterWave(i int, f Facts) {
	all := waves(f, d.State.Target)
	for i < len(all) && len(all[i].workloads) == 0 {
		i++
	}
	if i >= len(all) {
		d.State.Wave = len(all)
		d.enter(operatorv1alpha1.UpgradePromoting, f)
		return
	}
	d.State.Wave = i
	if want := mark(d.State.Target, all[i].Name); all[i].Manual && f.Approved != want {
		if d.State.Phase != operatorv1alpha1.UpgradeAwaitingApproval {
			d.enter(operatorv1alpha1.UpgradeAwaitingApproval, f)
		}
		d.Message = fmt.Sprintf("wave %s waits for a person: annotate the Mesh with %s=%s", all[i].Name, operatorv1alpha1.AnnotationApproveWave, want)
		return
	}
	d.enter(operatorv1alpha1.UpgradeMoving, f)
}

// move moves a wave as far as it may, and looks at its gates. A wave that soaks is looked
// at in the same way; where a gate no longer passes, its soak begins anew, and its
// deadline does not.
func (d *Decision) move(f Facts) {
	s := &d.State
	all := waves(f, s.Target)
	if s.Wave >= len(all) || len(all[s.Wave].workloads) == 0 {
		d.enterWave(s.Wave, f)
		return
	}
	w := all[s.Wave]
	if progress := w.progress(s.Target); progress > s.Progress {
		s.Progress, s.Since = progress, f.Now
	}
	d.Gates = w.check(f, s.Target)
	failed, pending := gate.Failed(d.Gates), gate.Pending(d.Gates)
	late := f.Now.Sub(s.Since) > f.Policy.Deadline+w.Soak
	switch {
	case failed != "":
		d.giveUp(fmt.Sprintf("wave %s: %s", w.Name, failed), f)
	case late && pending != "":
		d.giveUp(fmt.Sprintf("wave %s made no progress within %s: %s", w.Name, f.Policy.Deadline, pending), f)
	case pending != "":
		s.Phase, s.Soaking = operatorv1alpha1.UpgradeMoving, time.Time{}
		d.send(w.workloads, s.Target, mark(s.Target, w.Name), f)
		d.Message = fmt.Sprintf("wave %s (%d of %d): %s", w.Name, s.Wave+1, len(all), pending)
	case s.Soaking.IsZero() && w.Soak > 0:
		s.Phase, s.Soaking = operatorv1alpha1.UpgradeSoaking, f.Now
		fallthrough
	case f.Now.Sub(s.Soaking) < w.Soak:
		d.Message = fmt.Sprintf("wave %s (%d of %d) has passed its gates and is watched for %s", w.Name, s.Wave+1, len(all), w.Soak)
	default:
		d.enterWave(s.Wave+1, f)
	}
}

// send gives workloads a revision, not more at a time than may be restarting, and only
// while that revision is ready.
func (d *Decision) send(workloads []Workload, to, wave string, f Facts) {
	if !f.revision(to).Ready {
		return
	}
	free := f.Policy.MaxUnavailable
	for _, l := range workloads {
		if l.Revision == to && !l.has(to) {
			free--
		}
	}
	for _, l := range workloads {
		if free > 0 && l.Revision != to {
			d.Moves = append(d.Moves, Move{Ref: l.Ref, To: to, Wave: wave})
			free--
		}
	}
}

func (d *Decision) giveUp(evidence string, f Facts) {
	d.State.Evidence = evidence
	d.State.FailedGeneration = f.Generation
	d.enter(operatorv1alpha1.UpgradeUndoing, f)
	d.undo(f)
}

// undo moves the wave that failed back, all at once: what is broken need not be spared.
func (d *Decision) undo(f Facts) {
	s := &d.State
	var back []Workload
	for i, w := range waves(f, s.Target) {
		if i >= s.Wave {
			back = append(back, w.workloads...)
		}
	}
	if d.returns(back, f) > 0 {
		d.Message = fmt.Sprintf("moving back to %s: %s", s.Current, s.Evidence)
		return
	}
	generation := s.FailedGeneration
	d.fail(f)
	s.FailedGeneration = generation
	d.Message = s.Evidence
}

// returns has workloads that were given the target go back to the current revision as
// soon as that is ready, and returns how many have not been told yet.
func (d *Decision) returns(workloads []Workload, f Facts) int {
	n := 0
	for _, l := range workloads {
		if l.Revision != d.State.Target {
			continue
		}
		n++
		if f.revision(d.State.Current).Ready {
			d.Moves = append(d.Moves, Move{Ref: l.Ref, To: d.State.Current})
		}
	}
	return n
}

func (d *Decision) rollBack(f Facts) {
	s := &d.State
	if n := d.returns(movable(f.Workloads, s.Target), f); n > 0 {
		d.Message = fmt.Sprintf("the spec was changed back: moving %d workloads back to %s", n, s.Current)
		return
	}
	d.end(operatorv1alpha1.UpgradeRolledBack, f)
	d.State = State{Current: s.Current}
	d.retire(f)
}

// promote gives the target to all new pods.
func (d *Decision) promote(f Facts) {
	s := &d.State
	if target := f.revision(s.Target); !target.Ready {
		d.Message = fmt.Sprintf("waiting for the control plane %s: %s", target.Name, target.Reason)
		if f.Now.Sub(s.Since) > f.Policy.Deadline {
			s.Wave = max(0, s.Wave-1)
			d.giveUp(fmt.Sprintf("the control plane %s is no longer ready: %s", target.Name, target.Reason), f)
		}
		return
	}
	d.end(operatorv1alpha1.UpgradeSucceeded, f)
	d.State = State{Current: s.Target, Started: s.Started}
	d.enter(operatorv1alpha1.UpgradeRetiring, f)
}

// retire removes the revisions that are neither current nor wanted, once nothing has used
// them for some time. Workloads that came late are moved until then.
func (d *Decision) retire(f Facts) {
	s := &d.State
	old, using := others(f, s.Current)
	if len(old) == 0 {
		d.State = State{Current: s.Current}
		return
	}
	if s.Phase == "" {
		d.enter(operatorv1alpha1.UpgradeRetiring, f)
	}
	d.send(slices.DeleteFunc(movable(f.Workloads, s.Current), func(l Workload) bool { return !l.late(s.Current) }), s.Current, "", f)
	switch {
	case len(using) > 0:
		s.Unused = time.Time{}
		d.Message = "the old control plane stays while it is used: " + strings.Join(using, ", ")
		return
	case s.Unused.IsZero():
		s.Unused = f.Now
	default:
	}
	switch {
	case f.Now.Sub(s.Unused) < f.Policy.Grace:
		d.Message = fmt.Sprintf("nothing uses %s any more: it goes after %s", strings.Join(old, ", "), f.Policy.Grace)
	case f.revision(s.Current).Ready:
		d.Retire = old
		d.Message = "removing " + strings.Join(old, ", ")
	default:
		d.Message = "the old control plane stays until the new one is ready again"
	}
}

// others lists the revisions beside the current one, and says what uses them.
func others(f Facts, current string) (old, using []string) {
	for _, r := range f.Revisions {
		if r.Name == current {
			continue
		}
		old = append(old, r.Name)
		switch {
		case !r.SessionsKnown:
			using = append(using, fmt.Sprintf("it is not known who is connected to %s", r.Name))
		case r.Pods > 0 || r.Sessions > 0:
			using = append(using, fmt.Sprintf("%s has %d pods and %d connected sidecars", r.Name, r.Pods, r.Sessions))
		}
	}
	slices.Sort(old)
	slices.Sort(using)
	return old, using
}

// late says that a workload asks for another revision, or has pods with one.
func (l Workload) late(current string) bool {
	return l.Revision != "" && l.Revision != current || l.onOther(current)
}

// onOther says that a pod has another revision.
func (l Workload) onOther(revision string) bool {
	return slices.ContainsFunc(l.Pods, func(p Pod) bool { return p.Revision != revision })
}

// tell counts what is to be shown.
func (d *Decision) tell(f Facts) {
	s := d.State
	switch {
	case s.Target != "":
		d.Waves = counts(waves(f, s.Target), s.Target)
		d.Untouched = untouched(f, s.Target)
	case s.Phase == operatorv1alpha1.UpgradeRetiring:
		d.Untouched = untouched(f, s.Current)
	}
}
