package translate_test

import (
	"testing"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// TestEnvoyAcceptsWhatAMeshConfigMayAskFor gives Envoy what is made of words that users
// write, those that mean nothing among them. One resource that Envoy refuses, of those that
// every proxy has, would hold up all that comes after.
func TestEnvoyAcceptsWhatAMeshConfigMayAskFor(t *testing.T) {
	t.Parallel()
	envoy := realEnvoy(t)
	sidecar := func(s configv1alpha2.SidecarSpec) configv1alpha2.MeshConfigSpec {
		return configv1alpha2.MeshConfigSpec{Sidecar: &s}
	}
	authz := func(a configv1alpha2.ExternalAuthzSpec) configv1alpha2.MeshConfigSpec {
		a.Enable = new(true)
		return configv1alpha2.MeshConfigSpec{Traffic: &configv1alpha2.TrafficSpec{InboundExternalAuthorization: &a}}
	}
	tracing := func(s configv1alpha2.TracingSpec) configv1alpha2.MeshConfigSpec {
		s.Enable = new(true)
		return configv1alpha2.MeshConfigSpec{Observability: &configv1alpha2.ObservabilitySpec{Tracing: &s}}
	}
	cases := map[string]configv1alpha2.MeshConfigSpec{
		"every cipher suite, and what is none": sidecar(configv1alpha2.SidecarSpec{TLSMinProtocolVersion: "TLSv1_2", CipherSuites: []string{
			"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305",
			"ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES128-SHA256",
			"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305",
			"ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA", "ECDHE-RSA-AES128-SHA256",
			"AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA", "DES-CBC3-SHA",
			"ECDHE-PSK-AES128-CBC-SHA", "ECDHE-PSK-CHACHA20-POLY1305", "PSK-AES128-CBC-SHA",
			"[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]",
			"TLS_AES_128_GCM_SHA256", "nonsense", "", "!aNULL", "-ALL", "[", "]", "[]", "|", "ecdhe-rsa-aes128-sha", "AES128-SHA AES256-SHA", "AES128-SHA:NULL",
		}}),
		"every curve, and what is none": sidecar(configv1alpha2.SidecarSpec{ECDHCurves: []string{
			"X25519", "P-256", "P-384", "P-521", "X25519MLKEM768", "MLKEM1024", "prime256v1", "secp384r1", "secp521r1", "X25519", "P-224", "p-256", "",
		}}),
		"TLS as old as it gets":                  sidecar(configv1alpha2.SidecarSpec{TLSMinProtocolVersion: "TLSv1_0", TLSMaxProtocolVersion: "TLSv1_1"}),
		"TLS upside down":                        sidecar(configv1alpha2.SidecarSpec{TLSMinProtocolVersion: "TLSv1_3", TLSMaxProtocolVersion: "TLSv1_2"}),
		"a server of authorization that is none": authz(configv1alpha2.ExternalAuthzSpec{}),
		"a server of authorization without port": authz(configv1alpha2.ExternalAuthzSpec{Address: "opa.opa"}),
		"a server of authorization that cannot be": authz(configv1alpha2.ExternalAuthzSpec{
			Address: "no such\nhost: ü", Port: 70000, StatPrefix: "a b.ü\n", Timeout: "-1s",
		}),
		"a server of spans that cannot be":        tracing(configv1alpha2.TracingSpec{Address: "http://jaeger:9411/ü\n", Port: -3, Endpoint: "no path\r\nX: y"}),
		"a server of OpenTelemetry that is there": tracing(configv1alpha2.TracingSpec{Provider: configv1alpha2.TracingOpenTelemetry, SamplingPercentage: new(int32(1))}),
		"a server of OpenTelemetry that cannot be": tracing(configv1alpha2.TracingSpec{
			Provider: configv1alpha2.TracingOpenTelemetry, SamplingPercentage: new(int32(1000)),
			OpenTelemetry: &configv1alpha2.OpenTelemetryTracingSpec{Address: "http://collector:4317/ü\n", Port: -3},
		}),
	}
	for n, spec := range cases {
		t.Run(n, func(t *testing.T) {
			t.Parallel()
			s, _ := mesh.SettingsFrom(mesh.DefaultSettings("osm", "osm-system", "cluster.local"), spec)
			shared := sharedSettings(func(out *ir.Shared) {
				out.TLS = ir.TLS(s.TLS)
				if s.ExternalAuthorization != nil {
					out.ExternalAuthorization = new(ir.ExternalAuthorization(*s.ExternalAuthorization))
				}
				if s.Tracing != nil {
					out.Tracing = new(ir.Tracing(*s.Tracing))
				}
			})
			port := servicePort("shop", "store", 80)
			validate(t, envoy, &ir.Proxy{
				Class: "buyer", Shared: shared,
				Inbound:  []ir.InboundPort{inboundWeb(8080, "store", anyone(), ir.InboundRoute{Name: "all", Allow: anyone()})},
				Outbound: []*ir.Destination{web(port, cluster(port, ir.HTTP, account("shop", "store")), "10.96.0.1")},
			})
		})
	}
}
