package rollout_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/gate"
	"github.com/openservicemesh/osm-operator/internal/plan/rollout"
)

// world is a cluster as far as an upgrade sees it: it does what decisions say, and what a
// test or chance wants.
type world struct {
	now        time.Time
	state      rollout.State
	generation int64
	wanted     string
	approved   string
	paused     bool
	policy     rollout.Policy
	revisions  map[string]*control
	workloads  []*load
	ended      []operatorv1alpha1.UpgradeRecord
	last       rollout.Decision
	// broken are revisions whose proxies reject what they are sent.
	broken map[string]bool
	// stuck are revisions whose pods never become ready.
	stuck map[string]bool
}

type control struct{ ready bool }

// load is a workload whose pod is replaced one step after its template changed.
type load struct {
	name, template, pod, wave, excluded, unwell string
	labels                                      map[string]string
	since                                       time.Time
}

func newWorld(tb interface{ Fatal(...any) }, policy *operatorv1alpha1.UpgradePolicy, workloads int) *world {
	p, err := rollout.NewPolicy(policy)
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{
		now: time.Unix(1_800_000_000, 0), generation: 1, wanted: "a", policy: p,
		revisions: map[string]*control{"a": {ready: true}}, broken: map[string]bool{}, stuck: map[string]bool{},
	}
	for i := range workloads {
		w.workloads = append(w.workloads, &load{name: fmt.Sprintf("w%d", i), pod: "a", since: w.now})
	}
	w.state.Current = "a"
	return w
}

func (w *world) facts() rollout.Facts {
	f := rollout.Facts{Now: w.now, Generation: w.generation, Wanted: w.wanted, Paused: w.paused, Approved: w.approved, Policy: w.policy}
	for name, c := range w.revisions {
		r := rollout.Revision{Name: name, Ready: c.ready, Settled: c.ready, Reason: "its replicas are not available", SessionsKnown: true}
		for _, l := range w.workloads {
			if l.pod == name {
				r.Pods++
				r.Sessions++
			}
		}
		f.Revisions = append(f.Revisions, r)
	}
	for _, l := range w.workloads {
		ready := !w.stuck[l.pod]
		pod := rollout.Pod{Revision: l.pod, Pod: gate.Pod{Name: "shop/" + l.name, Ready: ready, Created: l.since, Connected: ready, Synced: ready}}
		if w.broken[l.pod] {
			pod.Rejected, pod.Synced = "rejected a cluster", false
		}
		asked := l.template
		if asked == "" {
			asked = w.state.Current
		}
		f.Workloads = append(f.Workloads, rollout.Workload{
			Ref: rollout.Ref{Kind: "Deployment", Namespace: "shop", Name: l.name}, Labels: l.labels, Revision: l.template, Wave: l.wave,
			RolledOut: asked == l.pod && ready && l.unwell == "", Excluded: l.excluded, Unwell: l.unwell, Pods: []rollout.Pod{pod},
		})
	}
	return f
}

// step takes one step: time passes, pods follow their templates, and the decision is done.
func (w *world) step(passed time.Duration) rollout.Decision {
	w.now = w.now.Add(passed)
	for _, l := range w.workloads {
		asked := l.template
		if asked == "" || w.revisions[asked] == nil {
			asked = l.pod
		}
		if asked != l.pod {
			l.pod, l.since = asked, w.now
		}
	}
	d := rollout.Step(w.state, w.facts())
	for _, m := range d.Moves {
		i := slices.IndexFunc(w.workloads, func(l *load) bool { return l.name == m.Name })
		w.workloads[i].template, w.workloads[i].wave = m.To, m.Wave
	}
	for _, name := range d.Retire {
		delete(w.revisions, name)
	}
	if t := d.State.Target; t != "" && w.revisions[t] == nil {
		w.revisions[t] = &control{}
	}
	w.ended = d.History(w.ended)
	// What is remembered goes through the API.
	w.state = rollout.FromStatus(operatorv1alpha1.MeshStatus{Revision: d.State.Current, Upgrade: d.Status()})
	w.last = d
	return d
}

// want has the spec ask for something else.
func (w *world) want(revision string) {
	w.wanted = revision
	w.generation++
}

// until steps until the phase is reached, and fails where it is not.
func (w *world) until(t *testing.T, phase operatorv1alpha1.UpgradePhase) {
	t.Helper()
	for range 2000 {
		w.step(5 * time.Second)
		if w.state.Phase == phase {
			return
		}
	}
	t.Fatalf("phase %q was not reached: %+v, %s", phase, w.state, w.last.Message)
}

func (w *world) pods(revision string) int {
	n := 0
	for _, l := range w.workloads {
		if l.pod == revision {
			n++
		}
	}
	return n
}

func three() *operatorv1alpha1.UpgradePolicy {
	return &operatorv1alpha1.UpgradePolicy{
		Strategy: operatorv1alpha1.UpgradeCanary, SoakSeconds: new(int32(30)),
		Waves: []operatorv1alpha1.UpgradeWave{{Name: "one", Percent: 10}, {Name: "half", Percent: 50}},
	}
}

func TestThreeWaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, three(), 10)
	w.want("b")
	w.until(t, operatorv1alpha1.UpgradePreparing)
	w.step(time.Second)
	if w.pods("b") != 0 {
		t.Fatal("something moved before the control plane was ready")
	}
	w.revisions["b"].ready = true
	for _, want := range []int{1, 6, 10} {
		w.until(t, operatorv1alpha1.UpgradeSoaking)
		if got := w.pods("b"); got != want {
			t.Errorf("%d workloads have moved, want %d", got, want)
		}
		w.until(t, map[bool]operatorv1alpha1.UpgradePhase{true: operatorv1alpha1.UpgradePromoting, false: operatorv1alpha1.UpgradeMoving}[want == 10])
	}
	if w.state.Current != "a" {
		t.Error("new pods get the target before all waves have passed")
	}
	w.until(t, operatorv1alpha1.UpgradeRetiring)
	if w.state.Current != "b" || w.revisions["a"] == nil {
		t.Errorf("current is %s, revisions %v", w.state.Current, w.revisions)
	}
	w.until(t, "")
	if w.revisions["a"] != nil {
		t.Error("the old control plane is there still")
	}
	if len(w.ended) != 1 || w.ended[0].Outcome != operatorv1alpha1.UpgradeSucceeded || w.ended[0].From != "a" || w.ended[0].To != "b" {
		t.Errorf("history %+v", w.ended)
	}
}

func TestAWaveThatFailsIsUndoneAndNotTriedAgain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		spoil    func(*world)
		evidence string
	}{
		"proxies that reject fail at once": {func(w *world) { w.broken["b"] = true }, "wave one: proxies reject their configuration: shop/"},
		"pods that never are ready":        {func(w *world) { w.stuck["b"] = true }, "wave one: after 2m0s, of the new control plane's proxies: shop/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, three(), 10)
			w.want("b")
			w.until(t, operatorv1alpha1.UpgradePreparing)
			w.revisions["b"].ready = true
			tt.spoil(w)
			w.until(t, operatorv1alpha1.UpgradeFailed)
			if got := w.state.Evidence; len(got) < len(tt.evidence) || got[:len(tt.evidence)] != tt.evidence {
				t.Errorf("evidence %q, want %q", got, tt.evidence)
			}
			for range 100 {
				w.step(time.Minute)
			}
			if w.pods("b") != 0 || w.revisions["a"] == nil || w.revisions["b"] == nil || w.state.Phase != operatorv1alpha1.UpgradeFailed {
				t.Errorf("after hours: %d pods moved, %v, %+v", w.pods("b"), w.revisions, w.state)
			}
			w.generation++
			w.until(t, operatorv1alpha1.UpgradeMoving)
		})
	}
}

func TestOnlyTheWaveThatFailedGoesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, three(), 10)
	w.want("b")
	w.until(t, operatorv1alpha1.UpgradePreparing)
	w.revisions["b"].ready = true
	w.until(t, operatorv1alpha1.UpgradeSoaking)
	for w.state.Wave == 0 {
		w.step(5 * time.Second)
	}
	w.until(t, operatorv1alpha1.UpgradeSoaking)
	w.broken["b"] = true
	w.until(t, operatorv1alpha1.UpgradeFailed)
	w.step(time.Second)
	if got := w.pods("b"); got != 1 {
		t.Errorf("%d workloads have the target, want the one of the wave that passed", got)
	}
	w.want("a")
	w.until(t, "")
	if w.pods("a") != 10 || w.revisions["b"] != nil {
		t.Errorf("after it was changed back: %d pods, revisions %v", w.pods("a"), w.revisions)
	}
}

func TestAPersonsWordIsWaitedFor(t *testing.T) {
	t.Parallel()
	policy := three()
	policy.Waves[1].Approval = operatorv1alpha1.WaveManual
	w := newWorld(t, policy, 10)
	w.want("b")
	w.until(t, operatorv1alpha1.UpgradePreparing)
	w.revisions["b"].ready = true
	w.until(t, operatorv1alpha1.UpgradeAwaitingApproval)
	w.approved = "a/half"
	w.step(100 * time.Hour)
	if w.state.Phase != operatorv1alpha1.UpgradeAwaitingApproval || w.pods("b") != 1 {
		t.Fatalf("it went on without its word: %+v", w.state)
	}
	w.approved = "b/half"
	w.until(t, "")
	if w.pods("b") != 10 {
		t.Errorf("%d workloads moved", w.pods("b"))
	}
}

func TestAPauseStopsTheClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, three(), 10)
	w.want("b")
	w.until(t, operatorv1alpha1.UpgradePreparing)
	w.paused = true
	w.step(time.Second)
	for range 10 {
		w.step(time.Hour)
	}
	w.paused = false
	w.step(time.Second)
	if w.state.Phase != operatorv1alpha1.UpgradePreparing {
		t.Fatalf("the deadline ran while it was paused: %+v", w.state)
	}
	w.revisions["b"].ready = true
	w.until(t, "")
}

// TestEachPodIsProgress has a workload take longer than the deadline, pod by pod.
func TestEachPodIsProgress(t *testing.T) {
	t.Parallel()
	policy, err := rollout.NewPolicy(three())
	if err != nil {
		t.Fatal(err)
	}
	state := rollout.State{Current: "a", Target: "b", Phase: operatorv1alpha1.UpgradeMoving}
	now := time.Unix(1_800_000_000, 0)
	state.Since = now
	load := rollout.Workload{Ref: rollout.Ref{Kind: "Deployment", Namespace: "shop", Name: "big"}, Revision: "b", Wave: "b/" + policy.Waves[0].Name}
	facts := rollout.Facts{Generation: 1, Wanted: "b", Policy: policy, Revisions: []rollout.Revision{
		{Name: "a", Ready: true, Settled: true, SessionsKnown: true}, {Name: "b", Ready: true, Settled: true, SessionsKnown: true},
	}}
	for i := range 10 {
		now = now.Add(policy.Deadline * 3 / 4)
		load.Pods = append(slices.Clip(load.Pods), rollout.Pod{Revision: "b", Pod: gate.Pod{
			Name: fmt.Sprint("shop/big-", i), Ready: true, Created: now, Connected: true, Synced: true,
		}})
		facts.Now, facts.Workloads = now, []rollout.Workload{load}
		if state = rollout.Step(state, facts).State; state.Phase != operatorv1alpha1.UpgradeMoving {
			t.Fatalf("with %d pods: %s, %s", i+1, state.Phase, state.Evidence)
		}
	}
	facts.Now = now.Add(2*policy.Deadline + policy.Waves[0].Soak)
	if state = rollout.Step(state, facts).State; state.Phase != operatorv1alpha1.UpgradeUndoing {
		t.Errorf("with no pod more: %s, want it undone", state.Phase)
	}
}

func TestWhatMustNotBeRestartedStaysAndKeepsItsControlPlane(t *testing.T) {
	t.Parallel()
	w := newWorld(t, three(), 10)
	w.workloads[3].excluded = "it is paused"
	w.want("b")
	w.until(t, operatorv1alpha1.UpgradePreparing)
	w.revisions["b"].ready = true
	w.until(t, operatorv1alpha1.UpgradeRetiring)
	for range 100 {
		w.step(time.Minute)
	}
	if w.revisions["a"] == nil || w.workloads[3].pod != "a" {
		t.Fatal("the old control plane went although a pod uses it")
	}
	if want := []string{"Deployment shop/w3: it is paused"}; !slices.Equal(w.last.Untouched, want) {
		t.Errorf("untouched are %q, want %q", w.last.Untouched, want)
	}
	w.workloads[3].pod = "b"
	w.until(t, "")
}

func TestWhatIsNotWellIsMovedWhenItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, three(), 10)
	for _, l := range w.workloads[:9] {
		l.unwell = "no pod is ready"
	}
	w.want("b")
	w.until(t, operatorv1alpha1.UpgradePreparing)
	w.revisions["b"].ready = true
	w.until(t, operatorv1alpha1.UpgradeRetiring)
	w.step(time.Hour)
	if w.pods("b") != 1 || len(w.last.Untouched) != 9 || w.revisions["a"] == nil {
		t.Fatalf("%d workloads moved, untouched are %q, revisions %v", w.pods("b"), w.last.Untouched, w.revisions)
	}
	for _, l := range w.workloads {
		l.unwell = ""
	}
	w.until(t, "")
	if w.pods("b") != 10 {
		t.Errorf("%d workloads moved in the end", w.pods("b"))
	}
}

// TestWhateverHappens has chance break and mend revisions, change the spec, pause, and
// let time pass, and holds each step to what must never happen.
func TestWhateverHappens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, &operatorv1alpha1.UpgradePolicy{
			MaxUnavailable: rapid.Int32Range(1, 4).Draw(t, "maxUnavailable"), SoakSeconds: new(rapid.Int32Range(0, 60).Draw(t, "soak")),
			Waves: []operatorv1alpha1.UpgradeWave{{Name: "one", Percent: rapid.Int32Range(1, 100).Draw(t, "percent")}, {Name: "two", Percent: 50}},
		}, rapid.IntRange(0, 12).Draw(t, "workloads"))
		revision := rapid.SampledFrom([]string{"a", "b", "c"})
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 12).Draw(t, "event") {
			case 0:
				w.want(revision.Draw(t, "wanted"))
			case 1:
				if c := w.revisions[revision.Draw(t, "turned")]; c != nil && len(w.revisions) > 1 {
					c.ready = !c.ready
				}
			case 2:
				name := revision.Draw(t, "broken")
				w.broken[name] = !w.broken[name]
			case 3:
				name := revision.Draw(t, "stuck")
				w.stuck[name] = !w.stuck[name]
			case 4:
				w.paused = !w.paused
			case 8:
				for _, l := range w.workloads {
					l.unwell = rapid.SampledFrom([]string{"", "", "", "no pod is ready"}).Draw(t, "unwell")
				}
			case 5, 6, 7:
				if c := w.revisions[w.state.Target]; c != nil {
					c.ready = true
				}
			default:
			}
			held(t, w, func() { w.step(time.Duration(rapid.IntRange(1, 400).Draw(t, "seconds")) * time.Second) })
		}
		// In the end somebody mends everything and asks for what there was: it comes to rest.
		for _, l := range w.workloads {
			l.unwell = ""
		}
		w.paused, w.broken, w.stuck = false, map[string]bool{}, map[string]bool{}
		w.want(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "last"))
		for i := 0; ; i++ {
			for _, c := range w.revisions {
				c.ready = true
			}
			held(t, w, func() { w.step(30 * time.Second) })
			if w.state.Phase == "" && w.state.Current == w.wanted {
				break
			}
			if i > 3000 {
				t.Fatalf("it never comes to rest: %+v, %s", w.state, w.last.Message)
			}
		}
		if w.pods(w.wanted) != len(w.workloads) || len(w.revisions) > 1 {
			t.Fatalf("at rest %d of %d workloads have %s, revisions %v", w.pods(w.wanted), len(w.workloads), w.wanted, w.revisions)
		}
	})
}

// held takes a step, and fails where it did what none may do.
func held(t *rapid.T, w *world, step func()) {
	ready := map[string]bool{}
	for name, c := range w.revisions {
		ready[name] = c.ready
	}
	used := map[string]bool{}
	for _, l := range w.workloads {
		used[l.pod] = true
	}
	before := w.state
	step()
	d := w.last
	if d.State.Current != before.Current && !ready[d.State.Current] {
		t.Fatalf("new pods were given %s, which is not ready", d.State.Current)
	}
	restarting := map[string]int{}
	for _, m := range d.Moves {
		if !ready[m.To] {
			t.Fatalf("%s was moved to %s, which is not ready", m.Ref, m.To)
		}
		restarting[m.To]++
	}
	if n := restarting[d.State.Target]; d.State.Target != "" && n > w.policy.MaxUnavailable {
		t.Fatalf("%d workloads were moved at once, at most %d may be", n, w.policy.MaxUnavailable)
	}
	for _, name := range d.Retire {
		if name == d.State.Current || name == d.State.Target || used[name] && w.pods(name) > 0 {
			t.Fatalf("%s was removed although it is used: %+v", name, d.State)
		}
		if !ready[d.State.Current] {
			t.Fatalf("%s was removed although no other is ready", name)
		}
	}
	if w.paused && (len(d.Moves) > 0 || len(d.Retire) > 0) {
		t.Fatal("something was done although it is paused")
	}
	// Going back is reached from everywhere, at once.
	back := w.facts()
	back.Wanted, back.Paused, back.Generation = d.State.Current, false, w.generation+1
	again := rollout.Step(w.state, back).State
	if d.State.Target != "" && again.Phase != operatorv1alpha1.UpgradeRollingBack && again.Target != "" {
		t.Fatalf("from %s it does not go back: %+v", d.State.Phase, again)
	}
	// What is asked twice at the same moment is answered as if it were asked once.
	once := rollout.Step(w.state, w.facts())
	if twice := rollout.Step(w.state, w.facts()); fmt.Sprint(once) != fmt.Sprint(twice) {
		t.Fatalf("two answers to one question:\n%+v\n%+v", once, twice)
	}
}
