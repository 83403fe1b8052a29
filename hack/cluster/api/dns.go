package api

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// DNSAnswers returns nil when the cluster's name server, asked at its service's
// address, knows the API server's. That takes CoreDNS, kube-proxy and the network
// to work, now.
func DNSAnswers(ctx context.Context, server, api netip.Addr) error {
	resolver := &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "udp", netip.AddrPortFrom(server, 53).String())
		},
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	const name = "kubernetes.default.svc.cluster.local."
	addresses, err := resolver.LookupNetIP(ctx, "ip4", name)
	if err != nil {
		return fmt.Errorf("the name server at %s: %w", server, err)
	}
	for _, address := range addresses {
		if address.Unmap() == api {
			return nil
		}
	}
	return fmt.Errorf("the name server at %s says that %s is %v, not %s", server, name, addresses, api)
}
