package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/controlplane"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/inject"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

func livePod(name, uid, account string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(uid)},
		Spec:       corev1.PodSpec{ServiceAccountName: account}, Status: corev1.PodStatus{Phase: phase},
	}
}

func TestAuthenticate(t *testing.T) {
	w := newWorld(t.Context(), nil)
	w.apply(t.Context(), joined(), pod("known", "web", "web", 1))
	class := w.engine.Model().Workloads[key("known")].Class
	peer := func(account, uid string) identity.Peer {
		return identity.Peer{ID: identity.ID{TrustDomain: "cluster.local", ServiceAccount: identity.ServiceAccount{Namespace: "shop", Name: account}}, PodUID: uid}
	}
	node := func(name, uid string) serve.NodeInfo {
		return serve.NodeInfo{PodUID: uid, Name: name, Namespace: "shop"}
	}
	reader := fake.NewClientBuilder().WithObjects(
		livePod("fresh", "uid-fresh", "web", corev1.PodPending), livePod("ended", "uid-ended", "web", corev1.PodSucceeded),
		livePod("replaced", "uid-new", "web", corev1.PodRunning),
	).WithInterceptorFuncs(interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, k client.ObjectKey, o client.Object, opts ...client.GetOption) error {
		if k.Name == "unreadable" {
			return apierrors.NewServiceUnavailable("away")
		}
		return c.Get(ctx, k, o, opts...)
	}}).Build()
	for name, tc := range map[string]struct {
		peer  identity.Peer
		node  serve.NodeInfo
		want  codes.Code
		class string
	}{
		"a pod of the Model":                  {peer("web", "uid-known"), node("known", "uid-known"), codes.OK, class},
		"a pod that the Model has not seen":   {peer("web", "uid-fresh"), node("fresh", "uid-fresh"), codes.OK, ""},
		"another pod's certificate":           {peer("web", "uid-fresh"), node("known", "uid-known"), codes.PermissionDenied, ""},
		"a certificate without a pod":         {peer("web", ""), node("known", ""), codes.PermissionDenied, ""},
		"another account":                     {peer("other", "uid-known"), node("known", "uid-known"), codes.PermissionDenied, ""},
		"another account of a live pod":       {peer("other", "uid-fresh"), node("fresh", "uid-fresh"), codes.PermissionDenied, ""},
		"another namespace's name":            {peer("web", "uid-known"), serve.NodeInfo{PodUID: "uid-known", Name: "known", Namespace: "else"}, codes.PermissionDenied, ""},
		"a pod that is gone":                  {peer("web", "uid-gone"), node("gone", "uid-gone"), codes.PermissionDenied, ""},
		"a pod that has ended":                {peer("web", "uid-ended"), node("ended", "uid-ended"), codes.PermissionDenied, ""},
		"a pod that took another's name":      {peer("web", "uid-old"), node("replaced", "uid-old"), codes.PermissionDenied, ""},
		"a pod that nobody can look up":       {peer("web", "uid-x"), node("unreadable", "uid-x"), codes.Unavailable, ""},
		"an older pod of the name of another": {peer("web", "uid-before"), node("known", "uid-before"), codes.PermissionDenied, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := controlplane.NewAuthenticator("osm", w.engine.Model, reader).Authenticate(t.Context(), tc.peer, tc.node)
			if status.Code(err) != tc.want || got.Class != tc.class {
				t.Errorf("class %q, %v; want %q, %s", got.Class, err, tc.class, tc.want)
			}
			if err == nil && (got.PodUID != tc.node.PodUID || got.ServiceAccount != tc.peer.ID.ServiceAccount || got.Name != tc.node.Name) {
				t.Errorf("the pod is %+v", got)
			}
			if err != nil && got != (serve.ProxyInfo{}) {
				t.Errorf("a refusal tells of %+v", got)
			}
		})
	}
}

func TestLookupsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		reader := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{Get: func(ctx context.Context, _ client.WithWatch, _ client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			<-ctx.Done() // an API server that does not answer
			mu.Lock()
			now--
			mu.Unlock()
			return ctx.Err()
		}}).Build()
		a := controlplane.NewAuthenticator("osm", func() *mesh.Model { return nil }, reader)
		var wg sync.WaitGroup
		start := time.Now()
		for i := range 100 {
			wg.Go(func() {
				uid := fmt.Sprint(i)
				_, err := a.Authenticate(t.Context(), identity.Peer{ID: identity.ID{ServiceAccount: identity.ServiceAccount{Namespace: "shop", Name: "a"}}, PodUID: uid}, serve.NodeInfo{PodUID: uid, Name: "p" + uid, Namespace: "shop"})
				if status.Code(err) != codes.Unavailable {
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		if most != 8 || time.Since(start) > 4*time.Second {
			t.Errorf("%d look-ups at once, over after %s", most, time.Since(start))
		}
	})
}

func TestShare(t *testing.T) {
	labels := map[string]string{"app": "osm-controller"}
	replica := func(name string, phase corev1.PodPhase, labels map[string]string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "osm-system", Name: name, Labels: labels}, Status: corev1.PodStatus{Phase: phase}}
	}
	reader := fake.NewClientBuilder().WithObjects(
		replica("a", corev1.PodRunning, labels), replica("b", corev1.PodRunning, labels), replica("c", corev1.PodRunning, labels),
		replica("starting", corev1.PodPending, labels), replica("other", corev1.PodRunning, nil),
	).Build()
	count := map[string]int{}
	for i := range 300 {
		owners := 0
		for _, self := range []string{"a", "b", "c"} {
			share := controlplane.Share{Reader: reader, Namespace: "osm-system", Self: self, Labels: labels}
			if share.Mine(fmt.Sprint(i)) {
				owners++
				count[self]++
			}
		}
		if owners != 1 {
			t.Fatalf("piece %d has %d owners", i, owners)
		}
	}
	for self, n := range count {
		if n < 60 || n > 140 {
			t.Errorf("replica %s has %d of 300", self, n)
		}
	}
	broken := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
		return errors.New("away")
	}}).Build()
	share := controlplane.Share{Reader: broken, Namespace: "osm-system", Self: "a", Labels: labels}
	if !share.Mine("x") {
		t.Error("what cannot be told is nobody's")
	}
}

func TestVerdicts(t *testing.T) {
	var lines, faults []string
	var written [][]policy.ObjectReport
	v := controlplane.NewVerdicts(controlplane.VerdictOptions{
		Log:  funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{}),
		Code: func(code string) { faults = append(faults, code) }, Write: func(r []policy.ObjectReport) { written = append(written, r) },
	})
	fine := policy.ObjectReport{
		Kind: "TrafficTarget", Key: key("t"), UID: "1", Generation: 1,
		Accepted: policy.Verdict{OK: true, Reason: policy.ReasonAccepted}, Resolved: policy.Verdict{OK: true, Reason: policy.ReasonResolved},
	}
	faulty := fine
	faulty.Resolved = policy.Verdict{Reason: policy.ReasonRouteNotFound, Message: "HTTPRouteGroup x does not exist", Code: "E2005"}
	for _, step := range []struct {
		name                 string
		do                   func()
		lines, codes, writes int
	}{
		{"what is fine is written and not logged", func() { v.Policies([]policy.ObjectReport{fine}) }, 0, 0, 1},
		{"what is the same is not even written", func() { v.Policies([]policy.ObjectReport{fine}) }, 0, 0, 0},
		{"a fault is told", func() { v.Policies([]policy.ObjectReport{faulty}) }, 1, 1, 1},
		{"once", func() { v.Policies([]policy.ObjectReport{faulty}) }, 0, 0, 0},
		{"a MeshConfig that is followed", func() { v.MeshConfig(&mesh.Object[configv1alpha2.MeshConfigSpec]{Key: key("c")}, nil) }, 0, 0, 1},
		{"a MeshConfig that is followed in part", func() {
			v.MeshConfig(&mesh.Object[configv1alpha2.MeshConfigSpec]{Key: key("c")}, []string{"a is no duration", "b has no effect"})
		}, 1, 0, 1},
		{"an object that is gone", func() { v.Policies(nil) }, 0, 0, 1},
	} {
		lines, faults, written = nil, nil, nil
		step.do()
		if len(lines) != step.lines || len(faults) != step.codes || len(written) != step.writes {
			t.Errorf("%s: %d lines, %d codes, %d writes; want %d, %d, %d", step.name, len(lines), len(faults), len(written), step.lines, step.codes, step.writes)
		}
	}
	all := v.All()
	if len(all) != 1 || all[0].Accepted.Reason != controlplane.ReasonPartlyFollowed || all[0].Accepted.Message != "a is no duration; b has no effect" {
		t.Errorf("in the end there is to be said %+v", all)
	}
	if i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "E2005") }); i >= 0 {
		t.Error("a fault that is over is told")
	}
}

func TestInjectionFollowsTheMeshConfig(t *testing.T) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "shop", Labels: map[string]string{"openservicemesh.io/monitored-by": "osm"}, Annotations: map[string]string{"openservicemesh.io/sidecar-injection": "enabled"},
	}}
	base := inject.Config{Mesh: "osm", OSMImage: "osm:1", EnvoyImage: "envoy:1"}
	i := controlplane.NewInjection(fake.NewClientBuilder().WithScheme(operatorScheme(t)).WithObjects(ns).Build(), base, func() string { return "roots" })
	if _, err := i.Config(t.Context(), ""); err == nil {
		t.Error("pods are injected before the MeshConfig was read")
	}
	if got, err := i.Namespace(t.Context(), "shop"); err != nil || got.Labels["openservicemesh.io/monitored-by"] != "osm" || got.Annotations["openservicemesh.io/sidecar-injection"] != "enabled" {
		t.Errorf("the namespace is %+v, %v", got, err)
	}
	if _, err := i.Namespace(t.Context(), "gone"); err == nil {
		t.Error("a namespace that cannot be read has no labels")
	}
	problems := i.Follow(configv1alpha2.MeshConfigSpec{
		Sidecar: &configv1alpha2.SidecarSpec{
			LogLevel: "debug", EnvoyImage: "envoy:2", EnablePrivilegedInitContainer: new(true), LocalProxyMode: "PodIP", Resources: &corev1.ResourceRequirements{},
		},
		Traffic: &configv1alpha2.TrafficSpec{
			InboundPortExclusionList: []int{1, 15003}, OutboundPortExclusionList: []int{2}, OutboundIPRangeExclusionList: []string{"10.0.0.0/8"},
			OutboundIPRangeInclusionList: []string{"11.0.0.0/8"}, NetworkInterfaceExclusionList: []string{"eth1"},
		},
	}, time.Hour)
	if len(problems) != 1 || !strings.Contains(problems[0], "port 15003 is the sidecar's") {
		t.Errorf("problems %q, want one about the port of the sidecar", problems)
	}
	want := base
	want.Roots = "roots"
	want.LogLevel, want.EnvoyImage, want.PrivilegedInit, want.PodIPMode, want.LeafLifetime = "debug", "envoy:2", true, true, time.Hour
	want.Exclusions = inject.Exclusions{
		InboundPorts: []int{1}, OutboundPorts: []int{2}, OutboundRanges: []string{"10.0.0.0/8"}, OutboundOnly: []string{"11.0.0.0/8"}, Interfaces: []string{"eth1"},
	}
	got, err := i.Config(t.Context(), "")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if problems := i.Follow(configv1alpha2.MeshConfigSpec{}, time.Hour); len(problems) > 0 {
		t.Errorf("an empty MeshConfig has problems: %q", problems)
	}
	got, _ = i.Config(t.Context(), "")
	want = base
	want.Roots = "roots"
	want.LeafLifetime = time.Hour
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields that were taken back hold (-want +got):\n%s", diff)
	}
}

// TestInjectionGivesTheRevisionThatIsAskedFor has two control planes side by side, either
// of which injects for both.
func TestInjectionGivesTheRevisionThatIsAskedFor(t *testing.T) {
	t.Parallel()
	revision := func(mesh, name, envoy string) *operatorv1alpha1.MeshRevision {
		return &operatorv1alpha1.MeshRevision{
			ObjectMeta: metav1.ObjectMeta{Name: mesh + "-" + name},
			Spec: operatorv1alpha1.MeshRevisionSpec{
				Mesh: mesh, Revision: name, Namespace: "osm-system", TrustDomain: "cluster.local", OSMImage: "osm:" + name, EnvoyImage: envoy,
				WorkloadIdentity: operatorv1alpha1.WorkloadIdentityServiceAccountToken,
			},
		}
	}
	for name, tt := range map[string]struct {
		current, asked, self string
		want                 string
	}{
		"a pod that does not ask gets the current one":            {current: "a", asked: "", self: "a", want: "a"},
		"a pod that does not ask gets it from the other one too":  {current: "a", asked: "", self: "b", want: "a"},
		"a pod that asks gets what it asks for":                   {current: "a", asked: "b", self: "a", want: "b"},
		"a pod that asks for this one gets it":                    {current: "a", asked: "b", self: "b", want: "b"},
		"a pod that asks for one that is gone gets the current":   {current: "a", asked: "old", self: "b", want: "a"},
		"a pod that asks for another mesh's gets the current one": {current: "a", asked: "theirs", self: "a", want: "a"},
		"a mesh that does not say yet gives this one":             {current: "", asked: "", self: "b", want: "b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reader := fake.NewClientBuilder().WithScheme(operatorScheme(t)).WithObjects(
				&operatorv1alpha1.Mesh{ObjectMeta: metav1.ObjectMeta{Name: "osm"}, Status: operatorv1alpha1.MeshStatus{Revision: tt.current}},
				revision("osm", "a", "envoy:a"), revision("osm", "b", "envoy:b"), revision("other", "theirs", "envoy:theirs"),
			).Build()
			host, hostName := controlplane.Host("osm-system", tt.self)
			i := controlplane.NewInjection(reader, inject.Config{
				Mesh: "osm", MeshNamespace: "osm-system", Revision: tt.self, OSMImage: "osm:" + tt.self, EnvoyImage: "envoy:" + tt.self,
				ControlPlane: host, ControlPlaneName: hostName, ControlPlaneID: "spiffe://cluster.local/mesh/osm/control-plane/" + tt.self,
				Identity: operatorv1alpha1.WorkloadIdentityServiceAccountToken,
			}, func() string { return "roots" })
			i.Follow(configv1alpha2.MeshConfigSpec{}, time.Hour)
			got, err := i.Config(t.Context(), tt.asked)
			want := inject.Config{
				Mesh: "osm", MeshNamespace: "osm-system", Revision: tt.want, OSMImage: "osm:" + tt.want, EnvoyImage: "envoy:" + tt.want,
				ControlPlane: "osm-controller-" + tt.want + ".osm-system.svc.cluster.local", ControlPlaneName: "osm-controller-" + tt.want + ".osm-system.svc",
				ControlPlaneID: "spiffe://cluster.local/mesh/osm/control-plane/" + tt.want,
				Identity:       operatorv1alpha1.WorkloadIdentityServiceAccountToken, Roots: "roots", LeafLifetime: time.Hour,
			}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func operatorScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), operatorv1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	return scheme
}
