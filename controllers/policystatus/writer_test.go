package policystatus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/programmed"
	"github.com/openservicemesh/osm-operator/internal/testkit/apiserver"
)

// told are events.
type told struct {
	mu sync.Mutex
	// Protected by mu.
	events []string
}

// Eventf implements events.EventRecorder.
func (r *told) Eventf(about, _ runtime.Object, kind, reason, _, note string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := ""
	if o, ok := about.(client.Object); ok {
		name = o.GetName()
	}
	r.events = append(r.events, fmt.Sprintf("%s %s %s %s", kind, name, reason, fmt.Sprintf(note, args...)))
}

func (r *told) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.events
	r.events = nil
	slices.Sort(out)
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bench is a Writer on a real API server.
type bench struct {
	client.Client
	writer *Writer
	told   *told
}

func start(ctx context.Context, t *testing.T) bench {
	t.Helper()
	config := apiserver.Start(t)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, configv1alpha2.AddToScheme, policyv1alpha1.AddToScheme, accessv1alpha3.AddToScheme, specsv1alpha4.AddToScheme, splitv1alpha4.AddToScheme,
	} {
		must(t, add(scheme))
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	must(t, err)
	b := bench{Client: c, told: &told{}}
	b.writer = New(Options{Client: c, Recorder: b.told})
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- b.writer.Start(running) }()
	t.Cleanup(func() { stop(); must(t, <-done) })
	return b
}

// reportOn is a report on an object as it is.
func reportOn(kind string, o client.Object, accepted, resolved policy.Verdict) policy.ObjectReport {
	return policy.ObjectReport{
		Kind: kind, Key: mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()}, UID: string(o.GetUID()), Generation: o.GetGeneration(),
		Accepted: accepted, Resolved: resolved,
	}
}

func ok(reason string) policy.Verdict {
	return policy.Verdict{OK: true, Reason: reason, Message: "all is well"}
}

func bad(reason, message string) policy.Verdict {
	return policy.Verdict{Reason: reason, Message: message}
}

// eventually waits until an object is as it should be.
func (b bench) eventually(ctx context.Context, t *testing.T, o client.Object, what string, fits func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		return b.Get(ctx, client.ObjectKeyFromObject(o), o) == nil && fits(), nil
	})
	if err != nil {
		t.Fatalf("%s: %v: %+v", what, err, o)
	}
}

// settle waits until the writer has nothing left to do.
func (b bench) settle(ctx context.Context, t *testing.T) {
	t.Helper()
	marker := &corev1.Service{ObjectMeta: metav1.ObjectMeta{GenerateName: "marker-", Namespace: "zzz"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}}
	must(t, b.Create(ctx, marker))
	b.writer.mu.Lock()
	reports := append(slices.Clone(b.writer.reports), reportOn("Service", marker, bad("Marker", marker.Name), ok(policy.ReasonResolved)))
	b.writer.mu.Unlock()
	b.writer.Set(reports)
	must(t, wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		b.told.mu.Lock()
		defer b.told.mu.Unlock()
		i := slices.IndexFunc(b.told.events, func(e string) bool { return strings.Contains(e, marker.Name) })
		if i >= 0 {
			b.told.events = slices.Delete(b.told.events, i, i+1)
		}
		return i >= 0, nil
	}))
}

func objects() map[string]client.Object {
	at := metav1.ObjectMeta{Namespace: "shop", Name: "x"}
	account := accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: "shop", Name: "web"}
	return map[string]client.Object{
		"TrafficTarget":  &accessv1alpha3.TrafficTarget{ObjectMeta: at, Spec: accessv1alpha3.TrafficTargetSpec{Destination: account, Sources: []accessv1alpha3.IdentityBindingSubject{account}, Rules: []accessv1alpha3.TrafficTargetRule{{Kind: "TCPRoute", Name: "x"}}}},
		"HTTPRouteGroup": &specsv1alpha4.HTTPRouteGroup{ObjectMeta: at, Spec: specsv1alpha4.HTTPRouteGroupSpec{Matches: []specsv1alpha4.HTTPMatch{{Name: "all"}}}},
		"TCPRoute":       &specsv1alpha4.TCPRoute{ObjectMeta: at, Spec: specsv1alpha4.TCPRouteSpec{Matches: specsv1alpha4.TCPMatch{Ports: []int{80}}}},
		"TrafficSplit":   &splitv1alpha4.TrafficSplit{ObjectMeta: at, Spec: splitv1alpha4.TrafficSplitSpec{Service: "x", Backends: []splitv1alpha4.TrafficSplitBackend{{Service: "y", Weight: 1}}}},
		"Egress":         &policyv1alpha1.Egress{ObjectMeta: at, Spec: policyv1alpha1.EgressSpec{Sources: []policyv1alpha1.EgressSource{{Kind: "ServiceAccount", Name: "a", Namespace: "b"}}, Ports: []policyv1alpha1.PortSpec{{Number: 80, Protocol: "http"}}}},
		"IngressBackend": &policyv1alpha1.IngressBackend{ObjectMeta: at, Spec: policyv1alpha1.IngressBackendSpec{Backends: []policyv1alpha1.BackendSpec{{Name: "x", Port: policyv1alpha1.PortSpec{Number: 80, Protocol: "http"}}}, Sources: []policyv1alpha1.IngressSourceSpec{{Kind: "IPRange", Name: "10.0.0.0/8"}}}},
		"Retry": &policyv1alpha1.Retry{ObjectMeta: at, Spec: policyv1alpha1.RetrySpec{
			Source: policyv1alpha1.RetrySrcDstSpec{Kind: "ServiceAccount", Name: "a", Namespace: "b"}, Destinations: []policyv1alpha1.RetrySrcDstSpec{{Kind: "Service", Name: "a", Namespace: "b"}},
			RetryPolicy: policyv1alpha1.RetryPolicySpec{RetryOn: "5xx"},
		}},
		"UpstreamTrafficSetting": &policyv1alpha1.UpstreamTrafficSetting{ObjectMeta: at, Spec: policyv1alpha1.UpstreamTrafficSettingSpec{Host: "x.shop.svc.cluster.local"}},
		"MeshConfig":             &configv1alpha2.MeshConfig{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "osm-mesh-config"}},
	}
}

func TestStatuses(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b := start(ctx, t)
	for _, name := range []string{"shop", "zzz"} {
		must(t, b.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	}
	all := objects()
	var fine, faulty []policy.ObjectReport
	for kind, o := range all {
		must(t, b.Create(ctx, o))
		fine = append(fine, reportOn(kind, o, ok(policy.ReasonAccepted), ok(policy.ReasonResolved)))
		faulty = append(faulty, reportOn(kind, o, ok(policy.ReasonNoEffect), bad(policy.ReasonServiceNotFound, "Service shop/y does not exist")))
	}

	b.writer.Set(fine)
	for kind, o := range all {
		b.eventually(ctx, t, o, kind+" is fine", func() bool { return len(conditionsOf(t, kind, o)) == wanted(kind) })
		for _, c := range conditionsOf(t, kind, o) {
			if c.Status != metav1.ConditionTrue || c.ObservedGeneration != o.GetGeneration() || c.LastTransitionTime.IsZero() {
				t.Errorf("%s has %+v", kind, c)
			}
		}
	}
	if got := b.told.take(); len(got) > 0 {
		t.Errorf("that new objects are all right was told: %q", got)
	}

	b.writer.Set(faulty)
	versions := map[string]string{}
	for kind, o := range all {
		b.eventually(ctx, t, o, kind+" has a fault", func() bool {
			return meta.FindStatusCondition(conditionsOf(t, kind, o), "Accepted").Reason == policy.ReasonNoEffect
		})
		if resolved := meta.FindStatusCondition(conditionsOf(t, kind, o), "ResolvedRefs"); resolved != nil && (resolved.Status != metav1.ConditionFalse || resolved.Message != "Service shop/y does not exist") {
			t.Errorf("%s has %+v", kind, resolved)
		}
		versions[kind] = o.GetResourceVersion()
	}
	want := 2*len(all) - 1 // a MeshConfig names nothing
	if got := b.told.take(); len(got) != want || !slices.Contains(got, "Warning x ServiceNotFound ResolvedRefs is False: Service shop/y does not exist") {
		t.Errorf("%d events, want %d:\n%s", len(got), want, strings.Join(got, "\n"))
	}
	backend := &policyv1alpha1.IngressBackend{}
	must(t, b.Get(ctx, client.ObjectKey{Namespace: "shop", Name: "x"}, backend))
	if diff := cmp.Diff(policyv1alpha1.PolicyStatus{CurrentStatus: "error", Reason: "Service shop/y does not exist"}, backend.Status, cmpopts.IgnoreFields(policyv1alpha1.PolicyStatus{}, "Conditions")); diff != "" {
		t.Errorf("what Open Service Mesh's users read (-want +got):\n%s", diff)
	}

	t.Run("what is there already is not written", func(t *testing.T) {
		b.writer.Set(slices.Clone(faulty))
		b.settle(ctx, t)
		other := New(Options{Client: b.Client, Recorder: b.told})
		other.Set(faulty)
		if more := other.pass(ctx); more {
			t.Error("another writer could not write")
		}
		for kind, o := range all {
			must(t, b.Get(ctx, client.ObjectKeyFromObject(o), o))
			if o.GetResourceVersion() != versions[kind] {
				t.Errorf("%s was written again", kind)
			}
		}
		if got := b.told.take(); len(got) > 0 {
			t.Errorf("it was told again: %q", got)
		}
	})
	t.Run("a report on what an object was is not written", func(t *testing.T) {
		target := all["TrafficTarget"]
		stale := reportOn("TrafficTarget", target, bad(policy.ReasonInvalid, "stale"), ok(policy.ReasonResolved))
		stale.Generation--
		replaced := reportOn("TCPRoute", all["TCPRoute"], bad(policy.ReasonInvalid, "stale"), ok(policy.ReasonResolved))
		replaced.UID = "another"
		gone := stale
		gone.Key.Name = "gone"
		unknown := stale
		unknown.Kind = "Unknown"
		b.writer.Set([]policy.ObjectReport{stale, replaced, gone, unknown})
		b.settle(ctx, t)
		for _, kind := range []string{"TrafficTarget", "TCPRoute"} {
			must(t, b.Get(ctx, client.ObjectKeyFromObject(all[kind]), all[kind]))
			if all[kind].GetResourceVersion() != versions[kind] {
				t.Errorf("%s was written", kind)
			}
		}
	})
	t.Run("what was mended is told", func(t *testing.T) {
		b.told.take()
		b.writer.Set(fine)
		b.settle(ctx, t)
		got := b.told.take()
		if len(got) != want || !slices.ContainsFunc(got, func(e string) bool { return strings.HasPrefix(e, "Normal x ResolvedRefs ResolvedRefs is True") }) {
			t.Errorf("%d events, want %d:\n%s", len(got), want, strings.Join(got, "\n"))
		}
	})
}

// conditionsOf reads the conditions of an object by its kind.
func conditionsOf(t *testing.T, kind string, o client.Object) []metav1.Condition {
	t.Helper()
	u, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	must(t, err)
	s, known := subjectOf(kind)
	if !known {
		t.Fatalf("%s is not known", kind)
	}
	must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(u, s.object))
	return s.conditions()
}

func wanted(kind string) int {
	if kind == "MeshConfig" {
		return 1
	}
	return 2
}

// TestProgrammed says what proxies said: at once where that turns, and counts when it is time.
func TestProgrammed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b := start(ctx, t)
	for _, name := range []string{"shop", "zzz"} {
		must(t, b.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	}
	o := &policyv1alpha1.Retry{}
	objects()["Retry"].(*policyv1alpha1.Retry).DeepCopyInto(o)
	must(t, b.Create(ctx, o))
	name := policy.ObjectName{Kind: "Retry", Key: mesh.Key{Namespace: "shop", Name: "x"}}
	say := func(status programmed.Status, reason, message string) {
		b.writer.SetProgrammed(map[policy.ObjectName]programmed.Verdict{
			name: {Status: status, Reason: reason, Message: message, UID: string(o.UID), Generation: o.Generation},
		})
	}
	says := func(status metav1.ConditionStatus, message string, generation int64) func() bool {
		return func() bool {
			c := meta.FindStatusCondition(o.Status.Conditions, ConditionProgrammed)
			return c != nil && c.Status == status && c.Message == message && c.ObservedGeneration == generation
		}
	}
	report := func() {
		b.writer.Set([]policy.ObjectReport{reportOn("Retry", o, ok(policy.ReasonAccepted), ok(policy.ReasonResolved))})
	}
	report()
	b.settle(ctx, t)
	b.eventually(ctx, t, o, "nothing is said of proxies yet", func() bool { return len(o.Status.Conditions) == 2 })
	say(programmed.True, programmed.ReasonAcknowledged, "2 of 2")
	b.eventually(ctx, t, o, "all have it", says(metav1.ConditionTrue, "2 of 2", 1))
	if got := b.told.take(); len(got) > 0 {
		t.Errorf("that a new object is all right was told: %q", got)
	}

	version := o.ResourceVersion
	say(programmed.True, programmed.ReasonAcknowledged, "3 of 3")
	b.settle(ctx, t)
	must(t, b.Get(ctx, client.ObjectKeyFromObject(o), o))
	if o.ResourceVersion != version {
		t.Error("a count was written at once")
	}
	say(programmed.False, programmed.ReasonRejected, "2 of 3")
	b.eventually(ctx, t, o, "one rejects it", says(metav1.ConditionFalse, "2 of 3", 1))
	if got, want := b.told.take(), []string{"Warning x Rejected Programmed is False: 2 of 3"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	if o.Status.CurrentStatus != "committed" {
		t.Errorf("Open Service Mesh's users read %q", o.Status.CurrentStatus)
	}

	o.Spec.RetryPolicy.RetryOn = "reset"
	must(t, b.Update(ctx, o))
	o.Generation--
	say(programmed.True, programmed.ReasonAcknowledged, "of the generation before")
	o.Generation++
	report()
	b.settle(ctx, t)
	b.eventually(ctx, t, o, "what was said stays, with its generation", func() bool {
		accepted := meta.FindStatusCondition(o.Status.Conditions, ConditionAccepted)
		return accepted.ObservedGeneration == 2 && says(metav1.ConditionFalse, "2 of 3", 1)()
	})
}

func TestWhatIsWritten(t *testing.T) {
	now := time.Unix(1000, 0)
	of := func(status programmed.Status, reason, message string) report {
		return report{programmed: programmed.Verdict{Status: status, Reason: reason, Message: message}}
	}
	tests := map[string]struct {
		before written
		now    report
		turns  bool
		counts bool
	}{
		"what is the same is not":               {written{report: of("True", "A", "1")}, of("True", "A", "1"), false, false},
		"another status is at once":             {written{of("True", "A", "1"), now}, of("False", "A", "1"), true, false},
		"another reason is at once":             {written{of("False", "A", "1"), now}, of("False", "B", "1"), true, false},
		"another count is not":                  {written{of("True", "A", "1"), now.Add(-recount + 1)}, of("True", "A", "2"), false, false},
		"but after some time":                   {written{of("True", "A", "1"), now.Add(-recount)}, of("True", "A", "2"), false, true},
		"that nothing is to be said is not":     {written{of("True", "A", "1"), time.Time{}}, of("", "", ""), false, false},
		"what the compiler says is, at once":    {written{of("True", "A", "1"), now}, report{ObjectReport: policy.ObjectReport{Generation: 2}}, true, false},
		"what is said for the first time is":    {written{}, of("True", "A", "1"), true, true},
		"nothing is said twice where it is not": {written{report: of("", "", "")}, of("", "", ""), false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.before.turns(tt.now); got != tt.turns {
				t.Errorf("it turns: %t", got)
			}
			if got := tt.before.counts(tt.now, now); got != tt.counts {
				t.Errorf("it counts: %t", got)
			}
		})
	}
}

func TestFair(t *testing.T) {
	r := func(ns string, i int) report {
		return report{ObjectReport: policy.ObjectReport{Key: mesh.Key{Namespace: ns, Name: fmt.Sprint(i)}}}
	}
	var reports []report
	for i := range 1000 {
		reports = append(reports, r("many", i))
	}
	reports = append(reports, r("few", 1), r("few", 2), r("one", 1))
	var got []string
	for _, r := range fair(reports, 6, func(r report) bool { return r.Key.Name != "0" }) {
		got = append(got, r.Key.String())
	}
	want := []string{"many/1", "few/1", "one/1", "many/2", "few/2", "many/3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := fair(reports[:3], 10, func(report) bool { return true }); len(got) != 3 {
		t.Errorf("%d of 3", len(got))
	}
}

func TestEveryKindOfReportIsKnown(t *testing.T) {
	for kind := range objects() {
		s, known := subjectOf(kind)
		if !known || s.gvk.Kind != kind {
			t.Errorf("%s: %+v", kind, s.gvk)
		}
	}
}
