package translate

import (
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/openservicemesh/osm-operator/internal/ir"
)

// after puts one change behind another, as one change.
func after(first, second ir.HeaderChange) ir.HeaderChange {
	return ir.HeaderChange{
		Set:    slices.Concat(without(first.Set, second.Remove), second.Set),
		Add:    slices.Concat(without(first.Add, second.Remove), second.Add),
		Remove: slices.Concat(first.Remove, second.Remove),
	}
}

// added returns the headers that a change sets and adds. Envoy removes first, so what
// is removed in the end is not added at all. Values are no formats.
func added(c ir.HeaderChange) []*corev3.HeaderValueOption {
	var out []*corev3.HeaderValueOption
	option := func(h ir.Header, action corev3.HeaderValueOption_HeaderAppendAction) {
		out = append(out, &corev3.HeaderValueOption{
			Header:         &corev3.HeaderValue{Key: strings.ToLower(h.Name), Value: strings.ReplaceAll(h.Value, "%", "%%")},
			AppendAction:   action,
			KeepEmptyValue: true,
		})
	}
	for _, h := range without(c.Set, c.Remove) {
		if !isHost(h.Name) {
			option(h, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
		}
	}
	for _, h := range without(c.Add, c.Remove) {
		if !isHost(h.Name) {
			option(h, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
		}
	}
	return out
}

// removed returns the headers that a change takes away. The host cannot be.
func removed(c ir.HeaderChange) []string {
	var out []string
	for _, n := range c.Remove {
		if n = strings.ToLower(n); !isHost(n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// host returns what a change makes of the host, which Envoy takes for no header;
// empty if it leaves it.
func host(f ir.Filters) string {
	if f.Rewrite != nil && f.Rewrite.Host != "" {
		return f.Rewrite.Host
	}
	for _, h := range slices.Backward(f.RequestHeaders.Set) {
		if isHost(h.Name) {
			return h.Value
		}
	}
	return ""
}

func isHost(header string) bool {
	return strings.EqualFold(header, "host") || strings.EqualFold(header, ":authority")
}

// without leaves out headers of these names.
func without(headers []ir.Header, names []string) []ir.Header {
	if len(names) == 0 {
		return headers
	}
	return slices.DeleteFunc(slices.Clone(headers), func(h ir.Header) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, h.Name) })
	})
}
