package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// Condition types of policy objects, set by the control plane.
const (
	// ConditionAccepted is True when the object means something.
	ConditionAccepted = "Accepted"
	// ConditionResolvedRefs is True when all that it names was found.
	ConditionResolvedRefs = "ResolvedRefs"
)

// Reasons of the conditions of policy objects, set by the control plane.
const (
	// ReasonAccepted says that the object is followed.
	ReasonAccepted = "Accepted"
	// ReasonInvalid says that the object, or a part of it, means nothing and is ignored.
	ReasonInvalid = "Invalid"
	// ReasonConflict says that an older object speaks of the same thing and wins.
	ReasonConflict = "Conflict"
	// ReasonResolved says that all that is named was found.
	ReasonResolved = "ResolvedRefs"
	// ReasonNotFound says that something that is named was not found.
	ReasonNotFound = "RefNotFound"
	// ReasonNoEffect says that a part of the object has no effect here.
	ReasonNoEffect = "NoEffect"
)

// ObjectReport is what is to be said of a policy object.
type ObjectReport struct {
	Kind       string
	Key        mesh.Key
	UID        string
	Generation int64
	Accepted   Verdict
	Resolved   Verdict
}

// Verdict is a condition of an object.
type Verdict struct {
	OK              bool
	Reason, Message string
}

// remarks gathers what is to be said of one object while it is compiled.
type remarks struct {
	invalid, missing, noEffect []string
	conflict                   string
}

func (r *remarks) report(kind string, key mesh.Key, uid string, generation int64) ObjectReport {
	out := ObjectReport{
		Kind: kind, Key: key, UID: uid, Generation: generation,
		Accepted: Verdict{OK: true, Reason: ReasonAccepted, Message: "the object is followed"},
		Resolved: Verdict{OK: true, Reason: ReasonResolved, Message: "all that it names was found"},
	}
	switch {
	case r.conflict != "":
		out.Accepted = Verdict{Reason: ReasonConflict, Message: r.conflict}
	case len(r.invalid) > 0:
		out.Accepted = Verdict{Reason: ReasonInvalid, Message: sentence(r.invalid)}
	case len(r.noEffect) > 0:
		out.Accepted = Verdict{OK: true, Reason: ReasonNoEffect, Message: sentence(r.noEffect)}
	}
	if len(r.missing) > 0 {
		out.Resolved = Verdict{Reason: ReasonNotFound, Message: sentence(r.missing)}
	}
	return out
}

func sentence(parts []string) string {
	slices.Sort(parts)
	return strings.Join(slices.Compact(parts), "; ")
}

func compareReports(a, b ObjectReport) int {
	return cmp.Or(strings.Compare(a.Kind, b.Kind), mesh.CompareKeys(a.Key, b.Key))
}
