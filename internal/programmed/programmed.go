// Package programmed says how far policies have come: which proxies a policy concerns, and
// what each of them has acknowledged, go in; a verdict for each policy comes out, that
// becomes its condition Programmed. It is pure; messages are sorted and hold no times.
// What is not known is never counted as zero.
package programmed

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/openservicemesh/osm-operator/internal/policy"
)

// Status is that of a condition. Nothing is to be said yet where it is empty.
type Status string

// The three that there are.
const (
	True    Status = "True"
	False   Status = "False"
	Unknown Status = "Unknown"
)

// Reasons of the condition Programmed.
const (
	// ReasonAcknowledged says that all proxies that the policy concerns have acknowledged it.
	ReasonAcknowledged = "Acknowledged"
	// ReasonNoProxies says that it is part of no proxy's configuration.
	ReasonNoProxies = "NoProxies"
	// ReasonNotAccepted says that it is not followed: no proxy was sent any of it.
	ReasonNotAccepted = "NotAccepted"
	// ReasonRejected says that a proxy rejected what it was sent, or that it could not be made.
	ReasonRejected = "Rejected"
	// ReasonPending says that a proxy has not answered for long.
	ReasonPending = "Pending"
	// ReasonNotConnected says that a pod's proxy is connected to no control plane.
	ReasonNotConnected = "NotConnected"
	// ReasonReplicasUnread says that a replica of the control plane does not tell.
	ReasonReplicasUnread = "ReplicasUnread"
)

const (
	// patience is how long proxies may take to answer before anybody is told.
	patience = 5 * time.Second
	// grace is how long a pod is too young to be counted before its proxy has taken its
	// first configuration.
	grace = 30 * time.Second
	// most is how many proxies a message names.
	most = 3
)

// Verdict is the condition of a policy; comparable.
type Verdict struct {
	Status          Status
	Reason, Message string
	// UID and Generation tell of which state of which object it is.
	UID        string
	Generation int64
}

// Pod is a pod of the mesh.
type Pod struct{ Name, Class string }

// Proxy is what is known of the proxy of a pod.
type Proxy struct {
	// Class is what it is sent.
	Class string
	// Settled says that it acknowledged all that it is owed of policies, of their state of
	// now at the least.
	Settled bool
	// Rejected are its words for what it rejected, empty if nothing.
	Rejected string
}

// Facts are what is known at some moment.
type Facts struct {
	Now time.Time
	// Policies are the reports on all policies.
	Policies []policy.ObjectReport
	// Classes are those that each policy concerns, Failing why some cannot be made. A list
	// that was given once must not be changed.
	Classes map[policy.ObjectName][]string
	Failing map[string]string
	// Pods are all pods with a sidecar, and Proxies what is known of theirs, by UID.
	Pods    map[string]Pod
	Proxies map[string]Proxy
	// Unread are replicas that were not read, or do not follow the same policies.
	Unread []string
}

// Tracker remembers who has acknowledged what by when. What a proxy has once
// acknowledged it keeps: it goes on with it while it rejects what came later. It is not
// safe for concurrent use.
type Tracker struct {
	turn     uint64
	proxies  map[string]progress
	policies map[policy.ObjectName]policyState
}

// progress is how far a proxy has come.
type progress struct {
	class string
	// settled is the last turn in which it had acknowledged everything, 0 for none.
	settled uint64
	first   time.Time
}

// policyState is since when a policy is what it is.
type policyState struct {
	report policy.ObjectReport
	// classes is a digest of those that the list has.
	classes uint64
	list    *string
	turn    uint64
	begun   time.Time
}

// NewTracker returns a Tracker that has seen nothing.
func NewTracker() *Tracker {
	return &Tracker{proxies: map[string]progress{}, policies: map[policy.ObjectName]policyState{}}
}

// Look takes what is known now, and returns what is to be said of each policy.
func (t *Tracker) Look(f Facts) map[policy.ObjectName]Verdict {
	t.turn++
	classes := t.follow(f)
	digests := map[*string]uint64{}
	out := make(map[policy.ObjectName]Verdict, len(f.Policies))
	now := make(map[policy.ObjectName]policyState, len(f.Policies))
	for _, r := range f.Policies {
		if r.UID == "" {
			continue // a Service is no policy
		}
		name := policy.ObjectName{Kind: r.Kind, Key: r.Key}
		old := t.policies[name]
		s := policyState{report: r, classes: old.classes, list: listOf(f.Classes[name]), turn: t.turn, begun: f.Now}
		if s.list != old.list {
			s.classes = digest(f.Classes[name], digests)
		}
		switch {
		case old.report == r && old.classes == s.classes:
			s.turn, s.begun = old.turn, old.begun
		case old.report == r:
			s.turn++ // what proxies told until now may be from before
		}
		now[name] = s
		v := t.verdict(f, s, f.Classes[name], classes)
		v.UID, v.Generation = r.UID, r.Generation
		out[name] = v
	}
	t.policies = now
	return out
}

// class is how far the pods of a class have come.
type class struct {
	pods []member
	// least is the turn in which the one that is behind all others had all, where ready is
	// the number of pods that count.
	least uint64
	ready int
}

// member is a pod of a class.
type member struct {
	name      string
	settled   uint64
	connected bool
	young     bool
	rejected  string
}

// follow brings the progress of proxies up to date, and gathers them by class.
func (t *Tracker) follow(f Facts) map[string]*class {
	now := make(map[string]progress, len(f.Pods))
	out := map[string]*class{}
	for uid, pod := range f.Pods {
		p, known := t.proxies[uid]
		if !known || p.class != pod.Class {
			p = progress{class: pod.Class, first: f.Now}
		}
		proxy, connected := f.Proxies[uid]
		why := cmp.Or(f.Failing[pod.Class], proxy.Rejected)
		if connected && proxy.Settled && proxy.Class == pod.Class && why == "" {
			p.settled = t.turn
		}
		now[uid] = p
		c := out[pod.Class]
		if c == nil {
			c = &class{least: t.turn}
			out[pod.Class] = c
		}
		m := member{name: pod.Name, settled: p.settled, connected: connected, rejected: why}
		m.young = p.settled == 0 && why == "" && f.Now.Sub(p.first) < grace
		c.pods = append(c.pods, m)
		if !m.young {
			c.ready++
		}
		c.least = min(c.least, p.settled)
	}
	t.proxies = now
	return out
}

// listOf tells lists of classes apart that are not changed.
func listOf(classes []string) *string {
	if len(classes) == 0 {
		return nil
	}
	return &classes[0]
}

// digest is the same for the same classes in whatever order; lists that are shared are
// looked at once.
func digest(classes []string, known map[*string]uint64) uint64 {
	list := listOf(classes)
	if d, ok := known[list]; ok || list == nil {
		return d
	}
	var sum uint64
	for _, c := range classes {
		h := fnv.New64a()
		_, _ = h.Write([]byte(c))
		sum += h.Sum64()
	}
	known[list] = sum
	return sum
}

// tally is how far one policy has come.
type tally struct {
	acknowledged, total     int
	rejecting, away, silent []string
	young                   int
}

func (t *Tracker) verdict(f Facts, s policyState, concerned []string, classes map[string]*class) Verdict {
	if !s.report.Accepted.OK {
		return Verdict{Status: False, Reason: ReasonNotAccepted, Message: "the object is not followed: no proxy was sent any of it"}
	}
	if s.turn > t.turn {
		return Verdict{}
	}
	n := count(s.turn, concerned, classes)
	switch {
	case n.total == 0 && n.young > 0:
		return Verdict{} // their pods are just starting
	case n.total == 0:
		return Verdict{Status: True, Reason: ReasonNoProxies, Message: "acknowledged by 0 of 0 proxies: it is part of no running proxy's configuration"}
	case n.acknowledged == n.total && (n.young == 0 || len(f.Unread) == 0):
		return Verdict{Status: True, Reason: ReasonAcknowledged, Message: n.message("")}
	case len(n.rejecting) > 0:
		return Verdict{Status: False, Reason: ReasonRejected, Message: n.message(few(n.rejecting))}
	case len(f.Unread) > 0:
		return Verdict{Status: Unknown, Reason: ReasonReplicasUnread, Message: n.message("not known of others, since replicas of the control plane do not tell or are behind: " + strings.Join(f.Unread, ", "))}
	case f.Now.Sub(s.begun) < patience:
		return Verdict{}
	default:
		return n.late()
	}
}

// late is said when proxies have had time enough to answer.
func (n *tally) late() Verdict {
	if len(n.away) > 0 {
		return Verdict{Status: False, Reason: ReasonNotConnected, Message: n.message("connected to no control plane: " + few(n.away))}
	}
	return Verdict{Status: False, Reason: ReasonPending, Message: n.message("no answer yet from " + few(n.silent))}
}

// count counts the proxies that a policy concerns, which is what it is since a turn.
func count(since uint64, concerned []string, classes map[string]*class) tally {
	var out tally
	for _, id := range concerned {
		c := classes[id]
		if c == nil {
			continue
		}
		out.total += c.ready
		if c.least >= since {
			out.acknowledged += c.ready
			continue
		}
		for _, m := range c.pods {
			switch {
			case m.young:
				out.young++
			case m.settled >= since:
				out.acknowledged++
			case m.rejected != "":
				out.rejecting = append(out.rejecting, m.name+" "+m.rejected)
			case !m.connected:
				out.away = append(out.away, m.name)
			default:
				out.silent = append(out.silent, m.name)
			}
		}
	}
	return out
}

// message says that an acknowledgement is a word, not a deed.
func (n tally) message(more string) string {
	out := fmt.Sprintf("acknowledged by %d of %d proxies", n.acknowledged, n.total)
	if more != "" {
		return out + "; " + more
	}
	return out + ": they accepted it, which does not say that they apply it yet"
}

// few names the first few.
func few(names []string) string {
	slices.Sort(names)
	if n := len(names); n > most {
		return strings.Join(names[:most], "; ") + fmt.Sprintf("; and %d more", n-most)
	}
	return strings.Join(names, "; ")
}
