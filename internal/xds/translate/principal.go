package translate

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
)

// names returns the names in certificates of those who are meant; none is nobody.
func (p *parts) names(who ir.Principals) []*matcherv3.StringMatcher {
	if who.Any {
		return []*matcherv3.StringMatcher{prefix(identity.WorkloadPrefix(p.shared.TrustDomain))}
	}
	var out []*matcherv3.StringMatcher
	for _, account := range sorted(who.ServiceAccounts) {
		out = append(out, exact(p.uri(account)))
	}
	return out
}

// allow lets those who are meant do what they ask. For nobody it has no policy, which
// lets nobody.
func (p *parts) allow(policy string, who ir.Principals) *rbacv3.RBAC {
	out := &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW}
	var principals []*rbacv3.Principal
	for _, n := range p.names(who) {
		principals = append(principals, &rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{
			Authenticated: &rbacv3.Principal_Authenticated{PrincipalName: n},
		}})
	}
	if len(principals) == 0 {
		return out
	}
	if policy == "" {
		policy = "allow"
	}
	out.Policies = map[string]*rbacv3.Policy{policy: {
		Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}},
		Principals:  principals,
	}}
	return out
}

// allowRoute lets those who are meant by a route send what it matches, and others
// what matches more than that.
func (p *parts) allowRoute(m *maker, r *ir.InboundRoute, port ir.Principals) *rbacv3.RBAC {
	out := p.allow(r.Name, both(r.Allow, port))
	for i, g := range r.Also {
		more := p.allow("also", both(g.Allow, port))
		for _, policy := range more.GetPolicies() {
			policy.Permissions = []*rbacv3.Permission{m.permission(g.Match)}
			if out.Policies == nil {
				out.Policies = map[string]*rbacv3.Policy{}
			}
			out.Policies[fmt.Sprintf("also %d", i)] = policy
		}
	}
	return out
}

// permission is for requests that match.
func (m *maker) permission(match ir.HTTPMatch) *rbacv3.Permission {
	route := m.match(match)
	if len(route.GetQueryParameters()) > 0 {
		m.fail(errors.New("a grant cannot compare query parameters"))
	}
	var all []*rbacv3.Permission
	if match.Path.Kind != ir.MatchAny {
		all = append(all, &rbacv3.Permission{Rule: &rbacv3.Permission_UrlPath{UrlPath: &matcherv3.PathMatcher{
			Rule: &matcherv3.PathMatcher_Path{Path: m.matchValue(ir.ValueMatch{Name: ":path", Kind: match.Path.Kind, Value: match.Path.Value})},
		}}})
	}
	for _, h := range route.GetHeaders() {
		all = append(all, &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: h}})
	}
	if len(all) == 0 {
		return &rbacv3.Permission{Rule: &rbacv3.Permission_Any{Any: true}}
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_AndRules{AndRules: &rbacv3.Permission_Set{Rules: all}}}
}

// both are those who are meant by one and by the other.
func both(a, b ir.Principals) ir.Principals {
	if a.Any {
		return b
	}
	if b.Any {
		return a
	}
	return ir.Principals{ServiceAccounts: slices.DeleteFunc(slices.Clone(a.ServiceAccounts), func(s identity.ServiceAccount) bool {
		return !slices.Contains(b.ServiceAccounts, s)
	})}
}

// either are those who are meant by one or by the other.
func either(a, b ir.Principals) ir.Principals {
	if a.Any || b.Any {
		return ir.Principals{Any: true}
	}
	return ir.Principals{ServiceAccounts: slices.Concat(a.ServiceAccounts, b.ServiceAccounts)}
}

// fingerprint tells sets of principals apart.
func fingerprint(who ir.Principals) string {
	if who.Any {
		return "any"
	}
	var b strings.Builder
	for _, account := range sorted(who.ServiceAccounts) {
		b.WriteString(account.String())
		b.WriteByte('\n')
	}
	hash := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(hash[:6])
}

func sorted(accounts []identity.ServiceAccount) []identity.ServiceAccount {
	return slices.Compact(slices.SortedFunc(slices.Values(accounts), identity.Compare))
}
