// Package spec says what one local cluster is. A name and a few choices come
// in; its addresses, its names on the host and its paths go out. It is pure: it
// touches neither the host nor the network.
package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
)

// KubernetesVersion is the version of every Kubernetes program in the cluster.
const KubernetesVersion = "v1.37.2"

// PauseImage and CoreDNSImage are the public names of the two images that the
// cluster itself needs. Both are made here, from source.
const (
	PauseImage   = "registry.k8s.io/pause:3.10.1"
	CoreDNSImage = "registry.k8s.io/coredns/coredns:v1.15.0"
)

// APIPort is the port of the API server on the node's address.
const APIPort = 6443

// DefaultName is the name of the cluster when none is given.
const DefaultName = "osm"

// nameRule keeps names usable as host names and short enough for an interface.
var nameRule = regexp.MustCompile(`^[a-z][a-z0-9-]{0,8}[a-z0-9]$|^[a-z]$`)

// Spec is what a person chooses about a cluster. It is stored with the cluster,
// so that later commands need only its name.
type Spec struct {
	// Name tells clusters on one machine apart.
	Name string `json:"name"`
	// CIDR holds every IPv4 address of the cluster: link, pods and services.
	CIDR netip.Prefix `json:"cidr"`
	// IPv6 adds a second address family to node, pods and services.
	IPv6 bool `json:"ipv6"`
	// FeatureGates go to every Kubernetes program.
	FeatureGates map[string]bool `json:"featureGates,omitempty"`
	// RuntimeConfig turns API groups and versions on and off.
	RuntimeConfig map[string]string `json:"runtimeConfig,omitempty"`
}

// Check returns why the spec cannot be used, or nil.
func (s Spec) Check() error {
	if !nameRule.MatchString(s.Name) {
		return fmt.Errorf("cluster name %q: use 1 to 10 of a-z, 0-9 and -, starting with a letter", s.Name)
	}
	if !s.CIDR.IsValid() || !s.CIDR.Addr().Is4() {
		return errors.New("the cluster's CIDR must be IPv4, such as 10.213.0.0/16")
	}
	if s.CIDR.Bits() > 20 || s.CIDR.Bits() < 8 {
		return fmt.Errorf("the cluster's CIDR %s must be between /8 and /20", s.CIDR)
	}
	if s.CIDR != s.CIDR.Masked() {
		return fmt.Errorf("the cluster's CIDR %s has host bits set; did you mean %s?", s.CIDR, s.CIDR.Masked())
	}
	return nil
}

// NodeName is the name of the cluster's one real node, and its host name.
func (s Spec) NodeName() string { return s.Name + "-node" }

// Link is the name of the host's end of the cable to the node.
func (s Spec) Link() string { return "osm-" + s.Name }

// Cgroup is the control group, below each hierarchy's root, that holds the node
// and all its pods.
func (s Spec) Cgroup() string { return "osm-cluster-" + s.Name }

// Candidates are the networks tried, in order, for a cluster whose network
// nobody chose.
func Candidates() []netip.Prefix {
	var all []netip.Prefix
	for second := byte(213); second < 240; second++ {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, second, 0, 0}), 16))
	}
	return all
}

// FreeCIDR is the first candidate that overlaps none of the taken networks.
func FreeCIDR(taken []netip.Prefix) (netip.Prefix, error) {
	for _, candidate := range Candidates() {
		if !overlapsAny(candidate, taken) {
			return candidate, nil
		}
	}
	return netip.Prefix{}, errors.New("every network from 10.213.0.0/16 to 10.239.0.0/16 is taken: choose one with --cidr")
}

func overlapsAny(p netip.Prefix, others []netip.Prefix) bool {
	for _, other := range others {
		// A default route covers everything and takes nothing.
		if other.Bits() > 0 && p.Overlaps(other) {
			return true
		}
	}
	return false
}
