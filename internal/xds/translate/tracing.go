package translate

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	detectorsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/resource_detectors/v3"
	samplersv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/samplers/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// makeTracing makes what says which requests become spans, and where these go. Spans that
// a server does not take in time are dropped: no request waits for it.
func (p *parts) makeTracing(m *maker) {
	t := p.shared.Tracing
	if t == nil {
		return
	}
	p.tracing = &hcmv3.HttpConnectionManager_Tracing{Verbose: true}
	if t.OpenTelemetry {
		// Its own sampler decides: this decision would go before that of a caller.
		p.tracing.Provider = openTelemetry(m, t)
		return
	}
	p.tracing.Provider = zipkin(m, t)
	p.tracing.RandomSampling = &typev3.Percent{Value: float64(t.Sampled)}
}

// zipkin sends spans as Open Service Mesh did. Its B3 headers are joined by W3C's, so that
// applications that pass on one kind or the other do not break a trace.
func zipkin(m *maker, t *ir.Tracing) *tracev3.Tracing_Http {
	return &tracev3.Tracing_Http{
		Name: "envoy.tracers.zipkin",
		ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: m.pack(&tracev3.ZipkinConfig{
			CollectorCluster:         name.TracingCluster,
			CollectorEndpoint:        t.Endpoint,
			CollectorHostname:        t.Address,
			CollectorEndpointVersion: tracev3.ZipkinConfig_HTTP_JSON,
			TraceContextOption:       tracev3.ZipkinConfig_USE_B3_WITH_W3C_PROPAGATION,
		})},
	}
}

// openTelemetry sends spans by OTLP, with W3C's headers. Who sends them is in the
// environment of the sidecar, which is not the same for all proxies that share this. What
// a caller has decided about its trace is kept, and traces that begin here are sampled by
// their ids, as others would that see the same trace.
func openTelemetry(m *maker, t *ir.Tracing) *tracev3.Tracing_Http {
	root := m.extension("envoy.tracers.opentelemetry.samplers.trace_id_ratio_based", &samplersv3.TraceIdRatioBasedSamplerConfig{
		SamplingPercentage: &typev3.FractionalPercent{Numerator: uint32(t.Sampled), Denominator: typev3.FractionalPercent_HUNDRED},
	})
	return &tracev3.Tracing_Http{
		Name: "envoy.tracers.opentelemetry",
		ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: m.pack(&tracev3.OpenTelemetryConfig{
			GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: name.TracingCluster},
			}},
			ResourceDetectors: []*corev3.TypedExtensionConfig{
				m.extension("envoy.tracers.opentelemetry.resource_detectors.environment", &detectorsv3.EnvironmentResourceDetectorConfig{}),
			},
			Sampler: m.extension("envoy.tracers.opentelemetry.samplers.parent_based", &samplersv3.ParentBasedSamplerConfig{WrappedSampler: root}),
		})},
	}
}
