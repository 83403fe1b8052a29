package translate_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// inboundWorld is a sidecar of the pod store, with an application behind it.
type inboundWorld struct {
	*world
	proxy                      *process
	web, open, bytes, nobodies uint16
	unserved                   uint16
}

func newInboundWorld(t *testing.T) *inboundWorld {
	t.Helper()
	w := &inboundWorld{world: newWorld(t)}
	w.web, w.open = application(t, "127.0.0.1", 0), application(t, "127.0.0.1", 0)
	w.bytes, w.nobodies, w.unserved = greeter(t, "127.0.0.1", 0), greeter(t, "127.0.0.1", 0), freePort(t)
	buyer, looker := account("shop", "buyer"), account("shop", "looker")
	regex := func(path string) ir.PathMatch { return ir.PathMatch{Kind: ir.MatchRegex, Value: path} }
	p := &ir.Proxy{
		Class: "store", Shared: w.shared(),
		Inbound: []ir.InboundPort{
			{
				Port: w.web, Protocol: ir.HTTP, Service: servicePort("shop", "store", 80), Allow: anyone(),
				Routes: []ir.InboundRoute{
					{Name: "buy", Match: ir.HTTPMatch{Path: regex("/buy/.*"), Methods: []string{"GET", "POST"}}, Allow: allow(buyer)},
					{Name: "public", Match: ir.HTTPMatch{Path: regex("/public/.*")}, Allow: allow(buyer, looker), Also: []ir.Grant{
						{Match: ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchPathPrefix, Value: "/public/shared"}, Methods: []string{"GET", "PUT"}, Headers: []ir.ValueMatch{
							{Name: "X-Key", Kind: ir.MatchRegex, Value: "[0-9]+"},
						}}, Allow: allow(account("shop", "guest"))},
					}},
					{Name: "closed", Match: ir.HTTPMatch{Path: regex("/closed")}},
				},
			},
			{Port: w.open, Protocol: ir.HTTP, Service: servicePort("shop", "open", 80), Allow: anyone(), Routes: []ir.InboundRoute{{Name: "all", Allow: anyone()}}},
			{Port: w.bytes, Protocol: ir.TCP, Service: servicePort("shop", "bytes", 90), Allow: allow(buyer)},
			{Port: w.nobodies, Protocol: ir.TCP, Service: servicePort("shop", "nobodies", 90)},
		},
	}
	w.proxy = w.start(t, p, "store", &mesh.Model{}, servePods([]string{storePod}, w.web, w.open, w.bytes, w.nobodies, w.unserved))
	return w
}

func (w *inboundWorld) as(t *testing.T, serviceAccount string) tls.Certificate {
	t.Helper()
	return w.ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/"+serviceAccount)
}

func TestInboundRequests(t *testing.T) {
	t.Parallel()
	w := newInboundWorld(t)
	buyer, looker, other, guest := w.as(t, "buyer"), w.as(t, "looker"), w.as(t, "other"), w.as(t, "guest")
	key := []string{"X-Key: 42"}
	tests := map[string]struct {
		who                  tls.Certificate
		port                 uint16
		method, target, host string
		headers              []string
		status               int
		path                 string
	}{
		"who is allowed is served":                               {buyer, w.web, "GET", "/buy/1?x=1", "store", nil, 200, "/buy/1?x=1"},
		"the wrong account is refused":                           {looker, w.web, "GET", "/buy/1", "store", nil, 403, ""},
		"an account without any permission too":                  {other, w.web, "GET", "/public/1", "store", nil, 403, ""},
		"an account with a name that begins like an allowed one": {w.as(t, "buyer2"), w.web, "GET", "/buy/1", "store", nil, 403, ""},
		"a route may be open to others for a part of it":         {guest, w.web, "GET", "/public/shared/a?b", "store", key, 200, "/public/shared/a?b"},
		"to nobody else":                                         {other, w.web, "GET", "/public/shared/a", "store", key, 403, ""},
		"not for another part":                                   {guest, w.web, "GET", "/public/sharedother", "store", key, 403, ""},
		"not by another method":                                  {guest, w.web, "POST", "/public/shared", "store", append([]string{"Content-Length: 0"}, key...), 403, ""},
		"not by another header":                                  {guest, w.web, "GET", "/public/shared", "store", []string{"X-Key: a42"}, 403, ""},
		"not by that header and another value of it":             {guest, w.web, "GET", "/public/shared", "store", []string{"X-Key: 42", "X-Key: a"}, 403, ""},
		"in whatever order they come":                            {guest, w.web, "GET", "/public/shared", "store", []string{"X-Key: a", "X-Key: 42"}, 403, ""},
		"what nobody may do is refused":                          {buyer, w.web, "GET", "/closed", "store", nil, 403, ""},
		"what matches no route is not found":                     {buyer, w.web, "GET", "/nothing", "store", nil, 404, ""},
		"not even for who may do nothing":                        {other, w.web, "GET", "/nothing", "store", nil, 404, ""},
		"another method matches no route":                        {buyer, w.web, "DELETE", "/buy/1", "store", nil, 404, ""},
		"one of several methods is enough":                       {buyer, w.web, "POST", "/buy/1", "store", []string{"Content-Length: 0"}, 200, "/buy/1"},
		"a host may have a port":                                 {buyer, w.web, "GET", "/buy/1", "store.shop:80", nil, 200, "/buy/1"},
		"a host may have any case":                               {buyer, w.web, "GET", "/buy/1", "STORE.shop", nil, 200, "/buy/1"},
		"a host may end with a dot":                              {buyer, w.web, "GET", "/buy/1", "store.shop.", nil, 200, "/buy/1"},
		"a URI may be absolute":                                  {buyer, w.web, "GET", "http://store/buy/1", "store", nil, 200, "/buy/1"},
		"a wildcard matches no escape to a sibling":              {looker, w.web, "GET", "/public/../buy/1", "store", nil, 403, ""},
		"an escaped slash is a slash":                            {looker, w.web, "GET", "/public/..%2fbuy/1", "store", nil, 403, ""},
		"in upper case too":                                      {looker, w.web, "GET", "/public/..%2Fbuy/1", "store", nil, 403, ""},
		"an escaped backslash is a slash":                        {looker, w.web, "GET", "/public/..%5cbuy/1", "store", nil, 403, ""},
		"a backslash is a slash":                                 {looker, w.web, "GET", `/public/..\buy/1`, "store", nil, 403, ""},
		"escaped dots are dots":                                  {looker, w.web, "GET", "/public/%2e%2e/buy/1", "store", nil, 403, ""},
		"slashes are counted once":                               {buyer, w.web, "GET", "//buy///1", "store", nil, 200, "/buy/1"},
		"dots before a semicolon go up":                          {looker, w.web, "GET", "/public/..;/buy/1", "store", nil, 403, ""},
		"and the application gets no other reading":              {buyer, w.web, "GET", "/public/..;a=b/buy/1", "store", nil, 200, "/buy/1"},
		"escaped dots before a semicolon have two readings":      {looker, w.web, "GET", "/public/%2e%2e;/buy/1", "store", nil, 400, ""},
		"a dot before an escaped semicolon too":                  {looker, w.web, "GET", "/public/.%2e%3bx/buy/1", "store", nil, 400, ""},
		"a semicolon elsewhere is part of the path":              {looker, w.web, "GET", "/public/a;b=c", "store", nil, 200, "/public/a;b=c"},
		"a fragment is refused":                                  {looker, w.web, "GET", "/public/a#/buy/1", "store", nil, 400, ""},
		"a query does not count":                                 {looker, w.web, "GET", "/public/a?/../buy/1", "store", nil, 200, "/public/a?/../buy/1"},
		"everyone may what anyone may":                           {other, w.open, "GET", "/whatever", "any.host", nil, 200, "/whatever"},
		"no tunnel is made":                                      {buyer, w.open, "CONNECT", "127.0.0.1:22", "127.0.0.1:22", nil, 403, ""},
		"a timeout that a client asks for is not listened to":    {other, w.open, "GET", "/", "any.host", []string{"x-envoy-upstream-rq-timeout-ms: 1", "x-envoy-max-retries: 9"}, 200, "/"},
		"two lengths are refused":                                {other, w.open, "POST", "/", "any.host", []string{"Content-Length: 1", "Content-Length: 2"}, 400, ""},
		"a length and chunks are refused":                        {other, w.open, "POST", "/", "any.host", []string{"Content-Length: 5", "Transfer-Encoding: chunked"}, 400, ""},
		"an upgrade to HTTP/2 in clear is not made":              {other, w.open, "GET", "/", "any.host", []string{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"}, 200, "/"},
	}
	for n, tt := range tests {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			c, err := w.peer(storePod, tt.port, []string{"http/1.1"}, tt.who)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := request(t, c, tt.method, tt.target, tt.host, tt.headers...)
			if err != nil {
				t.Fatal(err)
			}
			if upgrade := got.answer.Header.Get("Upgrade"); upgrade != "" {
				t.Errorf("the application is asked to upgrade to %s", upgrade)
			}
			if got.status != tt.status || got.answer.Path != tt.path {
				t.Errorf("got %d %q, want %d %q", got.status, got.answer.Path, tt.status, tt.path)
			}
		})
	}
}

func TestInboundHeaders(t *testing.T) {
	t.Parallel()
	w := newInboundWorld(t)
	c, err := w.peer(storePod, w.open, []string{"http/1.1"}, w.as(t, "buyer"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.ConnectionState().PeerCertificates[0].URIs[0].String(); got != "spiffe://cluster.local/ns/shop/sa/store" {
		t.Errorf("the server presents %s", got)
	}
	got, err := request(t, c, "GET", "/", "store", "X-Forwarded-Client-Cert: URI=spiffe://cluster.local/ns/shop/sa/admin", "X-Request-Id: mine",
		"X-Envoy-Internal: true", "x_under_score: kept", "X-Forwarded-For: 1.2.3.4")
	if err != nil {
		t.Fatal(err)
	}
	certificate := got.answer.Header.Get("X-Forwarded-Client-Cert")
	if !strings.HasSuffix(certificate, "URI=spiffe://cluster.local/ns/shop/sa/buyer") || strings.Contains(certificate, "admin") {
		t.Errorf("the application is told %q", certificate)
	}
	for header, want := range map[string]string{"X-Request-Id": "mine", "X_under_score": "kept", "X-Forwarded-For": "1.2.3.4", "X-Envoy-Internal": ""} {
		if v := got.answer.Header.Get(header); v != want {
			t.Errorf("%s is %q, want %q", header, v, want)
		}
	}
	if server := got.header.Get("Server"); server != "application" {
		t.Errorf("the answer's server is %q", server)
	}
}

func TestInboundHTTP2(t *testing.T) {
	t.Parallel()
	w := newInboundWorld(t)
	client := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{Certificates: []tls.Certificate{w.as(t, "buyer")}, InsecureSkipVerify: true},
	}}
	defer client.CloseIdleConnections()
	for path, want := range map[string]int{"/buy/1": 200, "/closed": 403, "/nothing": 404} {
		req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, "https://"+net.JoinHostPort(storePod, strconv.Itoa(int(w.web)))+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "store"
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var got answer
		_ = json.NewDecoder(resp.Body).Decode(&got)
		_ = resp.Body.Close()
		if resp.StatusCode != want || resp.Proto != "HTTP/2.0" || want == 200 && got.Protocol != "HTTP/2.0" {
			t.Errorf("%s: got %d over %s, the application %s", path, resp.StatusCode, resp.Proto, got.Protocol)
		}
	}
}

func TestInboundRefusesCertificates(t *testing.T) {
	t.Parallel()
	w := newInboundWorld(t)
	const buyer = "spiffe://cluster.local/ns/shop/sa/buyer"
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	early := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }
	serverOnly := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	workload := w.ca.leaf(t, buyer)
	parsed, err := x509.ParseCertificate(workload.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	child := (&authority{parsed, workload.PrivateKey.(*ecdsa.PrivateKey)}).leaf(t, buyer)
	child.Certificate = append(child.Certificate, workload.Certificate[0])
	tests := map[string][]tls.Certificate{
		"none":                          nil,
		"one of another authority":      {newAuthority(t).leaf(t, buyer)},
		"one of another trust domain":   {w.ca.leaf(t, "spiffe://other.local/ns/shop/sa/buyer")},
		"one that is no workload's":     {w.ca.leaf(t, "spiffe://cluster.local/mesh/osm/operator")},
		"one that has expired":          {w.ca.leaf(t, buyer, expired)},
		"one that is not valid yet":     {w.ca.leaf(t, buyer, early)},
		"one that a workload signed":    {child},
		"one for servers":               {w.ca.leaf(t, buyer, serverOnly)},
		"one with a name but no SPIFFE": {w.ca.leaf(t, "spiffe:", func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"buyer.shop.cluster.local"} })},
	}
	for n, certificates := range tests {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			c, err := w.peer(storePod, w.open, []string{"http/1.1"}, certificates...)
			if err != nil {
				return
			}
			defer c.Close()
			if got, err := request(t, c, "GET", "/", "store"); err == nil {
				t.Errorf("answered %d", got.status)
			}
		})
	}
}

func TestInboundRefusesClearText(t *testing.T) {
	t.Parallel()
	w := newInboundWorld(t)
	for n, said := range map[string]string{
		"HTTP":                    "GET / HTTP/1.1\r\nHost: store\r\n\r\n",
		"HTTP/2":                  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"the PROXY protocol":      "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\nHost: store\r\n\r\n",
		"half a TLS record":       "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03GET / HTTP/1.1\r\n\r\n",
		"something else at all":   "\x00\x01\x02",
		"nothing, then an ending": "",
	} {
		for _, port := range []uint16{w.open, w.bytes, w.unserved} {
			t.Run(fmt.Sprintf("%s to %s", n, map[uint16]string{w.open: "HTTP", w.bytes: "TCP", w.unserved: "nothing"}[port]), func(t *testing.T) {
				t.Parallel()
				c, err := net.Dial("tcp", net.JoinHostPort(storePod, strconv.Itoa(int(port))))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				if _, err := io.WriteString(c, said); err != nil {
					return
				}
				if err := c.(*net.TCPConn).CloseWrite(); err != nil {
					return
				}
				// An alert of TLS may come back; nothing of the application's does.
				if got, _ := io.ReadAll(c); strings.Contains(string(got), "HTTP") || strings.Contains(string(got), "hello") {
					t.Errorf("answered %q", got)
				}
			})
		}
	}
}

func TestInboundBytes(t *testing.T) {
	t.Parallel()
	w := newInboundWorld(t)
	t.Run("the server may speak first", func(t *testing.T) {
		t.Parallel()
		c, err := w.peer(storePod, w.bytes, nil, w.as(t, "buyer"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		talk(t, c, "hello from 127.0.0.1\n")
	})
	for n, port := range map[string]uint16{"another account hears nothing": w.bytes, "nobody hears what is nobody's": w.nobodies} {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			who := map[uint16]string{w.bytes: "looker", w.nobodies: "buyer"}[port]
			c, err := w.peer(storePod, port, nil, w.as(t, who))
			if err != nil {
				return
			}
			defer c.Close()
			if got, err := io.ReadAll(c); len(got) > 0 || err == nil {
				t.Errorf("heard %q, %v", got, err)
			}
		})
	}
}

// talk hears a greeting before it speaks, and is heard to the end after it has ended.
func talk(t *testing.T, c net.Conn, greeting string) {
	t.Helper()
	in := bufio.NewReader(c)
	if got, err := in.ReadString('\n'); err != nil || got != greeting {
		t.Fatalf("heard %q, %v, want %q", got, err, greeting)
	}
	if _, err := io.WriteString(c, "how are you\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := in.ReadString('\n'); err != nil || got != "how are you\n" {
		t.Fatalf("heard %q, %v", got, err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(in); err != nil || string(got) != "bye after 12\n" {
		t.Errorf("after the end heard %q, %v", got, err)
	}
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	w := newInboundWorld(t)
	c, err := w.peer(storePod, w.web, []string{"http/1.1"}, w.as(t, "looker"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := request(t, c, "GET", "/buy/1", "store"); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if c, err := w.peer(storePod, w.web, nil); err == nil {
		_, _ = io.ReadAll(c)
		_ = c.Close()
	}
	bare, err := net.Dial("tcp", net.JoinHostPort(storePod, strconv.Itoa(int(w.web))))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(bare, "GET / HTTP/1.1\r\n\r\n")
	_, _ = io.ReadAll(bare)
	_ = bare.Close()

	var lines []map[string]any
	waitFor(t, w.world, "three lines of log", func() bool {
		lines = logLines(w.proxy)
		return len(lines) >= 3
	})
	want := strings.Fields("authority bytes_received bytes_sent duration method path protocol request_id requested_server_name response_code " +
		"response_code_details response_flags start_time time_to_first_byte upstream_cluster upstream_host upstream_service_time user_agent x_forwarded_for")
	var refused, failed, plain bool
	for _, line := range lines {
		if diff := cmp.Diff(want, sortedKeys(line)); diff != "" {
			t.Errorf("-want +got fields:\n%s", diff)
		}
		details, _ := line["response_code_details"].(string)
		switch {
		case line["response_code"] == float64(403):
			refused = line["path"] == "/buy/1" && strings.HasPrefix(details, "rbac_access_denied")
		case line["response_flags"] == "NR":
			plain = line["method"] == nil
		case strings.Contains(details, "TLS"):
			failed = true
		}
	}
	if !refused || !failed || !plain || len(lines) != 3 {
		t.Errorf("refused request %t, failed handshake %t, clear text %t in %d lines: %v", refused, failed, plain, len(lines), lines)
	}
}

// logLines are the lines of a proxy's output that are JSON.
func logLines(p *process) []map[string]any {
	var out []map[string]any
	for line := range strings.SplitSeq(p.log.String(), "\n") {
		var value map[string]any
		if json.Unmarshal([]byte(line), &value) == nil {
			out = append(out, value)
		}
	}
	return out
}

func waitFor(t *testing.T, w *world, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-w.ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
