package policy

import (
	"cmp"
	"net/netip"
	"regexp"
	"strings"
	"time"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/ir"
)

// globalTimeout is what a setting is silent about.
const globalTimeout = 20 * time.Millisecond

// readGlobal reads what a server is asked about.
func (s *setting) readGlobal(spec *policyv1alpha1.GlobalRateLimitSpec) {
	if t := spec.TCP; t != nil {
		var all []ir.RateDescriptor
		for _, d := range t.Descriptors {
			var one ir.RateDescriptor
			for _, e := range d.Entries {
				one = append(one, ir.RateEntry{Kind: ir.RateGeneric, Key: e.Key, Value: e.Value})
			}
			all = append(all, one)
		}
		all = s.usable("rateLimit.global.tcp", all)
		if out := s.readServer("rateLimit.global.tcp", t.RateLimitService, t.Domain, t.Timeout, t.FailOpen); out != nil && len(all) > 0 {
			out.Descriptors = all
			s.rates.globalConnections = out
		}
	}
	if h := spec.HTTP; h != nil {
		const at = "rateLimit.global.http"
		out := s.readServer(at, h.RateLimitService, h.Domain, h.Timeout, h.FailOpen)
		if out == nil {
			return
		}
		out.Headers = h.EnableXRateLimitHeaders != nil && *h.EnableXRateLimitHeaders
		out.Status = s.readStatus(at, h.ResponseStatusCode)
		out.Descriptors = s.readDescriptors(at, h.Descriptors)
		s.rates.globalRequests = out
	}
}

// readServer reads who is asked; nil is nobody.
func (s *setting) readServer(at string, service policyv1alpha1.RateLimitServiceSpec, domain string, timeout *policyv1alpha1.Duration, failOpen *bool) *ir.GlobalRateLimit {
	host := strings.TrimSuffix(strings.ToLower(service.Host), ".")
	_, err := netip.ParseAddr(host)
	named := validHost(host) && !strings.HasPrefix(host, "*")
	switch {
	case err != nil && !named:
		s.remarks.partly(ReasonInvalidRateLimit, "", "%s: %.64q is no host: there is no limit", at, service.Host)
		return nil
	case service.Port < 1 || service.Port > 65535:
		s.remarks.partly(ReasonInvalidRateLimit, "", "%s: %d is no port: there is no limit", at, service.Port)
		return nil
	case domain == "":
		s.remarks.partly(ReasonInvalidRateLimit, "", "%s has no domain: there is no limit", at)
		return nil
	}
	out := &ir.GlobalRateLimit{Address: host, Port: uint16(service.Port), Domain: domain, Timeout: globalTimeout, FailOpen: failOpen == nil || *failOpen}
	if d := readDuration(&s.remarks, at+".timeout", timeout); d > 0 {
		out.Timeout = d
	}
	return out
}

// readDescriptors reads what requests count as. One that cannot be read is left out.
func (s *setting) readDescriptors(at string, all []policyv1alpha1.HTTPGlobalRateLimitDescriptor) []ir.RateDescriptor {
	var out []ir.RateDescriptor
	for _, d := range all {
		var one ir.RateDescriptor
		for _, e := range d.Entries {
			entry, problem := readEntry(e)
			if problem != "" {
				s.remarks.partly(ReasonInvalidRateLimit, "", "%s: a descriptor is left out: %s", at, problem)
				one = nil
				break
			}
			one = append(one, entry)
		}
		if one != nil || len(d.Entries) == 0 {
			out = append(out, one)
		}
	}
	return s.usable(at, out)
}

// usable leaves out descriptors that count nothing, and those that are too many.
func (s *setting) usable(at string, all []ir.RateDescriptor) []ir.RateDescriptor {
	const most = 32
	var out []ir.RateDescriptor
	for _, d := range all {
		complete := len(d) > 0 && len(d) <= most
		for _, e := range d {
			complete = complete && (e.Kind != ir.RateGeneric || e.Value != "" && e.Key != "")
		}
		switch {
		case !complete:
			s.remarks.partly(ReasonInvalidRateLimit, "", "%s: a descriptor needs from 1 to %d entries, each with key and value: it is left out", at, most)
		case len(out) == most:
			s.remarks.partly(ReasonInvalidRateLimit, "", "%s: of more than %d descriptors the rest is left out", at, most)
			return out
		default:
			out = append(out, d)
		}
	}
	return out
}

// readEntry reads one of several ways to a value.
func readEntry(e policyv1alpha1.HTTPGlobalRateLimitDescriptorEntry) (out ir.RateEntry, problem string) {
	ways := 0
	if g := e.GenericKey; g != nil {
		ways++
		out = ir.RateEntry{Kind: ir.RateGeneric, Key: cmp.Or(g.Key, "generic_key"), Value: g.Value}
	}
	if e.RemoteAddress != nil {
		ways++
		out = ir.RateEntry{Kind: ir.RateAddress, Key: "remote_address"}
	}
	if h := e.RequestHeader; h != nil {
		ways++
		n, err := headerName(h.Name)
		out = ir.RateEntry{Kind: ir.RateHeader, Key: h.Key, Header: n}
		if h.Key == "" || err != nil {
			problem = "requestHeader needs a key, and the name of a header"
		}
	}
	if m := e.HeaderValueMatch; m != nil {
		ways++
		out, problem = readMatch(m)
	}
	if ways != 1 {
		problem = "an entry needs one of genericKey, remoteAddress, requestHeader and headerValueMatch"
	}
	return out, problem
}

func readMatch(m *policyv1alpha1.HeaderValueMatchDescriptorEntry) (out ir.RateEntry, problem string) {
	out = ir.RateEntry{Kind: ir.RateMatch, Key: cmp.Or(m.Key, "header_match"), Value: m.Value, Otherwise: m.ExpectMatch != nil && !*m.ExpectMatch}
	if m.Value == "" || len(m.Headers) == 0 || len(m.Headers) > 32 {
		return out, "headerValueMatch needs a value and from 1 to 32 headers"
	}
	for _, h := range m.Headers {
		match, ok := readHeaderMatch(h)
		if !ok {
			return out, "a header of headerValueMatch needs a name, and one of exact, prefix, suffix, regex, contains and present that can be read"
		}
		out.Headers = append(out.Headers, match)
	}
	return out, ""
}

// readHeaderMatch reads one of several ways to compare a header.
func readHeaderMatch(h policyv1alpha1.HTTPHeaderMatcher) (ir.ValueMatch, bool) {
	n, err := headerName(h.Name)
	out, ways := ir.ValueMatch{Name: n}, 0
	for _, way := range []struct {
		given string
		kind  ir.MatchKind
		value string
	}{
		{h.Exact, ir.MatchExact, h.Exact},
		{h.Prefix, ir.MatchPrefix, h.Prefix},
		{h.Suffix, ir.MatchRegex, ".*" + regexp.QuoteMeta(h.Suffix)},
		{h.Contains, ir.MatchRegex, ".*" + regexp.QuoteMeta(h.Contains) + ".*"},
		{h.Regex, ir.MatchRegex, h.Regex},
	} {
		if way.given != "" {
			ways++
			out.Kind, out.Value = way.kind, way.value
		}
	}
	if h.Present != nil {
		ways++
		out.Kind, out.Invert = ir.MatchAny, !*h.Present
	}
	if out.Kind == ir.MatchRegex && err == nil {
		_, err = readRegex(out.Value)
	}
	return out, ways == 1 && err == nil && printable(out.Value)
}
