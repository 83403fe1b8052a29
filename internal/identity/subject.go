package identity

import (
	"fmt"
	"net/netip"
	"slices"
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
	// KindGateway is the ingress gateway outside of a mesh that has a certificate of it.
	KindGateway Kind = "Gateway"
)

// Subject is whoever can have a certificate of a mesh. Which fields are set depends on
// its kind.
type Subject struct {
	Kind        Kind
	TrustDomain TrustDomain
	// ServiceAccount is a workload's.
	ServiceAccount ServiceAccount
	// Mesh is the mesh of an operator, a control plane or a gateway.
	Mesh string
	// Revision is a control plane's.
	Revision string
}

// URI returns the SPIFFE id; empty for a kind that is none of these.
func (s Subject) URI() string {
	switch s.Kind {
	case KindWorkload:
		return ID{TrustDomain: s.TrustDomain, ServiceAccount: s.ServiceAccount}.URI()
	case KindControlPlane:
		return ControlPlane(s.TrustDomain, s.Mesh, s.Revision)
	case KindOperator:
		return Operator(s.TrustDomain, s.Mesh)
	case KindGateway:
		return Gateway(s.TrustDomain, s.Mesh)
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
	subject, named := parsePath(strings.Split(path, "/"))
	if subject.Kind == "" {
		return Subject{}, fmt.Errorf("%w: %q names nobody in a mesh", ErrInvalid, uri)
	}
	if !named {
		return Subject{}, fmt.Errorf("%w: %q has a name that Kubernetes gives to nothing", ErrInvalid, uri)
	}
	subject.TrustDomain = td
	return subject, nil
}

// parsePath reads what a path says, and reports whether its names can be names.
func parsePath(parts []string) (subject Subject, named bool) {
	switch {
	case matches(parts, "ns", "", "sa", ""):
		account := ServiceAccount{Namespace: parts[1], Name: parts[3]}
		return Subject{Kind: KindWorkload, ServiceAccount: account}, label(account.Namespace) && subdomain(account.Name)
	case matches(parts, "mesh", "", "control-plane", ""):
		return Subject{Kind: KindControlPlane, Mesh: parts[1], Revision: parts[3]}, subdomain(parts[1]) && subdomain(parts[3])
	case matches(parts, "mesh", "", "operator"):
		return Subject{Kind: KindOperator, Mesh: parts[1]}, subdomain(parts[1])
	case matches(parts, "mesh", "", "ingress-gateway"):
		return Subject{Kind: KindGateway, Mesh: parts[1]}, subdomain(parts[1])
	default:
		return Subject{}, false
	}
}

// matches reports whether a path is of a form; what is empty in the form can be anything.
func matches(parts []string, form ...string) bool {
	return slices.EqualFunc(parts, form, func(part, want string) bool { return want == "" || part == want })
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
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' || strings.IndexFunc(part, noLetter) >= 0 {
			return false
		}
	}
	return true
}

// noLetter reports whether a character is in no name of Kubernetes, dots aside.
func noLetter(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }

// HostName reports whether s can be a DNS name in a certificate: lower case, no wildcard,
// no trailing dot, no address.
func HostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || len(part) > 63 || strings.Trim(part, "-") != part || strings.IndexFunc(part, noLetter) >= 0 {
			return false
		}
	}
	return true
}
