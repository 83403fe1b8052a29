package identity

import (
	"fmt"
	"strings"
)

// Kind says what a subject is.
type Kind string

const (
	// KindWorkload is a pod that runs as a ServiceAccount.
	KindWorkload Kind = "Workload"
	// KindControlPlane is the control plane of one revision.
	KindControlPlane Kind = "ControlPlane"
	// KindOperator is the operator, as it speaks to the control planes of a mesh.
	KindOperator Kind = "Operator"
)

// Subject is whoever can have a certificate of a mesh. Which fields are set depends on
// its kind.
type Subject struct {
	Kind        Kind
	TrustDomain TrustDomain
	// ServiceAccount is a workload's.
	ServiceAccount ServiceAccount
	// Mesh is the mesh of an operator or a control plane.
	Mesh string
	// Revision is a control plane's.
	Revision string
}

// URI returns the SPIFFE id; empty for a kind that is none of the three.
func (s Subject) URI() string {
	switch s.Kind {
	case KindWorkload:
		return ID{TrustDomain: s.TrustDomain, ServiceAccount: s.ServiceAccount}.URI()
	case KindControlPlane:
		return ControlPlane(s.TrustDomain, s.Mesh, s.Revision)
	case KindOperator:
		return Operator(s.TrustDomain, s.Mesh)
	default:
		return ""
	}
}

// Parse parses the SPIFFE id of whoever can have one in a mesh, as strictly as
// ParseURI: of each name there is one form.
func Parse(uri string) (Subject, error) {
	td, path, err := split(uri)
	if err != nil {
		return Subject{}, err
	}
	parts := strings.Split(path, "/")
	subject, named := Subject{TrustDomain: td}, false
	switch {
	case len(parts) == 4 && parts[0] == "ns" && parts[2] == "sa":
		subject.Kind, subject.ServiceAccount = KindWorkload, ServiceAccount{Namespace: parts[1], Name: parts[3]}
		named = label(parts[1]) && subdomain(parts[3])
	case len(parts) == 4 && parts[0] == "mesh" && parts[2] == "control-plane":
		subject.Kind, subject.Mesh, subject.Revision = KindControlPlane, parts[1], parts[3]
		named = subdomain(parts[1]) && subdomain(parts[3])
	case len(parts) == 3 && parts[0] == "mesh" && parts[2] == "operator":
		subject.Kind, subject.Mesh = KindOperator, parts[1]
		named = subdomain(parts[1])
	default:
		return Subject{}, fmt.Errorf("%w: %q names nobody in a mesh", ErrInvalid, uri)
	}
	if !named {
		return Subject{}, fmt.Errorf("%w: %q has a name that Kubernetes gives to nothing", ErrInvalid, uri)
	}
	return subject, nil
}

// split cuts a SPIFFE id into trust domain and path, without the slash between.
func split(uri string) (TrustDomain, string, error) {
	rest, ok := strings.CutPrefix(uri, "spiffe://")
	if !ok {
		return "", "", fmt.Errorf("%w: %q is no SPIFFE id", ErrInvalid, uri)
	}
	domain, path, ok := strings.Cut(rest, "/")
	if !ok {
		return "", "", fmt.Errorf("%w: %q has no path", ErrInvalid, uri)
	}
	td, err := ParseTrustDomain(domain)
	return td, path, err
}

// label reports whether s is a DNS label, as names of namespaces are.
func label(s string) bool { return len(s) <= 63 && !strings.Contains(s, ".") && subdomain(s) }

// subdomain reports whether s is a DNS subdomain as Kubernetes sees it: names of
// ServiceAccounts may have dots, and labels of any length.
func subdomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' {
			return false
		}
		for _, r := range part {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
				return false
			}
		}
	}
	return true
}
