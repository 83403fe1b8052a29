package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/openservicemesh/osm-operator/hack/cluster/node"
	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

// plugIn lays the cable from the host to the node, which it finds by its process,
// and tells the host the way to pods and services.
func plugIn(s spec.Spec, pid int) error {
	if err := unplug(s); err != nil {
		return err
	}
	cable := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: s.Link(), MTU: 1500},
		PeerName:      node.Uplink,
		PeerNamespace: netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("making the cable %s: %w", s.Link(), err)
	}
	link, err := netlink.LinkByName(s.Link())
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	if err := node.AddAddresses(s.Link(), s, func(a spec.Addresses) netip.Prefix { return a.Host }); err != nil {
		return err
	}
	for _, family := range s.Families() {
		for _, network := range []netip.Prefix{family.Pods, family.Services} {
			route := &netlink.Route{
				LinkIndex: link.Attrs().Index, Dst: ipNet(network), Gw: family.Node.Addr().AsSlice(),
			}
			if err := netlink.RouteReplace(route); err != nil {
				return fmt.Errorf("routing %s to the node: %w", network, err)
			}
		}
	}
	return nil
}

// unplug removes the cable, and with it the addresses and the routes.
func unplug(s spec.Spec) error {
	link, err := netlink.LinkByName(s.Link())
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

// takenNetworks are those that the host already routes.
func takenNetworks() ([]netip.Prefix, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("listing the host's routes: %w", err)
	}
	var taken []netip.Prefix
	for _, route := range routes {
		if route.Dst == nil {
			continue
		}
		if address, ok := netip.AddrFromSlice(route.Dst.IP); ok {
			bits, _ := route.Dst.Mask.Size()
			taken = append(taken, netip.PrefixFrom(address.Unmap(), bits))
		}
	}
	return taken, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Plugged reports whether the host's end of the cable is there and up.
func Plugged(s spec.Spec) bool {
	link, err := netlink.LinkByName(s.Link())
	return err == nil && link.Attrs().RawFlags&unix.IFF_UP != 0
}

// HasIPv6 reports whether new links of this host get IPv6.
func HasIPv6() bool {
	disabled, err := os.ReadFile("/proc/sys/net/ipv6/conf/default/disable_ipv6")
	return err == nil && strings.TrimSpace(string(disabled)) == "0"
}
