package mesh_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/controllers/mesh"
	"github.com/openservicemesh/osm-operator/internal/release"
)

// noMeshes is a cluster without another Mesh.
type noMeshes struct{ client.Reader }

// List implements client.Reader.
func (noMeshes) List(context.Context, client.ObjectList, ...client.ListOption) error { return nil }

func TestVersionsAreRefusedWhenTheyAreAskedFor(t *testing.T) {
	t.Parallel()
	catalogue := release.NewCatalogue(nil, release.Release{Version: "v0.3.0", Storage: 1}, release.Release{Version: "v0.2.0", Storage: 1})
	of := func(version, running string, change func(*operatorv1alpha1.Mesh)) *operatorv1alpha1.Mesh {
		m := &operatorv1alpha1.Mesh{ObjectMeta: metav1.ObjectMeta{Name: "osm"}}
		m.Spec.Version, m.Status.Version = version, running
		if change != nil {
			change(m)
		}
		return m
	}
	for name, tt := range map[string]struct {
		old, new *operatorv1alpha1.Mesh
		refusal  string
	}{
		"a known one is taken":                 {new: of("v0.1.0", "", nil)},
		"the next one is taken":                {old: of("v0.1.0", "v0.1.0", nil), new: of("v0.2.0", "v0.1.0", nil)},
		"one back is taken":                    {old: of("v0.2.0", "v0.2.0", nil), new: of("v0.1.0", "v0.2.0", nil)},
		"an unknown one is refused":            {new: of("v7.0.0", "", nil), refusal: "this operator installs v0.1.0, v0.2.0, v0.3.0"},
		"one that leaves another out as well":  {old: of("v0.1.0", "v0.1.0", nil), new: of("v0.3.0", "v0.1.0", nil), refusal: "go to v0.2.0 first"},
		"taking a version off leads on safely": {old: of("v0.1.0", "v0.1.0", nil), new: of("", "v0.1.0", nil)},
		"other fields can be edited whatever the version is": {
			old: of("v9.0.0", "v9.0.0", nil), new: of("v9.0.0", "v9.0.0", func(m *operatorv1alpha1.Mesh) { m.Spec.Paused = true }),
		},
		"a Mesh that is being deleted can lose its finalizer": {
			new: of("v9.0.0", "v9.0.0", func(m *operatorv1alpha1.Mesh) { m.DeletionTimestamp = new(metav1.Now()) }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Object: raw(t, tt.new)}}
			if tt.old != nil {
				request.OldObject = raw(t, tt.old)
			}
			answer := (&mesh.Validator{Reader: noMeshes{}, Catalogue: catalogue}).Handle(t.Context(), request)
			if answer.Allowed != (tt.refusal == "") {
				t.Fatalf("allowed is %t: %s", answer.Allowed, answer.Result.Message)
			}
			if !answer.Allowed && !strings.Contains(answer.Result.Message, tt.refusal) {
				t.Errorf("the refusal is %q, want it to say %q", answer.Result.Message, tt.refusal)
			}
		})
	}
}

func raw(t *testing.T, m *operatorv1alpha1.Mesh) runtime.RawExtension {
	t.Helper()
	bytes, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return runtime.RawExtension{Raw: bytes}
}
