package mesh_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

func gateway(g configv1alpha2.IngressGatewayCertSpec) configv1alpha2.MeshConfigSpec {
	return configv1alpha2.MeshConfigSpec{Certificate: &configv1alpha2.CertificateSpec{IngressGateway: &g}}
}

// TestIngressGatewayFrom reads what a MeshConfig asks for a gateway.
func TestIngressGatewayFrom(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lifetime string
		want     time.Duration
		problems int
	}{
		"a day":              {"24h", 24 * time.Hour, 0},
		"parts of a second":  {"24h0.5s", 24 * time.Hour, 1},
		"too short to renew": {"10m", time.Hour, 1},
		"too long":           {"100000h", 365 * 24 * time.Hour, 1},
		"none":               {"", 24 * time.Hour, 1},
		"below zero":         {"-24h", 24 * time.Hour, 1},
	} {
		got, problems := mesh.IngressGatewayFrom(gateway(configv1alpha2.IngressGatewayCertSpec{
			SubjectAltNames: []string{"gate.ingress.cluster.local"}, ValidityDuration: tc.lifetime, Secret: corev1.SecretReference{Namespace: "ingress", Name: "gate.tls"},
		}).Certificate)
		want := &mesh.IngressGateway{Name: "gate.ingress.cluster.local", Lifetime: tc.want, Secret: mesh.Key{Namespace: "ingress", Name: "gate.tls"}}
		if diff := cmp.Diff(want, got); diff != "" || len(problems) != tc.problems {
			t.Errorf("%s: %q (-want +got):\n%s", name, problems, diff)
		}
	}
	for _, name := range []string{"", "gate_way", "*.ingress", "Gate.ingress", "10.0.0.1", "osm-controller.osm-system.svc", "web.shop.svc.cluster.local"} {
		spec := gateway(configv1alpha2.IngressGatewayCertSpec{SubjectAltNames: []string{name}, ValidityDuration: "24h", Secret: corev1.SecretReference{Namespace: "ingress", Name: "gate"}}).Certificate
		if got, _ := mesh.IngressGatewayFrom(spec); got != nil || len(mesh.CheckIngressGateway(spec)) != 1 {
			t.Errorf("%q is taken for a name: %+v", name, got)
		}
	}
}

func TestSettingsFrom(t *testing.T) {
	authz := func(timeout string, port int) *configv1alpha2.TrafficSpec {
		return &configv1alpha2.TrafficSpec{InboundExternalAuthorization: &configv1alpha2.ExternalAuthzSpec{
			Enable: new(true), Address: "opa.opa", Port: port, Timeout: timeout,
		}}
	}
	opa := func(timeout time.Duration, port uint16) *mesh.ExternalAuthorization {
		return &mesh.ExternalAuthorization{Address: "opa.opa", Port: port, StatPrefix: "inboundExtAuthz", Timeout: timeout}
	}
	for name, tc := range map[string]struct {
		spec     configv1alpha2.MeshConfigSpec
		want     func(*mesh.Settings)
		problems int
	}{
		"silence keeps the defaults": {want: func(*mesh.Settings) {}},
		"traffic is switched": {
			spec: configv1alpha2.MeshConfigSpec{Traffic: &configv1alpha2.TrafficSpec{EnablePermissiveTrafficPolicyMode: new(false), EnableEgress: new(false)}},
			want: func(s *mesh.Settings) { s.Permissive, s.Egress = false, false },
		},
		"features are switched": {
			spec: configv1alpha2.MeshConfigSpec{FeatureFlags: &configv1alpha2.FeatureFlags{
				EnableEgressPolicy: new(false), EnableIngressBackendPolicy: new(false), EnableRetryPolicy: new(true), EnableWASMStats: new(false), EnableEnvoyActiveHealthChecks: new(true),
			}},
			want: func(s *mesh.Settings) {
				s.EgressPolicy, s.IngressPolicy, s.RetryPolicy, s.RequestMetrics, s.HealthChecks = false, false, true, false, true
			},
		},
		"external authorization":                         {spec: configv1alpha2.MeshConfigSpec{Traffic: authz("3s", 9191)}, want: func(s *mesh.Settings) { s.ExternalAuthorization = opa(3*time.Second, 9191) }},
		"a timeout that cannot be read is a second":      {spec: configv1alpha2.MeshConfigSpec{Traffic: authz("soon", 9191)}, want: func(s *mesh.Settings) { s.ExternalAuthorization = opa(time.Second, 9191) }, problems: 1},
		"a server that is none still guards":             {spec: configv1alpha2.MeshConfigSpec{Traffic: authz("", 0)}, want: func(s *mesh.Settings) { s.ExternalAuthorization = opa(time.Second, 0) }, problems: 1},
		"external authorization that is off asks nobody": {spec: configv1alpha2.MeshConfigSpec{Traffic: &configv1alpha2.TrafficSpec{InboundExternalAuthorization: &configv1alpha2.ExternalAuthzSpec{Address: "x"}}}, want: func(*mesh.Settings) {}},
		"tracing": {
			spec: configv1alpha2.MeshConfigSpec{Observability: &configv1alpha2.ObservabilitySpec{Tracing: &configv1alpha2.TracingSpec{Enable: new(true)}}},
			want: func(s *mesh.Settings) {
				s.Tracing = &mesh.Tracing{Address: "jaeger.osm-system.svc.cluster.local", Port: 9411, Endpoint: "/api/v2/spans", Sampled: 100}
			},
		},
		"a tracing port that is none": {
			spec: configv1alpha2.MeshConfigSpec{Observability: &configv1alpha2.ObservabilitySpec{Tracing: &configv1alpha2.TracingSpec{Enable: new(true), Address: "z", Port: 70000, Endpoint: "/x"}}},
			want: func(s *mesh.Settings) {
				s.Tracing = &mesh.Tracing{Address: "z", Port: 9411, Endpoint: "/x", Sampled: 100}
			}, problems: 1,
		},
		"tracing by OpenTelemetry": {
			spec: tracing(configv1alpha2.TracingSpec{Provider: "OpenTelemetry", SamplingPercentage: new(int32(1))}),
			want: func(s *mesh.Settings) {
				s.Tracing = &mesh.Tracing{OpenTelemetry: true, Address: "opentelemetry-collector.osm-system.svc.cluster.local", Port: 4317, Sampled: 1}
			},
		},
		"a server of Zipkin is none of OpenTelemetry": {
			spec: tracing(configv1alpha2.TracingSpec{
				Provider: "OpenTelemetry", Address: "jaeger", Port: 9411,
				OpenTelemetry: &configv1alpha2.OpenTelemetryTracingSpec{Address: "collector.tracing", Port: 70000},
			}),
			want: func(s *mesh.Settings) {
				s.Tracing = &mesh.Tracing{OpenTelemetry: true, Address: "collector.tracing", Port: 4317, Sampled: 100}
			}, problems: 2,
		},
		"nothing says that a server of OpenTelemetry is wanted": {
			spec: tracing(configv1alpha2.TracingSpec{
				Address: "z", OpenTelemetry: &configv1alpha2.OpenTelemetryTracingSpec{Address: "collector.tracing"}, SamplingPercentage: new(int32(-3)),
			}),
			want: func(s *mesh.Settings) {
				s.Tracing = &mesh.Tracing{Address: "z", Port: 9411, Endpoint: "/api/v2/spans"}
			}, problems: 1,
		},
		"a gateway's certificate is none of the control plane's affair": {
			spec: gateway(configv1alpha2.IngressGatewayCertSpec{SubjectAltNames: []string{"a.b"}, ValidityDuration: "24h", Secret: corev1.SecretReference{Name: "a", Namespace: "b"}}),
			want: func(*mesh.Settings) {},
		},
		"a gateway's certificate that cannot be made": {
			spec: gateway(configv1alpha2.IngressGatewayCertSpec{ValidityDuration: "x"}), want: func(*mesh.Settings) {}, problems: 3,
		},
		"a lifetime":                         {spec: leaf("36h"), want: func(s *mesh.Settings) { s.LeafLifetime = 36 * time.Hour }},
		"a lifetime that cannot be read":     {spec: leaf("a day"), want: func(s *mesh.Settings) { s.LeafLifetime = 24 * time.Hour }, problems: 1},
		"a lifetime that is too short":       {spec: leaf("5m"), want: func(s *mesh.Settings) { s.LeafLifetime = time.Hour }, problems: 1},
		"a lower minimum of TLS":             {spec: tls("TLSv1_2", "TLSv1_3"), want: func(s *mesh.Settings) { s.TLS.MinVersion = "TLSv1_2" }},
		"a lower maximum lowers the minimum": {spec: tls("", "TLSv1_2"), want: func(s *mesh.Settings) { s.TLS.MinVersion, s.TLS.MaxVersion = "TLSv1_2", "TLSv1_2" }},
		"a minimum above the maximum":        {spec: tls("TLSv1_3", "TLSv1_2"), want: func(s *mesh.Settings) { s.TLS.MinVersion, s.TLS.MaxVersion = "TLSv1_2", "TLSv1_2" }, problems: 1},
		"a maximum that nobody speaks":       {spec: tls("", "TLSv1_1"), want: func(s *mesh.Settings) { s.TLS.MinVersion, s.TLS.MaxVersion = "TLSv1_1", "TLSv1_1" }, problems: 1},
		"cipher suites for RSA bring those for ECDSA along": {
			spec: lists([]string{"ECDHE-RSA-AES256-GCM-SHA384", "[ECDHE-RSA-AES128-SHA|AES128-SHA]"}, nil),
			want: func(s *mesh.Settings) {
				s.TLS.CipherSuites = []string{
					"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
					"[ECDHE-ECDSA-AES128-SHA|AES128-SHA]", "[ECDHE-RSA-AES128-SHA|AES128-SHA]",
				}
			},
		},
		"what is no cipher suite is left out": {
			spec: lists([]string{"!aNULL", "ECDHE-ECDSA-AES128-GCM-SHA256", "[AES128-SHA|nonsense]", "AES128-SHA|AES256-SHA", "TLS_AES_128_GCM_SHA256", ""}, nil),
			want: func(s *mesh.Settings) { s.TLS.CipherSuites = []string{"ECDHE-ECDSA-AES128-GCM-SHA256"} }, problems: 5,
		},
		"a list of no cipher suites is none": {spec: lists([]string{"nonsense"}, nil), want: func(*mesh.Settings) {}, problems: 1},
		"curves":                             {spec: lists(nil, []string{"P-384", "X25519"}), want: func(s *mesh.Settings) { s.TLS.Curves = []string{"P-384", "X25519"} }},
		"what is no curve, or there twice, is left out": {
			spec: lists(nil, []string{"p-256", "prime256v1", "P-256", "P-256"}),
			want: func(s *mesh.Settings) { s.TLS.Curves = []string{"prime256v1"} }, problems: 1,
		},
		"a list of no curves is none": {spec: lists(nil, []string{""}), want: func(*mesh.Settings) {}, problems: 1},
		"what has no effect is told of": {
			spec: configv1alpha2.MeshConfigSpec{
				Sidecar:      &configv1alpha2.SidecarSpec{ConfigResyncInterval: "30s", EnvoyWindowsImage: "x"},
				FeatureFlags: &configv1alpha2.FeatureFlags{EnableMulticlusterMode: new(true), EnableSnapshotCacheMode: new(true)},
			},
			want: func(*mesh.Settings) {}, problems: 4,
		},
		"what has no effect and is off is not": {
			spec: configv1alpha2.MeshConfigSpec{
				Sidecar: &configv1alpha2.SidecarSpec{ConfigResyncInterval: "0s"}, FeatureFlags: &configv1alpha2.FeatureFlags{EnableMulticlusterMode: new(false)},
			},
			want: func(*mesh.Settings) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := settings()
			tc.want(&want)
			got, problems := mesh.SettingsFrom(settings(), tc.spec)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
			if len(problems) != tc.problems {
				t.Errorf("problems are %q, want %d", problems, tc.problems)
			}
		})
	}
}

func tracing(t configv1alpha2.TracingSpec) configv1alpha2.MeshConfigSpec {
	t.Enable = new(true)
	return configv1alpha2.MeshConfigSpec{Observability: &configv1alpha2.ObservabilitySpec{Tracing: &t}}
}

func lists(suites, curves []string) configv1alpha2.MeshConfigSpec {
	return configv1alpha2.MeshConfigSpec{Sidecar: &configv1alpha2.SidecarSpec{CipherSuites: suites, ECDHCurves: curves}}
}

func leaf(lifetime string) configv1alpha2.MeshConfigSpec {
	return configv1alpha2.MeshConfigSpec{Certificate: &configv1alpha2.CertificateSpec{ServiceCertValidityDuration: lifetime}}
}

func tls(lowest, highest string) configv1alpha2.MeshConfigSpec {
	return configv1alpha2.MeshConfigSpec{Sidecar: &configv1alpha2.SidecarSpec{TLSMinProtocolVersion: lowest, TLSMaxProtocolVersion: highest}}
}
