package programmed_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/programmed"
)

func report(generation int64) policy.ObjectReport {
	return policy.ObjectReport{
		Kind: "TrafficTarget", Key: mesh.Key{Namespace: "shop", Name: "x"}, UID: "uid", Generation: generation,
		Accepted: policy.Verdict{OK: true, Reason: policy.ReasonAccepted}, Resolved: policy.Verdict{OK: true, Reason: policy.ReasonResolved},
	}
}

func nameOf(r policy.ObjectReport) policy.ObjectName {
	return policy.ObjectName{Kind: r.Kind, Key: r.Key}
}

// facts are of three pods, of which a policy concerns two, all settled.
func facts() programmed.Facts {
	r := report(1)
	return programmed.Facts{
		Now: time.Unix(1000, 0), Policies: []policy.ObjectReport{r, {Kind: "Service", Key: r.Key}},
		Classes: map[policy.ObjectName][]string{nameOf(r): {"a", "b", "gone"}},
		Pods:    map[string]programmed.Pod{"1": {"shop/one", "a"}, "2": {"shop/two", "b"}, "3": {"shop/three", "other"}},
		Proxies: map[string]programmed.Proxy{"1": {Class: "a", Settled: true}, "2": {Class: "b", Settled: true}, "3": {Class: "other"}},
	}
}

func with(proxy programmed.Proxy) func(*programmed.Facts) {
	return func(f *programmed.Facts) { f.Proxies["2"] = proxy }
}

func TestVerdicts(t *testing.T) {
	edited := func(f *programmed.Facts) { f.Policies[0] = report(2) }
	later := func(d time.Duration) func(*programmed.Facts) {
		return func(f *programmed.Facts) { f.Now = f.Now.Add(d) }
	}
	silent := with(programmed.Proxy{Class: "b"})
	rejecting := with(programmed.Proxy{Class: "b", Rejected: "rejected listener x: Envoy's own words"})
	away := func(f *programmed.Facts) { delete(f.Proxies, "2") }
	unread := func(f *programmed.Facts) { f.Unread = []string{"osm-controller-2"} }
	type steps [][]func(*programmed.Facts)
	tests := map[string]struct {
		steps  steps
		status programmed.Status
		reason string
		says   string
	}{
		"all that it concerns have acknowledged it": {
			steps{{}}, programmed.True, programmed.ReasonAcknowledged, "acknowledged by 2 of 2 proxies: they accepted it, which does not say that they apply it yet",
		},
		"what nobody has is programmed at nobody": {
			steps{{func(f *programmed.Facts) { f.Classes = nil }}}, programmed.True, programmed.ReasonNoProxies, "0 of 0",
		},
		"what is not followed is not programmed": {
			steps{{func(f *programmed.Facts) { f.Policies[0].Accepted.OK = false }}}, programmed.False, programmed.ReasonNotAccepted, "not followed",
		},
		"a proxy that has just been sent it is waited for": {steps{{}, {edited, silent}}, "", "", ""},
		"one that does not answer is told of": {
			steps{{}, {edited, silent}, {edited, silent, later(6 * time.Second)}}, programmed.False, programmed.ReasonPending, "acknowledged by 1 of 2 proxies; no answer yet from shop/two",
		},
		"one that has acknowledged it may be busy with something else": {
			steps{{}, {silent, later(time.Minute)}}, programmed.True, programmed.ReasonAcknowledged, "2 of 2",
		},
		"or reject something else": {
			steps{{}, {rejecting, later(time.Minute)}}, programmed.True, programmed.ReasonAcknowledged, "2 of 2",
		},
		"or be away": {
			steps{{}, {away, later(time.Minute)}}, programmed.True, programmed.ReasonAcknowledged, "2 of 2",
		},
		"one that rejects it is named, with its words": {
			steps{{}, {edited, rejecting}}, programmed.False, programmed.ReasonRejected, "acknowledged by 1 of 2 proxies; shop/two rejected listener x: Envoy's own words",
		},
		"one that rejects something has not acknowledged what came then or before it was looked at": {
			steps{{rejecting}}, programmed.False, programmed.ReasonRejected, "1 of 2",
		},
		"what cannot be made is as good as rejected": {
			steps{{}, {edited, func(f *programmed.Facts) { f.Failing = map[string]string{"b": "cannot be made: too long"} }}}, programmed.False, programmed.ReasonRejected, "shop/two cannot be made: too long",
		},
		"a pod that starts is not counted": {
			steps{{silent}}, programmed.True, programmed.ReasonAcknowledged, "1 of 1",
		},
		"nor one whose proxy has not connected": {
			steps{{away}, {away, later(20 * time.Second)}}, programmed.True, programmed.ReasonAcknowledged, "1 of 1",
		},
		"one that is connected to nobody for long is": {
			steps{{away}, {away, later(time.Minute)}}, programmed.False, programmed.ReasonNotConnected, "acknowledged by 1 of 2 proxies; connected to no control plane: shop/two",
		},
		"what is not read is unknown, not missing": {
			steps{{away, unread}, {away, unread, later(time.Minute)}}, programmed.Unknown, programmed.ReasonReplicasUnread, "acknowledged by 1 of 2 proxies; not known of others, since replicas of the control plane do not tell or are behind: osm-controller-2",
		},
		"at once, also of a pod that may be young": {
			steps{{away, unread}}, programmed.Unknown, programmed.ReasonReplicasUnread, "",
		},
		"a replica that is not read does not matter where all proxies are known of": {
			steps{{unread}}, programmed.True, programmed.ReasonAcknowledged, "2 of 2",
		},
		"a proxy that is sent what another class gets has not acknowledged it": {
			steps{{}, {edited, with(programmed.Proxy{Class: "former", Settled: true})}, {edited, with(programmed.Proxy{Class: "former", Settled: true}), later(6 * time.Second)}},
			programmed.False, programmed.ReasonPending, "1 of 2",
		},
		"which takes a moment to be seen": {
			steps{
				{func(f *programmed.Facts) { f.Classes[nameOf(report(1))] = []string{"a"} }},
				{},
			}, "", "", "",
		},
		"what concerns others as well than before is to be acknowledged anew": {
			steps{
				{func(f *programmed.Facts) { f.Classes[nameOf(report(1))] = []string{"a"} }},
				{rejecting},
				{rejecting},
			}, programmed.False, programmed.ReasonRejected, "1 of 2",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tracker := programmed.NewTracker()
			var got programmed.Verdict
			for _, changes := range tt.steps {
				f := facts()
				for _, change := range changes {
					change(&f)
				}
				all := tracker.Look(f)
				if len(all) != 1 {
					t.Fatalf("told of %v", all)
				}
				got = all[nameOf(report(1))]
			}
			if got.Status != tt.status || got.Reason != tt.reason || !strings.Contains(got.Message, tt.says) {
				t.Errorf("got %+v, want %s %s %q", got, tt.status, tt.reason, tt.says)
			}
		})
	}
}

// TestMessagesAreBounded has many proxies reject something.
func TestMessagesAreBounded(t *testing.T) {
	f := facts()
	for i := range 100 {
		uid := fmt.Sprint("many-", i)
		f.Pods[uid], f.Proxies[uid] = programmed.Pod{Name: fmt.Sprintf("shop/many-%02d", i), Class: "a"}, programmed.Proxy{Class: "a", Rejected: "rejects"}
	}
	got := programmed.NewTracker().Look(f)[nameOf(report(1))]
	want := "acknowledged by 2 of 102 proxies; shop/many-00 rejects; shop/many-01 rejects; shop/many-02 rejects; and 97 more"
	if got.Message != want {
		t.Errorf("got %q, want %q", got.Message, want)
	}
}

// BenchmarkLook looks at a large mesh in which each policy concerns a tenth of it.
func BenchmarkLook(b *testing.B) {
	const classes, podsEach, policies = 1000, 10, 2000
	f := programmed.Facts{
		Now: time.Unix(1000, 0), Classes: map[policy.ObjectName][]string{},
		Pods: map[string]programmed.Pod{}, Proxies: map[string]programmed.Proxy{},
	}
	for c := range classes * podsEach {
		uid, class := fmt.Sprint("pod-", c), fmt.Sprint("class-", c%classes)
		f.Pods[uid], f.Proxies[uid] = programmed.Pod{Name: uid, Class: class}, programmed.Proxy{Class: class, Settled: true}
	}
	for i := range policies {
		r := report(1)
		r.Key.Name = fmt.Sprint(i)
		f.Policies = append(f.Policies, r)
		for c := range classes / 10 {
			f.Classes[nameOf(r)] = append(f.Classes[nameOf(r)], fmt.Sprint("class-", (i+c)%classes))
		}
	}
	tracker := programmed.NewTracker()
	for b.Loop() {
		f.Now = f.Now.Add(time.Second)
		tracker.Look(f)
	}
}
