package mesh

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// TestConditionsOfOthersStay has another controller write its condition after this one has
// read the Mesh: a moment that a real API server does not let a test choose.
func TestConditionsOfOthersStay(t *testing.T) {
	t.Parallel()
	scheme := runtime.NewScheme()
	if err := operatorv1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	m := &operatorv1alpha1.Mesh{ObjectMeta: metav1.ObjectMeta{Name: "mesh"}}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(m).WithStatusSubresource(m).Build()
	var stale, live operatorv1alpha1.Mesh
	for _, to := range []*operatorv1alpha1.Mesh{&stale, &live} {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(m), to); err != nil {
			t.Fatal(err)
		}
	}
	meta.SetStatusCondition(&live.Status.Conditions, metav1.Condition{Type: operatorv1alpha1.ConditionAuthorityReady, Status: metav1.ConditionTrue, Reason: "Ready"})
	if err := c.Status().Update(t.Context(), &live); err != nil {
		t.Fatal(err)
	}

	r := New(Options{Client: c, APIReader: c, Recorder: events.NewFakeRecorder(8)})
	ready := []metav1.Condition{{Type: operatorv1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready"}}
	for _, as := range []struct {
		read  *operatorv1alpha1.Mesh
		wrote bool
	}{{&stale, false}, {&live, true}} {
		wrote, err := r.write(t.Context(), as.read, *as.read.Status.DeepCopy(), ready)
		if err != nil || wrote != as.wrote {
			t.Errorf("it wrote: %t, %v, want %t", wrote, err, as.wrote)
		}
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(m), &live); err != nil {
		t.Fatal(err)
	}
	for _, condition := range []string{operatorv1alpha1.ConditionAuthorityReady, operatorv1alpha1.ConditionReady} {
		if !meta.IsStatusConditionTrue(live.Status.Conditions, condition) {
			t.Errorf("%s is gone: %+v", condition, live.Status.Conditions)
		}
	}
}
