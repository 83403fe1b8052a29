package watch_test

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// TestBothVersionsOfMeshConfigAreFollowed writes the MeshConfig through each version and
// reads it through the other.
func TestBothVersionsOfMeshConfigAreFollowed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	config := func(version string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "config.openservicemesh.io/" + version, "kind": "MeshConfig",
			"metadata": map[string]any{"name": "osm-mesh-config", "namespace": "osm-system"}, "spec": spec,
		}}
	}
	// As OSM's installer wrote it when v1alpha1 was the only version.
	first := config("v1alpha1", map[string]any{
		"sidecar":       map[string]any{"enablePrivilegedInitContainer": false, "logLevel": "error", "maxDataPlaneConnections": int64(0), "configResyncInterval": "0s"},
		"traffic":       map[string]any{"enableEgress": false, "enablePermissiveTrafficPolicyMode": false, "outboundPortExclusionList": []any{int64(6379)}},
		"observability": map[string]any{"osmLogLevel": "info", "enableDebugServer": true, "tracing": map[string]any{"enable": false, "port": int64(9411)}},
		"certificate":   map[string]any{"serviceCertValidityDuration": "24h", "certKeyBitSize": int64(2048)},
		"featureFlags":  map[string]any{"enableWASMStats": false, "enableEgressPolicy": true, "enableMulticlusterMode": false},
	})
	c := startCluster(ctx, t, func(c client.Client) {
		must(t, c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "osm-system"}}))
		must(t, c.Create(ctx, first))
	})
	c.until(ctx, t, "what v1alpha1 says is followed", func(m *mesh.Model) bool {
		return !m.Settings.Permissive && !m.Settings.Egress && !m.Settings.RequestMetrics && m.Settings.LeafLifetime == 24*time.Hour
	})

	read := func(version string) *unstructured.Unstructured {
		o := config(version, nil)
		must(t, c.Get(ctx, client.ObjectKeyFromObject(o), o))
		return o
	}
	newer := read("v1alpha2")
	must(t, unstructured.SetNestedField(newer.Object, "PodIP", "spec", "sidecar", "localProxyMode"))
	must(t, unstructured.SetNestedField(newer.Object, "TLSv1_2", "spec", "sidecar", "tlsMinProtocolVersion"))
	must(t, unstructured.SetNestedStringSlice(newer.Object, []string{"ECDHE-ECDSA-AES128-GCM-SHA256"}, "spec", "sidecar", "cipherSuites"))
	must(t, unstructured.SetNestedStringSlice(newer.Object, []string{"10.0.0.0/8"}, "spec", "traffic", "outboundIPRangeInclusionList"))
	must(t, c.Update(ctx, newer))

	// A client that knows the older version only reads, changes and writes.
	older := read("v1alpha1")
	must(t, unstructured.SetNestedField(older.Object, true, "spec", "traffic", "enableEgress"))
	must(t, c.Update(ctx, older))
	c.until(ctx, t, "what either says is followed", func(m *mesh.Model) bool {
		return m.Settings.Egress && m.Settings.TLS.MinVersion == "TLSv1_2" && slices.Equal(m.Settings.TLS.CipherSuites, []string{"ECDHE-ECDSA-AES128-GCM-SHA256"})
	})
	after := read("v1alpha2")
	for _, field := range [][]string{{"sidecar", "localProxyMode"}, {"traffic", "outboundIPRangeInclusionList"}, {"traffic", "outboundPortExclusionList"}, {"certificate", "certKeyBitSize"}} {
		if _, found, err := unstructured.NestedFieldNoCopy(after.Object, append([]string{"spec"}, field...)...); err != nil || !found {
			t.Errorf("%v was lost on the way through v1alpha1: %v", field, err)
		}
	}
}
