package policy

import (
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// Bounds of what an UpstreamTrafficSetting may ask of each proxy of its Service.
const (
	mostPathRates   = 1024
	mostRateHeaders = 10
)

// rates bound what comes to the pods of a Service; the zero value bounds nothing.
type rates struct {
	connections *ir.Rate
	requests    *ir.LocalRateLimit
	// Of these a server is asked.
	globalConnections, globalRequests *ir.GlobalRateLimit
	// paths are in the order of the object, each path once.
	paths []pathRate
}

func (r rates) none() bool {
	return r.connections == nil && r.globalConnections == nil && !r.ofRequests()
}

func (r rates) ofRequests() bool {
	return r.requests != nil || r.globalRequests != nil || len(r.paths) > 0
}

// pathRate bounds requests of one path.
type pathRate struct {
	text  string
	path  ir.PathMatch
	limit *ir.LocalRateLimit
	// descriptors are what a server is asked about.
	descriptors []ir.RateDescriptor
}

// readRates reads what is bounded at callees.
func (s *setting) readRates() {
	if l := s.Spec.RateLimit; l != nil && l.Global != nil {
		s.readGlobal(l.Global)
	}
	if l := s.Spec.RateLimit; l != nil && l.Local != nil {
		if t := l.Local.TCP; t != nil {
			s.rates.connections = s.readRate("rateLimit.local.tcp", "connections", t.Connections, t.Unit, t.Burst)
		}
		if h := l.Local.HTTP; h != nil {
			s.rates.requests = s.readLimit("rateLimit.local.http", h)
		}
	}
	s.readPaths()
	g := s.rates.globalRequests
	counts := func(p pathRate) bool { return len(p.descriptors) > 0 }
	if g != nil && len(g.Descriptors) == 0 && !slices.ContainsFunc(s.rates.paths, counts) {
		s.remarks.partly(ReasonNoEffect, "", "rateLimit.global.http: neither it nor a route has a descriptor: the server is not asked")
		s.rates.globalRequests = nil
	}
}

// readPaths reads what is bounded by path, in the form that routes have theirs.
func (s *setting) readPaths() {
	seen := map[ir.PathMatch]bool{}
	for _, route := range s.Spec.HTTPRoutes {
		path, err := readPath(route.Path)
		switch {
		case err != nil:
			s.remarks.partly(ReasonInvalidMatch, "", "httpRoutes: a path cannot be matched, and is left out: %v", err)
			continue
		case route.RateLimit == nil || *route.RateLimit == (policyv1alpha1.HTTPPerRouteRateLimitSpec{}):
			continue
		case seen[path]:
			s.remarks.partly(ReasonConflict, "", "httpRoutes: the path %.64q is there twice: the first counts", route.Path)
			continue
		case len(s.rates.paths) == mostPathRates:
			s.remarks.partly(ReasonInvalidRateLimit, "", "httpRoutes: of more than %d paths the rest is left out", mostPathRates)
			return
		}
		seen[path] = true
		one := pathRate{text: route.Path, path: path}
		if l := route.RateLimit.Local; l != nil {
			one.limit = s.readLimit("httpRoutes", l)
		}
		if g := route.RateLimit.Global; g != nil {
			one.descriptors = s.readDescriptors("httpRoutes", g.Descriptors)
			if s.rates.globalRequests == nil {
				s.remarks.partly(ReasonInvalidRateLimit, "", "httpRoutes: descriptors of %.64q are for the server of rateLimit.global.http, and there is none: they are left out", route.Path)
				one.descriptors = nil
			}
		}
		if one.limit != nil || len(one.descriptors) > 0 {
			s.rates.paths = append(s.rates.paths, one)
		}
	}
}

func readPath(expression string) (ir.PathMatch, error) {
	if expression == "" {
		return ir.PathMatch{}, errors.New("it is empty")
	}
	p, err := readRegex(expression)
	if err != nil || p.kind == ir.MatchPrefix && p.value == "" {
		return ir.PathMatch{}, err
	}
	return ir.PathMatch{Kind: p.kind, Value: p.value}, nil
}

// readRate reads a bucket; nil is that it cannot be read.
func (s *setting) readRate(at, field string, number int64, unit string, burst int64) *ir.Rate {
	intervals := map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour}
	interval, ok := intervals[unit]
	switch {
	case number < 1:
		s.remarks.partly(ReasonInvalidRateLimit, "", "%s: %s is %d, but must be 1 at least: there is no limit", at, field, number)
		return nil
	case !ok:
		s.remarks.partly(ReasonInvalidRateLimit, "", "%s: unit is %.64q, but must be second, minute or hour: there is no limit", at, unit)
		return nil
	case burst < 0:
		s.remarks.partly(ReasonInvalidRateLimit, "", "%s: burst is %d, but must be 0 at least: it is left out", at, burst)
	}
	// Proxies count up to a number in which the burst must find room.
	number = min(number, math.MaxUint32)
	return &ir.Rate{Number: uint32(number), Burst: uint32(min(max(burst, 0), math.MaxUint32-number)), Interval: interval}
}

func (s *setting) readLimit(at string, spec *policyv1alpha1.HTTPLocalRateLimitSpec) *ir.LocalRateLimit {
	rate := s.readRate(at, "requests", spec.Requests, spec.Unit, spec.Burst)
	if rate == nil {
		return nil
	}
	out := &ir.LocalRateLimit{Rate: *rate, Status: s.readStatus(at, spec.ResponseStatusCode)}
	for _, h := range spec.ResponseHeadersToAdd {
		switch {
		case len(out.Headers) == mostRateHeaders:
			s.remarks.partly(ReasonInvalidRateLimit, "", "%s: of more than %d headers the rest is left out", at, mostRateHeaders)
			return out
		case !token(h.Name) || strings.EqualFold(h.Name, "host") || len(h.Name) > 256 || !printable(h.Value):
			s.remarks.partly(ReasonInvalidRateLimit, "", "%s: %.64q is no header: it is left out", at, h.Name)
		default:
			out.Headers = append(out.Headers, ir.Header{Name: h.Name, Value: h.Value})
		}
	}
	return out
}

// readStatus reads an answer; 0 is the usual one.
func (s *setting) readStatus(at string, status int64) uint32 {
	switch {
	case status == 0:
		return 0
	case !rateStatus(status):
		s.remarks.partly(ReasonInvalidRateLimit, "", "%s: responseStatusCode %d is no error that proxies can answer with: it is 429", at, status)
		return 0
	default:
		return uint32(status)
	}
}

// rateStatus reports whether proxies know a status of an error.
// Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/type/v3/http_status.proto
func rateStatus(status int64) bool {
	switch {
	case status >= 400 && status <= 417, status >= 421 && status <= 424, status >= 500 && status <= 508:
		return true
	default:
		return slices.Contains([]int64{426, 428, 429, 431, 510, 511}, status)
	}
}

// printable reports whether a value can be a header's.
func printable(value string) bool {
	control := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
	return len(value) <= 4096 && !slices.ContainsFunc([]rune(value), control)
}

// bound bounds what comes to a port of a class's pods, by the Services that lead to it,
// in their order, and by the roots whose splits do. What names none of them counts for
// the first.
func (c *classes) bound(port *ir.InboundPort, services []mesh.Key, table *routeTable) {
	first := c.ratesOf(services[0])
	port.Bounds = first.bounds(port.Protocol)
	if port.Protocol == ir.HTTP {
		port.Routes = table.bounded(first.paths)
	}
	for _, key := range services[1:] {
		if r := c.ratesOf(key); !r.none() || !first.none() {
			apart := c.apart(port, key, r, table)
			apart.ServerName = key.Name + "." + key.Namespace + "." + clusterHosts
			port.Apart = append(port.Apart, apart)
		}
	}
	if port.Protocol != ir.HTTP {
		return
	}
	for _, key := range c.rootsOver(services) {
		r := c.ratesOf(key)
		r.connections, r.globalConnections = nil, nil
		if !r.none() || !first.none() {
			port.Apart = append(port.Apart, c.apart(port, key, r, table))
		}
	}
}

// bounds are those of a port, without paths.
func (r rates) bounds(spoken ir.Protocol) ir.InboundBounds {
	out := ir.InboundBounds{Connections: r.connections, GlobalConnections: r.globalConnections}
	if spoken == ir.HTTP {
		out.Requests, out.GlobalRequests = r.requests, r.globalRequests
	}
	return out
}

func (c *classes) ratesOf(service mesh.Key) rates {
	return c.upstream(service).rates
}

func (c *classes) apart(port *ir.InboundPort, service mesh.Key, r rates, table *routeTable) ir.InboundService {
	out := ir.InboundService{Bounds: r.bounds(port.Protocol)}
	if port.Protocol == ir.HTTP {
		s := c.services.Get(service)
		out.Hosts = headlessHosts(service, true, s != nil && s.Headless)
		out.Routes = table.bounded(r.paths)
	}
	return out
}

// rootsOver are the roots, besides the Services themselves, that send them something.
func (c *classes) rootsOver(services []mesh.Key) []mesh.Key {
	var out []mesh.Key
	for _, key := range services {
		for _, root := range c.rootsOf.Get(key) {
			if !slices.Contains(services, root) {
				out = append(out, root)
			}
		}
	}
	slices.SortFunc(out, mesh.CompareKeys)
	return slices.Compact(out)
}

// bounded returns the routes with the bounds of their paths. In permissive mode, where
// paths are not told apart, each gets a route; where there are too many routes to tell
// them apart, none does.
func (t *routeTable) bounded(paths []pathRate) []ir.InboundRoute {
	if len(paths) == 0 {
		return t.routes
	}
	out := slices.Clone(t.routes)
	var before []ir.InboundRoute
	for _, p := range paths {
		if t.tooMany() {
			break
		}
		for i := range out {
			if out[i].Match.Path == p.path {
				out[i].RateLimit, out[i].Descriptors = p.limit, p.descriptors
			}
		}
		if t.whole && p.path.Kind != ir.MatchAny {
			r := t.routes[0]
			r.Name, r.Match.Path, r.RateLimit, r.Descriptors = r.Name+" "+p.text, p.path, p.limit, p.descriptors
			before = append(before, r)
		}
	}
	return append(before, out...)
}

// tooMany says that the routes of policies have become one.
func (t *routeTable) tooMany() bool { return t.whole && len(t.permissions) > 0 }
