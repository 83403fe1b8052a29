package main

import (
	"context"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// TestASmallFleet keeps the benchmark alive: all of it runs, with sizes that say nothing.
func TestASmallFleet(t *testing.T) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	b := &bench{dir: dir, options: options{sizes: "10", times: 4, osm: filepath.Join(dir, "osm"), only: "enforced"}}
	if err := build(ctx, b.osm); err != nil {
		t.Fatal(err)
	}
	if err := b.run(ctx); err != nil {
		t.Fatal(err)
	}
	for _, r := range b.rows {
		switch r.What {
		case "a label that nobody reads", "control plane restarts, all reconnect":
			if r.Resources != 0 {
				t.Errorf("%s: %g resources were sent", r.What, r.Resources)
			}
		case "one endpoint":
			if r.Proxies != 100 || r.Responses != 100 || r.Resources != 100 {
				t.Errorf("%s, %s: %d proxies, %g responses, %g resources, want 100 of each", r.Setup, r.What, r.Proxies, r.Responses, r.Resources)
			}
		}
		if r.CPU < 0 || strings.Count(r.String(), " | ") != 13 {
			t.Errorf("incomplete: %s", r)
		}
	}
	if len(b.points) != 1 {
		t.Errorf("%d points of the curve, want 1", len(b.points))
	}
}

func TestResponsesAreReadWithoutTheirContents(t *testing.T) {
	t.Parallel()
	body, err := anypb.New(&clusterv3.Cluster{
		Name: "a", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{ServiceName: "a-endpoints"},
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(&discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: resource.ClusterType, Nonce: "7", RemovedResources: []string{"b"},
		Resources: []*discoveryv3.Resource{{Name: "a", Version: "1", Resource: body}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var r response
	if err := r.read(raw); err != nil {
		t.Fatal(err)
	}
	want := response{kind: clusters, nonce: "7", got: []got{{name: "a", version: "1", body: body.GetValue()}}, removed: []string{"b"}}
	if diff := cmp.Diff(want, r, cmp.AllowUnexported(response{}, got{})); diff != "" {
		t.Errorf("response (-want +got):\n%s", diff)
	}
	c := &catalogue{refers: map[resourceID][]string{}}
	for _, one := range []got{r.got[0], {name: "a", version: "1"}} { // the second time it is known
		names, err := c.references(clusters, one)
		if diff := cmp.Diff([]string{"a-endpoints"}, names); diff != "" || err != nil {
			t.Errorf("references: %v (-want +got):\n%s", err, diff)
		}
	}
}

func TestMetricsAreRead(t *testing.T) {
	t.Parallel()
	m := readMetrics("# HELP x y\nosm_k8s_api_last_event_timestamp_seconds{type=\"Pod\"} 1.5e+09\nosm_proxy_last_response_timestamp_seconds{type=\"CDS\"} 3\nosm_proxy_last_response_timestamp_seconds{type=\"EDS\"} 4\n")
	if got := m.event("Pod").Unix(); got != 1_500_000_000 {
		t.Errorf("the last event was at %d", got)
	}
	if got := m.sent().Unix(); got != 4 {
		t.Errorf("the last response was at %d", got)
	}
}

func TestThePlotIsAnImage(t *testing.T) {
	t.Parallel()
	svg := plot([]point{
		{Services: 20, Proxies: 200, CPU: 10 * time.Millisecond, Acked: 12 * time.Millisecond, Concerned: 100},
		{Services: 200, Proxies: 2000, CPU: 11 * time.Millisecond, Acked: 13 * time.Millisecond, Concerned: 100},
	})
	if err := xml.Unmarshal([]byte(svg), new(any)); err != nil || !strings.Contains(svg, "100 proxies are concerned") {
		t.Errorf("%v in %s", err, svg)
	}
}
