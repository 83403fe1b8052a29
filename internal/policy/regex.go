package policy

import (
	"fmt"
	"regexp/syntax"
	"strings"

	"github.com/openservicemesh/osm-operator/internal/ir"
)

const (
	// longestRegex is the longest regular expression that proxies are given, in bytes.
	longestRegex = 16 << 10
	// largestRegex bounds what an expression becomes once its repetitions are written
	// out. Envoy refuses a whole route table for one that needs too much memory; this
	// is a small part of what it takes.
	largestRegex = 20_000
)

// pattern is a regular expression that was read.
type pattern struct {
	kind  ir.MatchKind
	value string
	// literal is what every value that matches begins with; whole says that it is
	// all of the value.
	literal string
	whole   bool
}

// readRegex reads an expression for a whole value. One that is a plain value, or the
// beginning of one, is written as such: proxies compare those faster, and it can be
// told whether two of them overlap.
func readRegex(expression string) (pattern, error) {
	if len(expression) > longestRegex {
		return pattern{}, fmt.Errorf("a regular expression has %d bytes, more than %d", len(expression), longestRegex)
	}
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return pattern{}, fmt.Errorf("reading %.64q as an RE2 regular expression: %w", expression, err)
	}
	if size(tree) > largestRegex {
		return pattern{}, fmt.Errorf("the regular expression %.64q is too large once its repetitions are written out", expression)
	}
	p := pattern{kind: ir.MatchRegex, value: expression}
	var rest []*syntax.Regexp
	p.literal, rest = beginning(unanchored(tree))
	p.whole = len(rest) == 0
	switch {
	case strings.ContainsAny(p.literal, "?#"):
		// A path is compared without its query by an expression, but not by a prefix.
	case p.whole && p.literal != "":
		p.kind, p.value = ir.MatchExact, p.literal
	case len(rest) == 1 && anything(rest[0]):
		p.kind, p.value = ir.MatchPrefix, p.literal
	}
	return p, nil
}

// unanchored leaves out anchors at both ends, which a whole value has anyway.
func unanchored(re *syntax.Regexp) *syntax.Regexp {
	if re.Op != syntax.OpConcat {
		return re
	}
	out := *re
	if out.Sub[0].Op == syntax.OpBeginText {
		out.Sub = out.Sub[1:]
	}
	if n := len(out.Sub); n > 0 && out.Sub[n-1].Op == syntax.OpEndText {
		out.Sub = out.Sub[:n-1]
	}
	return &out
}

// beginning returns the plain text that an expression begins with, and what follows it.
func beginning(re *syntax.Regexp) (string, []*syntax.Regexp) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return "", nil
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase == 0 {
			return string(re.Rune), nil
		}
	case syntax.OpConcat:
		var b strings.Builder
		for i, sub := range re.Sub {
			text, rest := beginning(sub)
			b.WriteString(text)
			if len(rest) > 0 {
				return b.String(), append(rest, re.Sub[i+1:]...)
			}
		}
		return b.String(), nil
	case syntax.OpCapture:
		return beginning(re.Sub[0])
	default:
	}
	return "", []*syntax.Regexp{re}
}

// anything reports whether an expression matches whatever a header or a path can be.
func anything(re *syntax.Regexp) bool {
	return re.Op == syntax.OpStar && (re.Sub[0].Op == syntax.OpAnyChar || re.Sub[0].Op == syntax.OpAnyCharNotNL)
}

// size is about how many steps an expression has for a matcher of bytes. It stops
// counting where there are too many.
func size(re *syntax.Regexp) int {
	const perAny, perRune = 12, 4
	n := 1
	switch re.Op {
	case syntax.OpLiteral:
		n = perRune * len(re.Rune)
		if re.Flags&syntax.FoldCase == 0 {
			n = len(string(re.Rune))
		}
	case syntax.OpCharClass:
		n = perRune * len(re.Rune)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		n = perAny
	default:
	}
	for _, sub := range re.Sub {
		n = min(n+size(sub), largestRegex+1)
	}
	if re.Op == syntax.OpRepeat {
		n = min(n*max(re.Min, re.Max, 1), largestRegex+1)
	}
	return n
}
