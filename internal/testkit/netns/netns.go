//go:build linux

package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace that ends with its test.
type Namespace struct {
	file *os.File
}

// New makes a network namespace whose loopback is up. It skips the test where the
// process may not make one.
func New(tb testing.TB) *Namespace {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("network namespaces need root")
	}
	var file *os.File
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		var err error
		file, err = os.Open("/proc/self/task/" + strconv.Itoa(unix.Gettid()) + "/ns/net")
		if err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("finding lo: %w", err)
		}
		return netlink.LinkSetUp(lo)
	})
	if errors.Is(err, syscall.EPERM) {
		tb.Skip("network namespaces need root with all its capabilities")
	}
	if err != nil {
		tb.Fatalf("making a network namespace: %v", err)
	}
	tb.Cleanup(func() { _ = file.Close() })
	return &Namespace{file: file}
}

// Do runs f on a thread inside the namespace. Sockets that f opens and processes that
// it starts belong to the namespace for good; goroutines that it starts do not. A
// host that f dials must be an address: looking up names uses other threads.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return f()
	})
}

// DoAs is Do as another user: sockets that f opens are that user's.
func (n *Namespace) DoAs(uid int, f func() error) error {
	return n.Do(func() error {
		// The raw call changes this thread alone, which ends with f.
		id := uintptr(uid)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, id, id, id); errno != 0 {
			return os.NewSyscallError("setresuid", errno)
		}
		return f()
	})
}

// onThread runs f on a thread of its own, which is thrown away.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread is not fit for other goroutines any more.
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// End is one end of a link between two namespaces.
type End struct {
	Namespace *Namespace
	// Interface is its name in the namespace.
	Interface string
	// Addresses are its own, with the prefix of the link's network.
	Addresses []netip.Prefix
	// Routes go through this end; the other end's first address of the family is
	// their gateway.
	Routes []netip.Prefix
}

// Connect puts a link between two namespaces and waits for nothing: its addresses
// can be used at once.
func Connect(tb testing.TB, a, b End) {
	tb.Helper()
	// Made under names that are given up at once.
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "connecting-a"}, PeerName: "connecting-b"}
	err := a.Namespace.Do(func() error {
		if err := netlink.LinkAdd(link); err != nil {
			return fmt.Errorf("adding a veth: %w", err)
		}
		peer, err := netlink.LinkByName(link.PeerName)
		if err != nil {
			return err
		}
		return netlink.LinkSetNsFd(peer, int(b.Namespace.file.Fd()))
	})
	if err == nil {
		err = a.setUp(link.Name, b.Addresses)
	}
	if err == nil {
		err = b.setUp(link.PeerName, a.Addresses)
	}
	if err != nil {
		tb.Fatalf("connecting %s and %s: %v", a.Interface, b.Interface, err)
	}
}

func (e End) setUp(name string, others []netip.Prefix) error {
	return e.Namespace.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetName(link, e.Interface); err != nil {
			return fmt.Errorf("naming: %w", err)
		}
		for _, p := range e.Addresses {
			// Without duplicate address detection an address can be used at once.
			addr := &netlink.Addr{IPNet: ipNet(p, p.Addr()), Flags: unix.IFA_F_NODAD}
			if err := netlink.AddrAdd(link, addr); err != nil {
				return fmt.Errorf("adding address %s: %w", p, err)
			}
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("setting up: %w", err)
		}
		for _, p := range e.Routes {
			if err := addRoute(link, p, others); err != nil {
				return err
			}
		}
		return nil
	})
}

func addRoute(link netlink.Link, to netip.Prefix, gateways []netip.Prefix) error {
	for _, g := range gateways {
		if g.Addr().Is4() != to.Addr().Is4() {
			continue
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to, to.Masked().Addr()), Gw: g.Addr().AsSlice()}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("adding route %s: %w", to, err)
		}
		return nil
	}
	return fmt.Errorf("no gateway for route %s", to)
}

func ipNet(p netip.Prefix, a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(p.Bits(), a.BitLen())}
}
