package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/release"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

// secureGatewayManifest is a stock Envoy outside of the mesh that shows what is in a Secret,
// and reads it again when it changes.
const secureGatewayManifest = `
apiVersion: v1
kind: ConfigMap
metadata: {name: gateway, namespace: OUTSIDE}
data:
  certificate.yaml: |
    resources:
    - "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
      name: certificate
      tls_certificate:
        certificate_chain: {filename: /etc/certificate/tls.crt}
        private_key: {filename: /etc/certificate/tls.key}
        watched_directory: {path: /etc/certificate}
  roots.yaml: |
    resources:
    - "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
      name: roots
      validation_context:
        trusted_ca: {filename: /etc/certificate/ca.crt}
        watched_directory: {path: /etc/certificate}
        match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: store.SPACE.cluster.local}}]
  envoy.yaml: |
    node: {id: gateway, cluster: gateway}
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
        # Each request has a connection of its own, with what is shown at that time.
        typed_extension_protocol_options:
          envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
            "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
            common_http_protocol_options: {max_requests_per_connection: 1}
            explicit_http_config: {http_protocol_options: {}}
        transport_socket:
          name: envoy.transport_sockets.tls
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
            common_tls_context:
              tls_certificate_sds_secret_configs: [{name: certificate, sds_config: {path_config_source: {path: /etc/gateway/certificate.yaml}}}]
              validation_context_sds_secret_config: {name: roots, sds_config: {path_config_source: {path: /etc/gateway/roots.yaml}}}
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
          volumeMounts:
            - {name: config, mountPath: /etc/gateway}
            - {name: certificate, mountPath: /etc/certificate}
      volumes:
        - {name: config, configMap: {name: gateway}}
        - {name: certificate, secret: {secretName: mesh-client}}
---
apiVersion: v1
kind: Service
metadata: {name: gateway, namespace: OUTSIDE}
spec:
  selector: {app: gateway}
  ports: [{name: http, port: 8080}]
`

const secureIngressManifest = `
apiVersion: policy.openservicemesh.io/v1alpha1
kind: IngressBackend
metadata: {name: store, namespace: SPACE}
spec:
  backends: [{name: store, port: {number: 8080, protocol: https}}]
  sources: [{kind: AuthenticatedPrincipal, name: NAME}]
`

// TestIngressGatewayCertificate lets a proxy outside of the mesh in by the certificate that
// the operator keeps for it, follows a change of it, and takes it away.
func TestIngressGatewayCertificate(t *testing.T) {
	ctx := deadline(t, 8*time.Minute)
	const inside, outside, first, second = "e2e-gateway", "e2e-gateway-out", "one.gate.example", "two.gate.example"
	namespace(ctx, t, inside, true)
	namespace(ctx, t, outside, false)
	stranger := idle(outside, "stranger")
	running(ctx, t, stranger,
		workload{namespace: inside, name: "store", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}})
	ask := func(ctx context.Context, name string) {
		t.Helper()
		must(t, patchMeshConfig(ctx, func(spec *configv1alpha2.MeshConfigSpec) {
			if spec.Certificate == nil {
				spec.Certificate = &configv1alpha2.CertificateSpec{}
			}
			spec.Certificate.IngressGateway = nil
			if name != "" {
				spec.Certificate.IngressGateway = &configv1alpha2.IngressGatewayCertSpec{
					SubjectAltNames: []string{name}, ValidityDuration: "24h", Secret: corev1.SecretReference{Namespace: outside, Name: "mesh-client"},
				}
			}
		}))
	}
	ask(ctx, first)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:usetesting // the test's context is done by now
		defer cancel()
		ask(ctx, "")
	})
	replace := map[string]string{"SPACE": inside, "OUTSIDE": outside, "IMAGE": "docker.io/envoyproxy/envoy:distroless-" + release.EnvoyVersion}
	must(t, shared.ApplyYAML(ctx, secureGatewayManifest, replace))
	must(t, shared.Deployment(ctx, outside, "gateway"))
	from, gateway := podOf(ctx, t, stranger), "http://gateway."+outside+":8080/"
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
	lets := func(name string) {
		t.Helper()
		must(t, shared.ApplyYAML(ctx, strings.ReplaceAll(secureIngressManifest, "NAME", name), replace))
	}
	lets(second)
	gets("another name to be refused", "403")
	lets(first)
	gets("the gateway to be served", "200")
	allServed(t, "through the gateway", call(ctx, t, from, 50, "-target", gateway))
	noneServed(t, "past the gateway", call(ctx, t, from, 10, "-target", "http://store."+inside+":8080/", "-timeout", "2s"))

	ask(ctx, second)
	gets("the gateway to show its new name, which is not let in", "403")
	lets(second)
	gets("the gateway to be served by its new name", "200")
	allServed(t, "by its new name", call(ctx, t, from, 50, "-target", gateway))

	ask(ctx, "")
	must(t, cluster.Until(ctx, "the Secret and the right to it to go", func(ctx context.Context) (bool, error) {
		err := shared.Get(ctx, client.ObjectKey{Namespace: outside, Name: "mesh-client"}, &corev1.Secret{})
		if !apierrors.IsNotFound(err) {
			return false, err
		}
		err = shared.Get(ctx, client.ObjectKey{Namespace: outside, Name: "osm-operator-gateway-osm"}, &rbacv1.RoleBinding{})
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	}))
}
