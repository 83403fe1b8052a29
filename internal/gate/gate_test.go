package gate_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/gate"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	well := gate.Pod{Name: "shop/a", Ready: true, Created: now.Add(-time.Hour), Connected: true, Synced: true}
	with := func(change func(*gate.Pod)) gate.Facts {
		other := well
		other.Name = "shop/b"
		change(&other)
		return gate.Facts{
			Now: now, Pods: []gate.Pod{well, other}, Workloads: 2, Moved: 2, Ready: 2, ProxiesKnown: true, Connect: time.Minute,
		}
	}
	for name, tt := range map[string]struct {
		facts           gate.Facts
		failed, pending string
	}{
		"pods that are well pass": {facts: with(func(*gate.Pod) {})},
		"nothing to move passes":  {facts: gate.Facts{Now: now, Connect: time.Minute}},
		"a workload that is not rolled out is waited for": {
			facts: func() gate.Facts {
				f := with(func(*gate.Pod) {})
				f.Moved, f.Ready = 1, 0
				return f
			}(),
			pending: "1 of 2 workloads were restarted, and 0 are rolled out",
		},
		"a proxy that rejects fails, however young its pod is": {
			facts:  with(func(p *gate.Pod) { p.Created, p.Rejected = now, "rejected a route" }),
			failed: "proxies reject their configuration: shop/b rejected a route",
		},
		"a proxy that is not connected yet is waited for": {
			facts:   with(func(p *gate.Pod) { p.Created, p.Connected, p.Synced = now, false, false }),
			pending: "1 of 2 proxies are connected and have acknowledged their configuration",
		},
		"a proxy that does not connect fails in the end": {
			facts:  with(func(p *gate.Pod) { p.Connected, p.Synced = false, false }),
			failed: "after 1m0s, of the new control plane's proxies: shop/b is not connected",
		},
		"a proxy that does not acknowledge fails in the end": {
			facts:  with(func(p *gate.Pod) { p.Synced = false }),
			failed: "after 1m0s, of the new control plane's proxies: shop/b has not acknowledged its configuration",
		},
		"proxies that nobody could ask for are waited for, and fail nothing": {
			facts: func() gate.Facts {
				f := with(func(p *gate.Pod) { p.Connected, p.Synced = false, false })
				f.ProxiesKnown = false
				return f
			}(),
			pending: "not every replica of the new control plane could be asked about its proxies",
		},
		"two restarts are none": {facts: with(func(p *gate.Pod) { p.Restarts = 2 })},
		"a container that restarts again and again fails": {
			facts:  with(func(p *gate.Pod) { p.Restarts, p.Stuck = 3, "(envoy: CrashLoopBackOff)" }),
			failed: "containers restart again and again: shop/b restarted 3 times (envoy: CrashLoopBackOff)",
		},
		"a pod that is not ready is waited for": {
			facts:   with(func(p *gate.Pod) { p.Ready = false }),
			pending: "1 of 2 pods are ready: shop/b is not ready",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			results := gate.Check(tt.facts)
			if got := gate.Failed(results); got != tt.failed {
				t.Errorf("failed is %q, want %q", got, tt.failed)
			}
			if got := gate.Pending(results); got != tt.pending {
				t.Errorf("pending is %q, want %q", got, tt.pending)
			}
		})
	}
}

func TestReasonsNameFewPods(t *testing.T) {
	t.Parallel()
	f := gate.Facts{ProxiesKnown: true}
	for name := range strings.FieldsSeq("shop/e shop/d shop/c shop/b shop/a") {
		f.Pods = append(f.Pods, gate.Pod{Name: name, Ready: true, Rejected: "rejected", Connected: true, Synced: true})
	}
	want := "proxies reject their configuration: shop/a rejected, shop/b rejected, shop/c rejected, and 2 more"
	if got := gate.Failed(gate.Check(f)); got != want {
		t.Errorf("it is said %q, want %q", got, want)
	}
}

// TestOneSickPodIsNeverOutvoted adds pods that are well to one that is not: what failed
// fails still, and what had to wait does not pass.
func TestOneSickPodIsNeverOutvoted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		pod := gate.Pod{
			Name: "shop/sick", Ready: rapid.Bool().Draw(t, "ready"), Connected: rapid.Bool().Draw(t, "connected"), Synced: rapid.Bool().Draw(t, "synced"),
			Restarts: rapid.Int32Range(0, 5).Draw(t, "restarts"), Rejected: rapid.SampledFrom([]string{"", "a cluster"}).Draw(t, "rejected"),
			Created: now.Add(-time.Duration(rapid.IntRange(0, 200).Draw(t, "age")) * time.Second),
		}
		f := gate.Facts{Now: now, Pods: []gate.Pod{pod}, Workloads: 1, Moved: 1, Ready: 1, ProxiesKnown: rapid.Bool().Draw(t, "known"), Connect: time.Minute}
		alone := gate.Check(f)
		for range rapid.IntRange(1, 20).Draw(t, "others") {
			f.Pods = append(f.Pods, gate.Pod{Name: "shop/well", Ready: true, Connected: true, Synced: true, Created: now.Add(-time.Hour)})
		}
		for i, with := range gate.Check(f) {
			if with.Verdict != alone[i].Verdict {
				t.Fatalf("%s says %s alone, and %s among others", with.Name, alone[i].Verdict, with.Verdict)
			}
		}
	})
}
