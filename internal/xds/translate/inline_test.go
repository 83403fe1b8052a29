package translate_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/xds/bootstrap"
	"github.com/openservicemesh/osm-operator/internal/xds/endpoints"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// pod is a pod of the model that load assignments are made from.
type pod struct {
	address string
	account identity.ServiceAccount
	meshed  bool
	// serves are the services that it is an endpoint of, with their ports and its own.
	serves map[mesh.Key]map[uint16]uint16
}

// modelOf returns a model with these pods.
func modelOf(pods ...pod) *mesh.Model {
	m := &mesh.Model{
		Namespaces: map[string]*mesh.Namespace{}, Services: map[mesh.Key]*mesh.Service{},
		Endpoints: map[mesh.Key]*mesh.Endpoints{}, Workloads: map[mesh.Key]*mesh.Workload{},
	}
	for i, p := range pods {
		key := mesh.Key{Namespace: p.account.Namespace, Name: fmt.Sprintf("pod-%d", i)}
		address := netip.MustParseAddr(p.address)
		m.Namespaces[key.Namespace] = &mesh.Namespace{Name: key.Namespace}
		m.Workloads[key] = &mesh.Workload{Key: key, Meshed: p.meshed, ServiceAccount: p.account, Addresses: []netip.Addr{address}, OwnerKind: "Deployment", OwnerName: p.account.Name + "-v1"}
		for service, ports := range p.serves {
			if m.Services[service] == nil {
				m.Services[service] = &mesh.Service{Key: service}
				m.Endpoints[service] = &mesh.Endpoints{Service: service}
			}
			e := m.Endpoints[service]
			e.Items = append(e.Items, mesh.Endpoint{Address: address, Ports: ports, Ready: true, Serving: true, Pod: key})
		}
	}
	return m
}

// inlined turns the resources of a proxy into one static document for Envoy: routes,
// endpoints and secrets stand where they were referred to. dir holds the proxy's
// certificate; change, if it is not nil, is called with each listener.
func inlined(t *testing.T, set *resource.Set, m *mesh.Model, dir string, admin uint16, change func(listener map[string]any)) []byte {
	t.Helper()
	d := write(t, set)
	routes := map[string]any{}
	for _, r := range d.Routes {
		routes[r.(map[string]any)["name"].(string)] = r
	}
	for _, l := range d.Listeners {
		if change != nil {
			change(l.(map[string]any))
		}
		inlineRoutes(t, l, routes)
	}
	for _, c := range d.Clusters {
		inlineEndpoints(t, c.(map[string]any), set, m)
	}
	adminAddress := map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": admin}}
	document := map[string]any{
		"admin": map[string]any{"address": adminAddress},
		"bootstrap_extensions": []any{map[string]any{
			"name":         "envoy.bootstrap.internal_listener",
			"typed_config": map[string]any{"@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"},
		}},
		"deferred_stat_options": map[string]any{"enable_deferred_creation_stats": true},
		"layered_runtime":       sidecarRuntime(t),
		"static_resources": map[string]any{
			"listeners": d.Listeners,
			"clusters": append(d.Clusters, map[string]any{
				"name": name.MetricsCluster, "type": "STATIC",
				"load_assignment": map[string]any{"cluster_name": name.MetricsCluster, "endpoints": []any{map[string]any{
					"lb_endpoints": []any{map[string]any{"endpoint": map[string]any{"address": adminAddress}}},
				}}},
			}),
			"secrets": append(d.Secrets, workloadCertificate(dir)),
		},
	}
	forgetSources(document)
	out, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	// What Envoy is given is checked against its API first: it takes more than that.
	if err := protojson.Unmarshal(out, &bootstrapv3.Bootstrap{}); err != nil {
		t.Fatal(err)
	}
	return out
}

// sidecarRuntime is what sidecars have set in Envoy's runtime.
func sidecarRuntime(t *testing.T) any {
	t.Helper()
	raw, err := bootstrap.Build(bootstrap.Config{ControlPlaneHost: "h", ControlPlanePort: 1, ControlPlaneName: "h"})
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	return document["layered_runtime"]
}

func workloadCertificate(dir string) map[string]any {
	file := map[string]any{"filename": filepath.Join(dir, bootstrap.CredentialsFile)}
	return map[string]any{
		"name":            name.WorkloadCertificate,
		"tls_certificate": map[string]any{"certificate_chain": file, "private_key": file},
	}
}

// inlineRoutes puts tables in the place of references to them, however deep.
func inlineRoutes(t *testing.T, value any, routes map[string]any) {
	t.Helper()
	switch v := value.(type) {
	case []any:
		for _, inner := range v {
			inlineRoutes(t, inner, routes)
		}
	case map[string]any:
		if rds, ok := v["rds"].(map[string]any); ok {
			table := routes[rds["route_config_name"].(string)]
			if table == nil {
				t.Errorf("there is no route %v", rds["route_config_name"])
			}
			delete(v, "rds")
			v["route_config"] = table
			return
		}
		for _, inner := range v {
			inlineRoutes(t, inner, routes)
		}
	}
}

// inlineEndpoints puts the load assignment into a cluster that waits for it.
func inlineEndpoints(t *testing.T, cluster map[string]any, set *resource.Set, m *mesh.Model) {
	t.Helper()
	eds, ok := cluster["eds_cluster_config"].(map[string]any)
	if !ok {
		return
	}
	n := eds["service_name"].(string)
	sets, ok := maps.Collect(set.References())[n]
	if !ok {
		t.Errorf("cluster %v refers to endpoints %q, which the set does not name", cluster["name"], n)
	}
	r, err := endpoints.Build(m, sets)
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != n {
		t.Errorf("the cluster asks for %q, the endpoints are called %q", n, r.Name)
	}
	var a endpointv3.ClusterLoadAssignment
	if err := proto.Unmarshal(r.Body, &a); err != nil {
		t.Fatal(err)
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(&a)
	if err != nil {
		t.Fatal(err)
	}
	var assignment any
	if err := json.Unmarshal(text, &assignment); err != nil {
		t.Fatal(err)
	}
	delete(cluster, "eds_cluster_config")
	cluster["type"] = "STATIC"
	cluster["load_assignment"] = assignment
}

// forgetSources makes Envoy look for secrets in the document itself.
func forgetSources(value any) {
	switch v := value.(type) {
	case []any:
		for _, inner := range v {
			forgetSources(inner)
		}
	case map[string]any:
		delete(v, "sds_config")
		for _, inner := range v {
			forgetSources(inner)
		}
	}
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
