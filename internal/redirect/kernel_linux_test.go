package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/openservicemesh/osm-operator/internal/testkit/netns"
)

// TestConnections makes real connections through the kernel's rules.
func TestConnections(t *testing.T) {
	t.Parallel()
	type from int
	const (
		app from = iota
		proxy
		outside
	)
	type connection struct {
		reason  string
		from    from
		network string
		to      string
		want    string
	}
	tests := map[string]struct {
		config Config
		conns  []connection
	}{
		"everything": {Default(), []connection{
			{"outbound to a host", app, "tcp", "192.0.2.7:80", "proxy:15001 for 192.0.2.7:80"},
			{"outbound to a host by IPv6", app, "tcp", "[2001:db8::7]:80", "proxy:15001 for [2001:db8::7]:80"},
			{"outbound to an address that nobody has", app, "tcp", "10.96.0.1:443", "proxy:15001 for 10.96.0.1:443"},
			{"outbound to the node", app, "tcp", "10.1.1.1:8080", "proxy:15001 for 10.1.1.1:8080"},
			{"outbound to a port that is the proxy's here", app, "tcp", "192.0.2.7:15901", "proxy:15001 for 192.0.2.7:15901"},
			{"the proxy's own call", proxy, "tcp", "192.0.2.7:80", "outside at 192.0.2.7:80"},
			{"the proxy's own call by IPv6", proxy, "tcp", "[2001:db8::7]:80", "outside at [2001:db8::7]:80"},
			{"inbound", outside, "tcp", "10.1.1.2:8080", "proxy:15003 for 10.1.1.2:8080"},
			{"inbound by IPv6", outside, "tcp", "[fd01::2]:8080", "proxy:15003 for [fd01::2]:8080"},
			{"inbound to a closed port", outside, "tcp", "10.1.1.2:4444", "proxy:15003 for 10.1.1.2:4444"},
			{"inbound to the outbound listener", outside, "tcp", "10.1.1.2:15001", "proxy:15003 for 10.1.1.2:15001"},
			{"inbound to the admin port", outside, "tcp", "10.1.1.2:15000", "proxy:15003 for 10.1.1.2:15000"},
			{"metrics", outside, "tcp", "10.1.1.2:15010", "proxy:15010 for 10.1.1.2:15010"},
			{"a probe by IPv6", outside, "tcp", "[fd01::2]:15901", "proxy:15901 for [fd01::2]:15901"},
			{"loopback", app, "tcp", "127.0.0.1:8080", "app at 127.0.0.1:8080"},
			{"another address of loopback", app, "tcp", "127.3.3.3:8080", "app at 127.3.3.3:8080"},
			{"loopback by IPv6", app, "tcp", "[::1]:8080", "app at [::1]:8080"},
			{"the proxy reaches the application", proxy, "tcp", "127.0.0.1:8080", "app at 127.0.0.1:8080"},
			{"the proxy reaches the application by IPv6", proxy, "tcp", "[::1]:8080", "app at [::1]:8080"},
			{"the application calls its own pod's address", app, "tcp", "10.1.1.2:8080", "app at 10.1.1.2:8080"},
			{"the application's call to its own service comes back", proxy, "tcp", "10.1.1.2:8080", "proxy:15003 for 10.1.1.2:8080"},
			{"the application's call to its own service comes back by IPv6", proxy, "tcp", "[fd01::2]:8080", "proxy:15003 for [fd01::2]:8080"},
			{"datagrams", app, "udp", "192.0.2.7:5353", "outside by datagram"},
			{"datagrams by IPv6", app, "udp", "[2001:db8::7]:5353", "outside by datagram"},
		}},
		"every exclusion": {Config{
			ProxyUID: proxyUID, InboundPort: 15003, OutboundPort: 15001,
			InboundPortExclusions: []uint16{9000}, OutboundPortExclusions: []uint16{3306, 3307},
			OutboundCIDRExclusions: ranges("192.0.2.7/32", "2001:db8::7/128", "10.1.0.0/16"),
		}, []connection{
			{"an excluded address", app, "tcp", "192.0.2.7:80", "outside at 192.0.2.7:80"},
			{"an excluded address of IPv6", app, "tcp", "[2001:db8::7]:80", "outside at [2001:db8::7]:80"},
			{"an address in an excluded range", app, "tcp", "10.1.1.1:8080", "outside at 10.1.1.1:8080"},
			{"the next address", app, "tcp", "192.0.2.8:80", "proxy:15001 for 192.0.2.8:80"},
			{"the next address of IPv6", app, "tcp", "[2001:db8::8]:80", "proxy:15001 for [2001:db8::8]:80"},
			{"an excluded port", app, "tcp", "192.0.2.8:3306", "outside at 192.0.2.8:3306"},
			{"an excluded port by IPv6", app, "tcp", "[2001:db8::8]:3306", "outside at [2001:db8::8]:3306"},
			{"the next port but one", app, "tcp", "192.0.2.8:3308", "proxy:15001 for 192.0.2.8:3308"},
			{"an excluded inbound port", outside, "tcp", "10.1.1.2:9000", "app at 10.1.1.2:9000"},
			{"an excluded inbound port by IPv6", outside, "tcp", "[fd01::2]:9000", "app at [fd01::2]:9000"},
			{"another inbound port", outside, "tcp", "10.1.1.2:8080", "proxy:15003 for 10.1.1.2:8080"},
			{"the proxy calls the excluded port of its own pod", proxy, "tcp", "10.1.1.2:9000", "app at 10.1.1.2:9000"},
			{"the pod's own range is excluded, its service still comes back", proxy, "tcp", "10.1.1.2:8080", "proxy:15003 for 10.1.1.2:8080"},
		}},
		"included ranges": {Config{
			ProxyUID: proxyUID, InboundPort: 15003, OutboundPort: 15001,
			OutboundCIDRInclusions: ranges("192.0.2.0/24", "2001:db8::/32"), OutboundCIDRExclusions: ranges("192.0.2.7/32"),
		}, []connection{
			{"an included range", app, "tcp", "192.0.2.8:80", "proxy:15001 for 192.0.2.8:80"},
			{"an included range of IPv6", app, "tcp", "[2001:db8::8]:80", "proxy:15001 for [2001:db8::8]:80"},
			{"excluded from the included", app, "tcp", "192.0.2.7:80", "outside at 192.0.2.7:80"},
			{"not included", app, "tcp", "10.1.1.1:80", "outside at 10.1.1.1:80"},
			{"not included, IPv6", app, "tcp", "[fd01::1]:80", "outside at [fd01::1]:80"},
			{"inbound all the same", outside, "tcp", "10.1.1.2:8080", "proxy:15003 for 10.1.1.2:8080"},
		}},
		"an excluded interface": {Config{
			ProxyUID: proxyUID, InboundPort: 15003, OutboundPort: 15001, InterfaceExclusions: []string{"eth0"},
		}, []connection{
			{"outbound", app, "tcp", "192.0.2.7:80", "outside at 192.0.2.7:80"},
			{"inbound", outside, "tcp", "10.1.1.2:8080", "app at 10.1.1.2:8080"},
			{"the application's call to its own service still comes back", proxy, "tcp", "10.1.1.2:8080", "proxy:15003 for 10.1.1.2:8080"},
		}},
		"interfaces excluded by a pattern": {Config{
			ProxyUID: proxyUID, InboundPort: 15003, OutboundPort: 15001, InterfaceExclusions: []string{"et+", "eth01"},
		}, []connection{
			{"outbound", app, "tcp", "192.0.2.7:80", "outside at 192.0.2.7:80"},
			{"inbound", outside, "tcp", "[fd01::2]:8080", "app at [fd01::2]:8080"},
		}},
		"other interfaces excluded": {Config{
			ProxyUID: proxyUID, InboundPort: 15003, OutboundPort: 15001, InterfaceExclusions: []string{"eth", "eth00", "eth1+"},
		}, []connection{
			{"outbound", app, "tcp", "192.0.2.7:80", "proxy:15001 for 192.0.2.7:80"},
			{"inbound", outside, "tcp", "10.1.1.2:8080", "proxy:15003 for 10.1.1.2:8080"},
		}},
		"the application listens on the pod's address": {Config{
			ProxyUID: proxyUID, InboundPort: 15003, OutboundPort: 15001,
			PodIPs: []netip.Addr{netip.MustParseAddr("10.1.1.2"), netip.MustParseAddr("fd01::2")},
		}, []connection{
			{"the proxy reaches the application", proxy, "tcp", "127.0.0.1:8080", "app at 10.1.1.2:8080"},
			{"the proxy reaches the application by IPv6", proxy, "tcp", "[::1]:8080", "app at [fd01::2]:8080"},
			{"the proxy reaches its admin port", proxy, "tcp", "127.0.0.1:15000", "proxy:15000 for 127.0.0.1:15000"},
			{"the application's loopback", app, "tcp", "127.0.0.1:8080", "app at 127.0.0.1:8080"},
			{"the application's call to its own service comes back", proxy, "tcp", "10.1.1.2:8080", "proxy:15003 for 10.1.1.2:8080"},
			{"outbound", app, "tcp", "192.0.2.7:80", "proxy:15001 for 192.0.2.7:80"},
			{"inbound", outside, "tcp", "10.1.1.2:8080", "proxy:15003 for 10.1.1.2:8080"},
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t)
			p.redirect(t, tt.config)
			for _, c := range tt.conns {
				ns, uid := p.inside, appUID
				switch c.from {
				case proxy:
					uid = proxyUID
				case outside:
					ns = p.outside
				case app: // as it is
				}
				if got := call(ns, uid, c.network, c.to); got != c.want {
					t.Errorf("%s: %s answers %q, want %q", c.reason, c.to, got, c.want)
				}
			}
		})
	}
}

func TestApplyTwiceIsApplyOnce(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	config := Default()
	config.OutboundCIDRExclusions = ranges("192.0.2.0/24")
	r := p.redirect(t, config)
	once := dump(t, p.inside)
	p.redirect(t, config)
	if diff := cmp.Diff(once, dump(t, p.inside)); diff != "" {
		t.Errorf("applied twice (-once +twice):\n%s", diff)
	}
	p.redirect(t, Default()) // another set of rules takes the place of the first
	if err := p.inside.Do(func() error { return Verify(r) }); err == nil {
		t.Error("rules that are not there any more are verified")
	}
	if got, want := call(p.inside, appUID, "tcp", "192.0.2.7:80"), "proxy:15001 for 192.0.2.7:80"; got != want {
		t.Errorf("an exclusion that is not there any more answers %q, want %q", got, want)
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	if err := p.inside.Do(Remove); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
	r := p.redirect(t, Default())
	if err := p.inside.Do(Remove); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, p.inside); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	if err := p.inside.Do(func() error { return Verify(r) }); err == nil {
		t.Error("a table that is not there is verified")
	}
	if got, want := call(p.inside, appUID, "tcp", "192.0.2.7:80"), "outside at 192.0.2.7:80"; got != want {
		t.Errorf("after removal %q, want %q", got, want)
	}
	if got, want := call(p.outside, 0, "tcp", "10.1.1.2:8080"), "app at 10.1.1.2:8080"; got != want {
		t.Errorf("after removal %q, want %q", got, want)
	}
}

func TestForeignTablesAreLeftAlone(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	if err := p.inside.Do(addForeignTables); err != nil {
		t.Fatal(err)
	}
	before := dump(t, p.inside)
	if len(before) != 2 {
		t.Fatalf("foreign tables: %v", before)
	}
	check := func(when string) {
		t.Helper()
		after := dump(t, p.inside)
		delete(after, "1 "+Table)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%s (-before +after):\n%s", when, diff)
		}
	}
	p.redirect(t, Default())
	check("after applying")
	p.redirect(t, Default())
	check("after applying again")
	if err := p.inside.Do(Remove); err != nil {
		t.Fatal(err)
	}
	check("after removing")
}

// addForeignTables adds a table of the same name in another family, and one of
// another name in the same family.
func addForeignTables() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	for _, table := range []*nftables.Table{
		{Name: Table, Family: nftables.TableFamilyIPv4}, {Name: "someone-elses", Family: nftables.TableFamilyINet},
	} {
		conn.AddTable(table)
		chain := conn.AddChain(&nftables.Chain{
			Name: outputChain, Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter,
		})
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Counter{}}})
	}
	return conn.Flush()
}

// dump lists the rules of all tables, by "family table".
func dump(t *testing.T, ns *netns.Namespace) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := ns.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := conn.ListTables()
		if err != nil {
			return err
		}
		chains, err := conn.ListChains()
		if err != nil {
			return err
		}
		for _, table := range tables {
			key := fmt.Sprintf("%d %s", table.Family, table.Name)
			out[key] = []string{}
			for _, c := range chains {
				if c.Table.Name != table.Name || c.Table.Family != table.Family {
					continue
				}
				rules, err := conn.GetRules(table, c)
				if err != nil {
					return err
				}
				for _, r := range rules {
					text := c.Name + ":"
					for _, e := range r.Exprs {
						if _, ok := e.(*expr.Counter); ok {
							e = &expr.Counter{}
						}
						text += fmt.Sprintf(" %T%+v", e, e)
					}
					out[key] = append(out[key], text)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVerifyNoticesChanges(t *testing.T) {
	t.Parallel()
	config := Default()
	config.OutboundPortExclusions = []uint16{3306}
	tests := map[string]func(*nftables.Conn, *nftables.Table, map[string]*nftables.Chain) error{
		"a rule deleted": func(conn *nftables.Conn, table *nftables.Table, chains map[string]*nftables.Chain) error {
			rules, err := conn.GetRules(table, chains[outputChain])
			if err != nil {
				return err
			}
			return conn.DelRule(rules[len(rules)-1])
		},
		"a rule in front": func(conn *nftables.Conn, table *nftables.Table, chains map[string]*nftables.Chain) error {
			conn.InsertRule(&nftables.Rule{Table: table, Chain: chains[preroutingChain], Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}})
			return nil
		},
		"a rule in place of another": func(conn *nftables.Conn, table *nftables.Table, chains map[string]*nftables.Chain) error {
			rules, err := conn.GetRules(table, chains[inboundChain])
			if err != nil {
				return err
			}
			rules[1].Exprs = []expr.Any{&expr.Immediate{Register: 1, Data: be16(15004)}, &expr.Redir{RegisterProtoMin: 1}}
			conn.ReplaceRule(rules[1])
			return nil
		},
		"a port more in a set": func(conn *nftables.Conn, table *nftables.Table, _ map[string]*nftables.Chain) error {
			set, err := conn.GetSetByName(table, outboundPortsSet)
			if err != nil {
				return err
			}
			return conn.SetAddElements(set, []nftables.SetElement{{Key: be16(80)}, {Key: be16(81), IntervalEnd: true}})
		},
		"a chain more": func(conn *nftables.Conn, table *nftables.Table, _ map[string]*nftables.Chain) error {
			conn.AddChain(&nftables.Chain{Name: "more", Table: table})
			return nil
		},
		"a set more": func(conn *nftables.Conn, table *nftables.Table, _ map[string]*nftables.Chain) error {
			return conn.AddSet(&nftables.Set{Table: table, Name: "more", KeyType: nftables.TypeInetService}, nil)
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := netns.New(t)
			r, err := Rules(config)
			if err != nil {
				t.Fatal(err)
			}
			err = ns.Do(func() error {
				if err := errors.Join(Apply(r), Verify(r)); err != nil {
					return err
				}
				conn, err := nftables.New()
				if err != nil {
					return err
				}
				chains := map[string]*nftables.Chain{}
				for _, c := range r.Chains {
					chains[c.Name] = c.kernel(ownTable(Table))
				}
				if err := change(conn, ownTable(Table), chains); err != nil {
					return err
				}
				return conn.Flush()
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := ns.Do(func() error { return Verify(r) }); err == nil {
				t.Error("the change is not noticed")
			} else {
				t.Log(err)
			}
		})
	}
}

func TestLongListsFitIntoOneTransaction(t *testing.T) {
	t.Parallel()
	c := Default()
	for i := range 20000 {
		c.OutboundPortExclusions = append(c.OutboundPortExclusions, uint16(2+2*i))
		a := netip.AddrFrom4([4]byte{198, byte(i >> 14), byte(i >> 6), byte(i<<2) + 1})
		b := netip.AddrFrom16([16]byte{0xfd, 1, 14: byte(i >> 7), 15: byte(i << 1)})
		c.OutboundCIDRExclusions = append(c.OutboundCIDRExclusions, netip.PrefixFrom(a, 32), netip.PrefixFrom(b, 128))
	}
	p := newPod(t)
	r := p.redirect(t, c)
	if got := r.Size().Elements; got < 60000 {
		t.Fatalf("the lists have %d elements only", got)
	}
	for to, want := range map[string]string{
		"192.0.2.7:80": "outside at 192.0.2.7:80",
		"192.0.2.7:81": "proxy:15001 for 192.0.2.7:81",
	} {
		if got := call(p.inside, appUID, "tcp", to); got != want {
			t.Errorf("%s answers %q, want %q", to, got, want)
		}
	}
}

func TestApplyNeedsNetAdminOnly(t *testing.T) {
	t.Parallel()
	ns := netns.New(t)
	r, err := Rules(Default())
	if err != nil {
		t.Fatal(err)
	}
	with := func(capabilities uint32) error {
		return ns.Do(func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			data := [2]unix.CapUserData{{Effective: capabilities, Permitted: capabilities}}
			if err := unix.Capset(&header, &data[0]); err != nil {
				return err
			}
			return errors.Join(Apply(r), Verify(r))
		})
	}
	if err := with(1 << unix.CAP_NET_ADMIN); err != nil {
		t.Errorf("with NET_ADMIN alone: %v", err)
	}
	if err := with(0); !errors.Is(err, os.ErrPermission) {
		t.Errorf("without a capability: %v, want permission denied", err)
	}
}
