package spec

import (
	"encoding/binary"
	"net/netip"
)

// Addresses are the networks and well-known addresses of one cluster, all
// derived from its CIDR.
//
//	first quarter   the link between host and node
//	second quarter  pods
//	third quarter   services
//	fourth quarter  unused
type Addresses struct {
	// Host and Node are the two ends of the link, with their prefix length.
	Host, Node netip.Prefix
	// Pods and Services are the cluster's own networks.
	Pods, Services netip.Prefix
	// API and DNS are the addresses of the services kubernetes and kube-dns.
	API, DNS netip.Addr
}

// V4 are the cluster's IPv4 addresses.
func (s Spec) V4() Addresses {
	link := s.CIDR.Addr()
	services := quarter(s.CIDR, 2)
	return Addresses{
		Host:     netip.PrefixFrom(plus4(link, 1), 30),
		Node:     netip.PrefixFrom(plus4(link, 2), 30),
		Pods:     quarter(s.CIDR, 1),
		Services: services,
		API:      plus4(services.Addr(), 1),
		DNS:      plus4(services.Addr(), 10),
	}
}

// V6 are the cluster's IPv6 addresses: a unique local network named by the first
// three bytes of the IPv4 one, so that two clusters never share it.
func (s Spec) V6() Addresses {
	v4 := s.CIDR.Addr().As4()
	at := func(network, host byte) netip.Addr {
		return netip.AddrFrom16([16]byte{0xfd, 'o', 's', 'm', v4[0], v4[1], v4[2], network, 15: host})
	}
	return Addresses{
		Host:     netip.PrefixFrom(at(0, 1), 64),
		Node:     netip.PrefixFrom(at(0, 2), 64),
		Pods:     netip.PrefixFrom(at(1, 0), 64),
		Services: netip.PrefixFrom(at(2, 0), 112),
		API:      at(2, 1),
		DNS:      at(2, 10),
	}
}

// Families are the address families in use, IPv4 first.
func (s Spec) Families() []Addresses {
	if s.IPv6 {
		return []Addresses{s.V4(), s.V6()}
	}
	return []Addresses{s.V4()}
}

// quarter is the n-th quarter of an IPv4 network.
func quarter(p netip.Prefix, n uint32) netip.Prefix {
	bits := p.Bits() + 2
	return netip.PrefixFrom(plus4(p.Addr(), n<<(32-bits)), bits)
}

func plus4(a netip.Addr, n uint32) netip.Addr {
	b := a.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+n)
	return netip.AddrFrom4(b)
}
