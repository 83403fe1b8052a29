package translate_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	otlptracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// span is what a server of spans was told, whatever its protocol.
type span struct{ trace, id, parent, service, namespace, pod string }

// collector keeps the spans that it is sent, by OTLP or by Zipkin's protocol.
type collector struct {
	otlp, zipkin uint16

	mu    sync.Mutex
	spans []span // protected by mu
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	server.RegisterService(traceService(c.takeOTLP), nil)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	c.otlp = uint16(l.Addr().(*net.TCPAddr).Port)
	web := httptest.NewServer(http.HandlerFunc(c.takeZipkin))
	t.Cleanup(web.Close)
	c.zipkin = uint16(web.Listener.Addr().(*net.TCPAddr).Port)
	return c
}

func (c *collector) add(spans ...span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spans = append(c.spans, spans...)
}

// traceService is OTLP's. A request and TracesData are the same on the wire, and an answer
// without fields says that all was taken.
func traceService(take func(*otlptracev1.TracesData)) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "opentelemetry.proto.collector.trace.v1.TraceService",
		Methods: []grpc.MethodDesc{{
			MethodName: "Export",
			Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var data otlptracev1.TracesData
				if err := decode(&data); err != nil {
					return nil, err
				}
				take(&data)
				return &otlptracev1.TracesData{}, nil
			},
		}},
	}
}

func (c *collector) takeOTLP(data *otlptracev1.TracesData) {
	for _, r := range data.GetResourceSpans() {
		attribute := func(key string) string { return attributeOf(r.GetResource().GetAttributes(), key) }
		for _, scope := range r.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.add(span{
					hex.EncodeToString(s.GetTraceId()), hex.EncodeToString(s.GetSpanId()), hex.EncodeToString(s.GetParentSpanId()),
					attribute("service.name"), attribute("k8s.namespace.name"), attribute("k8s.pod.name"),
				})
			}
		}
	}
}

func attributeOf(attributes []*commonv1.KeyValue, key string) string {
	for _, a := range attributes {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

func (c *collector) takeZipkin(w http.ResponseWriter, r *http.Request) {
	var spans []struct {
		TraceID, ID, ParentID string
		LocalEndpoint         struct{ ServiceName string }
	}
	if err := json.NewDecoder(r.Body).Decode(&spans); err != nil || r.URL.Path != "/api/v2/spans" {
		http.Error(w, "these are no spans", http.StatusBadRequest)
		return
	}
	for _, s := range spans {
		c.add(span{trace: s.TraceID, id: s.ID, parent: s.ParentID, service: s.LocalEndpoint.ServiceName})
	}
	w.WriteHeader(http.StatusAccepted)
}

// wait returns the spans once there are n.
func (c *collector) wait(ctx context.Context, t *testing.T, n int) []span {
	t.Helper()
	for {
		c.mu.Lock()
		spans := c.spans
		c.mu.Unlock()
		if len(spans) >= n {
			return spans
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d spans came, want %d: %+v", len(spans), n, spans)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Who asks, in the words of W3C and of B3.
const (
	callersTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersSpan  = "00f067aa0ba902b7"
)

// TestSpansAreChildrenOfTheirCallers has a sidecar send spans by each protocol, with each
// kind of headers and each decision about sampling.
func TestSpansAreChildrenOfTheirCallers(t *testing.T) {
	w3c := func(sampled string) string {
		return "traceparent: 00-" + callersTrace + "-" + callersSpan + "-" + sampled
	}
	b3 := []string{"x-b3-traceid: " + callersTrace, "x-b3-spanid: " + callersSpan, "x-b3-sampled: 1"}
	child := span{trace: callersTrace, parent: callersSpan}
	// Zipkin's two sides of a call have one span.
	shared := span{trace: callersTrace, id: callersSpan}
	for name, tc := range map[string]struct {
		openTelemetry bool
		sampled       uint8
		headers       []string
		// spans are how many come of five requests.
		spans int
		want  span
	}{
		"OpenTelemetry begins traces":                     {openTelemetry: true, sampled: 100, spans: 5},
		"OpenTelemetry goes on with a trace":              {openTelemetry: true, sampled: 100, headers: []string{w3c("01")}, spans: 5, want: child},
		"OpenTelemetry begins none that is not sampled":   {openTelemetry: true, sampled: 0, spans: 0},
		"OpenTelemetry keeps a caller's decision":         {openTelemetry: true, sampled: 0, headers: []string{w3c("01")}, spans: 5, want: child},
		"OpenTelemetry keeps a caller's decision against": {openTelemetry: true, sampled: 100, headers: []string{w3c("00")}, spans: 0},
		"Zipkin begins traces":                            {sampled: 100, spans: 5},
		"Zipkin goes on with a trace of B3":               {sampled: 100, headers: b3, spans: 5, want: shared},
		"Zipkin goes on with a trace of W3C":              {sampled: 100, headers: []string{w3c("01")}, spans: 5, want: shared},
		"Zipkin begins none that is not sampled":          {sampled: 0, spans: 0},
		"Zipkin keeps a caller's decision":                {sampled: 0, headers: b3, spans: 5, want: shared},
	} {
		t.Run(name, func(t *testing.T) {
			w, c := newWorld(t), newCollector(t)
			tracing := &ir.Tracing{Address: "127.0.0.1", Port: c.zipkin, Endpoint: "/api/v2/spans", Sampled: tc.sampled}
			want := span{service: "c"}
			if tc.openTelemetry {
				tracing.OpenTelemetry, tracing.Port = true, c.otlp
				want = span{service: "buyer.shop", namespace: "shop", pod: "buyer-v1-7d9f-x2x4z"}
			}
			want.trace, want.id, want.parent = tc.want.trace, tc.want.id, tc.want.parent
			ask := w.traced(t, tracing)
			seen := map[string]string{}
			for range 5 {
				r := ask("store", tc.headers...)
				trace, id := passedOn(t, r.answer.Header, tc.openTelemetry)
				seen[id] = trace
			}
			// A request that is always sampled makes spans that are not counted send those before.
			spans := c.wait(w.ctx, t, tc.spans)
			if tc.spans == 0 {
				for range 5 {
					ask("flush", map[bool][]string{true: {w3c("01")}, false: b3}[tc.openTelemetry]...)
				}
				if spans = c.wait(w.ctx, t, 5); len(spans) != 5 {
					t.Errorf("%d spans came, want those of the last five requests: %+v", len(spans), spans)
				}
				return
			}
			if len(spans) != tc.spans {
				t.Errorf("%d spans came, want %d", len(spans), tc.spans)
			}
			for _, s := range spans {
				if trace, ok := seen[s.id]; !ok || trace != s.trace {
					t.Errorf("the span %+v is not what the application heard of: %v", s, seen)
				}
				if tc.want.id == "" {
					s.id = ""
				}
				if tc.want.trace == "" {
					s.trace = ""
				}
				if diff := cmp.Diff(want, s, cmp.AllowUnexported(span{})); diff != "" {
					t.Errorf("span (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// traced runs a sidecar that sends spans, and returns what asks its application.
func (w *world) traced(t *testing.T, tracing *ir.Tracing) func(host string, headers ...string) response {
	t.Helper()
	pod := fmt.Sprintf("127.0.2.%d", 1+len(t.Name())%200)
	app := application(t, "127.0.0.1", 0)
	shared := w.shared()
	shared.Tracing = tracing
	p := &ir.Proxy{Class: "store", Shared: shared, Inbound: []ir.InboundPort{inboundWeb(app, "store", anyone(), ir.InboundRoute{Name: "all", Allow: anyone()})}}
	w.start(t, p, "store", &mesh.Model{}, servePods([]string{pod}, app))
	leaf := w.ca.leaf(t, "spiffe://cluster.local/ns/shop/sa/buyer")
	return func(host string, headers ...string) response {
		t.Helper()
		c, err := w.peer(pod, app, []string{"http/1.1"}, leaf)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r, err := request(t, c, "GET", "/", host, headers...)
		if err != nil {
			t.Fatal(err)
		}
		if r.status != http.StatusOK {
			t.Errorf("status %d", r.status)
		}
		return r
	}
}

// passedOn are the trace and the span that an application is told of. Zipkin's sidecars
// say it in both ways.
func passedOn(t *testing.T, h http.Header, openTelemetry bool) (trace, id string) {
	t.Helper()
	parts := strings.Split(h.Get("Traceparent"), "-")
	if len(parts) != 4 {
		t.Fatalf("traceparent is %q", h.Get("Traceparent"))
	}
	if !openTelemetry {
		if got := h.Get("X-B3-Spanid"); got != parts[2] {
			t.Errorf("B3 names the span %q, W3C %q", got, parts[2])
		}
		return h.Get("X-B3-Traceid"), parts[2]
	}
	return parts[1], parts[2]
}

// TestNoRequestWaitsForAServerOfSpans has that of either protocol away, or silent.
func TestNoRequestWaitsForAServerOfSpans(t *testing.T) {
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for name, port := range map[string]uint16{"away": freePort(t), "silent": uint16(silent.Addr().(*net.TCPAddr).Port), "nowhere": 0} {
		for _, openTelemetry := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, OpenTelemetry %t", name, openTelemetry), func(t *testing.T) {
				w := newWorld(t)
				ask := w.traced(t, &ir.Tracing{OpenTelemetry: openTelemetry, Address: "127.0.0.1", Port: port, Endpoint: "/api/v2/spans", Sampled: 100})
				began := time.Now()
				for range 100 {
					ask("store")
				}
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("100 requests took %s", took)
				}
			})
		}
	}
}
