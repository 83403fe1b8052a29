package redirect

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRulesGolden(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/*/config.json")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, input := range cases {
		dir := filepath.Dir(input)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			config := Default()
			if err := json.Unmarshal(raw, &config); err != nil {
				t.Fatal(err)
			}
			rules, err := Rules(config)
			if err != nil {
				t.Fatal(err)
			}
			got, golden := rules.String(), filepath.Join(dir, "ruleset.nft")
			if updating() {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("ruleset (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"a proxy that runs as root":                    {func(c *Config) { c.ProxyUID = 0 }, "must not be root"},
		"no inbound port":                              {func(c *Config) { c.InboundPort = 0 }, "must be set"},
		"no outbound port":                             {func(c *Config) { c.OutboundPort = 0 }, "must be set"},
		"one port for both directions":                 {func(c *Config) { c.InboundPort = c.OutboundPort }, "both 15001"},
		"the outbound listener opened to other pods":   {func(c *Config) { c.InboundPortExclusions = []uint16{80, 15001} }, "port 15001 is the proxy's"},
		"the inbound listener reached around the mesh": {func(c *Config) { c.InboundPortExclusions = []uint16{15003} }, "port 15003 is the proxy's"},
		"the admin port opened to other pods":          {func(c *Config) { c.InboundPortExclusions = []uint16{15000} }, "port 15000 is the proxy's"},
		"port 0 inbound":                               {func(c *Config) { c.InboundPortExclusions = []uint16{0} }, "0 is not an inbound port"},
		"port 0 outbound":                              {func(c *Config) { c.OutboundPortExclusions = []uint16{0} }, "0 is not an outbound port"},
		"a range that is none":                         {func(c *Config) { c.OutboundCIDRExclusions = []netip.Prefix{{}} }, "not a range"},
		"an IPv4 range in IPv6's form":                 {func(c *Config) { c.OutboundCIDRInclusions = ranges("::ffff:10.0.0.0/104") }, "IPv4's form"},
		"an interface without a name":                  {func(c *Config) { c.InterfaceExclusions = []string{""} }, "network interface"},
		"all interfaces":                               {func(c *Config) { c.InterfaceExclusions = []string{"+"} }, "network interface"},
		"a name that is too long":                      {func(c *Config) { c.InterfaceExclusions = []string{"abcdefghijklmnop"} }, "network interface"},
		"a name with a slash":                          {func(c *Config) { c.InterfaceExclusions = []string{"a/b"} }, "network interface"},
		"a pod's address on loopback":                  {func(c *Config) { c.PodIPs = []netip.Addr{netip.MustParseAddr("127.0.0.2")} }, "not a pod's address"},
		"a pod's address that is none":                 {func(c *Config) { c.PodIPs = []netip.Addr{{}} }, "not a pod's address"},
		"a pod's address with a zone":                  {func(c *Config) { c.PodIPs = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")} }, "not a pod's address"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Default()
			tt.change(&c)
			got, err := Rules(c)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if !cmp.Equal(got, Ruleset{}) {
				t.Errorf("an invalid configuration has rules:\n%s", got)
			}
		})
	}
	if err := Default().Validate(); err != nil {
		t.Errorf("the default is refused: %v", err)
	}
}

// TestLongListsAreOneRule tells that the number of rules does not depend on the
// length of a list, and that neighbours become one range.
func TestLongListsAreOneRule(t *testing.T) {
	t.Parallel()
	c := Default()
	c.InboundPortExclusions, c.OutboundPortExclusions = []uint16{2}, []uint16{2}
	c.OutboundCIDRExclusions = ranges("10.0.0.0/32", "2001:db8::/128")
	few, err := Rules(c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		c.InboundPortExclusions = append(c.InboundPortExclusions, uint16(2+2*i))
		c.OutboundPortExclusions = append(c.OutboundPortExclusions, uint16(2+i))
		c.OutboundCIDRExclusions = append(
			c.OutboundCIDRExclusions,
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32),
		)
	}
	many, err := Rules(c)
	if err != nil {
		t.Fatal(err)
	}
	if few.Size().Rules != many.Size().Rules {
		t.Errorf("%d rules for short lists, %d for long ones", few.Size().Rules, many.Size().Rules)
	}
	for set, want := range map[string]int{
		inboundPortsSet:  3000 + len(sidecarPorts()),
		outboundPortsSet: 1, // 2 to 3001
		excludedIPv4Set:  1, // 10.0.0.0 to 10.0.11.183
		excludedIPv6Set:  1,
	} {
		i := slices.IndexFunc(many.Sets, func(s Set) bool { return s.Name == set })
		if i < 0 {
			t.Errorf("there is no set %s", set)
			continue
		}
		if got := len(many.Sets[i].Ranges); got != want {
			t.Errorf("set %s has %d ranges, want %d", set, got, want)
		}
	}
}

func ranges(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}
