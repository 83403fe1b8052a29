package redirect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Table is the name of the table that is this package's own.
const Table = "osm"

// Names of chains and sets.
const (
	preroutingChain = "prerouting"
	outputChain     = "output"
	inboundChain    = "inbound"

	interfacesSet    = "excluded_interfaces"
	inboundPortsSet  = "excluded_inbound_ports"
	outboundPortsSet = "excluded_outbound_ports"
	excludedIPv4Set  = "excluded_ipv4"
	excludedIPv6Set  = "excluded_ipv6"
	includedIPv4Set  = "included_ipv4"
	includedIPv6Set  = "included_ipv6"
)

// tcp is the protocol's number.
const tcp = 6

// Rules plans the table for a configuration. A NAT chain sees the first packet of a
// connection only; what it decides holds for all others.
//
//	arrives at the pod ----> prerouting --+
//	                                      +--> inbound --> 15003
//	made by the sidecar to the pod  --+   |
//	itself, over loopback             +---+
//	made by the application ----> output --------------> 15001
//
// What the application sends over loopback, and what the sidecar sends elsewhere,
// passes. The order is that of Open Service Mesh.
func Rules(c Config) (Ruleset, error) {
	if err := c.Validate(); err != nil {
		return Ruleset{}, fmt.Errorf("redirection: %w", err)
	}
	r := Ruleset{Table: Table, Sets: sets(c)}
	r.Chains = []Chain{
		{Name: inboundChain, Rules: inboundRules(c)},
		{Name: preroutingChain, Hook: Prerouting, Rules: preroutingRules(c)},
		{Name: outputChain, Hook: Output, Rules: outputRules(c)},
	}
	return r, nil
}

// sets returns the lists that rules refer to; a list that is empty has no set.
func sets(c Config) []Set {
	v4, v6 := split(c.OutboundCIDRExclusions)
	in4, in6 := split(c.OutboundCIDRInclusions)
	exact, _ := interfaces(c)
	inbound := sidecarPorts()
	for _, p := range c.InboundPortExclusions {
		inbound = append(inbound, portRange{p, p})
	}
	var outbound []portRange
	for _, p := range c.OutboundPortExclusions {
		outbound = append(outbound, portRange{p, p})
	}
	all := []Set{
		{interfacesSet, Interfaces, exact},
		{inboundPortsSet, Ports, merge(portRanges(inbound))},
		{outboundPortsSet, Ports, merge(portRanges(outbound))},
		{excludedIPv4Set, IPv4, merge(v4)},
		{excludedIPv6Set, IPv6, merge(v6)},
		{includedIPv4Set, IPv4, merge(in4)},
		{includedIPv6Set, IPv6, merge(in6)},
	}
	return slices.DeleteFunc(all, func(s Set) bool { return len(s.Ranges) == 0 })
}

// preroutingRules are for what arrives from outside the pod. What the pod sends to
// itself has been decided in the output chain, and is not asked about again.
func preroutingRules(c Config) []Rule {
	rules := []Rule{notTCP()}
	rules = append(rules, excludedInterfaces(c, InInterface)...)
	return append(rules, Rule{"all else goes to the proxy", nil, Verdict{Action: GoTo, Chain: inboundChain}})
}

// inboundRules are for connections to the pod's own ports.
func inboundRules(c Config) []Rule {
	return []Rule{
		{"ports of the proxy's own, and excluded ones", in(DestPort, inboundPortsSet), leave()},
		{"to the inbound listener", isTCP(), Verdict{Action: Redirect, Port: c.InboundPort}},
	}
}

// outputRules are for connections that processes of the pod make.
func outputRules(c Config) []Rule {
	loopback, proxy := is(OutInterface, interfaceName("lo")), is(SocketUID, be32(c.ProxyUID))
	rules := append([]Rule{notTCP()}, toPodIP(c, loopback, proxy)...)
	rules = append(
		rules,
		Rule{"loopback stays", is(DestIPv4, []byte{127}), leave()},
		Rule{"loopback stays", is(DestIPv6, netip.IPv6Loopback().AsSlice()), leave()},
		Rule{"the proxy calls this pod: as if from outside", and(loopback, proxy), Verdict{Action: GoTo, Chain: inboundChain}},
		Rule{"the application calls its own pod", loopback, leave()},
		Rule{"the proxy's own connections", proxy, leave()},
	)
	rules = append(rules, excludedInterfaces(c, OutInterface)...)
	v4, v6 := split(c.OutboundCIDRExclusions)
	if len(v4) > 0 {
		rules = append(rules, Rule{"excluded ranges", in(DestIPv4, excludedIPv4Set), leave()})
	}
	if len(v6) > 0 {
		rules = append(rules, Rule{"excluded ranges", in(DestIPv6, excludedIPv6Set), leave()})
	}
	if len(c.OutboundPortExclusions) > 0 {
		rules = append(rules, Rule{"excluded ports", in(DestPort, outboundPortsSet), leave()})
	}
	return append(rules, captureRules(c)...)
}

// captureRules send to the outbound listener what no rule before has let pass.
func captureRules(c Config) []Rule {
	capture := Verdict{Action: Redirect, Port: c.OutboundPort}
	v4, v6 := split(c.OutboundCIDRInclusions)
	if len(v4)+len(v6) == 0 {
		return []Rule{{"to the outbound listener", isTCP(), capture}}
	}
	var rules []Rule
	if len(v4) > 0 {
		rules = append(rules, Rule{"included ranges only", and(in(DestIPv4, includedIPv4Set), isTCP()), capture})
	}
	if len(v6) > 0 {
		rules = append(rules, Rule{"included ranges only", and(in(DestIPv6, includedIPv6Set), isTCP()), capture})
	}
	return rules
}

// toPodIP sends what the proxy calls on loopback to the pod's address.
func toPodIP(c Config, loopback, proxy []Match) []Rule {
	var rules []Rule
	notAdmin := []Match{{Field: DestPort, Value: be16(adminPort), Not: true}}
	for _, family := range []struct {
		v4   bool
		host []Match
	}{
		{true, is(DestIPv4, []byte{127, 0, 0, 1})},
		{false, is(DestIPv6, netip.IPv6Loopback().AsSlice())},
	} {
		if addr, ok := c.podIP(family.v4); ok {
			rules = append(rules, Rule{
				"the application listens on the pod's address", and(loopback, proxy, family.host, notAdmin),
				Verdict{Action: DNAT, Addr: addr},
			})
		}
	}
	return rules
}

// excludedInterfaces lets pass what uses an excluded interface: one rule for all
// names, one for each pattern.
func excludedInterfaces(c Config, field Field) []Rule {
	const why = "excluded interfaces"
	var rules []Rule
	exact, stems := interfaces(c)
	if len(exact) > 0 {
		rules = append(rules, Rule{why, in(field, interfacesSet), leave()})
	}
	for _, stem := range stems {
		rules = append(rules, Rule{why, is(field, []byte(stem)), leave()})
	}
	return rules
}

// interfaces splits the excluded interfaces into names and the stems of patterns.
func interfaces(c Config) (exact []Range, stems []string) {
	for _, name := range slices.Compact(slices.Sorted(slices.Values(c.InterfaceExclusions))) {
		if stem, ok := strings.CutSuffix(name, "+"); ok {
			stems = append(stems, stem)
			continue
		}
		value := make([]byte, maxInterfaceName+1)
		copy(value, name)
		exact = append(exact, Range{value, value})
	}
	return exact, stems
}

// interfaceName is a whole name: with its closing zero, nothing can follow.
func interfaceName(name string) []byte { return append([]byte(name), 0) }

func notTCP() Rule {
	return Rule{"TCP alone is redirected", []Match{{Field: Protocol, Value: []byte{tcp}, Not: true}}, leave()}
}

// isTCP goes with every redirection: the kernel's tools want to see it at the rule.
func isTCP() []Match { return is(Protocol, []byte{tcp}) }

func leave() Verdict { return Verdict{Action: Return} }

func is(f Field, value []byte) []Match { return []Match{{Field: f, Value: value}} }

func in(f Field, set string) []Match { return []Match{{Field: f, Set: set}} }

func and(matches ...[]Match) []Match { return slices.Concat(matches...) }

func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func portRanges(ports []portRange) []Range {
	out := make([]Range, len(ports))
	for i, p := range ports {
		out[i] = Range{be16(p.first), be16(p.last)}
	}
	return out
}

// split returns the ranges of prefixes, by family.
func split(prefixes []netip.Prefix) (v4, v6 []Range) {
	for _, p := range prefixes {
		first := p.Masked().Addr().AsSlice()
		last := slices.Clone(first)
		for bit := p.Bits(); bit < len(last)*8; bit++ {
			last[bit/8] |= 1 << (7 - bit%8)
		}
		if p.Addr().Is4() {
			v4 = append(v4, Range{first, last})
		} else {
			v6 = append(v6, Range{first, last})
		}
	}
	return v4, v6
}

// merge sorts ranges and joins those that overlap or touch, which the kernel refuses.
func merge(ranges []Range) []Range {
	slices.SortFunc(ranges, func(a, b Range) int { return bytes.Compare(a.First, b.First) })
	var out []Range
	for _, r := range ranges {
		if len(out) == 0 || beyond(out[len(out)-1].Last, r.First) {
			out = append(out, r)
			continue
		}
		if last := &out[len(out)-1]; bytes.Compare(last.Last, r.Last) < 0 {
			last.Last = r.Last
		}
	}
	return out
}

// beyond says whether first comes after last with something between them.
func beyond(last, first []byte) bool {
	next, ok := successor(last)
	return ok && bytes.Compare(first, next) > 0
}

// successor returns the next value; there is none after the greatest.
func successor(v []byte) ([]byte, bool) {
	next := slices.Clone(v)
	for i := len(next) - 1; i >= 0; i-- {
		next[i]++
		if next[i] != 0 {
			return next, true
		}
	}
	return nil, false
}
