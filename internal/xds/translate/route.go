package translate

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/ir"
)

// million is the denominator of fractions of requests.
const million = 1_000_000

// routeConfiguration returns a table without hosts. A host is compared without its
// port; clusters may come after the routes to them.
func routeConfiguration(n string) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name:                            n,
		ValidateClusters:                wrapperspb.Bool(false),
		IgnorePortInHostMatching:        true,
		MostSpecificHeaderMutationsWins: true,
	}
}

// routeTable is the table of a destination that has an address of its own.
func (m *maker) routeTable(n string, d *ir.Destination) *routev3.RouteConfiguration {
	table := routeConfiguration(n)
	if len(d.Hosts) == 0 {
		d = &ir.Destination{Service: d.Service, Hosts: []string{"*"}, Routes: d.Routes}
	}
	if host := m.virtualHost(d, map[string]bool{}); host != nil {
		table.VirtualHosts = append(table.VirtualHosts, host)
	}
	return table
}

// virtualHost answers for the hosts of a destination that are not taken yet: one
// host twice would make the proxy refuse the whole table. It is nil if none is left.
func (m *maker) virtualHost(d *ir.Destination, taken map[string]bool) *routev3.VirtualHost {
	host := &routev3.VirtualHost{Name: fmt.Sprintf("%s/%s/%d", d.Service.Namespace, d.Service.Name, d.Service.Port)}
	for _, domain := range d.Hosts {
		domain = strings.ToLower(domain)
		if taken[domain] {
			continue
		}
		taken[domain] = true
		host.Domains = append(host.Domains, domain)
	}
	if len(host.GetDomains()) == 0 {
		return nil
	}
	for i := range d.Routes {
		host.Routes = append(host.Routes, m.route(&d.Routes[i])...)
	}
	return host
}

// route writes a route down as one of Envoy's, or as several, where shares of its
// requests must be treated in ways that back ends of one route cannot be.
func (m *maker) route(r *ir.HTTPRoute) []*routev3.Route {
	base := &routev3.Route{
		Name:                    r.Name,
		Match:                   m.match(r.Match),
		ResponseHeadersToAdd:    added(r.Filters.ResponseHeaders),
		ResponseHeadersToRemove: removed(r.Filters.ResponseHeaders),
	}
	switch {
	case r.Redirect != nil:
		base.Action = m.redirect(r.Match.Path, r.Redirect)
		return []*routev3.Route{base}
	case r.Respond != nil:
		base.Action = respond(r.Respond.Status, r.Respond.Body)
		return []*routev3.Route{base}
	default:
		return m.share(base, r)
	}
}

// share splits requests among back ends. The back ends that one route can hold share
// it by weight; each of the others gets a route before that takes its fraction. All
// fractions of a request are decided by one random number, so they are counted
// from the beginning, not each from what is left.
func (m *maker) share(base *routev3.Route, r *ir.HTTPRoute) []*routev3.Route {
	backends := scaled(r.Backends)
	total := sum(backends)
	if total == 0 {
		base.Action = respond(503, "")
		return []*routev3.Route{base}
	}
	alike := func(b ir.WeightedBackend) bool {
		return !unresolved(b) && b.Filters.Rewrite == nil && len(b.Filters.Mirrors) == 0
	}
	apart := slices.DeleteFunc(slices.Clone(backends), alike)
	together := slices.DeleteFunc(backends, func(b ir.WeightedBackend) bool { return !alike(b) })
	if len(together) == 0 {
		together, apart = apart[len(apart)-1:], apart[:len(apart)-1]
	}
	var routes []*routev3.Route
	var before uint64
	for _, b := range apart {
		before += uint64(b.Weight)
		one := proto.CloneOf(base)
		one.Match.RuntimeFraction = fraction(before, total)
		m.send(one, r, []ir.WeightedBackend{b})
		routes = append(routes, one)
	}
	m.send(base, r, together)
	return append(routes, base)
}

func unresolved(b ir.WeightedBackend) bool { return b.Unresolved || b.Cluster == nil }

// send makes a route send its requests to back ends; to a single one in its own way.
func (m *maker) send(out *routev3.Route, r *ir.HTTPRoute, backends []ir.WeightedBackend) {
	if unresolved(backends[0]) {
		out.Action = respond(cmp.Or(backends[0].Status, 503), "")
		return
	}
	filters := r.Filters
	action := &routev3.RouteAction{
		// No bound unless one is asked for: Envoy's own is 15 s.
		Timeout:     durationpb.New(max(0, r.Timeouts.Request)),
		IdleTimeout: duration(r.Timeouts.Idle),
		RetryPolicy: m.retryPolicy(r, backends),
	}
	if len(backends) == 1 {
		b := backends[0].Filters
		filters.RequestHeaders = after(filters.RequestHeaders, b.RequestHeaders)
		responses := after(filters.ResponseHeaders, b.ResponseHeaders)
		out.ResponseHeadersToAdd, out.ResponseHeadersToRemove = added(responses), removed(responses)
		filters.Rewrite = rewritten(filters.Rewrite, b.Rewrite)
		filters.Mirrors = slices.Concat(filters.Mirrors, b.Mirrors)
		action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: backends[0].Cluster.Name}
	} else {
		action.ClusterSpecifier = weightedClusters(backends)
	}
	out.RequestHeadersToAdd, out.RequestHeadersToRemove = added(filters.RequestHeaders), removed(filters.RequestHeaders)
	if h := host(filters); h != "" {
		action.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: h}
	}
	m.rewritePath(action, r.Match.Path, filters.Rewrite)
	action.RequestMirrorPolicies = mirrors(filters.Mirrors)
	out.Action = &routev3.Route_Route{Route: action}
}

func weightedClusters(backends []ir.WeightedBackend) *routev3.RouteAction_WeightedClusters {
	shares := make([]*routev3.WeightedCluster_ClusterWeight, 0, len(backends))
	for _, b := range backends {
		share := &routev3.WeightedCluster_ClusterWeight{
			Name:                    b.Cluster.Name,
			Weight:                  wrapperspb.UInt32(b.Weight),
			RequestHeadersToAdd:     added(b.Filters.RequestHeaders),
			RequestHeadersToRemove:  removed(b.Filters.RequestHeaders),
			ResponseHeadersToAdd:    added(b.Filters.ResponseHeaders),
			ResponseHeadersToRemove: removed(b.Filters.ResponseHeaders),
		}
		if h := host(b.Filters); h != "" {
			share.HostRewriteSpecifier = &routev3.WeightedCluster_ClusterWeight_HostRewriteLiteral{HostRewriteLiteral: h}
		}
		shares = append(shares, share)
	}
	return &routev3.RouteAction_WeightedClusters{WeightedClusters: &routev3.WeightedCluster{Clusters: shares}}
}

// rewritten lets what a back end says win over what the route says.
func rewritten(route, backend *ir.Rewrite) *ir.Rewrite {
	if backend == nil || route == nil {
		return cmp.Or(backend, route)
	}
	out := *route
	out.Host = cmp.Or(backend.Host, route.Host)
	if backend.Path != nil {
		out.Path, out.Prefix = backend.Path, backend.Prefix
	}
	return &out
}

// rewritePath changes the path, or the part of it that was matched.
func (m *maker) rewritePath(action *routev3.RouteAction, matched ir.PathMatch, r *ir.Rewrite) {
	if r == nil || r.Path == nil {
		return
	}
	if r.Prefix && plainPrefix(matched, *r.Path) {
		action.PrefixRewrite = *r.Path
		return
	}
	action.RegexRewrite = m.substitute(matched, *r.Path, r.Prefix)
}

// plainPrefix reports whether a matched prefix can be replaced as it is: neither of
// the two is a slash alone, which what follows the prefix begins with already.
func plainPrefix(matched ir.PathMatch, path string) bool {
	return strings.TrimRight(matched.Value, "/") != "" && matched.Kind != ir.MatchRegex &&
		path != "" && !strings.HasSuffix(path, "/")
}

// substitute replaces the whole path, or the matched elements with one slash behind
// what is put in their place.
func (m *maker) substitute(matched ir.PathMatch, path string, prefix bool) *matcherv3.RegexMatchAndSubstitute {
	pattern := "^[^?]*"
	if prefix {
		if matched.Kind == ir.MatchRegex {
			m.fail(fmt.Errorf("a regular expression has no prefix to put %q in place of", path))
		}
		pattern = "^" + regexp.QuoteMeta(strings.TrimRight(matched.Value, "/")) + "/*"
		path = strings.TrimRight(path, "/") + "/"
	}
	return &matcherv3.RegexMatchAndSubstitute{
		Pattern:      &matcherv3.RegexMatcher{Regex: pattern},
		Substitution: strings.ReplaceAll(path, `\`, `\\`),
	}
}

func (m *maker) redirect(matched ir.PathMatch, r *ir.Redirect) *routev3.Route_Redirect {
	action := &routev3.RedirectAction{HostRedirect: r.Host, PortRedirect: uint32(r.Port)}
	if r.Scheme != "" {
		action.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: r.Scheme}
	}
	switch r.Status {
	case 0, 302:
		action.ResponseCode = routev3.RedirectAction_FOUND
	case 301:
		action.ResponseCode = routev3.RedirectAction_MOVED_PERMANENTLY
	case 303:
		action.ResponseCode = routev3.RedirectAction_SEE_OTHER
	case 307:
		action.ResponseCode = routev3.RedirectAction_TEMPORARY_REDIRECT
	case 308:
		action.ResponseCode = routev3.RedirectAction_PERMANENT_REDIRECT
	default:
		m.fail(fmt.Errorf("%d is no status of a redirection", r.Status))
	}
	switch {
	case r.Path == nil:
	case !r.Prefix:
		action.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: *r.Path}
	case plainPrefix(matched, *r.Path):
		action.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: *r.Path}
	default:
		action.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: m.substitute(matched, *r.Path, true)}
	}
	return &routev3.Route_Redirect{Redirect: action}
}

func respond(status uint32, body string) *routev3.Route_DirectResponse {
	action := &routev3.DirectResponseAction{Status: status}
	if body != "" {
		action.Body = text(body)
	}
	return &routev3.Route_DirectResponse{DirectResponse: action}
}

// retryPolicy also bounds each try, which without retries is the only one.
func (m *maker) retryPolicy(r *ir.HTTPRoute, backends []ir.WeightedBackend) *routev3.RetryPolicy {
	if r.Retry == nil {
		if r.Timeouts.Backend <= 0 {
			return nil
		}
		return &routev3.RetryPolicy{NumRetries: wrapperspb.UInt32(0), PerTryTimeout: durationpb.New(r.Timeouts.Backend)}
	}
	out := &routev3.RetryPolicy{
		RetryOn:              r.Retry.On,
		NumRetries:           wrapperspb.UInt32(r.Retry.Attempts),
		PerTryTimeout:        duration(cmp.Or(r.Retry.PerTry, r.Timeouts.Backend)),
		RetriableStatusCodes: r.Retry.StatusCodes,
	}
	if len(r.Retry.StatusCodes) > 0 {
		out.RetryOn = strings.TrimPrefix(out.GetRetryOn()+",retriable-status-codes", ",")
	}
	if r.Retry.BackoffBase > 0 {
		out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: durationpb.New(r.Retry.BackoffBase), MaxInterval: duration(r.Retry.BackoffMax),
		}
	}
	fixed := func(b ir.WeightedBackend) bool { return b.Cluster.OriginalDestination }
	if !slices.ContainsFunc(backends, fixed) {
		out.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{{
			Name: "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
				TypedConfig: m.pack(&previoushostsv3.PreviousHostsPredicate{}),
			},
		}}
		out.HostSelectionRetryMaxAttempts = 3
	}
	return out
}

func mirrors(all []ir.Mirror) []*routev3.RouteAction_RequestMirrorPolicy {
	var out []*routev3.RouteAction_RequestMirrorPolicy
	for _, mirror := range all {
		if mirror.Cluster == nil {
			continue
		}
		policy := &routev3.RouteAction_RequestMirrorPolicy{Cluster: mirror.Cluster.Name}
		if mirror.Denominator > 0 {
			policy.RuntimeFraction = fraction(uint64(min(mirror.Numerator, mirror.Denominator)), uint64(mirror.Denominator))
		}
		out = append(out, policy)
	}
	return out
}

func fraction(part, whole uint64) *corev3.RuntimeFractionalPercent {
	return &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{
		Numerator:   uint32(part * million / whole),
		Denominator: typev3.FractionalPercent_MILLION,
	}}
}
