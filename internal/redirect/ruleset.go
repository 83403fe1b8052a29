package redirect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Ruleset is one nftables table of the family inet, as plain data.
type Ruleset struct {
	Table  string
	Sets   []Set
	Chains []Chain
}

// Set is a named set of values, given as ranges that neither overlap nor touch, in
// ascending order.
type Set struct {
	Name   string
	Type   SetType
	Ranges []Range
}

// SetType is the type of a set's values, in nftables' words.
type SetType string

// The types of sets.
const (
	Ports      SetType = "inet_service"
	IPv4       SetType = "ipv4_addr"
	IPv6       SetType = "ipv6_addr"
	Interfaces SetType = "ifname"
)

// Range is the values from First to Last, both included, in network byte order.
type Range struct {
	First, Last []byte
}

// Chain is a list of rules. A chain with a hook is where the kernel enters.
type Chain struct {
	Name string
	// Hook is Prerouting or Output for a NAT chain of that hook; empty for a chain
	// that others go to.
	Hook  Hook
	Rules []Rule
}

// Hook is a place in the kernel's path of a packet.
type Hook string

// The hooks that are used.
const (
	NoHook     Hook = ""
	Prerouting Hook = "prerouting"
	Output     Hook = "output"
)

// Priority is that of destination NAT. The output hook has no name for it.
const Priority = -100

// Rule gives its verdict on packets for which all matches hold.
type Rule struct {
	// Comment says why; it is stored in the kernel too.
	Comment string
	Matches []Match
	Verdict Verdict
}

// Match compares one field of a packet: with a set if Set is not empty, else with
// Value. A Value shorter than the field is compared with the field's beginning.
type Match struct {
	Field Field
	Set   string
	Value []byte
	// Not turns the result round. It cannot be combined with an address, which other
	// packets do not have.
	Not bool
}

// Field is a field of a packet, in nftables' words.
type Field string

// The fields. An address matches only packets of its family; a port must be looked
// at only where the protocol is known to be TCP.
const (
	Protocol     Field = "meta l4proto"
	InInterface  Field = "meta iifname"
	OutInterface Field = "meta oifname"
	SocketUID    Field = "meta skuid"
	DestIPv4     Field = "ip daddr"
	DestIPv6     Field = "ip6 daddr"
	DestPort     Field = "tcp dport"
)

// Verdict is what happens to a packet.
type Verdict struct {
	Action Action
	// Chain is where GoTo goes.
	Chain string
	// Port is where Redirect sends to, on this host.
	Port uint16
	// Addr is where DNAT sends to, the port unchanged.
	Addr netip.Addr
}

// Action is a kind of verdict.
type Action string

// The kinds of verdicts. Return leaves the packet alone.
const (
	Return   Action = "return"
	GoTo     Action = "goto"
	Redirect Action = "redirect"
	DNAT     Action = "dnat"
)

// Size counts a ruleset's parts.
type Size struct {
	Sets, Elements, Chains, Rules int
}

// Size returns how big the ruleset is; a range counts as one element.
func (r Ruleset) Size() Size {
	s := Size{Sets: len(r.Sets), Chains: len(r.Chains)}
	for _, set := range r.Sets {
		s.Elements += len(set.Ranges)
	}
	for _, c := range r.Chains {
		s.Rules += len(c.Rules)
	}
	return s
}

// String writes the ruleset in nftables' language, as "nft -f" reads it.
func (r Ruleset) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", r.Table)
	for _, s := range r.Sets {
		fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n", s.Name, s.Type)
		if s.Type != Interfaces {
			b.WriteString("\t\tflags interval\n")
		}
		fmt.Fprintf(&b, "\t\telements = { %s }\n\t}\n", s.elements())
	}
	for _, c := range r.Chains {
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		if c.Hook != NoHook {
			fmt.Fprintf(&b, "\t\ttype nat hook %s priority %d; policy accept;\n", c.Hook, Priority)
		}
		for _, rule := range c.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", rule)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (s Set) elements() string {
	out := make([]string, len(s.Ranges))
	for i, r := range s.Ranges {
		out[i] = s.Type.format(r.First)
		if !bytes.Equal(r.First, r.Last) {
			out[i] += "-" + s.Type.format(r.Last)
		}
	}
	return strings.Join(out, ", ")
}

func (t SetType) format(v []byte) string {
	switch t {
	case Ports:
		return fmt.Sprint(binary.BigEndian.Uint16(v))
	case IPv4, IPv6:
		a, _ := netip.AddrFromSlice(v)
		return a.String()
	default:
		return fmt.Sprintf("%q", bytes.TrimRight(v, "\x00"))
	}
}

// String writes the rule in nftables' language.
func (r Rule) String() string {
	parts := make([]string, 0, len(r.Matches)+2)
	for _, m := range r.Matches {
		parts = append(parts, m.String())
	}
	parts = append(parts, r.Verdict.String(), fmt.Sprintf("comment %q", r.Comment))
	return strings.Join(parts, " ")
}

// String writes the match in nftables' language.
func (m Match) String() string {
	op := " "
	if m.Not {
		op = " != "
	}
	if m.Set != "" {
		return string(m.Field) + op + "@" + m.Set
	}
	return string(m.Field) + op + m.Field.format(m.Value)
}

func (f Field) format(v []byte) string {
	switch f {
	case Protocol:
		return "tcp"
	case InInterface, OutInterface:
		if name, ok := bytes.CutSuffix(v, []byte{0}); ok {
			return fmt.Sprintf("%q", name)
		}
		return fmt.Sprintf("%q", string(v)+"*")
	case SocketUID:
		return fmt.Sprint(binary.BigEndian.Uint32(v))
	case DestIPv4:
		return formatPrefix(v, make([]byte, 4))
	case DestIPv6:
		return formatPrefix(v, make([]byte, 16))
	default:
		return fmt.Sprint(binary.BigEndian.Uint16(v))
	}
}

// formatPrefix writes the beginning of an address as a range.
func formatPrefix(v, whole []byte) string {
	a, _ := netip.AddrFromSlice(append(slices.Clone(v), whole[len(v):]...))
	if len(v) == len(whole) {
		return a.String()
	}
	return netip.PrefixFrom(a, len(v)*8).String()
}

// String writes the verdict in nftables' language.
func (v Verdict) String() string {
	switch v.Action {
	case GoTo:
		return "goto " + v.Chain
	case Redirect:
		return fmt.Sprintf("redirect to :%d", v.Port)
	case DNAT:
		if v.Addr.Is4() {
			return "dnat ip to " + v.Addr.String()
		}
		return "dnat ip6 to " + v.Addr.String()
	default:
		return string(v.Action)
	}
}
