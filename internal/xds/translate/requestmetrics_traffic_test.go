package translate_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// scrapeAt binds the listener of metrics to another port.
func scrapeAt(port uint16, change func(map[string]any)) func(map[string]any) {
	return func(l map[string]any) {
		change(l)
		if l["name"] == name.PrometheusListener {
			l["address"] = at("127.0.0.1", port)
			delete(l, "additional_addresses")
		}
	}
}

// scrape reads metrics as Prometheus asks for them, preferring its other formats.
func (w *world) scrape(t *testing.T, port uint16) (text string, families map[string]*dto.MetricFamily) {
	t.Helper()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/stats/prometheus", port), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2")
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err = parser.TextToMetricFamilies(strings.NewReader(string(body)))
	if err != nil {
		t.Fatalf("what is scraped cannot be read: %v\n%s", err, body)
	}
	return string(body), families
}

// series are the counts of a family's metrics, by their labels.
func series(f *dto.MetricFamily) map[string]uint64 {
	out := map[string]uint64{}
	for _, m := range f.GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		var key []string
		for _, n := range slices.Sorted(maps.Keys(labels)) {
			key = append(key, n+"="+labels[n])
		}
		count := uint64(m.GetCounter().GetValue())
		if h := m.GetHistogram(); h != nil {
			count = h.GetSampleCount()
		}
		out[strings.Join(key, " ")] = count
	}
	return out
}

func TestRequestsAreCountedByWhoCallsWhom(t *testing.T) {
	t.Parallel()
	w := newOutboundWorld(t, false)
	port, metrics := freePort(t), freePort(t)
	shared := w.shared()
	shared.RequestMetrics = true
	p := &ir.Proxy{Class: "buyer", Shared: shared, Outbound: w.destinations(), Metrics: true}
	w.port = port
	w.proxy = w.start(t, p, "buyer", w.pods(), scrapeAt(metrics, redirectTo(port)))

	for vip, n := range map[string]int{storeVIP: 5, plainVIP: 3, emptyVIP: 2} {
		for range n {
			if _, err := w.get(t, vip, 80, "some.host"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := w.get(t, storePod, w.web, "some.host"); err != nil || got.status != http.StatusOK {
		t.Fatalf("calling a pod of a headless service: %v, %v", got, err)
	}

	const (
		from  = "source_kind=Deployment source_name=buyer_v1 source_namespace=shop source_pod=buyer_v1_7d9f_x2x4z"
		store = "destination_kind=Deployment destination_name=store_v1 destination_namespace=shop destination_pod=pod_0 "
		plain = "destination_kind=Deployment destination_name=outside_v1 destination_namespace=shop destination_pod=pod_2 "
		none  = "destination_kind=unknown destination_name=unknown destination_namespace=unknown destination_pod=unknown "
	)
	durations := map[string]uint64{store + from: 6, plain + from: 3, none + from: 2}
	for {
		// Envoy gathers histograms every few seconds.
		if _, families := w.scrape(t, metrics); cmp.Equal(durations, series(families["osm_request_duration_ms"])) {
			break
		}
		select {
		case <-w.ctx.Done():
			_, families := w.scrape(t, metrics)
			t.Fatalf("durations (-want +got):\n%s", cmp.Diff(durations, series(families["osm_request_duration_ms"])))
		case <-time.After(100 * time.Millisecond):
		}
	}
	text, families := w.scrape(t, metrics)
	want := map[string]uint64{
		store + "response_code=200 " + from: 6, plain + "response_code=200 " + from: 3, none + "response_code=503 " + from: 2,
	}
	if diff := cmp.Diff(want, series(families["osm_request_total"])); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	for _, m := range families["osm_request_duration_ms"].GetMetric() {
		if last := m.GetHistogram().GetBucket(); last[len(last)-1].GetCumulativeCount() != m.GetHistogram().GetSampleCount() {
			t.Errorf("the last bucket of %v holds not all", m)
		}
	}
	if strings.Contains(text, "envoy_osm_") {
		t.Errorf("series of requests begin with envoy_:\n%s", text)
	}
	// Envoy's own series are as they were.
	if want := `envoy_cluster_upstream_rq_total{envoy_cluster_name="shop/store|80"} 5`; !strings.Contains(text, want) {
		t.Errorf("not among what is scraped: %s", want)
	}
	if want := `envoy_cluster_name="shop/meshed-bytes|`; strings.Contains(text, strings.ReplaceAll(want, "-", "_")) {
		t.Errorf("a series of Envoy's own was renamed")
	}
}

func TestRequestsAreNotCountedWhereThatIsOff(t *testing.T) {
	t.Parallel()
	w := newOutboundWorld(t, false)
	port, metrics := freePort(t), freePort(t)
	w.port = port
	w.start(t, &ir.Proxy{Class: "buyer", Shared: w.shared(), Outbound: w.destinations(), Metrics: true}, "buyer", w.pods(), scrapeAt(metrics, redirectTo(port)))
	if _, err := w.get(t, storeVIP, 80, "some.host"); err != nil {
		t.Fatal(err)
	}
	if text, _ := w.scrape(t, metrics); strings.Contains(text, "osm_request") || !strings.Contains(text, "envoy_cluster_upstream_rq_total") {
		t.Errorf("series of requests, or none of Envoy's own:\n%s", text)
	}
}

// TestSeriesOfRequestsAreBounded calls more pods than there may be series of.
func TestSeriesOfRequestsAreBounded(t *testing.T) {
	t.Parallel()
	const pods, most = 1100, 1000
	w := newWorld(t)
	app := application(t, "0.0.0.0", 0)
	service := servicePort("shop", "pets", app)
	var all []pod
	for i := range pods {
		address := fmt.Sprintf("127.2.%d.%d", i/250, i%250+1)
		all = append(all, pod{address, account("shop", "pets"), false, map[mesh.Key]map[uint16]uint16{{Namespace: "shop", Name: "pets"}: {app: app}}})
	}
	shared := w.shared()
	shared.RequestMetrics = true
	port, metrics := freePort(t), freePort(t)
	w.start(t, &ir.Proxy{
		Class: "buyer", Shared: shared, Metrics: true,
		Outbound: []*ir.Destination{headless(web(service, plaintext(cluster(service, ir.HTTP, account("shop", "pets")))))},
	}, "buyer", modelOf(all...), scrapeAt(metrics, redirectTo(port)))
	for _, p := range all {
		c, err := w.dial(t, port, p.address, app)
		if err != nil {
			t.Fatal(err)
		}
		got, err := request(t, c, "GET", "/", "some.host")
		if err != nil || got.status != http.StatusOK {
			t.Fatalf("calling %s: %v, %v", p.address, got.status, err)
		}
		_ = c.Close()
	}
	_, families := w.scrape(t, metrics)
	if n := len(series(families["osm_request_duration_ms"])); n != most {
		t.Errorf("%d pods called make %d series of durations, want %d", pods, n, most)
	}
	if n := len(series(families["osm_request_total"])); n != pods {
		t.Errorf("%d pods called make %d series of requests", pods, n)
	}
}
