package node

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

// Program is one process that the node keeps running.
type Program struct {
	// Name is what it is called in logs and status.
	Name string
	// Part is the built part whose folder holds its binary.
	Part string
	// Arguments follow its name.
	Arguments []string
	// After is an address that must accept connections first.
	After string
}

const (
	etcdAddress = "127.0.0.1:2379"
	etcdPeers   = "https://127.0.0.1:2380"
)

// Programs lists what runs in the node of this cluster, in order of start.
func Programs(s spec.Spec) []Program {
	tree := spec.Tree(stateMount)
	api := netip.AddrPortFrom(s.V4().Node.Addr(), spec.APIPort).String()
	return []Program{
		{Name: "etcd", Part: "kube", Arguments: etcdFlags(tree)},
		{Name: "containerd", Part: "containerd", Arguments: []string{"--config", tree.Etc("containerd.toml"), "--log-level", "warn"}},
		{Name: "kube-apiserver", Part: "kube", Arguments: apiServerFlags(s, tree), After: etcdAddress},
		{Name: "kube-controller-manager", Part: "kube", Arguments: controllerManagerFlags(s, tree), After: api},
		{Name: "kube-scheduler", Part: "kube", Arguments: schedulerFlags(s, tree), After: api},
		{Name: "kubelet", Part: "kube", Arguments: kubeletFlags(s, tree), After: api},
		{Name: "kube-proxy", Part: "kube", Arguments: []string{"--config=" + tree.Etc("kube-proxy.json")}, After: api},
	}
}

// etcdFlags leave out fsync: a local cluster need not survive a power cut.
func etcdFlags(tree spec.Tree) []string {
	return []string{
		"--name=node", "--data-dir=/var/lib/etcd", "--unsafe-no-fsync=true", "--log-level=warn",
		"--listen-client-urls=https://" + etcdAddress, "--advertise-client-urls=https://" + etcdAddress,
		"--listen-peer-urls=" + etcdPeers, "--initial-advertise-peer-urls=" + etcdPeers,
		"--initial-cluster=node=" + etcdPeers,
		"--client-cert-auth=true", "--trusted-ca-file=" + tree.PKI("etcd-ca.crt"),
		"--cert-file=" + tree.PKI("etcd.crt"), "--key-file=" + tree.PKI("etcd.key"),
		"--peer-client-cert-auth=true", "--peer-trusted-ca-file=" + tree.PKI("etcd-ca.crt"),
		"--peer-cert-file=" + tree.PKI("etcd.crt"), "--peer-key-file=" + tree.PKI("etcd.key"),
		"--auto-compaction-retention=15m", "--quota-backend-bytes=4294967296",
	}
}

func apiServerFlags(s spec.Spec, tree spec.Tree) []string {
	flags := []string{
		"--advertise-address=" + s.V4().Node.Addr().String(),
		"--allow-privileged=true",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--client-ca-file=" + tree.PKI("ca.crt"),
		"--etcd-servers=https://" + etcdAddress,
		"--etcd-cafile=" + tree.PKI("etcd-ca.crt"),
		"--etcd-certfile=" + tree.PKI("apiserver-etcd-client.crt"),
		"--etcd-keyfile=" + tree.PKI("apiserver-etcd-client.key"),
		"--kubelet-certificate-authority=" + tree.PKI("ca.crt"),
		"--kubelet-client-certificate=" + tree.PKI("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + tree.PKI("apiserver-kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--proxy-client-cert-file=" + tree.PKI("front-proxy-client.crt"),
		"--proxy-client-key-file=" + tree.PKI("front-proxy-client.key"),
		"--requestheader-client-ca-file=" + tree.PKI("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		fmt.Sprintf("--secure-port=%d", spec.APIPort),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + tree.PKI("sa.pub"),
		"--service-account-signing-key-file=" + tree.PKI("sa.key"),
		"--service-cluster-ip-range=" + services(s),
		"--tls-cert-file=" + tree.PKI("apiserver.crt"),
		"--tls-private-key-file=" + tree.PKI("apiserver.key"),
	}
	return append(append(flags, pairs("--runtime-config=", s.RuntimeConfig)...), gates(s)...)
}

func controllerManagerFlags(s spec.Spec, tree spec.Tree) []string {
	kubeconfig := tree.PKI("controller-manager.kubeconfig")
	return append([]string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--client-ca-file=" + tree.PKI("ca.crt"),
		"--cluster-name=" + s.Name,
		"--cluster-signing-cert-file=" + tree.PKI("ca.crt"),
		"--cluster-signing-key-file=" + tree.PKI("ca.key"),
		"--root-ca-file=" + tree.PKI("ca.crt"),
		"--requestheader-client-ca-file=" + tree.PKI("front-proxy-ca.crt"),
		"--service-account-private-key-file=" + tree.PKI("sa.key"),
		"--service-cluster-ip-range=" + services(s),
		"--use-service-account-credentials=true",
		"--leader-elect=false",
		"--kube-api-qps=100", "--kube-api-burst=200",
	}, gates(s)...)
}

func schedulerFlags(s spec.Spec, tree spec.Tree) []string {
	kubeconfig := tree.PKI("scheduler.kubeconfig")
	return append([]string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
	}, gates(s)...)
}

// kubeletFlags are those that its configuration file has no field for.
func kubeletFlags(s spec.Spec, tree spec.Tree) []string {
	var addresses []string
	for _, family := range s.Families() {
		addresses = append(addresses, family.Node.Addr().String())
	}
	return []string{
		"--config=" + tree.Etc("kubelet.json"),
		"--kubeconfig=" + tree.PKI("node.kubeconfig"),
		"--hostname-override=" + s.NodeName(),
		"--node-ip=" + strings.Join(addresses, ","),
		"--node-labels=topology.kubernetes.io/region=local,topology.kubernetes.io/zone=local-a",
	}
}

func services(s spec.Spec) string {
	return joined(s, func(a spec.Addresses) netip.Prefix { return a.Services })
}

func pods(s spec.Spec) string {
	return joined(s, func(a spec.Addresses) netip.Prefix { return a.Pods })
}

func joined(s spec.Spec, of func(spec.Addresses) netip.Prefix) string {
	var all []string
	for _, family := range s.Families() {
		all = append(all, of(family).String())
	}
	return strings.Join(all, ",")
}

func gates(s spec.Spec) []string { return pairs("--feature-gates=", s.FeatureGates) }

// pairs is one flag that takes k=v,k=v, or none when there are no pairs.
func pairs[V any](flag string, values map[string]V) []string {
	if len(values) == 0 {
		return nil
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		all = append(all, fmt.Sprintf("%s=%v", key, values[key]))
	}
	return []string{flag + strings.Join(all, ",")}
}
