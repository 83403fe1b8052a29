package policy

import (
	"fmt"
	"maps"
	"regexp/syntax"
	"slices"
	"strings"

	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/ir"
)

// longestRegex is the longest regular expression that proxies are given, in bytes.
const longestRegex = 4096

// httpMatch reads a match of an HTTPRouteGroup. The error says what cannot be read.
func httpMatch(m specsv1alpha4.HTTPMatch) (ir.HTTPMatch, error) {
	var out ir.HTTPMatch
	if m.PathRegex != "" && m.PathRegex != ".*" {
		if err := regex(m.PathRegex); err != nil {
			return out, err
		}
		out.Path = ir.PathMatch{Kind: ir.MatchRegex, Value: m.PathRegex}
	}
	if !slices.Contains(m.Methods, "*") {
		out.Methods = slices.Clone(m.Methods)
		slices.Sort(out.Methods)
		out.Methods = slices.Compact(out.Methods)
	}
	for _, headers := range m.Headers {
		for _, name := range slices.Sorted(maps.Keys(headers)) {
			if err := regex(headers[name]); err != nil {
				return out, err
			}
			header := strings.ToLower(name)
			if name == "host" {
				header = ":authority"
			}
			out.Headers = append(out.Headers, ir.ValueMatch{Name: header, Kind: ir.MatchRegex, Value: headers[name]})
		}
	}
	return out, nil
}

func regex(s string) error {
	if len(s) > longestRegex {
		return fmt.Errorf("a regular expression has %d bytes, more than %d", len(s), longestRegex)
	}
	if _, err := syntax.Parse(s, syntax.Perl); err != nil {
		return fmt.Errorf("%q is no RE2 regular expression: %w", s, err)
	}
	return nil
}
