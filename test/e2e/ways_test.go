package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/release"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

const egressManifest = `
apiVersion: policy.openservicemesh.io/v1alpha1
kind: Egress
metadata: {name: web, namespace: SPACE}
spec:
  sources: [{kind: ServiceAccount, name: buyer, namespace: SPACE}]
  hosts: [web.OUTSIDE.svc.cluster.local]
  ports: [{number: 8080, protocol: http}]
  matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: books}]
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: books, namespace: SPACE}
spec:
  matches: [{name: books, pathRegex: "/books.*", methods: [GET]}]
---
apiVersion: policy.openservicemesh.io/v1alpha1
kind: Egress
metadata: {name: secure, namespace: SPACE}
spec:
  sources: [{kind: ServiceAccount, name: buyer, namespace: SPACE}]
  hosts: [secure.OUTSIDE.svc.cluster.local]
  ports: [{number: 8443, protocol: https}]
---
apiVersion: policy.openservicemesh.io/v1alpha1
kind: Egress
metadata: {name: bytes, namespace: SPACE}
spec:
  sources: [{kind: ServiceAccount, name: buyer, namespace: SPACE}]
  ipAddresses: [ADDRESS/32]
  ports: [{number: 7000, protocol: tcp}]
`

// TestEgress lets one ServiceAccount out, by host, server name and range, where nobody
// else may leave the mesh.
func TestEgress(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	const inside, outside = "e2e-egress", "e2e-egress-out"
	namespace(ctx, t, inside, true)
	namespace(ctx, t, outside, false)
	buyer, other := idle(inside, "buyer"), idle(inside, "other")
	running(ctx, t, buyer, other,
		workload{namespace: outside, name: "web", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}},
		workload{namespace: outside, name: "secure", args: []string{"http-echo", "-addr", ":8443", "-tls"}, ports: []string{"https:8443"}},
		workload{namespace: outside, name: "bytes", args: []string{"tcp-echo", "-addr", ":7000"}, ports: []string{"tcp-echo:7000"}},
	)
	egress(ctx, t, false)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:usetesting // the test's context is done by now
		defer cancel()
		egress(ctx, t, true)
	})
	var bytes corev1.Service
	must(t, shared.Get(ctx, client.ObjectKey{Namespace: outside, Name: "bytes"}, &bytes))
	calls := map[string][]string{
		"HTTP by host":         {"-target", "http://web." + outside + ".svc.cluster.local:8080/books/1"},
		"HTTPS by server name": {"-target", "https://secure." + outside + ".svc.cluster.local:8443/", "-insecure"},
		"TCP by range":         {"-protocol", "tcp", "-target", bytes.Spec.ClusterIP + ":7000"},
	}
	out := func(args []string) []string { return append([]string{"-keep-alive=false", "-timeout", "2s"}, args...) }
	from := podOf(ctx, t, buyer)
	closed := func(what string, args []string) {
		t.Helper()
		must(t, cluster.Until(ctx, "the way out to be closed", func(ctx context.Context) (bool, error) {
			r, err := shared.Call(ctx, from, append([]string{"-rate", "10", "-duration", "300ms"}, out(args)...)...)
			return err == nil && r.Sent > 0 && r.Succeeded == 0, err
		}))
		noneServed(t, what, call(ctx, t, from, 10, out(args)...))
	}
	for what, args := range calls {
		closed(what+", before there is an Egress", args)
	}
	replace := map[string]string{"SPACE": inside, "OUTSIDE": outside, "ADDRESS": bytes.Spec.ClusterIP}
	must(t, shared.ApplyYAML(ctx, egressManifest, replace))
	for what, args := range calls {
		served(ctx, t, from, what, out(args)...)
		allServed(t, what, call(ctx, t, from, 25, out(args)...))
		noneServed(t, what+", by another ServiceAccount", call(ctx, t, podOf(ctx, t, other), 10, out(args)...))
	}
	r := call(ctx, t, from, 10, "-target", "http://web."+outside+".svc.cluster.local:8080/else")
	if r.Status["404"] != r.Sent {
		t.Errorf("a path that is not in the HTTPRouteGroup: %v, want 404 for %d", r.Status, r.Sent)
	}
	must(t, shared.DeleteYAML(ctx, egressManifest, replace))
	for what, args := range calls {
		closed(what+", after the Egress went", args)
	}
}

// gatewayManifest is a reverse proxy that is not in the mesh: the stock Envoy.
const gatewayManifest = `
apiVersion: v1
kind: ConfigMap
metadata: {name: gateway, namespace: OUTSIDE}
data:
  envoy.yaml: |
    static_resources:
      listeners:
      - address: {socket_address: {address: "::", port_value: 8080, ipv4_compat: true}}
        filter_chains:
        - filters:
          - name: envoy.filters.network.http_connection_manager
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
              stat_prefix: gateway
              route_config:
                virtual_hosts:
                - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: store}}]}
              http_filters:
              - name: envoy.filters.http.router
                typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
      clusters:
      - name: store
        type: STRICT_DNS
        load_assignment:
          cluster_name: store
          endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: store.SPACE.svc.cluster.local, port_value: 8080}}}}]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway, namespace: OUTSIDE}
spec:
  selector: {matchLabels: {app: gateway}}
  template:
    metadata: {labels: {app: gateway}}
    spec:
      containers:
        - name: envoy
          image: IMAGE
          imagePullPolicy: IfNotPresent
          args: [-c, /etc/gateway/envoy.yaml]
          volumeMounts: [{name: config, mountPath: /etc/gateway}]
      volumes: [{name: config, configMap: {name: gateway}}]
---
apiVersion: v1
kind: Service
metadata: {name: gateway, namespace: OUTSIDE}
spec:
  selector: {app: gateway}
  ports: [{name: http, port: 8080}]
`

const ingressManifest = `
apiVersion: policy.openservicemesh.io/v1alpha1
kind: IngressBackend
metadata: {name: store, namespace: SPACE}
spec:
  backends: [{name: store, port: {number: 8080, protocol: http}}]
  sources: [{kind: Service, name: gateway, namespace: OUTSIDE}]
`

// TestIngressBackend lets a proxy outside of the mesh in, and nobody else.
func TestIngressBackend(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	const inside, outside = "e2e-ingress", "e2e-ingress-out"
	namespace(ctx, t, inside, true)
	namespace(ctx, t, outside, false)
	stranger := idle(outside, "stranger")
	running(ctx, t, stranger,
		workload{namespace: inside, name: "store", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}})
	replace := map[string]string{"SPACE": inside, "OUTSIDE": outside, "IMAGE": "docker.io/envoyproxy/envoy:distroless-" + release.EnvoyVersion}
	// The mesh sees the Services of its own namespaces only; the gateway has no sidecar.
	_, err := osm("namespace", "add", outside, "--disable-sidecar-injection")
	must(t, err)
	must(t, shared.ApplyYAML(ctx, gatewayManifest, replace))
	must(t, shared.Deployment(ctx, outside, "gateway"))
	from := podOf(ctx, t, stranger)
	gateway, direct := "http://gateway."+outside+":8080/", "http://store."+inside+":8080/"
	gets := func(what, status string) {
		t.Helper()
		must(t, cluster.Until(ctx, what, func(ctx context.Context) (bool, error) {
			r, err := shared.Call(ctx, from, "-target", gateway, "-rate", "20", "-duration", "500ms", "-timeout", "5s")
			if err != nil || r.Sent == 0 || r.Status[status] != r.Sent {
				return false, fmt.Errorf("%v of %d: %w", r.Status, r.Sent, err)
			}
			return true, nil
		}))
	}
	gets("the gateway to be refused without an IngressBackend", "503")
	must(t, shared.ApplyYAML(ctx, ingressManifest, replace))
	gets("the gateway to be served", "200")
	allServed(t, "through the gateway", call(ctx, t, from, 50, "-target", gateway))
	noneServed(t, "past the gateway", call(ctx, t, from, 10, "-target", direct, "-timeout", "2s"))
	var b policyv1alpha1.IngressBackend
	must(t, shared.Get(ctx, client.ObjectKey{Namespace: inside, Name: "store"}, &b))
	if b.Status.CurrentStatus != "committed" {
		t.Errorf("status %+v, want committed", b.Status)
	}
	must(t, shared.DeleteYAML(ctx, ingressManifest, replace))
	gets("the gateway to be refused after the IngressBackend went", "503")
}

const limitManifest = `
apiVersion: policy.openservicemesh.io/v1alpha1
kind: UpstreamTrafficSetting
metadata: {name: store, namespace: SPACE}
spec:
  host: store.SPACE.svc.cluster.local
  rateLimit: {local: {http: {requests: 1, unit: hour, burst: 9}}}
`

const retryManifest = `
apiVersion: policy.openservicemesh.io/v1alpha1
kind: Retry
metadata: {name: store, namespace: SPACE}
spec:
  source: {kind: ServiceAccount, name: buyer, namespace: SPACE}
  destinations: [{kind: Service, name: store, namespace: SPACE}]
  retryPolicy: {retryOn: 5xx, numRetries: 4, perTryTimeout: 1s, retryBackoffBaseInterval: 1ms}
`

// TestLimitsAndRetries counts what a callee's limit lets through, and how often a caller
// tries.
func TestLimitsAndRetries(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	const ns = "e2e-limits"
	namespace(ctx, t, ns, true)
	buyer := idle(ns, "buyer")
	running(ctx, t, buyer, workload{namespace: ns, name: "store", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}})
	from, target := podOf(ctx, t, buyer), "http://store."+ns+":8080"
	replace := map[string]string{"SPACE": ns}

	t.Run("retries", func(t *testing.T) {
		retries(ctx, t, true)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:usetesting // the test's context is done by now
			defer cancel()
			retries(ctx, t, false)
		})
		must(t, shared.ApplyYAML(ctx, retryManifest, replace))
		must(t, cluster.Until(ctx, "requests that fail to be tried again", func(ctx context.Context) (bool, error) {
			before, err := counter(from, "upstream_rq_retry")
			if err != nil {
				return false, err
			}
			r, err := shared.Call(ctx, from, "-target", target+"/status/503", "-rate", "10", "-duration", "1s", "-timeout", "5s")
			if err != nil {
				return false, err
			}
			after, err := counter(from, "upstream_rq_retry")
			if r.Status["503"] != r.Sent || after-before != 4*r.Sent {
				return false, fmt.Errorf("%d requests, answered %v, were tried again %d times: %w", r.Sent, r.Status, after-before, err)
			}
			return true, nil
		}))
	})
	t.Run("limits", func(t *testing.T) {
		must(t, shared.ApplyYAML(ctx, limitManifest, replace))
		must(t, cluster.Until(ctx, "requests over the limit to be refused", func(ctx context.Context) (bool, error) {
			r, err := shared.Call(ctx, from, "-target", target+"/", "-rate", "40", "-duration", "1s", "-timeout", "5s")
			if r.Status["429"] == 0 {
				return false, fmt.Errorf("answered %v: %w", r.Status, err)
			}
			// A bucket is 1 and 9 more, and is not filled again for an hour.
			if r.Succeeded > 10 {
				t.Errorf("%d requests were served, want 10 at most", r.Succeeded)
			}
			return true, nil
		}))
		r := call(ctx, t, from, 20, "-target", target+"/")
		if r.Status["429"] != r.Sent {
			t.Errorf("answered %v, want 429 for all of %d", r.Status, r.Sent)
		}
	})
}

// retries switches objects of kind Retry on and off, as users do.
func retries(ctx context.Context, t *testing.T, on bool) {
	t.Helper()
	must(t, patchMeshConfig(ctx, func(spec *configv1alpha2.MeshConfigSpec) {
		if spec.FeatureFlags == nil {
			spec.FeatureFlags = &configv1alpha2.FeatureFlags{}
		}
		spec.FeatureFlags.EnableRetryPolicy = &on
	}))
}

// counter reads a counter of calls to a Service store from a pod's sidecar.
func counter(pod *corev1.Pod, name string) (int64, error) {
	out, err := osm("proxy", "get", "stats", pod.Name, "-n", pod.Namespace)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		var n int64
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && strings.HasPrefix(key, "cluster."+pod.Namespace+"/store|") && strings.HasSuffix(key, "."+name) {
			if _, err := fmt.Sscan(value, &n); err != nil {
				return 0, fmt.Errorf("reading %s: %w", line, err)
			}
			return n, nil
		}
	}
	return 0, nil // it is not there before there is one
}
