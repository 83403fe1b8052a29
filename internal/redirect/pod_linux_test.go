package redirect

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openservicemesh/osm-operator/internal/testkit/netns"
)

const (
	appUID   = 1000
	proxyUID = DefaultProxyUID
	patience = 5 * time.Second
)

// pod is a pod with an application and a proxy, and a host outside it that answers at
// every address that is routed to it.
//
//	pod 10.1.1.2, fd01::2  --eth0--  outside 10.1.1.1, fd01::1, 192.0.2.7, 2001:db8::7
type pod struct {
	inside, outside *netns.Namespace
}

func newPod(t *testing.T) *pod {
	t.Helper()
	p := &pod{inside: netns.New(t), outside: netns.New(t)}
	netns.Connect(
		t,
		netns.End{Namespace: p.inside, Interface: "eth0", Addresses: ranges("10.1.1.2/24", "fd01::2/64"), Routes: ranges("0.0.0.0/0", "::/0")},
		netns.End{
			Namespace: p.outside, Interface: "eth0",
			Addresses: ranges("10.1.1.1/24", "fd01::1/64", "192.0.2.7/32", "192.0.2.8/32", "2001:db8::7/128", "2001:db8::8/128"),
		},
	)
	host := func(string) func(net.Conn) { return say("outside") }
	p.listen(t, p.outside, 0, host, 80, 3306, 8080)
	p.listen(t, p.inside, appUID, func(string) func(net.Conn) { return say("app") }, 8080, 9000)
	proxy := func(name string) func(net.Conn) {
		return func(c net.Conn) { fmt.Fprintf(c, "proxy:%s for %s", name, originalDestination(c)) }
	}
	p.listen(t, p.inside, proxyUID, proxy, 15000, 15001, 15003, 15010, 15901)
	p.listenUDP(t)
	return p
}

// say answers with a name and the address that the connection was made to.
func say(name string) func(net.Conn) {
	return func(c net.Conn) { fmt.Fprintf(c, "%s at %s", name, c.LocalAddr()) }
}

// listen serves ports of all addresses of both families, as a user.
func (p *pod) listen(t *testing.T, ns *netns.Namespace, uid int, handler func(port string) func(net.Conn), ports ...int) {
	t.Helper()
	for _, port := range ports {
		for _, network := range []string{"tcp4", "tcp6"} {
			var l net.Listener
			err := ns.DoAs(uid, func() (err error) {
				l, err = net.Listen(network, fmt.Sprintf(":%d", port))
				return err
			})
			if err != nil {
				t.Fatalf("listening on %s port %d: %v", network, port, err)
			}
			t.Cleanup(func() { _ = l.Close() })
			go serve(l, handler(fmt.Sprint(port)))
		}
	}
}

func serve(l net.Listener, handle func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		handle(c)
		_ = c.Close()
	}
}

// listenUDP answers datagrams outside.
func (p *pod) listenUDP(t *testing.T) {
	t.Helper()
	for _, addr := range []string{"192.0.2.7:5353", "[2001:db8::7]:5353"} {
		var c net.PacketConn
		if err := p.outside.Do(func() (err error) {
			c, err = net.ListenPacket("udp", addr)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		go func() {
			b := make([]byte, 16)
			for {
				_, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = c.WriteTo([]byte("outside by datagram"), from)
			}
		}()
	}
}

// call connects from a namespace as a user and returns what it is answered.
func call(ns *netns.Namespace, uid int, network, to string) string {
	var out string
	err := ns.DoAs(uid, func() error {
		c, err := net.DialTimeout(network, to, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if network == "udp" {
			b := make([]byte, 64)
			if _, err := c.Write([]byte("hello")); err != nil {
				return err
			}
			n, err := c.Read(b)
			out = string(b[:n])
			return err
		}
		b, err := io.ReadAll(c)
		out = string(b)
		return err
	})
	switch {
	case err != nil && strings.Contains(err.Error(), "refused"):
		return "refused"
	case err != nil:
		return err.Error()
	}
	return out
}

// originalDestination is where a connection was made to before it was redirected.
func originalDestination(c net.Conn) string {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err.Error()
	}
	out := "unknown"
	if err := raw.Control(func(fd uintptr) {
		if c.LocalAddr().(*net.TCPAddr).IP.To4() != nil {
			// Any option of this length will do; the answer is a sockaddr_in.
			v, err := unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, unix.SO_ORIGINAL_DST)
			if err == nil {
				b := v.Multiaddr
				out = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])).String()
			}
			return
		}
		v, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, unix.SO_ORIGINAL_DST)
		if err == nil {
			port := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v.Addr.Port))
			out = netip.AddrPortFrom(netip.AddrFrom16(v.Addr.Addr), port).String()
		}
	}); err != nil {
		return err.Error()
	}
	return out
}

// redirect applies a configuration inside the pod and reads it back.
func (p *pod) redirect(t *testing.T, c Config) Ruleset {
	t.Helper()
	r, err := Rules(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.inside.Do(func() error { return Apply(r) }); err != nil {
		t.Fatalf("applying: %v", err)
	}
	if err := p.inside.Do(func() error { return Verify(r) }); err != nil {
		t.Fatalf("verifying: %v", err)
	}
	return r
}
