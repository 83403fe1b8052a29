package translate_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
)

// document is everything that one proxy is given, as JSON values.
type document struct {
	Listeners []any               `json:"listeners,omitempty"`
	Routes    []any               `json:"routes,omitempty"`
	Clusters  []any               `json:"clusters,omitempty"`
	Secrets   []any               `json:"secrets,omitempty"`
	Endpoints map[string][]string `json:"endpoints,omitempty"`
}

func TestProxy(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for n, p := range cases() {
		seen[n+".yaml"] = true
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			set, err := translate.New().Proxy(p)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, n+".yaml", write(t, set))
		})
	}
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if seen[f.Name()] {
			continue
		}
		if !updating() {
			t.Errorf("testdata/%s belongs to no case", f.Name())
		} else if err := os.Remove(filepath.Join("testdata", f.Name())); err != nil {
			t.Error(err)
		}
	}
}

// write puts a set in the form of a golden file.
func write(t *testing.T, set *resource.Set) document {
	t.Helper()
	d := document{
		Listeners: list(t, set, resource.ListenerType, func() proto.Message { return &listenerv3.Listener{} }),
		Routes:    list(t, set, resource.RouteType, func() proto.Message { return &routev3.RouteConfiguration{} }),
		Clusters:  list(t, set, resource.ClusterType, func() proto.Message { return &clusterv3.Cluster{} }),
		Secrets:   list(t, set, resource.SecretType, func() proto.Message { return &tlsv3.Secret{} }),
		Endpoints: map[string][]string{},
	}
	for n, sets := range set.References() {
		for _, s := range sets {
			d.Endpoints[n] = append(d.Endpoints[n], resource.EndpointsName([]ir.EndpointSet{s}))
		}
	}
	return d
}

// list reads the resources of a type back, in the order of their names.
func list(t *testing.T, set *resource.Set, typeURL string, empty func() proto.Message) []any {
	t.Helper()
	var out []any
	for _, n := range sortedKeys(maps.Collect(set.All(typeURL))) {
		msg := empty()
		if err := proto.Unmarshal(set.Get(typeURL, n).Body, msg); err != nil {
			t.Fatal(err)
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(msg)
		if err != nil {
			t.Fatal(err)
		}
		var value any
		if err := json.Unmarshal(text, &value); err != nil {
			t.Fatal(err)
		}
		out = append(out, value)
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func golden(t *testing.T, file string, d document) {
	t.Helper()
	path := filepath.Join("testdata", file)
	got, err := yaml.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if updating() {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(want, got) {
		return
	}
	t.Errorf("%s: -want +got:\n%s", path, cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")))
}
