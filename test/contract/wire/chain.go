package wire

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

// said is what listener filters found out of a connection.
type said struct {
	source     netip.Addr
	address    netip.Addr
	port       uint16
	transport  string
	serverName string
	protocols  []string
}

// inspected is what the filters of a listener find out.
func inspected(l *listenerv3.Listener, c *connection) (said, error) {
	out := said{source: c.source, address: c.address, port: c.port, transport: "raw_buffer"}
	for _, f := range l.GetListenerFilters() {
		switch n := f.GetName(); n {
		case "envoy.filters.listener.original_dst", "envoy.filters.listener.proxy_protocol":
		case "envoy.filters.listener.tls_inspector":
			if c.tls != nil {
				out.transport, out.serverName, out.protocols = "tls", strings.ToLower(c.tls.serverName), c.tls.protocols
			}
		case "envoy.filters.listener.http_inspector":
			if c.tls == nil && c.request != nil {
				out.protocols = []string{"http/1.1"}
			}
		default:
			return out, fmt.Errorf("listener %s has the filter %s, of which nothing is known", l.GetName(), n)
		}
	}
	return out, nil
}

// chainFor returns the filter chain of a connection as Envoy finds it: step by step, each
// time those that say most exactly what the connection is, without ever going back. It is
// nil if there is none.
// Source: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/listener/v3/listener_components.proto#config-listener-v3-filterchainmatch
func chainFor(l *listenerv3.Listener, s said) (*listenerv3.FilterChain, error) {
	left := l.GetFilterChains()
	for _, c := range left {
		if err := known(c.GetFilterChainMatch()); err != nil {
			return nil, fmt.Errorf("chain %s of %s: %w", c.GetName(), l.GetName(), err)
		}
	}
	for _, exact := range []func(*listenerv3.FilterChainMatch) int{
		func(m *listenerv3.FilterChainMatch) int {
			return one(m.GetDestinationPort() == nil, m.GetDestinationPort().GetValue() == uint32(s.port))
		},
		func(m *listenerv3.FilterChainMatch) int { return within(m.GetPrefixRanges(), s.address) },
		func(m *listenerv3.FilterChainMatch) int { return named(m.GetServerNames(), s.serverName) },
		func(m *listenerv3.FilterChainMatch) int {
			return one(m.GetTransportProtocol() == "", m.GetTransportProtocol() == s.transport)
		},
		func(m *listenerv3.FilterChainMatch) int {
			return one(len(m.GetApplicationProtocols()) == 0, slices.ContainsFunc(s.protocols, func(p string) bool {
				return slices.Contains(m.GetApplicationProtocols(), p)
			}))
		},
		func(m *listenerv3.FilterChainMatch) int { return within(m.GetSourcePrefixRanges(), s.source) },
	} {
		left = best(left, exact)
	}
	switch len(left) {
	case 0:
		return l.GetDefaultFilterChain(), nil
	case 1:
		return left[0], nil
	default:
		return nil, fmt.Errorf("chains %s and %s of %s match the same", left[0].GetName(), left[1].GetName(), l.GetName())
	}
}

// known fails on what no step looks at.
func known(m *listenerv3.FilterChainMatch) error {
	if m.GetSuffixLen() != nil || m.GetAddressSuffix() != "" || len(m.GetSourcePorts()) > 0 || len(m.GetDirectSourcePrefixRanges()) > 0 ||
		m.GetSourceType() != listenerv3.FilterChainMatch_ANY {
		return fmt.Errorf("it matches by %v, of which nothing is known", m)
	}
	return nil
}

// best are those that match most exactly; less than 0 is not at all.
func best(all []*listenerv3.FilterChain, exact func(*listenerv3.FilterChainMatch) int) []*listenerv3.FilterChain {
	most := 0
	var out []*listenerv3.FilterChain
	for _, c := range all {
		switch n := exact(c.GetFilterChainMatch()); {
		case n < most:
		case n > most:
			most, out = n, []*listenerv3.FilterChain{c}
		default:
			out = append(out, c)
		}
	}
	return out
}

// one is 1 for what matches, 0 for what says nothing, and -1 for what does not match.
func one(silent, matches bool) int {
	switch {
	case silent:
		return 0
	case matches:
		return 1
	default:
		return -1
	}
}

func within(ranges []*corev3.CidrRange, address netip.Addr) int {
	if len(ranges) == 0 {
		return 0
	}
	most := -1
	for _, r := range ranges {
		if p := prefix(r); p.Contains(address) {
			most = max(most, 1+p.Bits())
		}
	}
	return most
}

// prefix is a range of addresses; one that cannot be read has none.
func prefix(r *corev3.CidrRange) netip.Prefix {
	a, err := netip.ParseAddr(r.GetAddressPrefix())
	if err != nil {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, int(r.GetPrefixLen().GetValue()))
}

func named(names []string, name string) int {
	if len(names) == 0 {
		return 0
	}
	most := -1
	for _, n := range names {
		most = max(most, exactly(n, name))
	}
	return most
}

// exactly says how exactly a pattern, which may begin with a wildcard, means a name: more
// than any wildcard where it is the name itself, and -1 where it does not mean it.
func exactly(pattern, name string) int {
	switch suffix, wildcard := strings.CutPrefix(pattern, "*"); {
	case pattern == name:
		return 1 << 20
	case wildcard && len(name) > len(suffix) && strings.HasSuffix(name, suffix):
		return len(pattern)
	default:
		return -1
	}
}
