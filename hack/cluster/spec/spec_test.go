package spec

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckRefusesWhatCannotWork(t *testing.T) {
	good := Spec{Name: "osm", CIDR: netip.MustParsePrefix("10.213.0.0/16")}
	tests := map[string]struct {
		change func(*Spec)
		valid  bool
	}{
		"the default is fine":                   {func(*Spec) {}, true},
		"the smallest network is fine":          {func(s *Spec) { s.CIDR = netip.MustParsePrefix("172.20.16.0/20") }, true},
		"a name fits an interface's":            {func(s *Spec) { s.Name = "ten-chars0" }, true},
		"a name with a slash leaves the folder": {func(s *Spec) { s.Name = "../x" }, false},
		"a name that is too long":               {func(s *Spec) { s.Name = "eleven-char" }, false},
		"a name that ends in a dash":            {func(s *Spec) { s.Name = "osm-" }, false},
		"no name":                               {func(s *Spec) { s.Name = "" }, false},
		"no network":                            {func(s *Spec) { s.CIDR = netip.Prefix{} }, false},
		"an IPv6 network":                       {func(s *Spec) { s.CIDR = netip.MustParsePrefix("fd00::/16") }, false},
		"a network that is too small":           {func(s *Spec) { s.CIDR = netip.MustParsePrefix("10.1.0.0/24") }, false},
		"a network with host bits":              {func(s *Spec) { s.CIDR = netip.MustParsePrefix("10.213.0.1/16") }, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := good
			test.change(&s)
			if err := s.Check(); (err == nil) != test.valid {
				t.Errorf("Check() = %v, want valid: %t", err, test.valid)
			}
		})
	}
}

func TestTheLinkNameFitsTheKernel(t *testing.T) {
	const longest = 15
	if link := (Spec{Name: "ten-chars0"}).Link(); len(link) > longest {
		t.Errorf("link %q has %d characters, the kernel takes %d", link, len(link), longest)
	}
}

func TestAddressesComeFromTheNetwork(t *testing.T) {
	s := Spec{Name: "osm", CIDR: netip.MustParsePrefix("10.213.0.0/16"), IPv6: true}
	want := []Addresses{
		{
			Host: netip.MustParsePrefix("10.213.0.1/30"), Node: netip.MustParsePrefix("10.213.0.2/30"),
			Pods: netip.MustParsePrefix("10.213.64.0/18"), Services: netip.MustParsePrefix("10.213.128.0/18"),
			API: netip.MustParseAddr("10.213.128.1"), DNS: netip.MustParseAddr("10.213.128.10"),
		},
		{
			Host: netip.MustParsePrefix("fd6f:736d:ad5::1/64"), Node: netip.MustParsePrefix("fd6f:736d:ad5::2/64"),
			Pods: netip.MustParsePrefix("fd6f:736d:ad5:1::/64"), Services: netip.MustParsePrefix("fd6f:736d:ad5:2::/112"),
			API: netip.MustParseAddr("fd6f:736d:ad5:2::1"), DNS: netip.MustParseAddr("fd6f:736d:ad5:2::a"),
		},
	}
	if diff := cmp.Diff(want, s.Families(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("Families() (-want +got):\n%s", diff)
	}
	s.IPv6 = false
	if got := len(s.Families()); got != 1 {
		t.Errorf("without IPv6 there are %d families, want 1", got)
	}
}

func TestNetworksOfOneClusterNeverOverlap(t *testing.T) {
	for _, cidr := range []string{"10.0.0.0/8", "10.213.0.0/16", "192.168.16.0/20"} {
		s := Spec{Name: "osm", CIDR: netip.MustParsePrefix(cidr), IPv6: true}
		var all []netip.Prefix
		for _, family := range s.Families() {
			all = append(all, family.Host.Masked(), family.Pods, family.Services)
		}
		for i, one := range all {
			for _, other := range all[i+1:] {
				if one.Overlaps(other) {
					t.Errorf("in %s, %s overlaps %s", cidr, one, other)
				}
			}
		}
		for _, network := range all[:3] {
			if !s.CIDR.Contains(network.Addr()) {
				t.Errorf("%s is outside of %s", network, cidr)
			}
		}
	}
}

func TestFreeCIDRSkipsWhatIsTaken(t *testing.T) {
	tests := map[string]struct {
		taken []string
		want  string
	}{
		"nothing is taken":                {nil, "10.213.0.0/16"},
		"a default route takes nothing":   {[]string{"0.0.0.0/0"}, "10.213.0.0/16"},
		"a smaller network takes all":     {[]string{"10.213.5.0/24"}, "10.214.0.0/16"},
		"several in a row are taken":      {[]string{"10.213.0.0/16", "10.214.0.0/15"}, "10.216.0.0/16"},
		"other networks do not matter":    {[]string{"192.168.0.0/16"}, "10.213.0.0/16"},
		"a larger network leaves nothing": {[]string{"10.0.0.0/8"}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var taken []netip.Prefix
			for _, p := range test.taken {
				taken = append(taken, netip.MustParsePrefix(p))
			}
			got, err := FreeCIDR(taken)
			if test.want == "" {
				if err == nil {
					t.Errorf("FreeCIDR() = %s, want an error", got)
				}
				return
			}
			if err != nil || got.String() != test.want {
				t.Errorf("FreeCIDR() = %s, %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestHostDirsFollowTheEnvironment(t *testing.T) {
	tests := map[string]struct {
		environment map[string]string
		want        Dirs
		bad         bool
	}{
		"only a home":             {map[string]string{"HOME": "/root"}, Dirs{"/root/.cache/osm-cluster", "/root/.local/state/osm-cluster"}, false},
		"both are named":          {map[string]string{"XDG_CACHE_HOME": "/c", "XDG_STATE_HOME": "/s"}, Dirs{"/c/osm-cluster", "/s/osm-cluster"}, false},
		"relative ones are not":   {map[string]string{"HOME": "/h", "XDG_CACHE_HOME": "c"}, Dirs{"/h/.cache/osm-cluster", "/h/.local/state/osm-cluster"}, false},
		"nothing is named at all": {nil, Dirs{}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := HostDirs(func(key string) string { return test.environment[key] })
			if (err != nil) != test.bad || got != test.want {
				t.Errorf("HostDirs() = %v, %v, want %v", got, err, test.want)
			}
		})
	}
}
