package cmd

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"github.com/openservicemesh/osm-operator/internal/redirect"
)

// initFlags parses arguments as "osm init" does.
func initFlags(t *testing.T, args ...string) initOptions {
	t.Helper()
	var o initOptions
	flags := pflag.NewFlagSet("init", pflag.ContinueOnError)
	o.bind(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestInitFlags(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args []string
		want func(*redirect.Config)
	}{
		"without flags all is redirected": {nil, func(*redirect.Config) {}},
		"every list": {
			[]string{
				"--proxy-uid=1600", "--inbound-exclude-ports=9000, 9001", "--outbound-exclude-ports=3306", "--outbound-exclude-ports=5432",
				"--outbound-exclude-cidrs=10.0.0.0/8,fd00::/8", "--outbound-include-cidrs=10.96.0.0/12", "--exclude-interfaces=net1,cali+",
			},
			func(c *redirect.Config) {
				c.ProxyUID = 1600
				c.InboundPortExclusions, c.OutboundPortExclusions = []uint16{9000, 9001}, []uint16{3306, 5432}
				c.OutboundCIDRExclusions = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
				c.OutboundCIDRInclusions = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}
				c.InterfaceExclusions = []string{"net1", "cali+"}
			},
		},
		"addresses of the pod": {
			[]string{"--local-proxy-mode=PodIP", "--pod-ips=10.1.1.2,fd01::2"},
			func(c *redirect.Config) {
				c.PodIPs = []netip.Addr{netip.MustParseAddr("10.1.1.2"), netip.MustParseAddr("fd01::2")}
			},
		},
		"addresses of the pod without the mode are not used": {
			[]string{"--pod-ips=10.1.1.2"}, func(*redirect.Config) {},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := initFlags(t, tt.args...).config()
			if err != nil {
				t.Fatal(err)
			}
			want := redirect.Default()
			tt.want(&want)
			equal := cmp.Options{cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}), cmpopts.EquateEmpty()}
			if diff := cmp.Diff(want, got, equal); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInitRefusesFlags(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args []string
		want []string
	}{
		"everything wrong is said at once": {
			[]string{"--inbound-exclude-ports=http", "--outbound-exclude-cidrs=10.0.0.0", "--local-proxy-mode=Elsewhere"},
			[]string{`--inbound-exclude-ports: "http"`, `--outbound-exclude-cidrs: "10.0.0.0"`, "use Localhost or PodIP"},
		},
		"a port that is too big":        {[]string{"--outbound-exclude-ports=65536"}, []string{`"65536" is not a port`}},
		"no address of the pod":         {[]string{"--local-proxy-mode=PodIP", "--pod-ips="}, []string{"needs --pod-ips"}},
		"an address that is none":       {[]string{"--local-proxy-mode=PodIP", "--pod-ips=10.1.1"}, []string{`"10.1.1" is not an address`}},
		"a range of included addresses": {[]string{"--outbound-include-cidrs=10.0.0.0/33"}, []string{"--outbound-include-cidrs"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := initFlags(t, tt.args...).config()
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q: %v", want, err)
				}
			}
		})
	}
}
