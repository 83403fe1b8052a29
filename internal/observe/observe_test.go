package observe_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/openservicemesh/osm-operator/internal/observe"
)

func TestRolledOut(t *testing.T) {
	done := appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 2}
	for name, tc := range map[string]struct {
		change func(*appsv1.DeploymentStatus)
		want   bool
	}{
		"all replicas are new and available":               {func(*appsv1.DeploymentStatus) {}, true},
		"the cluster counts those that end, and none does": {func(s *appsv1.DeploymentStatus) { s.TerminatingReplicas = new(int32(0)) }, true},
		"an old replica still ends":                        {func(s *appsv1.DeploymentStatus) { s.TerminatingReplicas = new(int32(1)) }, false},
		"an old replica is left":                           {func(s *appsv1.DeploymentStatus) { s.Replicas = 3 }, false},
		"a replica is old":                                 {func(s *appsv1.DeploymentStatus) { s.UpdatedReplicas = 1 }, false},
		"a replica is not available":                       {func(s *appsv1.DeploymentStatus) { s.AvailableReplicas = 1 }, false},
		"the newest spec has not been looked at":           {func(s *appsv1.DeploymentStatus) { s.ObservedGeneration = 1 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := &appsv1.Deployment{
				ObjectMeta: metav1.ObjectMeta{Namespace: "osm-system", Name: "osm-controller-v1", Generation: 2},
				Spec:       appsv1.DeploymentSpec{Replicas: new(int32(2))}, Status: done,
			}
			tc.change(&d.Status)
			reader := fake.NewClientBuilder().WithObjects(d).Build()
			got, err := observe.ReadControlPlane(t.Context(), reader, client.ObjectKeyFromObject(d))
			if err != nil || got.RolledOut() != tc.want {
				t.Errorf("%+v, %v; want rolled out %v", got, err, tc.want)
			}
		})
	}
}
