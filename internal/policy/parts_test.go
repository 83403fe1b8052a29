package policy

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

func TestReadRegex(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		expression string
		want       pattern
		refused    bool
	}{
		"a plain path is compared as it is":                {expression: "/a-b_c", want: pattern{kind: ir.MatchExact, value: "/a-b_c", literal: "/a-b_c", whole: true}},
		"anchors at the ends of a plain path mean nothing": {expression: "^/a$", want: pattern{kind: ir.MatchExact, value: "/a", literal: "/a", whole: true}},
		"an escaped dot is plain":                          {expression: `/a\.b`, want: pattern{kind: ir.MatchExact, value: "/a.b", literal: "/a.b", whole: true}},
		"a dot is not plain":                               {expression: "/a.b", want: pattern{kind: ir.MatchRegex, value: "/a.b", literal: "/a"}},
		"anything behind a beginning is a prefix":          {expression: "/a/.*", want: pattern{kind: ir.MatchPrefix, value: "/a/", literal: "/a/"}},
		"anything in brackets is a prefix":                 {expression: "/a(.*)", want: pattern{kind: ir.MatchPrefix, value: "/a", literal: "/a"}},
		"something behind a beginning is no prefix":        {expression: "/a/.+", want: pattern{kind: ir.MatchRegex, value: "/a/.+", literal: "/a/"}},
		"a query is never part of a path":                  {expression: `/a\?b.*`, want: pattern{kind: ir.MatchRegex, value: `/a\?b.*`, literal: "/a?b"}},
		"letters of either case are no plain path":         {expression: "(?i)/a", want: pattern{kind: ir.MatchRegex, value: "(?i)/a"}},
		"case may matter in a part":                        {expression: "/a(?i:b)c", want: pattern{kind: ir.MatchRegex, value: "/a(?i:b)c", literal: "/a"}},
		"an anchor in the middle ends what is plain":       {expression: "/a(^b)", want: pattern{kind: ir.MatchRegex, value: "/a(^b)", literal: "/a"}},
		"alternatives share a beginning":                   {expression: "/a/x|/a/y", want: pattern{kind: ir.MatchRegex, value: "/a/x|/a/y", literal: "/a/"}},
		"an expression for nothing is kept":                {expression: "()", want: pattern{kind: ir.MatchRegex, value: "()", whole: true}},
		"what RE2 cannot read is refused":                  {expression: "(?!a)", refused: true},
		"bytes that are no text are refused":               {expression: "\xff", refused: true},
		"a long expression is refused":                     {expression: strings.Repeat("a", longestRegex+1), refused: true},
		"many repetitions are refused":                     {expression: "(((a{30}){30}){30}){30}", refused: true},
		"many large classes are refused":                   {expression: `\pL{100}`, refused: true},
		"deep brackets are refused":                        {expression: strings.Repeat("(", 2000) + strings.Repeat(")", 2000), refused: true},
		"a long plain path is fine":                        {expression: strings.Repeat("a", longestRegex), want: pattern{kind: ir.MatchExact, value: strings.Repeat("a", longestRegex), literal: strings.Repeat("a", longestRegex), whole: true}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readRegex(tt.expression)
			if (err != nil) != tt.refused {
				t.Fatalf("refused: %v, want %t", err, tt.refused)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(pattern{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestWholeWeights(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		weights []float64
		want    []uint32
	}{
		"whole weights stay":                          {[]float64{90, 10, 0}, []uint32{90, 10, 0}},
		"fractions become whole":                      {[]float64{0.5, 0.25}, []uint32{50, 25}},
		"tenths become whole":                         {[]float64{33.3, 66.7}, []uint32{333, 667}},
		"thirds come near":                            {[]float64{1.0 / 3, 2.0 / 3}, []uint32{500000, 1000000}},
		"a small weight is not lost":                  {[]float64{1e-12, 1}, []uint32{1, 1000000}},
		"large weights keep their proportion":         {[]float64{1e300, 3e300}, []uint32{333333, 1000000}},
		"the sum stays what can be added up":          {[]float64{4e9, 4e9}, []uint32{1000000, 1000000}},
		"what is no number gets nothing":              {[]float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 5}, []uint32{0, 0, 0, 0, 5}},
		"all zero stays zero":                         {[]float64{0, 0}, []uint32{0, 0}},
		"the least number that there is gets a share": {[]float64{math.SmallestNonzeroFloat64, math.MaxFloat64}, []uint32{1, 1000000}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var backends []splitv1alpha4.TrafficSplitBackend
			for _, w := range tt.weights {
				backends = append(backends, splitv1alpha4.TrafficSplitBackend{Weight: w})
			}
			if diff := cmp.Diff(tt.want, wholeWeights(backends, &remarks{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestServiceOf(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		host string
		want mesh.Key
		ok   bool
	}{
		"a full name":                       {"s.ns.svc.cluster.local", mesh.Key{Namespace: "ns", Name: "s"}, true},
		"a name without the cluster's":      {"s.ns.svc", mesh.Key{}, false},
		"a name of another cluster":         {"s.ns.svc.example.com", mesh.Key{}, false},
		"a name of a pod":                   {"p.s.ns.svc.cluster.local", mesh.Key{}, false},
		"a name without a namespace":        {"s.svc.cluster.local", mesh.Key{}, false},
		"a name with an empty service":      {".ns.svc.cluster.local", mesh.Key{}, false},
		"a name with an empty namespace":    {"s..svc.cluster.local", mesh.Key{}, false},
		"nothing before the cluster's name": {"svc.cluster.local", mesh.Key{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, ok := serviceOf(tt.host); ok != tt.ok || got != tt.want {
				t.Errorf("%s is %v, %t, want %v, %t", tt.host, got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestLongReportsAreCutShort(t *testing.T) {
	t.Parallel()
	var r remarks
	r.missing(ReasonRouteNotFound, "", "%s", strings.Repeat("\u00e9", 10000))
	for i := range 100 {
		r.missing(ReasonNoPods, "", "%d", i)
		r.missing(ReasonNoPods, "", "%d", i)
	}
	v := r.report("Kind", mesh.Key{}, "", 0).Resolved
	if v.OK || v.Reason != ReasonRouteNotFound || len(v.Message) > 1000 || !strings.HasSuffix(v.Message, "; 6; and more") {
		t.Errorf("%+v", v)
	}
	if strings.ToValidUTF8(v.Message, "?") != v.Message {
		t.Error("the message is no text")
	}
}
