package redirect

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// packet is the first packet of a connection.
type packet struct {
	hook Hook
	udp  bool
	// iface is where it comes in, or goes out.
	iface string
	uid   uint32
	dest  netip.Addr
	port  uint16
}

// walk runs a ruleset on a packet as the kernel would and returns the verdict's text.
func walk(t *rapid.T, r Ruleset, p packet) string {
	chain := slices.IndexFunc(r.Chains, func(c Chain) bool { return c.Hook == p.hook })
	for range len(r.Chains) {
		rule := slices.IndexFunc(r.Chains[chain].Rules, func(rule Rule) bool { return r.matches(t, rule, p) })
		if rule < 0 {
			return string(Return)
		}
		v := r.Chains[chain].Rules[rule].Verdict
		if v.Action != GoTo {
			return v.String()
		}
		chain = slices.IndexFunc(r.Chains, func(c Chain) bool { return c.Name == v.Chain })
		if chain < 0 {
			t.Fatalf("no chain %s", v.Chain)
		}
	}
	t.Fatal("the chains go round in circles")
	return ""
}

func (r Ruleset) matches(t *rapid.T, rule Rule, p packet) bool {
	return !slices.ContainsFunc(rule.Matches, func(m Match) bool { return !r.match(t, m, p) })
}

func (r Ruleset) match(t *rapid.T, m Match, p packet) bool {
	var value []byte
	name := func() []byte { return append([]byte(p.iface), make([]byte, 16-len(p.iface))...) }
	switch m.Field {
	case Protocol:
		value = []byte{tcp}
		if p.udp {
			value = []byte{17}
		}
	case InInterface:
		if p.hook != Prerouting {
			return false
		}
		value = name()
	case OutInterface:
		if p.hook != Output {
			return false
		}
		value = name()
	case SocketUID:
		if p.hook != Output {
			return false
		}
		value = be32(p.uid)
	case DestIPv4, DestIPv6:
		if p.dest.Is4() != (m.Field == DestIPv4) {
			return false
		}
		value = p.dest.AsSlice()
	case DestPort:
		if p.udp {
			t.Fatal("a UDP packet's port is looked at")
		}
		value = be16(p.port)
	default:
		t.Fatalf("unknown field %s", m.Field)
	}
	if m.Set == "" {
		return bytes.HasPrefix(value, m.Value) != m.Not
	}
	set := slices.IndexFunc(r.Sets, func(s Set) bool { return s.Name == m.Set })
	if set < 0 {
		t.Fatalf("no set %s", m.Set)
	}
	return slices.ContainsFunc(r.Sets[set].Ranges, func(e Range) bool {
		return bytes.Compare(e.First, value) <= 0 && bytes.Compare(value, e.Last) <= 0
	}) != m.Not
}

// expected says from the configuration, without rules, what must happen to a packet.
func expected(c Config, p packet) string {
	outbound, nothing := fmt.Sprintf("redirect to :%d", c.OutboundPort), string(Return)
	proxy, loopback := p.uid == c.ProxyUID, p.iface == "lo"
	switch {
	case p.udp:
		return nothing
	case p.hook == Prerouting && excluded(c.InterfaceExclusions, p.iface):
		return nothing
	case p.hook == Prerouting:
		return inboundExpected(c, p)
	case p.dest.IsLoopback() && loopback && proxy && p.port != 15000 && (p.dest.Is6() || p.dest == netip.MustParseAddr("127.0.0.1")):
		if a, ok := c.podIP(p.dest.Is4()); ok {
			return Verdict{Action: DNAT, Addr: a}.String()
		}
		return nothing
	case p.dest.IsLoopback():
		return nothing
	case loopback && proxy:
		return inboundExpected(c, p)
	case loopback, proxy, excluded(c.InterfaceExclusions, p.iface),
		contain(c.OutboundCIDRExclusions, p.dest), slices.Contains(c.OutboundPortExclusions, p.port):
		return nothing
	case len(c.OutboundCIDRInclusions) > 0 && !contain(c.OutboundCIDRInclusions, p.dest):
		return nothing
	}
	return outbound
}

func inboundExpected(c Config, p packet) string {
	own := p.port == 15010 || p.port >= 15901 && p.port <= 15906 || p.port >= 15910 && p.port <= 15999
	if own || slices.Contains(c.InboundPortExclusions, p.port) {
		return string(Return)
	}
	return fmt.Sprintf("redirect to :%d", c.InboundPort)
}

func excluded(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		stem, pattern := strings.CutSuffix(n, "+")
		return n == name || pattern && strings.HasPrefix(name, stem)
	})
}

func contain(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Few values, so that packets meet configurations; the ends of all scales among them.
func anyPort() *rapid.Generator[uint16] {
	return rapid.Custom(func(t *rapid.T) uint16 {
		return rapid.SampledFrom([]uint16{1, 2, 3, 80, 81, 8080, 14999, 15002, 15004, 15009, 15010, 15011, 15900, 15901, 15906, 15907, 15909, 15910, 15999, 16000, 65534, 65535}).Draw(t, "port")
	})
}

func anyInterface() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"lo", "eth0", "eth1", "eth", "net0", "abcdefghijklmno"})
}

func anyAddr(v4 bool) *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 10, 127, 128, 255}), 4, 4).Draw(t, "address")
		if v4 {
			return netip.AddrFrom4([4]byte(b))
		}
		return netip.AddrFrom16([16]byte{15: b[3], 14: b[2], 1: b[1], 0: b[0]})
	})
}

func anyPrefix(v4 bool) *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := anyAddr(v4).Draw(t, "range")
		return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")) // not masked on purpose
	})
}

func anyConfig() *rapid.Generator[Config] {
	return rapid.Custom(func(t *rapid.T) Config {
		c := Default()
		prefixes := func(name string) []netip.Prefix {
			return slices.Concat(
				rapid.SliceOfN(anyPrefix(true), 0, 4).Draw(t, name+"4"),
				rapid.SliceOfN(anyPrefix(false), 0, 4).Draw(t, name+"6"),
			)
		}
		c.InboundPortExclusions = rapid.SliceOfN(anyPort(), 0, 4).Draw(t, "inbound")
		c.OutboundPortExclusions = rapid.SliceOfN(anyPort(), 0, 4).Draw(t, "outbound")
		c.OutboundCIDRExclusions = prefixes("excluded")
		if rapid.Bool().Draw(t, "some only") {
			c.OutboundCIDRInclusions = prefixes("included")
		}
		c.InterfaceExclusions = rapid.SliceOfN(rapid.SampledFrom([]string{"lo", "eth0", "eth+", "eth1+", "net0", "abcdefghijklmno", "l+"}), 0, 2).Draw(t, "interfaces")
		if rapid.Bool().Draw(t, "by pod address") {
			c.PodIPs = []netip.Addr{netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("fd00::1")}
		}
		return c
	})
}

func anyPacket(v4 bool) *rapid.Generator[packet] {
	return rapid.Custom(func(t *rapid.T) packet {
		dest := anyAddr(v4)
		if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
			dest = rapid.Just(netip.IPv6Loopback())
			if v4 {
				dest = rapid.SampledFrom([]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.9.9.9")})
			}
		}
		return packet{
			hook:  rapid.SampledFrom([]Hook{Prerouting, Output}).Draw(t, "hook"),
			udp:   rapid.IntRange(0, 9).Draw(t, "udp") == 0,
			iface: anyInterface().Draw(t, "interface"),
			uid:   rapid.SampledFrom([]uint32{0, 1, 1500, 1501, 1 << 31}).Draw(t, "uid"),
			dest:  dest.Draw(t, "dest"),
			port:  rapid.OneOf(anyPort(), rapid.SampledFrom([]uint16{15000, 15001, 15003})).Draw(t, "port"),
		}
	})
}

func plan(t *rapid.T, c Config) Ruleset {
	r, err := Rules(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRulesDoWhatTheConfigurationSays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := anyConfig().Draw(t, "config")
		p := anyPacket(rapid.Bool().Draw(t, "IPv4")).Draw(t, "packet")
		r := plan(t, c)
		if got, want := walk(t, r, p), expected(c, p); got != want {
			t.Fatalf("packet %+v: %s, want %s\n%s", p, got, want, r)
		}
	})
}

func TestExclusionsAlwaysWin(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := anyConfig().Draw(t, "config")
		p := anyPacket(rapid.Bool().Draw(t, "IPv4")).Draw(t, "packet")
		p.port = anyPort().Draw(t, "open port") // the proxy's own listeners cannot be excluded
		switch {
		case p.hook == Prerouting:
			c.InboundPortExclusions = append(c.InboundPortExclusions, p.port)
		case rapid.Bool().Draw(t, "by port"):
			c.OutboundPortExclusions = append(c.OutboundPortExclusions, p.port)
		default:
			c.OutboundCIDRExclusions = append(c.OutboundCIDRExclusions, netip.PrefixFrom(p.dest, p.dest.BitLen()))
		}
		got := walk(t, plan(t, c), p)
		if p.hook == Output && p.uid == c.ProxyUID {
			// The proxy's own calls are no outbound traffic of the application's.
			if got == fmt.Sprintf("redirect to :%d", c.OutboundPort) {
				t.Fatalf("packet %+v goes back to the proxy that sent it", p)
			}
			return
		}
		if got != string(Return) {
			t.Fatalf("packet %+v is excluded, yet: %s", p, got)
		}
	})
}

func TestBothFamiliesAreTreatedAlike(t *testing.T) {
	t.Parallel()
	// to6 puts an IPv4 address at the beginning of an IPv6 address.
	to6 := func(a netip.Addr) netip.Addr {
		if !a.Is4() || a.IsLoopback() {
			return netip.IPv6Loopback()
		}
		var b [16]byte
		copy(b[:], a.AsSlice())
		return netip.AddrFrom16(b)
	}
	rapid.Check(t, func(t *rapid.T) {
		c := Default()
		c.PodIPs = rapid.SampledFrom([][]netip.Addr{nil, {netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("a01:101::")}}).Draw(t, "pod")
		excluded := rapid.SliceOfN(anyPrefix(true), 0, 4).Draw(t, "excluded")
		included := rapid.SliceOfN(anyPrefix(true), 0, 2).Draw(t, "included")
		for _, list := range []struct {
			from []netip.Prefix
			to   *[]netip.Prefix
		}{{excluded, &c.OutboundCIDRExclusions}, {included, &c.OutboundCIDRInclusions}} {
			for _, p := range list.from {
				if p.Addr().IsLoopback() {
					continue
				}
				*list.to = append(*list.to, p, netip.PrefixFrom(to6(p.Addr()), p.Bits()))
			}
		}
		p4 := anyPacket(true).Draw(t, "packet")
		if p4.dest.IsLoopback() {
			p4.dest = netip.MustParseAddr("127.0.0.1") // IPv6 has no other
		}
		p6 := p4
		p6.dest = to6(p4.dest)
		r := plan(t, c)
		got4 := strings.NewReplacer("dnat ip to 10.1.1.1", "dnat").Replace(walk(t, r, p4))
		got6 := strings.NewReplacer("dnat ip6 to a01:101::", "dnat").Replace(walk(t, r, p6))
		if got4 != got6 {
			t.Fatalf("%+v: %s, but %+v: %s\n%s", p4, got4, p6, got6, r)
		}
	})
}

func TestRulesetIsOneTableWithItsOwnParts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := plan(t, anyConfig().Draw(t, "config"))
		if r.Table != Table {
			t.Fatalf("table %s", r.Table)
		}
		for _, s := range r.Sets {
			if len(s.Ranges) == 0 {
				t.Fatalf("set %s is empty", s.Name)
			}
			for i := 1; i < len(s.Ranges) && s.Type != Interfaces; i++ {
				if !beyond(s.Ranges[i-1].Last, s.Ranges[i].First) {
					t.Fatalf("set %s: ranges %d and %d overlap or touch", s.Name, i-1, i)
				}
			}
		}
		for _, c := range r.Chains {
			for i, rule := range c.Rules {
				if first := c.Hook != NoHook && i == 0; first != (rule.String() == notTCP().String()) {
					t.Fatalf("chain %s: rule %d is %s", c.Name, i, rule)
				}
			}
		}
	})
}
