package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/plan/rollout"
)

// Wanted returns the control plane that the spec asks for. Where that is installed, it has
// its name; where it is to be changed in place, that of the current one; and else a new
// one. The error wraps release.ErrUnknownVersion, release.ErrNoWay or ErrNoPodCertificates.
func Wanted(f Facts) (operatorv1alpha1.MeshRevisionSpec, error) {
	r, err := f.Catalogue.Resolve(running(f), f.Mesh.Spec.Version)
	if err != nil {
		return operatorv1alpha1.MeshRevisionSpec{}, fmt.Errorf("spec.version: %w", err)
	}
	spec := Revision(f.Mesh, r)
	if spec.WorkloadIdentity, err = WorkloadIdentity(f.Mesh, f.PodCertificates); err != nil {
		return operatorv1alpha1.MeshRevisionSpec{}, err
	}
	current := Current(f)
	switch {
	case current == "":
		// A MeshRevision that was deleted comes back under the name that pods know it by.
		if f.Mesh.Status.Revision != "" {
			spec.Revision = f.Mesh.Status.Revision
		}
	case !canary(f.Mesh):
		spec.Revision = current
	default:
		spec.Revision = nameOf(f, spec, current)
	}
	return spec, nil
}

func canary(m *operatorv1alpha1.Mesh) bool {
	return m.Spec.Upgrade != nil && m.Spec.Upgrade.Strategy == operatorv1alpha1.UpgradeCanary
}

// nameOf finds the control plane that is as wanted, the current one first, or makes a name
// for it: the version's, and where another one has that, with a hash of what is wanted.
func nameOf(f Facts, spec operatorv1alpha1.MeshRevisionSpec, current string) string {
	free := true
	var found []string
	for _, have := range f.Revisions {
		if have.Spec.Revision == spec.Revision {
			free = false
		}
		if have.DeletionTimestamp.IsZero() && distinction(have.Spec) == distinction(spec) {
			found = append(found, have.Spec.Revision)
		}
	}
	switch {
	case slices.Contains(found, current):
		return current
	case len(found) > 0:
		return slices.Min(found)
	case free:
		return spec.Revision
	default:
		sum := sha256.Sum256([]byte(distinction(spec)))
		return spec.Revision + "-" + hex.EncodeToString(sum[:3])
	}
}

// distinction is what tells one control plane from another. All other settings are
// followed where it stands: they say how many replicas there are and where, and nothing of
// them reaches a sidecar.
func distinction(s operatorv1alpha1.MeshRevisionSpec) string {
	identity := s.WorkloadIdentity
	if identity == "" {
		identity = operatorv1alpha1.WorkloadIdentityPodCertificate
	}
	return strings.Join([]string{s.Version, s.OSMImage, s.EnvoyImage, s.Namespace, s.TrustDomain, string(identity)}, "\n")
}

// Current returns the control plane that new pods get: the one that the status names, and
// where that is not there, the oldest; empty if there is none.
func Current(f Facts) string {
	var oldest *operatorv1alpha1.MeshRevision
	for i := range f.Revisions {
		r := &f.Revisions[i]
		if !r.DeletionTimestamp.IsZero() {
			continue
		}
		if r.Spec.Revision == f.Mesh.Status.Revision {
			return r.Spec.Revision
		}
		if oldest == nil || r.CreationTimestamp.Before(&oldest.CreationTimestamp) {
			oldest = r
		}
	}
	if oldest == nil {
		return ""
	}
	return oldest.Spec.Revision
}

// running is the version of the control plane that new pods get, and of the one that was there
// last where there is none; empty if there never was one.
func running(f Facts) string {
	current := Current(f)
	for _, r := range f.Revisions {
		if r.Spec.Revision == current {
			return r.Spec.Version
		}
	}
	return f.Mesh.Status.Version
}

// Settled reports whether there is nothing to upgrade, so that nothing need be known of
// workloads: the one control plane is the wanted one, and no upgrade is remembered.
func Settled(f Facts, wanted operatorv1alpha1.MeshRevisionSpec) bool {
	if f.Mesh.Status.Upgrade != nil {
		return false
	}
	return !slices.ContainsFunc(f.Revisions, func(r operatorv1alpha1.MeshRevision) bool { return r.Spec.Revision != wanted.Revision })
}

// step takes the upgrade one step on.
func step(f Facts, wanted string) (rollout.Decision, error) {
	policy, err := rollout.NewPolicy(f.Mesh.Spec.Upgrade)
	if err != nil {
		return rollout.Decision{}, fmt.Errorf("%w: %w", ErrUpgradePolicy, err)
	}
	facts := f.Rollout
	facts.Wanted, facts.Policy, facts.Generation = wanted, policy, f.Mesh.Generation
	facts.Paused = f.Mesh.Spec.Paused
	facts.Approved = f.Mesh.Annotations[operatorv1alpha1.AnnotationApproveWave]
	state := rollout.FromStatus(f.Mesh.Status)
	state.Current = Current(f)
	return rollout.Step(state, facts), nil
}

// installed returns the settings of a control plane: those that the spec asks for where it
// is the wanted one, and else those that it has, but for the ones that are followed where
// it stands.
func installed(f Facts, wanted operatorv1alpha1.MeshRevisionSpec, name string) operatorv1alpha1.MeshRevisionSpec {
	if name == wanted.Revision {
		return wanted
	}
	out := wanted
	out.Revision = name
	for _, r := range f.Revisions {
		if have := r.Spec; have.Revision == name {
			out.Version, out.OSMImage, out.EnvoyImage, out.WorkloadIdentity = have.Version, have.OSMImage, have.EnvoyImage, have.WorkloadIdentity
		}
	}
	return out
}

// beside returns the control planes beside the current one: the target, and those that
// are there still.
func beside(f Facts, wanted operatorv1alpha1.MeshRevisionSpec, d rollout.Decision) []operatorv1alpha1.MeshRevisionSpec {
	names := map[string]bool{}
	if d.State.Target != "" && d.State.Target == wanted.Revision {
		names[d.State.Target] = true
	}
	for _, r := range f.Revisions {
		if r.DeletionTimestamp.IsZero() && !slices.Contains(d.Retire, r.Spec.Revision) {
			names[r.Spec.Revision] = true
		}
	}
	delete(names, d.State.Current)
	var out []operatorv1alpha1.MeshRevisionSpec
	for name := range names {
		out = append(out, installed(f, wanted, name))
	}
	slices.SortFunc(out, func(a, b operatorv1alpha1.MeshRevisionSpec) int { return strings.Compare(a.Revision, b.Revision) })
	return out
}

// namespacesOf lists the namespaces that workloads move in.
func namespacesOf(moves []rollout.Move) []string {
	var out []string
	for _, m := range moves {
		out = append(out, m.Namespace)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
