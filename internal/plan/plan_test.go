package plan_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/release"
	"github.com/openservicemesh/osm-operator/internal/testkit/golden"
)

func mesh(name string, age time.Duration, change func(*operatorv1alpha1.Mesh)) *operatorv1alpha1.Mesh {
	m := &operatorv1alpha1.Mesh{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: "11111111-2222-3333-4444-555555555555",
			CreationTimestamp: metav1.NewTime(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).Add(-age)),
		},
	}
	if change != nil {
		change(m)
	}
	return m
}

func facts(m *operatorv1alpha1.Mesh, others ...operatorv1alpha1.Mesh) plan.Facts {
	return plan.Facts{
		Mesh: m, Others: others, TrustBundle: []byte("roots"), PodCertificates: true,
		OperatorNamespace: "osm-operator-system", OperatorServiceAccount: "osm-operator",
		Catalogue: release.NewCatalogue(nil),
	}
}

// TestComputeGolden draws every object of some meshes; each golden file is reviewed
// as a diff.
func TestComputeGolden(t *testing.T) {
	cases := map[string]*operatorv1alpha1.Mesh{
		"an_empty_spec_is_all_defaults": mesh("osm", 0, nil),
		"every_setting": mesh("edge", 0, func(m *operatorv1alpha1.Mesh) {
			m.Spec = operatorv1alpha1.MeshSpec{
				Version: release.Current, Namespace: "edge-system", TrustDomain: "edge.example",
				ControlPlane: &operatorv1alpha1.ControlPlane{
					Replicas:     3,
					Resources:    &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}},
					Tolerations:  []corev1.Toleration{{Key: "control-plane", Operator: corev1.TolerationOpExists}},
					NodeSelector: map[string]string{"kubernetes.io/os": "linux"},
				},
				Images: &operatorv1alpha1.Images{
					OSM: "registry.example/osm:1", Envoy: "registry.example/envoy:1", PullPolicy: corev1.PullAlways,
					PullSecrets: []corev1.LocalObjectReference{{Name: "registry"}},
				},
				MeshConfig: &configv1alpha2.MeshConfigSpec{Traffic: &configv1alpha2.TrafficSpec{EnablePermissiveTrafficPolicyMode: new(false)}},
			}
		}),
	}
	for name, m := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := plan.Compute(facts(m))
			if err != nil {
				t.Fatal(err)
			}
			var out []byte
			for _, stage := range p.Stages {
				out = append(out, "# stage: "+stage.Name+"\n"...)
				for _, object := range stage.Objects {
					out = append(out, document(t, object)...)
				}
			}
			revision := &operatorv1alpha1.MeshRevision{ObjectMeta: metav1.ObjectMeta{Name: "r", UID: "66666666-7777-8888-9999-000000000000"}, Spec: p.Revision}
			out = append(out, "# the revision's own\n"...)
			for _, object := range render.Revision(render.RevisionInput{Revision: revision}) {
				out = append(out, document(t, object)...)
			}
			golden.Compare(t, filepath.Join("testdata", name+".yaml"), out)
		})
	}
}

func document(t *testing.T, object any) []byte {
	t.Helper()
	raw, err := yaml.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("---\n"), raw...)
}

func TestComputeRefuses(t *testing.T) {
	older := *mesh("older", time.Hour, nil)
	cases := map[string]struct {
		facts      plan.Facts
		wantHolder string
		wantErr    error
	}{
		"A version that cannot be installed is refused": {
			facts:   facts(mesh("osm", 0, func(m *operatorv1alpha1.Mesh) { m.Spec.Version = "v0.0.9" })),
			wantErr: release.ErrUnknownVersion,
		},
		"The younger of two Meshes of one namespace is refused": {
			facts: facts(mesh("osm", 0, nil), older), wantHolder: "older",
		},
		"Of two Meshes of one age the one later in the alphabet is refused": {
			facts: facts(mesh("osm", 0, nil), *mesh("a", 0, nil)), wantHolder: "a",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := plan.Compute(tc.facts)
			if !plan.IsRefusal(err) {
				t.Fatalf("Compute: error %v, want a refusal", err)
			}
			if tc.wantErr != nil && !errors.Is(err, tc.wantErr) {
				t.Errorf("Compute: error %v, want %v", err, tc.wantErr)
			}
			var taken *plan.NamespaceTakenError
			if tc.wantHolder != "" && (!errors.As(err, &taken) || taken.Holder != tc.wantHolder) {
				t.Errorf("Compute: error %v, want the holder %s", err, tc.wantHolder)
			}
			if len(p.Stages) != 0 {
				t.Errorf("Compute: a refused Mesh has %d stages to write", len(p.Stages))
			}
		})
	}
}

func TestComputeLeavesOthersAlone(t *testing.T) {
	elsewhere := *mesh("elsewhere", time.Hour, func(m *operatorv1alpha1.Mesh) { m.Spec.Namespace = "other" })
	if _, err := plan.Compute(facts(mesh("osm", 0, nil), elsewhere)); err != nil {
		t.Errorf("Compute: %v, though the older Mesh has another namespace", err)
	}
}

func TestComputeWaitsForTheRoots(t *testing.T) {
	f := facts(mesh("osm", 0, nil))
	f.TrustBundle = nil
	p, err := plan.Compute(f)
	if err != nil {
		t.Fatal(err)
	}
	if p.WaitingFor == "" {
		t.Error("Compute: nothing is waited for, though webhooks cannot be written without roots")
	}
	for _, stage := range p.Stages {
		if stage.Name == "webhooks" {
			t.Error("Compute: webhooks are written without roots")
		}
	}
}

func TestWorkloadIdentity(t *testing.T) {
	const (
		auto    = operatorv1alpha1.WorkloadIdentityAuto
		kubelet = operatorv1alpha1.WorkloadIdentityPodCertificate
		token   = operatorv1alpha1.WorkloadIdentityServiceAccountToken
	)
	for name, tc := range map[string]struct {
		wanted   operatorv1alpha1.WorkloadIdentity
		possible bool
		want     operatorv1alpha1.WorkloadIdentity
	}{
		"nothing is said, and the cluster has pod certificates": {possible: true, want: kubelet},
		"nothing is said, and the cluster has none":             {want: token},
		"Auto on a cluster that has them":                       {wanted: auto, possible: true, want: kubelet},
		"Auto on a cluster that has none":                       {wanted: auto, want: token},
		"tokens are wanted though there are pod certificates":   {wanted: token, possible: true, want: token},
		"pod certificates are wanted and there are none":        {wanted: kubelet},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(mesh("osm", 0, func(m *operatorv1alpha1.Mesh) { m.Spec.WorkloadIdentity = tc.wanted }))
			f.PodCertificates = tc.possible
			p, err := plan.Compute(f)
			if tc.want == "" {
				if !errors.Is(err, plan.ErrNoPodCertificates) || !plan.IsRefusal(err) {
					t.Errorf("Compute: error %v, want a refusal", err)
				}
				return
			}
			if err != nil || p.Revision.WorkloadIdentity != tc.want {
				t.Errorf("Compute: %q, %v; want %q", p.Revision.WorkloadIdentity, err, tc.want)
			}
		})
	}
}
