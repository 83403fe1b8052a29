// Package identity is who is who in a mesh: trust domains, service accounts, SPIFFE
// ids and what a certificate says of its holder. Strings and parsed certificates go
// in, checked values come out. It is pure: it makes no keys and trusts nobody.
package identity

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// DefaultTrustDomain is the trust domain of a mesh that names none.
const DefaultTrustDomain TrustDomain = "cluster.local"

// ErrInvalid says that a string is no identity of a mesh.
var ErrInvalid = errors.New("invalid identity")

// TrustDomain is a SPIFFE trust domain: lower-case letters, digits, dots, dashes
// and underscores.
// Source: https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md#21-trust-domain
type TrustDomain string

// ParseTrustDomain checks a trust domain.
func ParseTrustDomain(s string) (TrustDomain, error) {
	if s == "" || len(s) > 255 {
		return "", fmt.Errorf("%w: a trust domain has 1 to 255 characters", ErrInvalid)
	}
	for _, r := range s {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789.-_", r) {
			return "", fmt.Errorf("%w: trust domain %q has the character %q", ErrInvalid, s, r)
		}
	}
	if strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") || strings.Contains(s, "..") {
		return "", fmt.Errorf("%w: trust domain %q has an empty label", ErrInvalid, s)
	}
	return TrustDomain(s), nil
}

// ServiceAccount names a Kubernetes ServiceAccount.
type ServiceAccount struct {
	Namespace, Name string
}

// String returns namespace/name.
func (s ServiceAccount) String() string { return s.Namespace + "/" + s.Name }

// Compare orders ServiceAccounts by namespace, then name.
func Compare(a, b ServiceAccount) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// ID is the identity of a workload.
type ID struct {
	TrustDomain    TrustDomain
	ServiceAccount ServiceAccount
}

// URI returns the SPIFFE id: spiffe://<trust domain>/ns/<namespace>/sa/<name>.
func (i ID) URI() string {
	return "spiffe://" + string(i.TrustDomain) + "/ns/" + i.ServiceAccount.Namespace + "/sa/" + i.ServiceAccount.Name
}

// OSMName returns Open Service Mesh's name of the identity: <name>.<namespace>.<trust domain>.
func (i ID) OSMName() string {
	return i.ServiceAccount.Name + "." + i.ServiceAccount.Namespace + "." + string(i.TrustDomain)
}

// DNSName returns OSMName where it can stand in a certificate as a DNS name, and else
// nothing: some names of ServiceAccounts are too long for DNS, some trust domains hold
// underscores. Nor may it be the name that cluster DNS gives to somebody's Service or pod:
// ServiceAccount web.shop of a namespace called svc would get a certificate for Service
// web of namespace shop.
func (i ID) DNSName() (string, bool) {
	if ns := i.ServiceAccount.Namespace; ns == "svc" || ns == "pod" {
		return "", false
	}
	name := i.OSMName()
	if len(name) > 253 || !subdomain(name) {
		return "", false
	}
	for part := range strings.SplitSeq(name, ".") {
		if len(part) > 63 {
			return "", false
		}
	}
	return name, true
}

// WorkloadPrefix is what the SPIFFE ids of all workloads of a trust domain begin with.
func WorkloadPrefix(td TrustDomain) string { return "spiffe://" + string(td) + "/ns/" }

// ControlPlane returns the SPIFFE id of a revision's control plane.
func ControlPlane(td TrustDomain, mesh, revision string) string {
	return "spiffe://" + string(td) + "/mesh/" + mesh + "/control-plane/" + revision
}

// ControlPlanes is what the SPIFFE ids of all control planes of a mesh begin with.
func ControlPlanes(td TrustDomain, mesh string) string { return ControlPlane(td, mesh, "") }

// Operator returns the SPIFFE id of the operator of a mesh.
func Operator(td TrustDomain, mesh string) string {
	return "spiffe://" + string(td) + "/mesh/" + mesh + "/operator"
}

// Gateway returns the SPIFFE id of the ingress gateway outside of a mesh that has a
// certificate of it. No workload's rule is for it: sidecars let it in by its DNS name.
func Gateway(td TrustDomain, mesh string) string {
	return "spiffe://" + string(td) + "/mesh/" + mesh + "/ingress-gateway"
}

// SignerName is the name of the signer of a mesh's workload certificates.
func SignerName(mesh string) string { return "identity.openservicemesh.io/" + mesh }

// TrustBundleName is the name of the ClusterTrustBundle that holds a mesh's roots.
// Kubernetes wants it to begin with the signer's name.
func TrustBundleName(mesh string) string { return "identity.openservicemesh.io:" + mesh + ":roots" }

// ParseURI parses the SPIFFE id of a workload. It takes nothing but the exact form
// that URI gives: no port, user, query, fragment, escape, empty segment or upper
// case in the trust domain.
func ParseURI(uri string) (ID, error) {
	subject, err := Parse(uri)
	if err != nil {
		return ID{}, err
	}
	if subject.Kind != KindWorkload {
		return ID{}, fmt.Errorf("%w: %q is not the id of a workload", ErrInvalid, uri)
	}
	return ID{TrustDomain: subject.TrustDomain, ServiceAccount: subject.ServiceAccount}, nil
}
