package pki

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

// Ensure makes everything that the cluster's programs and its administrator
// present to each other.
func Ensure(s spec.Spec, tree spec.Tree, now time.Time) error {
	dir := tree.PKI("")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	authorities := map[string]*Authority{}
	for _, plan := range plans(s) {
		authority, err := OpenAuthority(dir, plan.authority, now)
		if err != nil {
			return fmt.Errorf("opening authority %s: %w", plan.authority, err)
		}
		authorities[plan.authority] = authority
		for _, leaf := range plan.leaves {
			if err := authority.Issue(leaf); err != nil {
				return err
			}
		}
	}
	if err := EnsureKeyPair(dir, "sa"); err != nil {
		return fmt.Errorf("making the service account key: %w", err)
	}
	return writeKubeconfigs(s, tree, authorities["ca"])
}

type plan struct {
	authority string
	leaves    []Leaf
}

// plans lists three authorities, as in production: what the cluster signs must
// open neither etcd nor the aggregation layer.
func plans(s spec.Spec) []plan {
	serving := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	calling := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	loopback := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}

	apiIPs, nodeIPs := loopback, []net.IP{}
	for _, family := range s.Families() {
		apiIPs = append(apiIPs, asIP(family.Node.Addr()), asIP(family.API))
		nodeIPs = append(nodeIPs, asIP(family.Node.Addr()))
	}
	apiNames := []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local", s.NodeName(),
	}
	return []plan{
		{authority: "ca", leaves: []Leaf{
			{File: "apiserver", CommonName: "kube-apiserver", DNS: apiNames, IPs: apiIPs, Usage: serving},
			{File: "apiserver-kubelet-client", CommonName: "kube-apiserver-kubelet-client", Usage: calling},
			{File: "kubelet", CommonName: s.NodeName(), DNS: []string{s.NodeName()}, IPs: nodeIPs, Usage: serving},
			{File: "admin", CommonName: "kubernetes-admin", Organizations: []string{"system:masters"}, Usage: calling},
			{File: "controller-manager", CommonName: "system:kube-controller-manager", Usage: calling},
			{File: "scheduler", CommonName: "system:kube-scheduler", Usage: calling},
			{File: "proxy", CommonName: "system:kube-proxy", Usage: calling},
			{File: "node", CommonName: "system:node:" + s.NodeName(), Organizations: []string{"system:nodes"}, Usage: calling},
		}},
		{authority: "front-proxy-ca", leaves: []Leaf{
			{File: "front-proxy-client", CommonName: "front-proxy-client", Usage: calling},
		}},
		{authority: "etcd-ca", leaves: []Leaf{
			{File: "etcd", CommonName: "etcd", DNS: []string{"localhost"}, IPs: loopback, Usage: append(serving, calling...)},
			{File: "apiserver-etcd-client", CommonName: "kube-apiserver", Usage: calling},
		}},
	}
}

// Kubeconfigs are the callers that read a kubeconfig, by the name of their
// certificate.
func Kubeconfigs() []string {
	return []string{"admin", "controller-manager", "scheduler", "proxy", "node"}
}

func writeKubeconfigs(s spec.Spec, tree spec.Tree, ca *Authority) error {
	for _, user := range Kubeconfigs() {
		certificate, err := os.ReadFile(tree.PKI(user + ".crt"))
		if err != nil {
			return err
		}
		key, err := os.ReadFile(tree.PKI(user + ".key"))
		if err != nil {
			return err
		}
		path := tree.PKI(user + ".kubeconfig")
		if user == "admin" {
			path = tree.Kubeconfig()
		}
		content, err := kubeconfig(s, ca.PEM(), certificate, key)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Server is the address of the API server, from the host and from the node.
func Server(s spec.Spec) string {
	return fmt.Sprintf("https://%s", netip.AddrPortFrom(s.V4().Node.Addr(), spec.APIPort))
}

// kubeconfig is written as JSON, which is YAML too.
func kubeconfig(s spec.Spec, ca, certificate, key []byte) ([]byte, error) {
	type object = map[string]any
	name := "osm-cluster-" + s.Name
	return json.MarshalIndent(object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": name,
		"clusters": []object{{"name": name, "cluster": object{
			"server": Server(s), "certificate-authority-data": ca,
		}}},
		"users": []object{{"name": name, "user": object{
			"client-certificate-data": certificate, "client-key-data": key,
		}}},
		"contexts": []object{{"name": name, "context": object{"cluster": name, "user": name}}},
	}, "", "  ")
}

func asIP(a netip.Addr) net.IP { return net.IP(a.AsSlice()) }
