package node

import (
	"encoding/json"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

func boot(change func(*spec.Spec)) Boot {
	s := spec.Spec{Name: "osm", CIDR: netip.MustParsePrefix("10.213.0.0/16"), IPv6: true}
	change(&s)
	return Boot{
		Spec: s, State: "/state/osm", Cache: "/home/u/.cache/osm-cluster", CgroupRoot: "/osm-cluster-osm",
		Parts: map[string]string{"runc": "/home/u/.cache/osm-cluster/runc-1", "cni": "/home/u/.cache/osm-cluster/cni-1", "kube": "/home/u/.cache/osm-cluster/kube-1"},
	}
}

func flagsOf(t *testing.T, s spec.Spec, program string) []string {
	t.Helper()
	for _, p := range Programs(s) {
		if p.Name == program {
			return p.Arguments
		}
	}
	t.Fatalf("there is no program %s", program)
	return nil
}

func TestFlagsFollowTheSpec(t *testing.T) {
	tests := map[string]struct {
		change  func(*spec.Spec)
		program string
		want    string
	}{
		"services have both families":      {func(*spec.Spec) {}, "kube-apiserver", "--service-cluster-ip-range=10.213.128.0/18,fd6f:736d:ad5:2::/112"},
		"services have one family":         {func(s *spec.Spec) { s.IPv6 = false }, "kube-apiserver", "--service-cluster-ip-range=10.213.128.0/18"},
		"the node has both addresses":      {func(*spec.Spec) {}, "kubelet", "--node-ip=10.213.0.2,fd6f:736d:ad5::2"},
		"gates are sorted":                 {func(s *spec.Spec) { s.FeatureGates = map[string]bool{"B": false, "A": true} }, "kube-scheduler", "--feature-gates=A=true,B=false"},
		"API versions are the server's":    {func(s *spec.Spec) { s.RuntimeConfig = map[string]string{"certificates.k8s.io/v1beta1": "true"} }, "kube-apiserver", "--runtime-config=certificates.k8s.io/v1beta1=true"},
		"nodes may touch only their own":   {func(*spec.Spec) {}, "kube-apiserver", "--enable-admission-plugins=NodeRestriction"},
		"every request is authorised":      {func(*spec.Spec) {}, "kube-apiserver", "--authorization-mode=Node,RBAC"},
		"controllers have users of theirs": {func(*spec.Spec) {}, "kube-controller-manager", "--use-service-account-credentials=true"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			flags := flagsOf(t, boot(test.change).Spec, test.program)
			if !slices.Contains(flags, test.want) {
				t.Errorf("%s runs without %s:\n%s", test.program, test.want, strings.Join(flags, "\n"))
			}
		})
	}
	for _, flag := range flagsOf(t, boot(func(*spec.Spec) {}).Spec, "kube-apiserver") {
		if strings.HasPrefix(flag, "--feature-gates") || strings.HasPrefix(flag, "--runtime-config") {
			t.Errorf("nobody asked for %s", flag)
		}
	}
}

func TestGatesReachThoseThatReadFiles(t *testing.T) {
	files, err := Configs(boot(func(s *spec.Spec) { s.FeatureGates = map[string]bool{"PodCertificateRequest": false} }))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kubelet.json", "kube-proxy.json"} {
		var config struct{ FeatureGates map[string]bool }
		if err := json.Unmarshal(files[name], &config); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if on, set := config.FeatureGates["PodCertificateRequest"]; !set || on {
			t.Errorf("%s has gates %v", name, config.FeatureGates)
		}
	}
}

func TestConfigsNamePathsInsideTheNode(t *testing.T) {
	files, err := Configs(boot(func(*spec.Spec) {}))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if strings.Contains(string(content), "/home/u") || strings.Contains(string(content), "/state/osm") {
			t.Errorf("%s names a path of the host:\n%s", name, content)
		}
		if !fs.ValidPath(name) {
			t.Errorf("%s is no path below etc/", name)
		}
	}
	for _, want := range []string{
		`sandbox = "` + spec.PauseImage + `"`, "restrict_oom_score_adj = true", `BinaryName = "/run/osm-cluster/cache/runc-1/runc"`,
		`bin_dirs = ["/run/osm-cluster/cache/cni-1"]`,
	} {
		if !strings.Contains(string(files["containerd.toml"]), want) {
			t.Errorf("containerd.toml lacks %s:\n%s", want, files["containerd.toml"])
		}
	}
}

func TestPodsGetAnAddressOfEachFamily(t *testing.T) {
	for families, ipv6 := range map[int]bool{1: false, 2: true} {
		files, err := Configs(boot(func(s *spec.Spec) { s.IPv6 = ipv6 }))
		if err != nil {
			t.Fatal(err)
		}
		var config struct {
			Plugins []struct {
				Type string
				IPAM struct{ Ranges, Routes []any }
			}
		}
		if err := json.Unmarshal(files["cni/10-osm.conflist"], &config); err != nil {
			t.Fatal(err)
		}
		if ipam := config.Plugins[0].IPAM; len(ipam.Ranges) != families || len(ipam.Routes) != families {
			t.Errorf("with IPv6 %t pods get %d ranges and %d routes", ipv6, len(ipam.Ranges), len(ipam.Routes))
		}
	}
}

func TestAMissingPartIsNamed(t *testing.T) {
	b := boot(func(*spec.Spec) {})
	delete(b.Parts, "cni")
	if _, err := Configs(b); err == nil || !strings.Contains(err.Error(), "cni") {
		t.Errorf("Configs() = %v, want an error that names cni", err)
	}
}

func TestReadBootWaitsForAWholeWord(t *testing.T) {
	tests := map[string]struct {
		word string
		good bool
	}{
		"a whole one":           {`{"spec":{"name":"osm","cidr":"10.213.0.0/16"}}`, true},
		"the host died":         {``, false},
		"the host died halfway": {`{"spec":{"name":`, false},
		"a spec that is none":   {`{"spec":{"name":"../x","cidr":"10.213.0.0/16"}}`, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadBoot(strings.NewReader(test.word)); (err == nil) != test.good {
				t.Errorf("ReadBoot() = %v, want good: %t", err, test.good)
			}
		})
	}
}
