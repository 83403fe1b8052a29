package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Ports and the user of the sidecar, as Open Service Mesh chose them.
const (
	// DefaultProxyUID is the user that the sidecar runs as.
	DefaultProxyUID = 1500
	// DefaultInboundPort is where the sidecar takes connections to the pod.
	DefaultInboundPort = 15003
	// DefaultOutboundPort is where the sidecar takes connections that the pod makes.
	DefaultOutboundPort = 15001

	// adminPort is the sidecar's own, on loopback. It is never opened to others.
	adminPort = 15000
	// metricsPort serves metrics.
	metricsPort = 15010
)

// maxInterfaceName is what the kernel allows, without the closing zero.
const maxInterfaceName = 15

// Config says which traffic of a pod goes through its sidecar.
type Config struct {
	// ProxyUID is the user that the sidecar runs as: its own connections pass.
	ProxyUID uint32 `json:"proxyUID"`
	// InboundPort and OutboundPort are where the sidecar takes connections to the
	// pod, and those that the pod makes.
	InboundPort  uint16 `json:"inboundPort"`
	OutboundPort uint16 `json:"outboundPort"`
	// InboundPortExclusions are ports of the pod that are reached directly.
	InboundPortExclusions []uint16 `json:"inboundPortExclusions,omitempty"`
	// OutboundPortExclusions are ports that the pod calls directly.
	OutboundPortExclusions []uint16 `json:"outboundPortExclusions,omitempty"`
	// OutboundCIDRExclusions are ranges that the pod calls directly.
	OutboundCIDRExclusions []netip.Prefix `json:"outboundCIDRExclusions,omitempty"`
	// OutboundCIDRInclusions, if there are any, are the only ranges that the pod
	// calls through the sidecar, less the exclusions.
	OutboundCIDRInclusions []netip.Prefix `json:"outboundCIDRInclusions,omitempty"`
	// InterfaceExclusions are network interfaces whose traffic is left alone in both
	// directions. A name that ends in "+" stands for all that begin like it, as in iptables.
	InterfaceExclusions []string `json:"interfaceExclusions,omitempty"`
	// PodIPs, if there are any, are the pod's addresses, and what the sidecar calls on
	// loopback goes to the first of them of the same family: for applications that
	// listen on the pod's address only. The sidecar's admin port stays on loopback.
	PodIPs []netip.Addr `json:"podIPs,omitempty"`
}

// Default returns the configuration that redirects everything.
func Default() Config {
	return Config{ProxyUID: DefaultProxyUID, InboundPort: DefaultInboundPort, OutboundPort: DefaultOutboundPort}
}

// Validate says everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.ProxyUID != 0, "the proxy's user must not be root: root's connections could not be told from the proxy's")
	check(c.InboundPort != 0 && c.OutboundPort != 0, "inbound and outbound port must be set")
	check(c.InboundPort != c.OutboundPort, "inbound and outbound port are both %d", c.InboundPort)
	for _, p := range []uint16{c.InboundPort, c.OutboundPort, adminPort} {
		check(!slices.Contains(c.InboundPortExclusions, p), "port %d is the proxy's: it cannot be excluded, other pods would reach it directly", p)
	}
	check(!slices.Contains(c.InboundPortExclusions, 0), "0 is not an inbound port")
	check(!slices.Contains(c.OutboundPortExclusions, 0), "0 is not an outbound port")
	for _, p := range slices.Concat(c.OutboundCIDRExclusions, c.OutboundCIDRInclusions) {
		check(p.IsValid(), "%q is not a range of addresses", p)
		check(!p.Addr().Is4In6(), "%q: write a range of IPv4 addresses in IPv4's form", p)
	}
	for _, name := range c.InterfaceExclusions {
		check(isInterface(name), "%q is not the name of a network interface", name)
	}
	for _, a := range c.PodIPs {
		check(a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.Is4In6() && a.Zone() == "", "%q is not a pod's address", a)
	}
	return errors.Join(errs...)
}

// isInterface says whether name can be that of an interface, or a pattern for some.
// The pattern "+" alone would turn redirection off.
func isInterface(name string) bool {
	stem := strings.TrimSuffix(name, "+")
	return stem != "" && stem != "." && stem != ".." && len(stem) <= maxInterfaceName &&
		!strings.ContainsFunc(stem, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/:+*"\`, r) })
}

// podIP returns the first address of the pod of a family.
func (c Config) podIP(v4 bool) (netip.Addr, bool) {
	i := slices.IndexFunc(c.PodIPs, func(a netip.Addr) bool { return a.Is4() == v4 })
	if i < 0 {
		return netip.Addr{}, false
	}
	return c.PodIPs[i], true
}

// portRange is the ports from first to last.
type portRange struct{ first, last uint16 }

// sidecarPorts are the ports that the sidecar serves in the clear, to the kubelet and
// to Prometheus: metrics, readiness, probes, lifecycle hooks.
func sidecarPorts() []portRange {
	return []portRange{{metricsPort, metricsPort}, {15901, 15906}, {15910, 15999}}
}
