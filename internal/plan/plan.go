package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/plan/rollout"
	"github.com/openservicemesh/osm-operator/internal/release"
)

// Facts are what a Plan is made from.
type Facts struct {
	// Mesh is the Mesh to plan for; Others are all other Meshes of the cluster.
	Mesh   *operatorv1alpha1.Mesh
	Others []operatorv1alpha1.Mesh
	// TrustBundle are the mesh's roots in PEM form; empty while there are none yet.
	TrustBundle []byte
	// PodCertificates says that the cluster gives pods their certificates.
	PodCertificates bool
	// OperatorNamespace is where the operator runs, OperatorServiceAccount as whom.
	OperatorNamespace, OperatorServiceAccount string
	Catalogue                                 release.Catalogue
	// Revisions are the control planes that the Mesh has.
	Revisions []operatorv1alpha1.MeshRevision
	// Rollout is what was observed of them and of the workloads; Wanted, Generation,
	// Paused, Approved and Policy are filled in here.
	Rollout rollout.Facts
}

// Plan is what should exist.
type Plan struct {
	// Revision is the control plane that new pods get.
	Revision operatorv1alpha1.MeshRevisionSpec
	// Rollout says where the upgrade is, and what has to be done for it.
	Rollout rollout.Decision
	// Stages are applied in order; a stage waits for nothing but the writing of the
	// one before.
	Stages []Stage
	// WaitingFor says in words what the stages that are not there yet wait for.
	WaitingFor string
}

// Stage is a group of objects that are written together.
type Stage struct {
	Name    string
	Objects []render.Object
	// Passing says that the objects come and go with an upgrade.
	Passing bool
}

// NamespaceTakenError says that an older Mesh holds the namespace.
type NamespaceTakenError struct {
	Namespace, Holder string
}

// Error implements error.
func (e *NamespaceTakenError) Error() string {
	return fmt.Sprintf("namespace %s is held by the older Mesh %s: give this Mesh another spec.namespace, or delete one of them", e.Namespace, e.Holder)
}

// ErrNoPodCertificates says that the cluster cannot do what spec.workloadIdentity asks for.
var ErrNoPodCertificates = errors.New("the cluster has no pod certificates (certificates.k8s.io/v1 PodCertificateRequest and ClusterTrustBundle, Kubernetes 1.37)")

// ErrUpgradePolicy says that spec.upgrade cannot be followed.
var ErrUpgradePolicy = errors.New("spec.upgrade")

// Compute returns the plan of a Mesh. The error is a *NamespaceTakenError, or wraps
// release.ErrUnknownVersion, release.ErrNoWay, ErrNoPodCertificates or ErrUpgradePolicy;
// nothing may be written then.
func Compute(f Facts) (Plan, error) {
	if holder := Holder(f.Mesh, f.Others); holder != "" {
		return Plan{}, &NamespaceTakenError{Namespace: MeshNamespace(f.Mesh), Holder: holder}
	}
	wanted, err := Wanted(f)
	if err != nil {
		return Plan{}, err
	}
	decision, err := step(f, wanted.Revision)
	if err != nil {
		return Plan{}, err
	}
	spec := installed(f, wanted, decision.State.Current)
	in := render.MeshInput{
		Mesh:                   f.Mesh,
		Revision:               spec,
		Beside:                 beside(f, wanted, decision),
		TrustBundle:            f.TrustBundle,
		OperatorNamespace:      f.OperatorNamespace,
		OperatorServiceAccount: f.OperatorServiceAccount,
	}
	p := Plan{Revision: spec, Rollout: decision, Stages: []Stage{
		{Name: "namespace", Objects: render.Foundation(in)},
		{Name: "access", Objects: render.Access(in)},
		{Name: "control plane", Objects: render.ControlPlane(in)},
	}}
	if len(f.TrustBundle) == 0 {
		p.WaitingFor = "the root of trust"
		return p, nil
	}
	p.Stages = append(p.Stages, Stage{Name: "webhooks", Objects: render.Webhooks(in)})
	if len(decision.Moves) > 0 {
		p.Stages = append(p.Stages, Stage{Name: "access to workloads", Passing: true, Objects: render.WorkloadAccess(in, namespacesOf(decision.Moves))})
	}
	return p, nil
}

// Holder returns the name of the Mesh that holds the namespace that m claims, if
// it is not m: the oldest does, and of equals the one first in the alphabet.
func Holder(m *operatorv1alpha1.Mesh, others []operatorv1alpha1.Mesh) string {
	claims := []operatorv1alpha1.Mesh{*m}
	for _, o := range others {
		if o.Name != m.Name && MeshNamespace(&o) == MeshNamespace(m) {
			claims = append(claims, o)
		}
	}
	oldest := slices.MinFunc(claims, func(a, b operatorv1alpha1.Mesh) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	if oldest.Name == m.Name {
		return ""
	}
	return oldest.Name
}

// IsRefusal reports whether err says that the spec cannot be followed, so that
// trying again without a change is of no use.
func IsRefusal(err error) bool {
	if _, taken := errors.AsType[*NamespaceTakenError](err); taken {
		return true
	}
	return slices.ContainsFunc([]error{release.ErrUnknownVersion, release.ErrNoWay, ErrNoPodCertificates, ErrUpgradePolicy}, func(refusal error) bool {
		return errors.Is(err, refusal)
	})
}
