package plan_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/plan/rollout"
	"github.com/openservicemesh/osm-operator/internal/release"
)

// have is a control plane of a Mesh that is there, under a name, with another sidecar.
func have(t *testing.T, m *operatorv1alpha1.Mesh, name, envoy string) operatorv1alpha1.MeshRevision {
	t.Helper()
	spec, err := plan.Wanted(facts(m))
	if err != nil {
		t.Fatal(err)
	}
	spec.Revision = name
	if envoy != "" {
		spec.EnvoyImage = envoy
	}
	return operatorv1alpha1.MeshRevision{ObjectMeta: metav1.ObjectMeta{Name: m.Name + "-" + name, CreationTimestamp: m.CreationTimestamp}, Spec: spec}
}

func upgrading(strategy operatorv1alpha1.UpgradeStrategy, current string) *operatorv1alpha1.Mesh {
	return mesh("osm", 0, func(m *operatorv1alpha1.Mesh) {
		m.Spec.Upgrade = &operatorv1alpha1.UpgradePolicy{Strategy: strategy}
		m.Status.Revision = current
	})
}

func TestWantedHasTheNameOfWhatIsThere(t *testing.T) {
	t.Parallel()
	canary := upgrading(operatorv1alpha1.UpgradeCanary, "v0-1-0")
	for name, tt := range map[string]struct {
		mesh *operatorv1alpha1.Mesh
		have []operatorv1alpha1.MeshRevision
		want string
	}{
		"the first is called by its version": {mesh: mesh("osm", 0, nil), want: "v0-1-0"},
		"what was deleted comes back under the name that pods know": {
			mesh: upgrading(operatorv1alpha1.UpgradeCanary, "v0-1-0-abc"), want: "v0-1-0-abc",
		},
		"the current one stays where it is as wanted":   {mesh: canary, have: []operatorv1alpha1.MeshRevision{have(t, canary, "v0-1-0", "")}, want: "v0-1-0"},
		"in place the current one is changed":           {mesh: upgrading(operatorv1alpha1.UpgradeInPlace, "v0-1-0"), have: []operatorv1alpha1.MeshRevision{have(t, canary, "v0-1-0", "envoy:old")}, want: "v0-1-0"},
		"without a strategy it is changed in place too": {mesh: upgrading("", "v0-1-0"), have: []operatorv1alpha1.MeshRevision{have(t, canary, "v0-1-0", "envoy:old")}, want: "v0-1-0"},
		"beside one that is not as wanted, a free name is the version's": {
			mesh: upgrading(operatorv1alpha1.UpgradeCanary, "v0-0-9"), have: []operatorv1alpha1.MeshRevision{have(t, canary, "v0-0-9", "envoy:old")}, want: "v0-1-0",
		},
		"one that is there already is found again": {
			mesh: canary, have: []operatorv1alpha1.MeshRevision{have(t, canary, "v0-1-0", "envoy:old"), have(t, canary, "v0-1-0-abc", "")}, want: "v0-1-0-abc",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := facts(tt.mesh)
			f.Revisions = tt.have
			got, err := plan.Wanted(f)
			if err != nil || got.Revision != tt.want {
				t.Errorf("the name is %q (%v), want %q", got.Revision, err, tt.want)
			}
		})
	}
	t.Run("beside one that has the version's name, a hash is added, the same each time", func(t *testing.T) {
		t.Parallel()
		f := facts(canary)
		f.Revisions = []operatorv1alpha1.MeshRevision{have(t, canary, "v0-1-0", "envoy:old")}
		first, err := plan.Wanted(f)
		if err != nil || !strings.HasPrefix(first.Revision, "v0-1-0-") || len(first.Revision) != len("v0-1-0-123456") {
			t.Fatalf("the name is %q, %v", first.Revision, err)
		}
		f.Mesh = f.Mesh.DeepCopy()
		f.Mesh.Spec.ControlPlane = &operatorv1alpha1.ControlPlane{Replicas: 7}
		if again, _ := plan.Wanted(f); again.Revision != first.Revision {
			t.Errorf("with other replicas it is %q, want %q: that is followed where it stands", again.Revision, first.Revision)
		}
	})
}

// TestTwoControlPlanesSideBySide has the old one keep what it runs, but for its size, while
// services lead to it.
func TestTwoControlPlanesSideBySide(t *testing.T) {
	t.Parallel()
	m := upgrading(operatorv1alpha1.UpgradeCanary, "v0-1-0")
	m.Spec.ControlPlane = &operatorv1alpha1.ControlPlane{Replicas: 5}
	f := facts(m)
	f.Revisions = []operatorv1alpha1.MeshRevision{have(t, m, "v0-1-0", "envoy:old")}
	f.Revisions[0].Spec.Replicas = 2
	f.Rollout = rollout.Facts{Now: time.Unix(1_800_000_000, 0), Revisions: []rollout.Revision{{Name: "v0-1-0", Ready: true, Settled: true}}}
	p, err := plan.Compute(f)
	if err != nil {
		t.Fatal(err)
	}
	if p.Revision.Revision != "v0-1-0" || p.Revision.EnvoyImage != "envoy:old" || p.Revision.Replicas != 5 {
		t.Errorf("new pods get %+v", p.Revision)
	}
	var names []string
	for _, stage := range p.Stages {
		for _, o := range stage.Objects {
			if r, ok := o.(*operatorv1alpha1.MeshRevision); ok {
				names = append(names, r.Name+" "+r.Spec.EnvoyImage)
			}
		}
	}
	wanted, err := plan.Wanted(f)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"osm-v0-1-0 envoy:old", render.RevisionObject("osm", wanted.Revision) + " " + wanted.EnvoyImage}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("MeshRevisions (-want +got):\n%s", diff)
	}
	if s := p.Rollout.State; s.Phase != operatorv1alpha1.UpgradePreparing || s.Target != wanted.Revision {
		t.Errorf("the upgrade is at %+v", s)
	}
}

func TestASelectorThatMeansNothingIsRefused(t *testing.T) {
	t.Parallel()
	m := upgrading(operatorv1alpha1.UpgradeCanary, "")
	m.Spec.Upgrade.Waves = []operatorv1alpha1.UpgradeWave{{Name: "one", WorkloadSelector: &metav1.LabelSelector{
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: "Near"}},
	}}}
	_, err := plan.Compute(facts(m))
	if !errors.Is(err, plan.ErrUpgradePolicy) || !plan.IsRefusal(err) || !strings.Contains(err.Error(), "wave one") {
		t.Errorf("the error is %v", err)
	}
}

// TestVersionsAreReachedFromTheOneThatRuns: what runs decides, and where its MeshRevision was
// deleted, what the status remembers.
func TestVersionsAreReachedFromTheOneThatRuns(t *testing.T) {
	t.Parallel()
	m := upgrading(operatorv1alpha1.UpgradeCanary, "v0-1-0")
	m.Spec.Version, m.Status.Version = "v0.3.0", "v0.1.0"
	f := facts(m)
	f.Catalogue = release.NewCatalogue(nil, release.Release{Version: "v0.2.0", Storage: 1}, release.Release{Version: "v0.3.0", Storage: 1})
	if _, err := plan.Compute(f); !errors.Is(err, release.ErrNoWay) || !plan.IsRefusal(err) {
		t.Errorf("by the status: %v, want a refusal since there is no way", err)
	}
	ran := have(t, upgrading(operatorv1alpha1.UpgradeCanary, "v0-1-0"), "v0-1-0", "")
	ran.Spec.Version = "v0.2.0"
	f.Revisions = []operatorv1alpha1.MeshRevision{ran}
	if got, err := plan.Wanted(f); err != nil || got.Version != "v0.3.0" {
		t.Errorf("by the revision: %s, %v, want v0.3.0", got.Version, err)
	}
}
