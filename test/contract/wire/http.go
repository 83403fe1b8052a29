package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/openservicemesh/osm-operator/test/contract/reading"
)

// peer is who has connected.
type peer struct {
	source      netip.Addr
	certificate string
}

const rbacFilter = "envoy.filters.http.rbac"

// manage is what a connection manager does with a request: its filters say whether it may
// be sent at all, its routes where to.
func (n *Network) manage(p *Proxy, manager *hcmv3.HttpConnectionManager, c *connection, from *peer) (reading.Shares, error) {
	if c.request == nil || c.tls != nil {
		return reading.Shares{reading.NotHTTP: 1}, nil
	}
	table := p.routes[manager.GetRds().GetRouteConfigName()]
	if table == nil {
		return nil, fmt.Errorf("there is no route %s", manager.GetRds().GetRouteConfigName())
	}
	host, err := hostFor(table, c.request.Host)
	if err != nil || host == nil {
		return reading.Shares{reading.Missing: 1}, err
	}
	out, done := reading.Shares{}, 0.0
	for _, r := range host.GetRoutes() {
		ok, err := matchRoute(r.GetMatch(), c.request)
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", r.GetName(), err)
		}
		// One random number for all routes of a request: fractions count from the beginning.
		upTo := fraction(r.GetMatch())
		if !ok || upTo <= done {
			continue
		}
		ends, err := n.route(p, manager, r, c, from)
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", r.GetName(), err)
		}
		out.Add(ends, upTo-done)
		if done = upTo; done >= 1 {
			return out, nil
		}
	}
	out.Add(reading.Shares{reading.Missing: 1}, 1-done)
	return out, nil
}

func fraction(m *routev3.RouteMatch) float64 {
	if m.GetRuntimeFraction() == nil {
		return 1
	}
	f := m.GetRuntimeFraction().GetDefaultValue()
	per := map[typev3.FractionalPercent_DenominatorType]float64{
		typev3.FractionalPercent_HUNDRED: 100, typev3.FractionalPercent_TEN_THOUSAND: 1e4, typev3.FractionalPercent_MILLION: 1e6,
	}
	return float64(f.GetNumerator()) / per[f.GetDenominator()]
}

// route is what becomes of a request that a route has.
func (n *Network) route(p *Proxy, manager *hcmv3.HttpConnectionManager, r *routev3.Route, c *connection, from *peer) (reading.Shares, error) {
	ok, err := permitted(manager, r, from, c.request)
	if err != nil || !ok {
		return reading.Shares{reading.Denied: 1}, err
	}
	if answer := r.GetDirectResponse(); answer != nil {
		return reading.Shares{fmt.Sprint(answer.GetStatus()): 1}, nil
	}
	action := r.GetRoute()
	if action == nil {
		return nil, errors.New("it goes nowhere")
	}
	if action.GetCluster() != "" {
		return n.send(p, action.GetCluster(), c, reading.Nobody)
	}
	var all []weighted
	for _, w := range action.GetWeightedClusters().GetClusters() {
		all = append(all, weighted{w.GetName(), float64(w.GetWeight().GetValue())})
	}
	return n.share(p, all, c, reading.Nobody)
}

// permitted asks the authorization of a connection manager, which a route may replace.
func permitted(manager *hcmv3.HttpConnectionManager, r *routev3.Route, from *peer, request *reading.Request) (bool, error) {
	for _, f := range manager.GetHttpFilters() {
		if f.GetName() != rbacFilter {
			continue
		}
		config, err := unpack[rbacv3.RBAC](f.GetTypedConfig())
		if err != nil {
			return false, err
		}
		rules := config.GetRules()
		if own := r.GetTypedPerFilterConfig()[rbacFilter]; own != nil {
			per, err := unpack[rbacv3.RBACPerRoute](own)
			if err != nil {
				return false, err
			}
			if rules = per.GetRbac().GetRules(); per.GetRbac() == nil {
				return true, nil
			}
		}
		return allows(rules, from, request)
	}
	return true, nil
}

// hostFor returns the virtual host of an authority: by its whole name, then by the longest
// end of it, then any.
func hostFor(table *routev3.RouteConfiguration, authority string) (*routev3.VirtualHost, error) {
	name := strings.ToLower(authority)
	if table.GetIgnorePortInHostMatching() {
		name, _, _ = strings.Cut(name, ":")
	}
	var found *routev3.VirtualHost
	most := -1
	for _, host := range table.GetVirtualHosts() {
		for _, d := range host.GetDomains() {
			exact := exactly(d, name)
			switch {
			case d == "*":
				exact = 0
			case strings.HasSuffix(d, "*"):
				return nil, fmt.Errorf("a host ends with anything: %s", d)
			}
			if exact > most {
				most, found = exact, host
			}
		}
	}
	return found, nil
}

func matchRoute(m *routev3.RouteMatch, r *reading.Request) (bool, error) {
	path, _, _ := strings.Cut(r.Path, "?")
	ok := false
	switch by := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		ok = strings.HasPrefix(r.Path, by.Prefix)
	case *routev3.RouteMatch_Path:
		ok = path == by.Path
	case *routev3.RouteMatch_SafeRegex:
		ok = matchRegex(by.SafeRegex, path)
	default:
		return false, fmt.Errorf("it matches paths by %T, of which nothing is known", by)
	}
	if len(m.GetQueryParameters()) > 0 {
		return false, errors.New("it matches queries, of which nothing is known")
	}
	for _, h := range m.GetHeaders() {
		ok = ok && matchHeader(h, r)
	}
	return ok, nil
}

func matchHeader(m *routev3.HeaderMatcher, r *reading.Request) bool {
	value, there := r.Headers[m.GetName()]
	switch m.GetName() {
	case ":authority":
		value, there = r.Host, true
	case ":method":
		value, there = r.Method, true
	case ":path":
		value, there = r.Path, true
	}
	if m.GetPresentMatch() {
		return there != m.GetInvertMatch()
	}
	return there && matchString(m.GetStringMatch(), value) != m.GetInvertMatch()
}

func matchString(m *matcherv3.StringMatcher, value string) bool {
	switch by := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return value == by.Exact
	case *matcherv3.StringMatcher_Prefix:
		return strings.HasPrefix(value, by.Prefix)
	case *matcherv3.StringMatcher_SafeRegex:
		return matchRegex(by.SafeRegex, value)
	default:
		return false
	}
}

func matchRegex(m *matcherv3.RegexMatcher, value string) bool {
	return regexp.MustCompile(`\A(?:` + m.GetRegex() + `)\z`).MatchString(value)
}

// allows reports whether any policy has the permission and the principal.
func allows(rules *rbacconfigv3.RBAC, from *peer, r *reading.Request) (bool, error) {
	if rules.GetAction() != rbacconfigv3.RBAC_ALLOW {
		return false, fmt.Errorf("rules that do %s, of which nothing is known", rules.GetAction())
	}
	for _, policy := range rules.GetPolicies() {
		may, is := false, false
		for _, p := range policy.GetPermissions() {
			ok, err := permission(p, r)
			if err != nil {
				return false, err
			}
			may = may || ok
		}
		for _, p := range policy.GetPrincipals() {
			ok, err := from.is(p)
			if err != nil {
				return false, err
			}
			is = is || ok
		}
		if may && is {
			return true, nil
		}
	}
	return false, nil
}

func permission(p *rbacconfigv3.Permission, r *reading.Request) (bool, error) {
	switch by := p.GetRule().(type) {
	case *rbacconfigv3.Permission_Any:
		return by.Any, nil
	case *rbacconfigv3.Permission_Header:
		return matchHeader(by.Header, r), nil
	case *rbacconfigv3.Permission_UrlPath:
		path, _, _ := strings.Cut(r.Path, "?")
		return matchString(by.UrlPath.GetPath(), path), nil
	case *rbacconfigv3.Permission_AndRules:
		for _, one := range by.AndRules.GetRules() {
			if ok, err := permission(one, r); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	default:
		return false, fmt.Errorf("a permission by %T, of which nothing is known", by)
	}
}

func (f *peer) is(p *rbacconfigv3.Principal) (bool, error) {
	switch by := p.GetIdentifier().(type) {
	case *rbacconfigv3.Principal_Any:
		return by.Any, nil
	case *rbacconfigv3.Principal_Authenticated_:
		return f.certificate != "" && matchString(by.Authenticated.GetPrincipalName(), f.certificate), nil
	case *rbacconfigv3.Principal_DirectRemoteIp:
		return prefix(by.DirectRemoteIp).Contains(f.source), nil
	case *rbacconfigv3.Principal_AndIds:
		n, err := f.count(by.AndIds.GetIds())
		return n == len(by.AndIds.GetIds()), err
	case *rbacconfigv3.Principal_OrIds:
		n, err := f.count(by.OrIds.GetIds())
		return n > 0, err
	default:
		return false, fmt.Errorf("a principal by %T, of which nothing is known", by)
	}
}

// count says how many of these principals somebody is.
func (f *peer) count(all []*rbacconfigv3.Principal) (int, error) {
	n := 0
	for _, one := range all {
		ok, err := f.is(one)
		if err != nil {
			return 0, err
		}
		if ok {
			n++
		}
	}
	return n, nil
}
