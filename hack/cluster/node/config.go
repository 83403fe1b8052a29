package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/template"

	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

type object = map[string]any

// Configs are the files that the node's programs read, by name below etc/.
func Configs(boot Boot) (map[string][]byte, error) {
	s := boot.Spec
	files := map[string][]byte{
		"hosts":       []byte(hosts(s)),
		"resolv.conf": []byte("# A local cluster reaches no name server but its own.\noptions timeout:1\n"),
	}
	for name, content := range map[string]object{
		"kubelet.json":        kubeletConfig(s, boot.CgroupRoot),
		"kube-proxy.json":     proxyConfig(s),
		"cni/10-osm.conflist": cniConfig(s),
	} {
		encoded, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("encoding %s: %w", name, err)
		}
		files[name] = encoded
	}
	runtime, err := containerdConfig(boot)
	if err != nil {
		return nil, err
	}
	files["containerd.toml"] = runtime
	return files, nil
}

func hosts(s spec.Spec) string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	for _, family := range s.Families() {
		fmt.Fprintf(&b, "%s %s\n", family.Node.Addr(), s.NodeName())
	}
	return b.String()
}

// kubeletConfig differs from the defaults where a bare machine needs it: old
// control groups and swap are fine, and nothing is evicted and no image dropped
// for the sake of disk, since no registry could bring an image back.
func kubeletConfig(s spec.Spec, cgroupRoot string) object {
	tree := spec.Tree(stateMount)
	config := object{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"containerRuntimeEndpoint": "unix://" + RuntimeSocket,
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               cgroupRoot,
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true},
			"x509":      object{"clientCAFile": tree.PKI("ca.crt")},
		},
		"authorization":     object{"mode": "Webhook"},
		"tlsCertFile":       tree.PKI("kubelet.crt"),
		"tlsPrivateKeyFile": tree.PKI("kubelet.key"),
		"clusterDomain":     "cluster.local",
		"clusterDNS":        []string{s.V4().DNS.String()},
		"resolvConf":        tree.Etc("resolv.conf"),
		"evictionHard": object{
			"memory.available": "100Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
			"imagefs.available": "0%", "imagefs.inodesFree": "0%",
		},
		"imageGCHighThresholdPercent": 100,
		"makeIPTablesUtilChains":      false,
		"maxPods":                     250,
		// The host's own settings are shadowed instead; see shadowSysctls.
		"protectKernelDefaults": true,
		"oomScoreAdj":           0,
		"registryPullQPS":       0,
		"serializeImagePulls":   false,
	}
	if len(s.FeatureGates) > 0 {
		config["featureGates"] = s.FeatureGates
	}
	return config
}

// proxyConfig leaves connection tracking's global limits alone.
func proxyConfig(s spec.Spec) object {
	config := object{
		"apiVersion":       "kubeproxy.config.k8s.io/v1alpha1",
		"kind":             "KubeProxyConfiguration",
		"mode":             "nftables",
		"clusterCIDR":      pods(s),
		"hostnameOverride": s.NodeName(),
		"oomScoreAdj":      0,
		"clientConnection": object{"kubeconfig": spec.Tree(stateMount).PKI("proxy.kubeconfig")},
		"conntrack": object{
			"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
		},
	}
	if len(s.FeatureGates) > 0 {
		config["featureGates"] = s.FeatureGates
	}
	return config
}

// cniConfig gives every pod a cable to the node and no bridge between pods. All
// traffic is routed, so that services work without br_netfilter, and nothing is
// masqueraded: the host knows the way to pods.
func cniConfig(s spec.Spec) object {
	var ranges, routes []any
	for _, family := range s.Families() {
		ranges = append(ranges, []object{{"subnet": family.Pods.String()}})
		anywhere := "0.0.0.0/0"
		if family.Pods.Addr().Is6() {
			anywhere = "::/0"
		}
		routes = append(routes, object{"dst": anywhere})
	}
	return object{
		"cniVersion": "1.0.0",
		"name":       "osm-cluster",
		"plugins": []object{{
			"type":   "ptp",
			"ipMasq": false,
			"mtu":    1500,
			"ipam":   object{"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": "/run/cni"},
		}},
	}
}

// containerdTemplate turns off what reaches the host (AppArmor profiles) or needs
// a capability that a container may not have (lowering oom_score_adj).
const containerdTemplate = `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{{.Socket}}"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{{.Pause}}"

[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{{.CNI}}"]
    conf_dir = "{{.CNIConfig}}"
    use_internal_loopback = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = "{{.Runc}}"
        SystemdCgroup = false
`

func containerdConfig(boot Boot) ([]byte, error) {
	parsed, err := template.New("containerd").Parse(containerdTemplate)
	if err != nil {
		return nil, err
	}
	runc, err := boot.inNode("runc")
	if err != nil {
		return nil, err
	}
	cni, err := boot.inNode("cni")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, map[string]string{
		"Socket": RuntimeSocket, "Pause": spec.PauseImage, "Runc": runc + "/runc", "CNI": cni,
		"CNIConfig": spec.Tree(stateMount).Etc("cni"),
	})
	return out.Bytes(), err
}
