package translate

import (
	"fmt"
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/openservicemesh/osm-operator/internal/ir"
)

// match writes down which requests are meant.
func (m *maker) match(in ir.HTTPMatch) *routev3.RouteMatch {
	out := &routev3.RouteMatch{}
	m.matchPath(in.Path, out)
	if method := matchMethods(in.Methods); method != nil {
		out.Headers = append(out.Headers, method)
	}
	for _, h := range in.Headers {
		out.Headers = append(out.Headers, m.matchHeader(h))
	}
	for _, q := range in.QueryParams {
		out.QueryParameters = append(out.QueryParameters, m.matchQuery(q))
	}
	return out
}

// matchPath never matches more than is said: an unknown kind is an error.
func (m *maker) matchPath(path ir.PathMatch, out *routev3.RouteMatch) {
	switch path.Kind {
	case ir.MatchAny:
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
	case ir.MatchExact:
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: path.Value}
	case ir.MatchPrefix:
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: path.Value}
	case ir.MatchPathPrefix:
		element := strings.TrimRight(path.Value, "/")
		if element == "" {
			out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
			return
		}
		out.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: element}
	case ir.MatchRegex:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: m.regex(path.Value)}
	default:
		m.fail(fmt.Errorf("a path cannot be matched by %q", path.Kind))
	}
}

// matchMethods returns nil for any method.
func matchMethods(methods []string) *routev3.HeaderMatcher {
	if len(methods) == 0 {
		return nil
	}
	h := &routev3.HeaderMatcher{Name: ":method"}
	if len(methods) == 1 {
		h.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: exact(methods[0])}
		return h
	}
	quoted := make([]string, 0, len(methods))
	for _, method := range methods {
		quoted = append(quoted, regexp.QuoteMeta(method))
	}
	h.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: matchingRegex(strings.Join(quoted, "|"))}
	return h
}

func (m *maker) matchHeader(in ir.ValueMatch) *routev3.HeaderMatcher {
	out := &routev3.HeaderMatcher{Name: strings.ToLower(in.Name), InvertMatch: in.Invert}
	if in.Kind == ir.MatchAny {
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
		return out
	}
	out.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: m.matchValue(in)}
	return out
}

func (m *maker) matchQuery(in ir.ValueMatch) *routev3.QueryParameterMatcher {
	if in.Invert {
		m.fail(fmt.Errorf("the query parameter %q cannot be matched by what it is not", in.Name))
	}
	out := &routev3.QueryParameterMatcher{Name: in.Name}
	if in.Kind == ir.MatchAny {
		out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_PresentMatch{PresentMatch: true}
		return out
	}
	out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_StringMatch{StringMatch: m.matchValue(in)}
	return out
}

func (m *maker) matchValue(in ir.ValueMatch) *matcherv3.StringMatcher {
	switch in.Kind {
	case ir.MatchExact:
		return exact(in.Value)
	case ir.MatchPrefix:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: in.Value}}
	case ir.MatchRegex:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: m.regex(in.Value)}}
	default: // ir.MatchAny and ir.MatchPathPrefix say nothing about a value
		m.fail(fmt.Errorf("the value of %q cannot be matched by %q", in.Name, in.Kind))
		return exact("")
	}
}

// regex is matched against the whole value. Go's expressions are RE2's; one that Go
// does not take would make the proxy refuse the whole table.
func (m *maker) regex(expression string) *matcherv3.RegexMatcher {
	if _, err := regexp.Compile(expression); err != nil {
		m.fail(fmt.Errorf("reading a regular expression: %w", err))
	}
	return &matcherv3.RegexMatcher{Regex: expression}
}

func exact(value string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value}}
}

func prefix(value string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: value}}
}

func matchingRegex(expression string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: expression},
	}}
}
