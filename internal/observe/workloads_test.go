package observe_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/observe"
	"github.com/openservicemesh/osm-operator/internal/plan/rollout"
)

// injected is a pod with a sidecar, of an owner.
func injected(name, revision, kind, owner string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: name, UID: types.UID(name),
		Labels: map[string]string{operatorv1alpha1.LabelInjectedBy: "osm", operatorv1alpha1.LabelInjectedRevision: revision, appsv1.DefaultDeploymentUniqueLabelKey: "5d8f"},
	}}
	if kind != "" {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: owner, UID: "1", Controller: new(true)}}
	}
	return p
}

func at(name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: labels, Generation: 2}
}

func asking(revision string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{operatorv1alpha1.AnnotationRevision: revision}}}
}

func TestReadWorkloads(t *testing.T) {
	t.Parallel()
	optedOut := map[string]string{operatorv1alpha1.LabelUpgrade: "disabled"}
	restarting := injected("web-5d8f-1", "b", "ReplicaSet", "web-5d8f")
	restarting.Status = corev1.PodStatus{
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		InitContainerStatuses: []corev1.ContainerStatus{{
			Name: "envoy", RestartCount: 4, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		}},
	}
	ended := injected("ended", "a", "Job", "import")
	ended.Status.Phase = corev1.PodSucceeded
	reader := fake.NewClientBuilder().WithObjects(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{operatorv1alpha1.LabelMonitoredBy: "osm"}}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere"}},
		&appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Generation: 2, Annotations: map[string]string{operatorv1alpha1.AnnotationWave: "b/one"}},
			Spec:       appsv1.DeploymentSpec{Template: asking("b")},
			Status:     appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1},
		},
		&appsv1.Deployment{ObjectMeta: at("plain", nil)},
		&appsv1.Deployment{ObjectMeta: at("asleep", nil), Spec: appsv1.DeploymentSpec{Replicas: new(int32(0)), Template: asking("a")}, Status: appsv1.DeploymentStatus{ObservedGeneration: 1}},
		&appsv1.Deployment{ObjectMeta: at("held", nil), Spec: appsv1.DeploymentSpec{Paused: true, Template: asking("a")}},
		&appsv1.Deployment{ObjectMeta: at("sick", nil), Spec: appsv1.DeploymentSpec{Template: asking("a")}, Status: appsv1.DeploymentStatus{
			Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}},
		}},
		&appsv1.StatefulSet{ObjectMeta: at("down", nil), Spec: appsv1.StatefulSetSpec{Template: asking("a")}},
		&appsv1.Deployment{ObjectMeta: at("out", optedOut), Spec: appsv1.DeploymentSpec{Template: asking("a")}},
		&appsv1.StatefulSet{ObjectMeta: at("db", nil), Spec: appsv1.StatefulSetSpec{UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}}},
		&appsv1.StatefulSet{ObjectMeta: at("parted", nil), Spec: appsv1.StatefulSetSpec{
			Template: asking("a"), UpdateStrategy: appsv1.StatefulSetUpdateStrategy{RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32(1))}},
		}},
		&appsv1.DaemonSet{ObjectMeta: at("agent", nil), Spec: appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}}},
		&appsv1.DaemonSet{
			ObjectMeta: at("log", nil), Spec: appsv1.DaemonSetSpec{Template: asking("a")},
			Status: appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 1, UpdatedNumberScheduled: 1, NumberAvailable: 1, NumberReady: 1},
		},
		restarting, ended,
		injected("db-0", "a", "StatefulSet", "db"), injected("agent-x", "a", "DaemonSet", "agent"), injected("log-x", "a", "DaemonSet", "log"),
		injected("bare", "a", "", ""), injected("import-1", "a", "Job", "import"), injected("lone-1", "a", "ReplicaSet", "lone"), injected("gone-5d8f-1", "a", "ReplicaSet", "gone-5d8f"),
	).Build()
	pods, err := observe.ReadPods(t.Context(), reader, "osm")
	if err != nil || pods.ByRevision["a"] != 7 || pods.ByRevision["b"] != 1 {
		t.Fatalf("pods are %+v, %v", pods, err)
	}
	got, err := observe.ReadWorkloads(t.Context(), reader, "osm", pods.All, observe.Proxies{"b": {"web-5d8f-1": {Synced: true, Rejected: "a cluster"}}})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got.All, func(a, b rollout.Workload) int { return strings.Compare(a.String(), b.String()) })
	var lines []string
	for _, w := range got.All {
		lines = append(lines, strings.TrimSpace(w.String()+" "+cmp.Or(w.Revision, "-")+" "+map[bool]string{true: "done", false: "rolling"}[w.RolledOut]+" "+cmp.Or(w.Excluded, w.Unwell)))
		if w.Name != "web" {
			continue
		}
		if len(w.Pods) != 1 || w.Wave != "b/one" {
			t.Fatalf("web is %+v", w)
		}
		p := w.Pods[0]
		if p.Revision != "b" || !p.Ready || p.Restarts != 4 || p.Stuck != "(envoy: CrashLoopBackOff)" || !p.Connected || !p.Synced || p.Rejected != "a cluster" {
			t.Errorf("its pod is %+v", p)
		}
	}
	want := []string{
		"DaemonSet shop/agent - rolling its update strategy OnDelete leaves it to a person to delete pods",
		"DaemonSet shop/log a done",
		"Deployment shop/asleep a rolling",
		"Deployment shop/held a rolling it is paused",
		"Deployment shop/out a rolling it has the label openservicemesh.io/upgrade=disabled",
		"Deployment shop/sick a rolling it is not well as it is: ProgressDeadlineExceeded",
		"Deployment shop/web b done",
		"StatefulSet shop/db - rolling its update strategy OnDelete leaves it to a person to delete pods",
		"StatefulSet shop/down a rolling it is not well as it is: no pod is ready",
		"StatefulSet shop/parted a rolling its partition holds pods back",
	}
	if diff := gocmp.Diff(want, lines); diff != "" {
		t.Errorf("workloads (-want +got):\n%s", diff)
	}
	lines = nil
	for _, p := range got.Loose {
		lines = append(lines, p.Name+" "+p.Revision+": "+p.Reason)
	}
	slices.Sort(lines)
	want = []string{
		"shop/bare a: nothing would make it again",
		"shop/gone-5d8f-1 a: its Deployment gone is not there, or its namespace is not in the mesh",
		"shop/import-1 a: it belongs to Job import, which the mesh does not restart",
		"shop/lone-1 a: it belongs to ReplicaSet lone, which the mesh does not restart",
	}
	if diff := gocmp.Diff(want, lines); diff != "" {
		t.Errorf("loose pods (-want +got):\n%s", diff)
	}
}

func TestANamespaceOptsOutForAllInIt(t *testing.T) {
	t.Parallel()
	reader := fake.NewClientBuilder().WithObjects(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{
			operatorv1alpha1.LabelMonitoredBy: "osm", operatorv1alpha1.LabelUpgrade: "disabled",
		}}},
		&appsv1.Deployment{ObjectMeta: at("web", nil), Spec: appsv1.DeploymentSpec{Template: asking("a")}},
	).Build()
	got, err := observe.ReadWorkloads(t.Context(), reader, "osm", nil, nil)
	if err != nil || len(got.All) != 1 || got.All[0].Excluded != "its namespace has the label openservicemesh.io/upgrade=disabled" {
		t.Errorf("workloads are %+v, %v", got, err)
	}
}
