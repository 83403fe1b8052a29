package node

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

// Uplink is the node's end of the cable to the host.
const Uplink = "eth0"

// configureNetwork gives the node its addresses and makes it a router for its
// pods. It gets no default route: what is outside answers at once that it cannot
// be reached, where a silent drop would hang.
func configureNetwork(s spec.Spec) error {
	settings := map[string]string{
		"net/ipv4/ip_forward":                "1",
		"net/ipv4/conf/all/send_redirects":   "0",
		"net/ipv4/ip_local_port_range":       "32768 60999",
		"net/ipv6/conf/all/disable_ipv6":     "0",
		"net/ipv6/conf/all/forwarding":       "1",
		"net/ipv6/conf/default/accept_dad":   "0",
		"net/ipv6/conf/default/disable_ipv6": "0",
	}
	for name, value := range settings {
		path := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	for _, name := range []string{"lo", Uplink} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("finding %s: %w", name, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("setting %s up: %w", name, err)
		}
	}
	if err := AddAddresses(Uplink, s, func(a spec.Addresses) netip.Prefix { return a.Node }); err != nil {
		return err
	}
	return routeServices(s)
}

// routeServices makes the Services' addresses routable from the node itself: the
// kernel looks for a route before kube-proxy's rules put a pod's address in place of a
// Service's, and without one the API server could call no webhook.
func routeServices(s spec.Spec) error {
	link, err := netlink.LinkByName(Uplink)
	if err != nil {
		return fmt.Errorf("finding %s: %w", Uplink, err)
	}
	for _, family := range s.Families() {
		services := net.IPNet{
			IP:   family.Services.Addr().AsSlice(),
			Mask: net.CIDRMask(family.Services.Bits(), family.Services.Addr().BitLen()),
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: &services, Src: family.Node.Addr().AsSlice()}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("routing the Services' addresses %s: %w", &services, err)
		}
	}
	return nil
}

// AddAddresses gives a link its address of each family. It is for both ends of
// the cable.
func AddAddresses(name string, s spec.Spec, of func(spec.Addresses) netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding %s: %w", name, err)
	}
	for _, family := range s.Families() {
		address, err := netlink.ParseAddr(of(family).String())
		if err != nil {
			return err
		}
		if of(family).Addr().Is6() {
			// The cable has two ends and both are ours: no need to ask for duplicates.
			address.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, address); err != nil {
			return fmt.Errorf("giving %s to %s: %w", address, name, err)
		}
	}
	return nil
}
