package translate_test

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// outboundWorld is a sidecar of the pod buyer, which calls the pod store in the mesh and
// others outside.
type outboundWorld struct {
	*world
	port uint16
	// web and bytes are ports of the pod store, in the mesh; plain and raw of two pods
	// outside, whose applications speak HTTP and anything.
	web, bytes, plain, raw uint16
	proxy                  *process
}

// Services of the outbound world: what clients call, and where it is.
const (
	storeVIP, bytesVIP, plainVIP, deniedVIP = "10.96.0.1", "10.96.0.2", "10.96.0.3", "10.96.0.4"
	emptyVIP, wrongVIP, strictVIP           = "10.96.0.5", "10.96.0.6", "10.96.0.7"
)

func newOutboundWorld(t *testing.T, passthrough bool) *outboundWorld {
	t.Helper()
	w := &outboundWorld{world: newWorld(t)}
	w.web, w.bytes = application(t, "127.0.0.1", 0), greeter(t, "127.0.0.1", 0)
	w.plain, w.raw = application(t, firstPod, 0), greeter(t, firstPod, 0)
	for _, pod := range []string{secondPod, stranger} {
		application(t, pod, w.plain)
		greeter(t, pod, w.raw)
	}
	w.start(t, &ir.Proxy{Class: "store", Shared: w.shared(), Inbound: []ir.InboundPort{
		{Port: w.web, Protocol: ir.HTTP, Service: servicePort("shop", "store", 80), Allow: anyone(), Routes: []ir.InboundRoute{{Name: "all", Allow: anyone()}}},
		{Port: w.bytes, Protocol: ir.TCP, Service: servicePort("shop", "bytes", 90), Allow: allow(account("shop", "buyer"))},
	}}, "store", &mesh.Model{}, servePods([]string{storePod}, w.web, w.bytes))
	w.port = freePort(t)
	p := &ir.Proxy{Class: "buyer", Shared: w.shared(), Passthrough: passthrough, Outbound: w.destinations()}
	w.proxy = w.start(t, p, "buyer", w.pods(), redirectTo(w.port))
	return w
}

func (w *outboundWorld) destinations() []*ir.Destination {
	store := account("shop", "store")
	service := func(n string, port uint16) ir.ServicePort { return servicePort("shop", n, port) }
	denied := cluster(service("denied", 80), ir.HTTP, account("shop", "somebody"))
	wrong := cluster(service("wrong", 80), ir.HTTP, store, account("shop", "somebody"))
	return []*ir.Destination{
		web(service("store", 80), plaintext(cluster(service("store", 80), ir.HTTP, store)), storeVIP),
		bytesTo(service("bytes", 90), cluster(service("bytes", 90), ir.TCP, store, account("shop", "somebody")), bytesVIP),
		web(service("plain", 80), plaintext(cluster(service("plain", 80), ir.HTTP, store)), plainVIP),
		web(service("denied", 80), denied, deniedVIP),
		web(service("empty", 80), cluster(service("empty", 80), ir.HTTP, store), emptyVIP),
		web(service("wrong", 80), wrong, wrongVIP),
		web(service("strict", 80), cluster(service("strict", 80), ir.HTTP, store), strictVIP),
		headless(web(service("pets", w.plain), plaintext(cluster(service("pets", w.plain), ir.HTTP, store))), "pets", "*.pets"),
		headless(bytesTo(service("data", w.raw), plaintext(cluster(service("data", w.raw), ir.TCP, store)))),
		headless(web(service("meshed", w.web), cluster(service("meshed", w.web), ir.HTTP, store)), "meshed", "*.meshed"),
		headless(bytesTo(service("meshed-bytes", w.bytes), cluster(service("meshed-bytes", w.bytes), ir.TCP, store))),
	}
}

// pods are where the services are: the pod store in the mesh, two pods outside.
func (w *outboundWorld) pods() *mesh.Model {
	key := func(n string) mesh.Key { return mesh.Key{Namespace: "shop", Name: n} }
	inMesh := map[mesh.Key]map[uint16]uint16{
		key("store"): {80: w.web}, key("bytes"): {90: w.bytes}, key("denied"): {80: w.web},
		key("meshed"): {w.web: w.web}, key("meshed-bytes"): {w.bytes: w.bytes},
	}
	outside := map[mesh.Key]map[uint16]uint16{
		key("pets"): {w.plain: w.plain}, key("data"): {w.raw: w.raw},
	}
	first := map[mesh.Key]map[uint16]uint16{key("plain"): {80: w.plain}, key("strict"): {80: w.plain}}
	maps.Copy(first, outside)
	return modelOf(
		pod{storePod, account("shop", "store"), true, inMesh},
		// The endpoint says that it is somebody's, and presents the certificate of store.
		pod{storePod, account("shop", "somebody"), true, map[mesh.Key]map[uint16]uint16{key("wrong"): {80: w.web}}},
		pod{firstPod, account("shop", "outside"), false, first},
		pod{secondPod, account("shop", "outside"), false, outside},
	)
}

// get sends a request to where an application would.
func (w *outboundWorld) get(t *testing.T, address string, port uint16, host string) (response, error) {
	t.Helper()
	c, err := w.dial(t, w.port, address, port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return request(t, c, "GET", "/", host, "X-Osm-Original-Destination: "+net.JoinHostPort(firstPod, "1"), "X-Forwarded-Client-Cert: URI=spiffe://spoofed")
}

func TestOutboundRequests(t *testing.T) {
	t.Parallel()
	w := newOutboundWorld(t, false)
	const buyer = "URI=spiffe://cluster.local/ns/shop/sa/buyer"
	tests := map[string]struct {
		address string
		port    uint16
		host    string
		status  int
		pod     string
		caller  string
	}{
		"a pod in the mesh is called by mTLS":                     {storeVIP, 80, "store", 200, "127.0.0.1", buyer},
		"any host goes to the address that was called":            {storeVIP, 80, "other", 200, "127.0.0.1", buyer},
		"a pod outside is called in clear where that is allowed":  {plainVIP, 80, "plain", 200, firstPod, ""},
		"and not where it is not":                                 {strictVIP, 80, "strict", 503, "", ""},
		"a pod with a certificate of somebody else is not called": {deniedVIP, 80, "denied", 503, "", ""},
		"nor one with the certificate of another pod":             {wrongVIP, 80, "wrong", 503, "", ""},
		"a service without endpoints answers at once":             {emptyVIP, 80, "empty", 503, "", ""},
		"a headless service is called by the address of its pod":  {firstPod, w.plain, "pets", 200, firstPod, ""},
		"the other pod by the other address":                      {secondPod, w.plain, "pets", 200, secondPod, ""},
		"a pod by its own name":                                   {secondPod, w.plain, "pets-1.pets", 200, secondPod, ""},
		"a pod by its address alone":                              {secondPod, w.plain, "127.0.1.12:8080", 200, secondPod, ""},
		"an address that is no pod of the service is not called":  {stranger, w.plain, "pets", 503, "", ""},
		"nor one that is no pod of any":                           {stranger, w.plain, "127.0.1.99", 503, "", ""},
		"a headless pod in the mesh is called by mTLS":            {storePod, w.web, "meshed", 200, "127.0.0.1", buyer},
		"by its address alone too":                                {storePod, w.web, "anything", 200, "127.0.0.1", buyer},
	}
	for n, tt := range tests {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			got, err := w.get(t, tt.address, tt.port, tt.host)
			if err != nil {
				t.Fatal(err)
			}
			if got.status != tt.status || got.answer.Pod != tt.pod {
				t.Errorf("got %d from %q, want %d from %q", got.status, got.answer.Pod, tt.status, tt.pod)
			}
			if caller := got.answer.Header.Get("X-Forwarded-Client-Cert"); !strings.HasSuffix(caller, tt.caller) || strings.Contains(caller, "spoofed") {
				t.Errorf("the application sees %q", caller)
			}
			leak := got.answer.Header.Get("X-Osm-Original-Destination")
			if headless := tt.port != 80; headless && leak != "" {
				t.Errorf("the application sees %q", leak)
			}
		})
	}
}

func TestOutboundBytes(t *testing.T) {
	t.Parallel()
	w := newOutboundWorld(t, false)
	for n, tt := range map[string]struct {
		address string
		port    uint16
		want    string
	}{
		"a service in the mesh":          {bytesVIP, 90, "127.0.0.1"},
		"a headless pod":                 {firstPod, w.raw, firstPod},
		"another headless pod":           {secondPod, w.raw, secondPod},
		"a headless pod in the mesh":     {storePod, w.bytes, "127.0.0.1"},
		"an address that is no pod":      {stranger, w.raw, ""},
		"an address that nobody knows":   {stranger, 4, ""},
		"the outbound listener's itself": {"127.0.0.1", 15001, ""},
	} {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			c, err := w.dial(t, w.port, tt.address, tt.port)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if tt.want != "" {
				talk(t, c, "hello from "+tt.want+"\n")
				return
			}
			if got, _ := io.ReadAll(c); len(got) > 0 {
				t.Errorf("heard %q", got)
			}
		})
	}
}

func TestPassthrough(t *testing.T) {
	t.Parallel()
	w := newOutboundWorld(t, true)
	outsider := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(outsider.Close)
	unknown := uint16(outsider.Listener.Addr().(*net.TCPAddr).Port)
	for n, tt := range map[string]struct {
		address string
		port    uint16
		host    string
		status  int
		pod     string
	}{
		"an unknown address is passed on":                   {"127.0.0.1", unknown, "x", 200, ""},
		"an unknown address on a headless port too":         {stranger, w.plain, "stranger", 200, stranger},
		"not by the name of a service that it is no pod of": {stranger, w.plain, "pets", 503, ""},
		"a headless pod is still a headless pod":            {secondPod, w.plain, "pets", 200, secondPod},
		"what is strict stays strict":                       {strictVIP, 80, "strict", 503, ""},
	} {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			got, err := w.get(t, tt.address, tt.port, tt.host)
			if err != nil {
				t.Fatal(err)
			}
			if got.status != tt.status || got.answer.Pod != tt.pod {
				t.Errorf("got %d from %q, want %d from %q", got.status, got.answer.Pod, tt.status, tt.pod)
			}
		})
	}
	for n, tt := range map[string]struct {
		address string
		port    uint16
		want    string
	}{
		"bytes to a headless pod":                     {firstPod, w.raw, firstPod},
		"bytes to a headless pod in the mesh":         {storePod, w.bytes, "127.0.0.1"},
		"bytes to a stranger on a headless port":      {stranger, w.raw, stranger},
		"bytes to somewhere that does not speak HTTP": {stranger, w.raw, stranger},
	} {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			c, err := w.dial(t, w.port, tt.address, tt.port)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			talk(t, c, "hello from "+tt.want+"\n")
		})
	}
	t.Run("the outbound listener does not call itself", func(t *testing.T) {
		t.Parallel()
		c, err := w.dial(t, w.port, "127.0.0.1", 15001)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, _ := io.ReadAll(c); len(got) > 0 {
			t.Errorf("heard %q", got)
		}
	})
}

// TestPools sends many requests at once to pods of a headless service: a connection
// that is kept for one pod must never carry a request for another.
func TestPools(t *testing.T) {
	t.Parallel()
	w := newOutboundWorld(t, true)
	pods := []string{firstPod, secondPod, stranger}
	errs := make(chan error, 60)
	for i := range cap(errs) {
		go func() {
			pod := pods[i%len(pods)]
			client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				return w.dial(t, w.port, pod, w.plain)
			}}}
			defer client.CloseIdleConnections()
			errs <- askTwice(w.ctx, client, pod)
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestRoutesAtTheCaller(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := application(t, firstPod, 0), application(t, secondPod, 0)
	service := func(n string) ir.ServicePort { return servicePort("shop", n, 80) }
	v1 := plaintext(cluster(service("v1"), ir.HTTP, account("shop", "v1")))
	v2 := plaintext(cluster(service("v2"), ir.HTTP, account("shop", "v2")))
	key := func(n string) mesh.Key { return mesh.Key{Namespace: "shop", Name: n} }
	m := modelOf(
		pod{firstPod, identity.ServiceAccount{Namespace: "shop", Name: "v1"}, false, map[mesh.Key]map[uint16]uint16{key("v1"): {80: one}}},
		pod{secondPod, identity.ServiceAccount{Namespace: "shop", Name: "v2"}, false, map[mesh.Key]map[uint16]uint16{key("v2"): {80: two}}},
	)
	port := freePort(t)
	w.start(t, &ir.Proxy{Class: "caller", Shared: w.shared(), Outbound: []*ir.Destination{{
		Service: service("root"), Addresses: addresses(storeVIP), Protocol: ir.HTTP, Routes: callerRoutes(v1, v2),
	}}}, "caller", m, redirectTo(port))
	ask := func(target string, headers ...string) response {
		t.Helper()
		c, err := w.dial(t, port, storeVIP, 80)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, err := request(t, c, "GET", target, "root", headers...)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for n, tt := range map[string]struct {
		target string
		path   string
	}{
		"a prefix is put in place of another": {"/a/x?y=1", "/b/x?y=1"},
		"the prefix alone too":                {"/a", "/b"},
		"a prefix is taken away":              {"/strip/x/y", "/x/y"},
		"down to the slash":                   {"/strip", "/"},
		"a prefix is put before everything":   {"/deep", "/under/deep"},
		"a whole path is replaced":            {"/whole/a/b?c=d", "/new?c=d"},
	} {
		if got := ask(tt.target); got.answer.Path != tt.path {
			t.Errorf("%s: %s became %q, want %q", n, tt.target, got.answer.Path, tt.path)
		}
	}
	if got := ask("/abc"); got.status != http.StatusOK || got.answer.Path != "/under/abc" {
		t.Errorf("a prefix of a path matched part of an element: %v", got)
	}
	got := ask("/headers", "X-Keep: 1", "X-Gone: 1", "X-Add: old")
	for header, want := range map[string]string{"X-Set": "100%", "X-Add": "old,new", "X-Gone": "", "X-Keep": "1"} {
		if v := strings.Join(got.answer.Header.Values(header), ","); v != want {
			t.Errorf("%s is %q, want %q", header, v, want)
		}
	}
	if got.answer.Host != "rewritten.example" || got.header.Get("X-Back") != "1" {
		t.Errorf("host %q, answer's header %q", got.answer.Host, got.header.Get("X-Back"))
	}
	if got := ask("/moved/x?y=1"); got.status != 301 || got.header.Get("Location") != "https://example.com:8443/here/x?y=1" {
		t.Errorf("redirected by %d to %q", got.status, got.header.Get("Location"))
	}
	if got := ask("/teapot"); got.status != 418 {
		t.Errorf("answered %d", got.status)
	}
	counts := map[string]int{}
	for range 400 {
		got := ask("/split")
		counts[got.answer.Pod]++
		if got.answer.Pod == "" && got.status != 500 {
			t.Fatalf("answered %d", got.status)
		}
	}
	for pod, share := range map[string]int{"": 100, firstPod: 200, secondPod: 100} {
		if n := counts[pod]; n < share/2 || n > share*3/2 {
			t.Errorf("%q got %d of 400 requests, want about %d", pod, n, share)
		}
	}
}

// callerRoutes change, redirect, answer and split requests.
func callerRoutes(v1, v2 *ir.Cluster) []ir.HTTPRoute {
	path := func(s string) *string { return &s }
	under := func(p string) ir.HTTPMatch {
		return ir.HTTPMatch{Path: ir.PathMatch{Kind: ir.MatchPathPrefix, Value: p}}
	}
	one := []ir.WeightedBackend{to(v1, 1)}
	return []ir.HTTPRoute{
		{Match: under("/a"), Backends: one, Filters: ir.Filters{Rewrite: &ir.Rewrite{Path: path("/b"), Prefix: true}}},
		{Match: under("/strip"), Backends: one, Filters: ir.Filters{Rewrite: &ir.Rewrite{Path: path("/"), Prefix: true}}},
		{Match: under("/whole"), Backends: one, Filters: ir.Filters{Rewrite: &ir.Rewrite{Path: path("/new")}}},
		{Match: under("/headers"), Backends: []ir.WeightedBackend{{Cluster: v1, Weight: 1, Filters: ir.Filters{Rewrite: &ir.Rewrite{Host: "rewritten.example"}}}}, Filters: ir.Filters{
			RequestHeaders:  ir.HeaderChange{Set: []ir.Header{{Name: "X-Set", Value: "100%"}}, Add: []ir.Header{{Name: "X-Add", Value: "new"}}, Remove: []string{"X-Gone"}},
			ResponseHeaders: ir.HeaderChange{Set: []ir.Header{{Name: "X-Back", Value: "1"}}},
		}},
		{Match: under("/moved"), Redirect: &ir.Redirect{Scheme: "https", Host: "example.com", Port: 8443, Path: path("/here"), Prefix: true, Status: 301}},
		{Match: under("/teapot"), Respond: &ir.Response{Status: 418}},
		{Match: under("/split"), Backends: []ir.WeightedBackend{
			to(v1, 50), {Weight: 25, Unresolved: true, Status: 500}, {Cluster: v2, Weight: 25, Filters: ir.Filters{Rewrite: &ir.Rewrite{Host: "v2.example"}}},
		}},
		{Match: under("/"), Backends: one, Filters: ir.Filters{Rewrite: &ir.Rewrite{Path: path("/under"), Prefix: true}}},
	}
}

// TestRetriesOfAHeadlessPod sends a request again to the same pod, and to no other.
func TestRetriesOfAHeadlessPod(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var asked atomic.Int32
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(sick.Close)
	port := uint16(sick.Listener.Addr().(*net.TCPAddr).Port)
	application(t, secondPod, port)
	service := servicePort("shop", "pets", port)
	d := headless(web(service, plaintext(cluster(service, ir.HTTP, account("shop", "pets")))), "pets")
	d.Routes[0].Retry = &ir.Retry{On: "5xx", Attempts: 3, BackoffBase: time.Millisecond}
	key := mesh.Key{Namespace: "shop", Name: "pets"}
	serves := map[mesh.Key]map[uint16]uint16{key: {port: port}}
	m := modelOf(pod{"127.0.0.1", account("shop", "pets"), false, serves}, pod{secondPod, account("shop", "pets"), false, serves})
	outbound := freePort(t)
	w.start(t, &ir.Proxy{Class: "caller", Shared: w.shared(), Outbound: []*ir.Destination{d}}, "caller", m, redirectTo(outbound))
	c, err := w.dial(t, outbound, "127.0.0.1", port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := request(t, c, "GET", "/", "pets")
	if err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); got.status != http.StatusServiceUnavailable || n != 4 {
		t.Errorf("got %d after the pod was asked %d times, want 503 after 4", got.status, n)
	}
}
