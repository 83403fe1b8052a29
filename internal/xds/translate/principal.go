package translate

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
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
	out := &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW, Policies: map[string]*rbacv3.Policy{}}
	anything := &rbacv3.Permission{Rule: &rbacv3.Permission_Any{Any: true}}
	p.grant(out, cmp.Or(policy, "allow"), who, anything)
	return out
}

// grant adds a policy for all that is permitted to those who are meant, if anybody is.
func (p *parts) grant(rules *rbacv3.RBAC, policy string, who ir.Principals, permitted ...*rbacv3.Permission) {
	var principals []*rbacv3.Principal
	for _, n := range p.names(who) {
		principals = append(principals, authenticated(n))
	}
	if len(principals) > 0 {
		rules.Policies[policy] = &rbacv3.Policy{Permissions: permitted, Principals: principals}
	}
}

// authenticated is whoever has a certificate with a name.
func authenticated(n *matcherv3.StringMatcher) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{
		Authenticated: &rbacv3.Principal_Authenticated{PrincipalName: n},
	}}
}

// requests permits those that match: all that is said must hold.
func (m *maker) requests(in ir.HTTPMatch) *rbacv3.Permission {
	var all []*rbacv3.Permission
	if path := m.pathPermission(in.Path); path != nil {
		all = append(all, path)
	}
	if method := matchMethods(in.Methods); method != nil {
		all = append(all, &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: method}})
	}
	for _, h := range in.Headers {
		all = append(all, &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: m.matchHeader(h)}})
	}
	if len(in.QueryParams) > 0 {
		m.fail(errors.New("a permission cannot compare query parameters"))
	}
	switch len(all) {
	case 0:
		return &rbacv3.Permission{Rule: &rbacv3.Permission_Any{Any: true}}
	case 1:
		return all[0]
	default:
		return &rbacv3.Permission{Rule: &rbacv3.Permission_AndRules{AndRules: &rbacv3.Permission_Set{Rules: all}}}
	}
}

// pathPermission compares the path without the query, as routes do; nil is any path.
func (m *maker) pathPermission(path ir.PathMatch) *rbacv3.Permission {
	var match *matcherv3.StringMatcher
	switch path.Kind {
	case ir.MatchAny:
		return nil
	case ir.MatchExact:
		match = exact(path.Value)
	case ir.MatchPrefix:
		match = prefix(path.Value)
	case ir.MatchPathPrefix:
		element := regexp.QuoteMeta(strings.TrimRight(path.Value, "/"))
		match = matchingRegex(element + "(?:/.*)?")
	case ir.MatchRegex:
		match = &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: m.regex(path.Value)}}
	default:
		m.fail(fmt.Errorf("a path cannot be matched by %q", path.Kind))
		match = exact("")
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_UrlPath{
		UrlPath: &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: match}},
	}}
}

// both are those who are meant by one and by the other.
func both(a, b ir.Principals) ir.Principals {
	if a.Any {
		return b
	}
	if b.Any || equal(a, b) {
		return a
	}
	if len(a.ServiceAccounts) < len(b.ServiceAccounts) {
		a, b = b, a
	}
	meant := make(map[identity.ServiceAccount]struct{}, len(b.ServiceAccounts))
	for _, s := range b.ServiceAccounts {
		meant[s] = struct{}{}
	}
	return ir.Principals{ServiceAccounts: slices.DeleteFunc(slices.Clone(a.ServiceAccounts), func(s identity.ServiceAccount) bool {
		_, ok := meant[s]
		return !ok
	})}
}

// either are those who are meant by any.
func either(all []ir.Principals) ir.Principals {
	meant := map[identity.ServiceAccount]struct{}{}
	var last ir.Principals
	for _, who := range all {
		if who.Any {
			return ir.Principals{Any: true}
		}
		if equal(last, who) {
			continue // they come in rows
		}
		last = who
		for _, s := range who.ServiceAccounts {
			meant[s] = struct{}{}
		}
	}
	return ir.Principals{ServiceAccounts: slices.SortedFunc(maps.Keys(meant), identity.Compare)}
}

// equal reports whether two mean the same; at once where they are one list, as they mostly are.
func equal(a, b ir.Principals) bool {
	if a.Any || b.Any || len(a.ServiceAccounts) != len(b.ServiceAccounts) {
		return a.Any && b.Any
	}
	return len(a.ServiceAccounts) == 0 || &a.ServiceAccounts[0] == &b.ServiceAccounts[0] || slices.Equal(a.ServiceAccounts, b.ServiceAccounts)
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
