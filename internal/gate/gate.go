// Package gate says whether workloads that were moved to another control plane are
// well: facts about their pods and proxies go in, named checks come out, each with
// pass, wait or fail and the reason. It is pure, and knows nothing of waves: whoever
// asks decides what follows.
package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is what a check says.
type Verdict string

const (
	// Pass says that all is well.
	Pass Verdict = "Pass"
	// Wait says that it is too early to tell, or that it cannot be told.
	Wait Verdict = "Wait"
	// Fail says that something is wrong that will not pass by itself.
	Fail Verdict = "Fail"
)

// mostRestarts is how often a container of a pod that moved may restart. One that
// starts before what it needs is there restarts once or twice, and is well.
const mostRestarts = 3

// mostNamed is how many pods a reason names.
const mostNamed = 3

// Pod is a pod that runs with the new revision.
type Pod struct {
	// Name is namespace/name.
	Name string
	// Ready says that the pod is ready.
	Ready bool
	// Restarts is the count of that container which restarted most.
	Restarts int32
	// Stuck is why a container does not run, such as CrashLoopBackOff; empty if all do.
	Stuck string
	// Created is when the pod was made.
	Created time.Time
	// Connected says that its proxy has a stream to the new control plane, Synced that it
	// acknowledged all that it was sent.
	Connected, Synced bool
	// Rejected is what its proxy rejected, empty if nothing.
	Rejected string
}

// Facts are what the checks look at.
type Facts struct {
	Now  time.Time
	Pods []Pod
	// Workloads is the number of workloads that were to move, Moved of those that were
	// told to, Ready of those whose pods all have moved and are ready.
	Workloads, Moved, Ready int
	// ProxiesKnown says that every replica of the new control plane told of its proxies.
	ProxiesKnown bool
	// Connect is how long a proxy may take to connect and to acknowledge.
	Connect time.Duration
}

// Result is what one check says.
type Result struct {
	Name    string
	Verdict Verdict
	Reason  string
}

// Check runs all checks, in a fixed order.
func Check(f Facts) []Result {
	return []Result{rollout(f), configuration(f), connection(f), restarts(f), readiness(f)}
}

// Failed returns the reasons of the checks that fail, empty if none does.
func Failed(results []Result) string { return reasons(results, Fail) }

// Pending returns the reasons of the checks that wait, empty if none does.
func Pending(results []Result) string { return reasons(results, Wait) }

func reasons(results []Result, verdict Verdict) string {
	var out []string
	for _, r := range results {
		if r.Verdict == verdict {
			out = append(out, r.Reason)
		}
	}
	return strings.Join(out, "; ")
}

func rollout(f Facts) Result {
	r := Result{Name: "RollOut", Verdict: Pass, Reason: fmt.Sprintf("%d workloads are rolled out", f.Workloads)}
	if f.Ready < f.Workloads {
		r.Verdict, r.Reason = Wait, fmt.Sprintf("%d of %d workloads were restarted, and %d are rolled out", f.Moved, f.Workloads, f.Ready)
	}
	return r
}

// configuration fails on the first proxy that rejects something: the control plane has
// by then kept the last good form, and nothing more will come.
func configuration(f Facts) Result {
	bad := named(f.Pods, func(p Pod) string { return p.Rejected })
	if bad != "" {
		return Result{Name: "Configuration", Verdict: Fail, Reason: "proxies reject their configuration: " + bad}
	}
	return Result{Name: "Configuration", Verdict: Pass, Reason: "no proxy rejects its configuration"}
}

// connection waits for each proxy, and fails where one takes too long.
func connection(f Facts) Result {
	const name = "Connection"
	if !f.ProxiesKnown && len(f.Pods) > 0 {
		return Result{Name: name, Verdict: Wait, Reason: "not every replica of the new control plane could be asked about its proxies"}
	}
	late := named(f.Pods, func(p Pod) string {
		switch {
		case p.Connected && p.Synced || f.Now.Sub(p.Created) <= f.Connect:
			return ""
		case p.Connected:
			return "has not acknowledged its configuration"
		default:
			return "is not connected"
		}
	})
	if late != "" {
		return Result{Name: name, Verdict: Fail, Reason: fmt.Sprintf("after %s, of the new control plane's proxies: %s", f.Connect, late)}
	}
	n := count(f.Pods, func(p Pod) bool { return p.Connected && p.Synced })
	if n < len(f.Pods) {
		return Result{Name: name, Verdict: Wait, Reason: fmt.Sprintf("%d of %d proxies are connected and have acknowledged their configuration", n, len(f.Pods))}
	}
	return Result{Name: name, Verdict: Pass, Reason: fmt.Sprintf("%d proxies are connected and have acknowledged their configuration", n)}
}

func restarts(f Facts) Result {
	bad := named(f.Pods, func(p Pod) string {
		if p.Restarts < mostRestarts {
			return ""
		}
		return fmt.Sprintf("restarted %d times %s", p.Restarts, p.Stuck)
	})
	if bad != "" {
		return Result{Name: "Restarts", Verdict: Fail, Reason: "containers restart again and again: " + bad}
	}
	return Result{Name: "Restarts", Verdict: Pass, Reason: fmt.Sprintf("no container restarted more than %d times", mostRestarts-1)}
}

func readiness(f Facts) Result {
	n := count(f.Pods, func(p Pod) bool { return p.Ready })
	if n == len(f.Pods) {
		return Result{Name: "Readiness", Verdict: Pass, Reason: fmt.Sprintf("%d pods are ready", n)}
	}
	waiting := named(f.Pods, func(p Pod) string {
		if p.Ready {
			return ""
		}
		return "is not ready " + p.Stuck
	})
	return Result{Name: "Readiness", Verdict: Wait, Reason: fmt.Sprintf("%d of %d pods are ready: %s", n, len(f.Pods), waiting)}
}

func count(pods []Pod, is func(Pod) bool) int {
	n := 0
	for _, p := range pods {
		if is(p) {
			n++
		}
	}
	return n
}

// named lists the first pods that something is wrong with, with what it is.
func named(pods []Pod, wrong func(Pod) string) string {
	var out []string
	for _, p := range pods {
		if what := strings.TrimSpace(wrong(p)); what != "" {
			out = append(out, p.Name+" "+what)
		}
	}
	slices.Sort(out)
	if more := len(out) - mostNamed; more > 0 {
		out = append(out[:mostNamed], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}
