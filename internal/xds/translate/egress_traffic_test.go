package translate_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// Addresses that stand for hosts outside the mesh.
const (
	outsideHost, otherHost = "127.0.2.1", "127.0.3.1"
)

// egressWorld is a sidecar that may call some hosts outside, which all answer.
type egressWorld struct {
	*world
	port uint16
	// web is HTTP, secure is TLS, raw speaks first; each at 127.0.0.1 and at both hosts.
	web, secure, raw, shared uint16
	proxy                    *process
}

func newEgressWorld(t *testing.T, passthrough bool) *egressWorld {
	t.Helper()
	w := &egressWorld{world: newWorld(t), port: freePort(t)}
	w.web, w.secure = application(t, "127.0.0.1", 0), w.secured(t, "127.0.0.1", 0)
	w.raw, w.shared = greeter(t, "127.0.0.1", 0), application(t, "127.0.0.1", 0)
	for _, host := range []string{outsideHost, otherHost} {
		application(t, host, w.web)
		application(t, host, w.shared)
		w.secured(t, host, w.secure)
		greeter(t, host, w.raw)
	}
	status := egressHost("ip6-localhost")
	status.Host = "limited.localhost"
	status.Routes[0].Match = ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchRegex, Value: "/status.*"}, Methods: []string{"GET"}}
	pets := headless(web(servicePort("shop", "pets", w.shared), plaintext(cluster(servicePort("shop", "pets", w.shared), ir.HTTP))), "pets", "*.pets")
	p := &ir.Proxy{
		Class: "buyer", Shared: w.world.shared(), Passthrough: passthrough, Outbound: []*ir.Destination{pets},
		Egress: []*ir.EgressPort{
			{Port: w.web, Ways: []ir.EgressWay{
				{Kind: ir.EgressHTTP, Hosts: []ir.EgressHost{egressHost("localhost"), egressHost("*.wild.localhost"), status}},
				{Kind: ir.EgressHTTP, Ranges: ranges(outsideHost + "/32"), Hosts: []ir.EgressHost{egressHost("example.com"), egressHost("*.example.com")}},
			}},
			{Port: w.secure, Ways: []ir.EgressWay{
				{Kind: ir.EgressTLS, ServerNames: []string{"example.com", "*.wild.example"}},
				{Kind: ir.EgressTLS, Ranges: ranges(otherHost + "/32")},
			}},
			{Port: w.raw, Ways: []ir.EgressWay{{Kind: ir.EgressBytes, Ranges: ranges("127.0.2.0/24")}}},
			{Port: w.shared, Ways: []ir.EgressWay{
				{Kind: ir.EgressHTTP, Hosts: []ir.EgressHost{egressHost("localhost")}},
			}},
		},
	}
	m := modelOf(pod{firstPod, account("shop", "pets"), false, map[mesh.Key]map[uint16]uint16{{Namespace: "shop", Name: "pets"}: {w.shared: w.shared}}})
	application(t, firstPod, w.shared)
	w.proxy = w.start(t, p, "buyer", m, redirectTo(w.port))
	return w
}

// secured is an application that speaks TLS, and tells where it is.
func (w *egressWorld) secured(t *testing.T, address string, port uint16) uint16 {
	t.Helper()
	l, err := tls.Listen("tcp", net.JoinHostPort(address, fmt.Sprint(port)), &tls.Config{Certificates: []tls.Certificate{w.ca.leaf(t, "https://outside")}})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(out, "{\"Pod\":%q}", address)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestEgressRequests(t *testing.T) {
	t.Parallel()
	w := newEgressWorld(t, false)
	web, other := fmt.Sprint(":", w.web), ":1"
	tests := map[string]struct {
		address      string
		port         uint16
		host, target string
		status       int
		pod          string
	}{
		"a host is found by its name":                     {otherHost, w.web, "localhost", "/", 200, "127.0.0.1"},
		"with its port":                                   {otherHost, w.web, "localhost" + web, "/", 200, "127.0.0.1"},
		"in any case":                                     {otherHost, w.web, "LocalHost", "/", 200, "127.0.0.1"},
		"not with another port":                           {otherHost, w.web, "localhost" + other, "/", 404, ""},
		"a host that is not listed is not called":         {otherHost, w.web, "elsewhere", "/", 404, ""},
		"nor one that only begins like a listed one":      {otherHost, w.web, "localhost.evil.example", "/", 404, ""},
		"a host below a wildcard is found by its name":    {otherHost, w.web, "a.wild.localhost" + web, "/", 200, "127.0.0.1"},
		"also without its port":                           {otherHost, w.web, "b.c.wild.localhost", "/", 200, "127.0.0.1"},
		"not with another port, however it is found":      {otherHost, w.web, "a.wild.localhost" + other, "/", 404, ""},
		"the wildcard itself is not below it":             {otherHost, w.web, "wild.localhost", "/", 404, ""},
		"a request that matches is sent":                  {otherHost, w.web, "limited.localhost", "/status/200?x=y", 200, "127.0.0.1"},
		"one that does not is not found":                  {otherHost, w.web, "limited.localhost", "/other", 404, ""},
		"one that escapes is not found":                   {otherHost, w.web, "limited.localhost", "/status/..%2fother", 404, ""},
		"in a range the address that was called is taken": {outsideHost, w.web, "example.com", "/", 200, outsideHost},
		"for a wildcard too":                              {outsideHost, w.web, "a.example.com", "/", 200, outsideHost},
		"outside of the range the host is not known":      {otherHost, w.web, "example.com", "/", 404, ""},
		"in the range other hosts are not":                {outsideHost, w.web, "localhost", "/", 404, ""},
		"a headless service on the port is called":        {firstPod, w.shared, "pets", "/", 200, firstPod},
		"and so is a host outside":                        {otherHost, w.shared, "localhost", "/", 200, "127.0.0.1"},
		"no other host on that port":                      {otherHost, w.shared, "elsewhere", "/", 404, ""},
	}
	for n, tt := range tests {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			c, err := w.dial(t, w.port, tt.address, tt.port)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := request(t, c, "GET", tt.target, tt.host)
			if err != nil {
				t.Fatal(err)
			}
			if got.status != tt.status || got.answer.Pod != tt.pod {
				t.Errorf("got %d from %q, want %d from %q", got.status, got.answer.Pod, tt.status, tt.pod)
			}
			if got.answer.Header.Get("X-Forwarded-Client-Cert") != "" {
				t.Error("the host outside is told of a certificate")
			}
		})
	}
}

func TestEgressByServerName(t *testing.T) {
	t.Parallel()
	w := newEgressWorld(t, false)
	for n, tt := range map[string]struct{ address, server, want string }{
		"a listed name goes where it was called": {outsideHost, "example.com", outsideHost},
		"a name below a wildcard too":            {outsideHost, "a.b.wild.example", outsideHost},
		"a name that is not listed is reset":     {outsideHost, "evil.example", ""},
		"the wildcard itself is not below it":    {outsideHost, "wild.example", ""},
		"no name is none that is listed":         {outsideHost, "", ""},
		"in a range without names any name goes": {otherHost, "evil.example", otherHost},
		"and no name":                            {otherHost, "", otherHost},
	} {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			raw, err := w.dial(t, w.port, tt.address, w.secure)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			c := tls.Client(raw, &tls.Config{ServerName: tt.server, InsecureSkipVerify: true})
			got, err := request(t, c, "GET", "/", "any")
			if got.answer.Pod != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", got.answer.Pod, err, tt.want)
			}
		})
	}
}

func TestEgressBytes(t *testing.T) {
	t.Parallel()
	w := newEgressWorld(t, false)
	for n, tt := range map[string]struct {
		address string
		port    uint16
		want    string
	}{
		"an address in the range":      {outsideHost, w.raw, outsideHost},
		"an address out of the range":  {otherHost, w.raw, ""},
		"another port":                 {outsideHost, 4, ""},
		"bytes where HTTP is expected": {otherHost, w.web, ""},
	} {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			c, err := w.dial(t, w.port, tt.address, tt.port)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if tt.want == "" {
				_, _ = io.WriteString(c, "\x01\x02 no HTTP\r\n\r\n")
			}
			line, err := bufio.NewReader(c).ReadString('\n')
			if tt.want == "" {
				if line != "" || !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
					t.Errorf("got %q, %v", line, err)
				}
				return
			}
			if want := "hello from " + tt.want + "\n"; line != want {
				t.Errorf("got %q, %v, want %q", line, err, want)
			}
		})
	}
}

// TestDeniedEgressIsSeen looks at what tells that egress was denied.
func TestDeniedEgressIsSeen(t *testing.T) {
	t.Parallel()
	w := newEgressWorld(t, false)
	for _, port := range []uint16{4, w.raw} {
		c, err := w.dial(t, w.port, otherHost, port)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("there was an answer")
		}
		_ = c.Close()
	}
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/stats?filter=egress-blocked", w.proxy.admin))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stats, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"cluster.egress-blocked.upstream_cx_none_healthy: 2", "tcp.egress-blocked.downstream_cx_total: 2"} {
		if !strings.Contains(string(stats), want) {
			t.Errorf("no %q in\n%s", want, stats)
		}
	}
	for _, want := range []string{`"response_code_details":"egress_denied"`, `"response_flags":"UH"`, `"upstream_host":"` + otherHost + `:4"`} {
		for !strings.Contains(w.proxy.log.String(), want) {
			select {
			case <-w.ctx.Done():
				t.Fatalf("the log does not say %s", want)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

// TestEgressBesidePassthrough holds where unknown destinations pass.
func TestEgressBesidePassthrough(t *testing.T) {
	t.Parallel()
	w := newEgressWorld(t, true)
	get := func(address string, port uint16, host string) (response, error) {
		c, err := w.dial(t, w.port, address, port)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return request(t, c, "GET", "/", host)
	}
	if got, err := get(otherHost, w.web, "elsewhere"); err != nil || got.status != 404 {
		t.Errorf("a host that no Egress lists on its port: got %d, %v", got.status, err)
	}
	if got, err := get(otherHost, w.web, "localhost"); err != nil || got.answer.Pod != "127.0.0.1" {
		t.Errorf("a host that is listed: got %+v, %v", got, err)
	}
	raw, err := w.dial(t, w.port, otherHost, w.raw)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if line, err := bufio.NewReader(raw).ReadString('\n'); line != "hello from "+otherHost+"\n" {
		t.Errorf("bytes to an address that no Egress is for: got %q, %v", line, err)
	}
}
