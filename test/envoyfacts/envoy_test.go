//go:build linux

package envoyfacts

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/redirect"
	"github.com/openservicemesh/osm-operator/internal/testkit/netns"
)

const (
	patience = 20 * time.Second
	appUID   = 1000
)

// node is a network namespace with an Envoy in it, and a host outside.
//
//	inside 10.1.1.2, fd01::2  --eth0--  outside 10.1.1.1, fd01::1 and more
type node struct {
	inside, outside *netns.Namespace
	dir             string
}

// newNode makes the namespaces. Traffic inside is redirected as in a pod of the mesh.
func newNode(t *testing.T) *node {
	t.Helper()
	if os.Getenv("OSM_TEST_ENVOY") == "" {
		t.Skip("OSM_TEST_ENVOY is not set")
	}
	n := &node{inside: netns.New(t), outside: netns.New(t), dir: t.TempDir()}
	netns.Connect(
		t,
		netns.End{
			Namespace: n.inside, Interface: "eth0", Addresses: prefixes("10.1.1.2/24", "fd01::2/64"),
			Routes: prefixes("0.0.0.0/0", "::/0"),
		},
		netns.End{Namespace: n.outside, Interface: "eth0", Addresses: prefixes(
			"10.1.1.1/24", "fd01::1/64", "10.2.0.1/32", "10.2.0.2/32", "10.2.0.3/32", "10.2.0.4/32", "fd02::1/128", "fd02::2/128")},
	)
	rules, err := redirect.Rules(redirect.Default())
	if err != nil {
		t.Fatal(err)
	}
	if err := n.inside.Do(func() error { return redirect.Apply(rules) }); err != nil {
		t.Fatal(err)
	}
	return n
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// start runs Envoy as the sidecar's user with a configuration, to which it adds the
// admin interface, and waits until it is ready.
func (n *node) start(t *testing.T, config string) {
	t.Helper()
	path := filepath.Join(n.dir, "envoy.yaml")
	config = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15000}}}\n" + config
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	top := os.TempDir() //nolint:usetesting // what t.TempDir makes is below it
	for dir := n.dir; dir != top && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Run by its descriptor: the user may not be allowed to walk there.
	binary, err := os.Open(os.Getenv("OSM_TEST_ENVOY"))
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "/proc/self/fd/3", "-c", path, "--concurrency", "1", "--log-level", "warning",
		"--service-node", "node", "--service-cluster", "cluster", "--disable-hot-restart", "--component-log-level", os.Getenv("OSM_TEST_ENVOY_LOG"))
	cmd.ExtraFiles = []*os.File{binary}
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: redirect.DefaultProxyUID, Gid: redirect.DefaultProxyUID}}
	if err := n.inside.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		cancel()
		<-exited
		if t.Failed() {
			t.Logf("Envoy's log:\n%s", log.String())
		}
	})
	n.eventually(t, "Envoy is ready", func() bool {
		select {
		case <-exited:
			t.Fatalf("Envoy ended:\n%s", log.String())
		default:
		}
		return n.admin("/ready") == "LIVE\n"
	})
}

// eventually waits until a condition holds.
func (n *node) eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// admin asks Envoy's admin interface.
func (n *node) admin(path string) string {
	var out string
	_ = n.inside.Do(func() error {
		out = get("127.0.0.1:15000", "admin", path, nil).body
		return nil
	})
	return out
}

// stat returns the value of a counter or gauge, 0 if there is none.
func (n *node) stat(t *testing.T, name string) int {
	t.Helper()
	for line := range strings.Lines(n.admin("/stats?usedonly")) {
		var v int
		if key, value, ok := strings.Cut(line, ": "); ok && key == name {
			if _, err := fmt.Sscan(value, &v); err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// answer is an HTTP answer, or an error in its place.
type answer struct {
	status int
	body   string
	err    error
}

func (a answer) String() string {
	if a.err != nil {
		return "error: " + a.err.Error()
	}
	return fmt.Sprintf("%d %s", a.status, a.body)
}

// get asks on a new connection. It uses the calling thread for all of it.
func get(addr, host, path string, header http.Header) answer {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return answer{err: err}
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", path, host)
	_ = header.Write(&b)
	b.WriteString("\r\n")
	if _, err := io.WriteString(c, b.String()); err != nil {
		return answer{err: err}
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return answer{err: err}
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return answer{status: r.StatusCode, body: string(body), err: err}
}

// get asks as the application inside.
func (n *node) get(addr, host, path string) answer { return n.getWith(addr, host, path, nil) }

// getWith asks with headers.
func (n *node) getWith(addr, host, path string, header http.Header) answer {
	var a answer
	if err := n.inside.DoAs(appUID, func() error {
		a = get(addr, host, path, header)
		return nil
	}); err != nil {
		return answer{err: err}
	}
	return a
}

// talk connects as the application inside and returns what the server says: nothing, if
// the connection is closed or reset.
func (n *node) talk(addr string) string {
	var out string
	err := n.inside.DoAs(appUID, func() error {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		b, err := io.ReadAll(c)
		out = string(b)
		return err
	})
	if errors.Is(err, syscall.ECONNRESET) {
		return out
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return out
}

// ask sends, stops sending, and returns what the server says then.
func (n *node) ask(addr string) string {
	var out string
	err := n.inside.DoAs(appUID, func() error {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, "hello"); err != nil {
			return err
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		out = string(b)
		return err
	})
	if err != nil {
		return "error: " + err.Error()
	}
	return out
}

// listen serves an address in a namespace until the test ends, or close is called.
func listen(t *testing.T, ns *netns.Namespace, addr string, handle func(net.Conn)) (closeNow func()) {
	t.Helper()
	var l net.Listener
	if err := ns.DoAs(appUID, func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = c.SetDeadline(time.Now().Add(patience))
				handle(c)
				_ = c.Close()
			}()
		}
	}()
	return func() { _ = l.Close() }
}

// recordHTTP is httpHere that keeps what was asked.
func recordHTTP(seen chan<- string) func(net.Conn) {
	return func(c net.Conn) {
		b := make([]byte, 4096)
		size, err := c.Read(b)
		if err != nil {
			return
		}
		seen <- string(b[:size])
		answerHere(c)
	}
}

// httpHere answers requests with the address that they reached.
func httpHere(c net.Conn) {
	b := make([]byte, 4096)
	if _, err := c.Read(b); err != nil {
		return
	}
	answerHere(c)
}

func answerHere(c net.Conn) {
	body := "endpoint " + c.LocalAddr().String()
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
}

// tcpHere says, without being asked, the address that was reached.
func tcpHere(c net.Conn) { fmt.Fprintf(c, "endpoint %s", c.LocalAddr()) }
