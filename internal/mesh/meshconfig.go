package mesh

import (
	"cmp"
	"fmt"
	"time"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
)

// Values that stand for what is absent or cannot be read, as Open Service Mesh had them.
const (
	defaultAuthzTimeout    = time.Second
	defaultAuthzStatPrefix = "inboundExtAuthz"
	defaultTracingPort     = 9411
	defaultTracingEndpoint = "/api/v2/spans"
	defaultOTLPPort        = 4317
	allTraces              = 100
	unreadableLeafLifetime = 24 * time.Hour
	// minLeafLifetime is the shortest that Kubernetes takes for a pod's certificate.
	minLeafLifetime = time.Hour
)

// SettingsFrom returns the settings that a MeshConfig makes of the defaults, and what
// of it could not be followed, a sentence each. A value that cannot be read never
// widens what is let through.
func SettingsFrom(defaults Settings, spec configv1alpha2.MeshConfigSpec) (settings Settings, problems []string) {
	s := defaults
	r := reader{settings: &s}
	if spec.Traffic != nil {
		r.traffic(spec.Traffic)
	}
	if spec.Sidecar != nil {
		r.tls(spec.Sidecar)
	}
	if o := spec.Observability; o != nil && o.Tracing != nil {
		r.tracing(o.Tracing)
	}
	if spec.Certificate != nil {
		r.leafLifetime(spec.Certificate.ServiceCertValidityDuration)
		r.gateway(spec.Certificate)
	}
	if f := spec.FeatureFlags; f != nil {
		set(&s.RequestMetrics, f.EnableWASMStats)
		set(&s.EgressPolicy, f.EnableEgressPolicy)
		set(&s.IngressPolicy, f.EnableIngressBackendPolicy)
		set(&s.RetryPolicy, f.EnableRetryPolicy)
		set(&s.HealthChecks, f.EnableEnvoyActiveHealthChecks)
	}
	r.ineffective(spec)
	return s, r.problems
}

// reader takes the parts of a MeshConfig.
type reader struct {
	settings *Settings
	problems []string
}

func (r *reader) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

func set(into, from *bool) {
	if from != nil {
		*into = *from
	}
}

func (r *reader) traffic(t *configv1alpha2.TrafficSpec) {
	set(&r.settings.Permissive, t.EnablePermissiveTrafficPolicyMode)
	set(&r.settings.Egress, t.EnableEgress)
	a := t.InboundExternalAuthorization
	if a == nil || a.Enable == nil || !*a.Enable {
		return
	}
	out := &ExternalAuthorization{
		Address: a.Address, Port: uint16(min(max(a.Port, 0), 65535)),
		StatPrefix: cmp.Or(a.StatPrefix, defaultAuthzStatPrefix), Timeout: defaultAuthzTimeout,
	}
	set(&out.FailureModeAllow, a.FailureModeAllow)
	if a.Timeout != "" {
		if d, err := time.ParseDuration(a.Timeout); err != nil || d <= 0 {
			r.problem("traffic.inboundExternalAuthorization.timeout %q is no duration: %s is used", a.Timeout, defaultAuthzTimeout)
		} else {
			out.Timeout = d
		}
	}
	if a.Address == "" || a.Port < 1 || a.Port > 65535 {
		r.problem("traffic.inboundExternalAuthorization names no server: requests are treated as if it did not answer")
	}
	r.settings.ExternalAuthorization = out
}

func (r *reader) tls(t *configv1alpha2.SidecarSpec) {
	tls := &r.settings.TLS
	tls.MinVersion = cmp.Or(t.TLSMinProtocolVersion, tls.MinVersion)
	tls.MaxVersion = cmp.Or(t.TLSMaxProtocolVersion, tls.MaxVersion)
	// A list of which nothing can be used is no list.
	if usable, _ := usableSuites(t.CipherSuites); len(usable) > 0 {
		tls.CipherSuites = usable
	}
	if usable, _ := usableCurves(t.ECDHCurves); len(usable) > 0 {
		tls.Curves = usable
	}
	for _, p := range CheckTLS(t) {
		r.problem("%s; it is left out", p)
	}
	const auto = "TLS_AUTO"
	if tls.MinVersion != auto && tls.MaxVersion != auto && tls.MaxVersion < tls.MinVersion {
		// An older maximum was asked for: the minimum gives way.
		if t.TLSMinProtocolVersion != "" {
			r.problem("sidecar.tlsMinProtocolVersion %s is above tlsMaxProtocolVersion: %s is used for both", tls.MinVersion, tls.MaxVersion)
		}
		tls.MinVersion = tls.MaxVersion
	}
	if tls.MaxVersion == "TLSv1_0" || tls.MaxVersion == "TLSv1_1" {
		r.problem("sidecar.tlsMaxProtocolVersion %s is older than all that sidecars agree on: they refuse one another", tls.MaxVersion)
	}
}

func (r *reader) tracing(t *configv1alpha2.TracingSpec) {
	if t.Enable == nil || !*t.Enable {
		return
	}
	out := &Tracing{Sampled: allTraces}
	if p := t.SamplingPercentage; p != nil {
		out.Sampled = uint8(min(max(*p, 0), allTraces))
	}
	if t.Provider == configv1alpha2.TracingOpenTelemetry {
		r.openTelemetry(t, out)
	} else {
		r.zipkin(t, out)
	}
	r.settings.Tracing = out
}

func (r *reader) openTelemetry(t *configv1alpha2.TracingSpec, out *Tracing) {
	var server configv1alpha2.OpenTelemetryTracingSpec
	if t.OpenTelemetry != nil {
		server = *t.OpenTelemetry
	}
	if t.Address != "" || t.Port != 0 || t.Endpoint != "" {
		r.problem("observability.tracing has an address, port or endpoint of Zipkin, which the provider OpenTelemetry does not use: openTelemetry.address and openTelemetry.port are")
	}
	out.OpenTelemetry = true
	out.Address = cmp.Or(server.Address, "opentelemetry-collector."+r.settings.Namespace+".svc.cluster.local")
	out.Port = r.tracingPort("observability.tracing.openTelemetry.port", int(server.Port), defaultOTLPPort)
}

func (r *reader) zipkin(t *configv1alpha2.TracingSpec, out *Tracing) {
	if t.OpenTelemetry != nil {
		r.problem("observability.tracing.openTelemetry has no effect: observability.tracing.provider is not OpenTelemetry")
	}
	out.Address = cmp.Or(t.Address, "jaeger."+r.settings.Namespace+".svc.cluster.local")
	out.Port = r.tracingPort("observability.tracing.port", t.Port, defaultTracingPort)
	out.Endpoint = cmp.Or(t.Endpoint, defaultTracingEndpoint)
}

func (r *reader) tracingPort(field string, port, absent int) uint16 {
	port = cmp.Or(port, absent)
	if port < 1 || port > 65535 {
		r.problem("%s %d is no port: %d is used", field, port, absent)
		port = absent
	}
	return uint16(port)
}

func (r *reader) leafLifetime(word string) {
	if word == "" {
		return
	}
	d, err := time.ParseDuration(word)
	switch {
	case err != nil || d <= 0:
		r.problem("certificate.serviceCertValidityDuration %q is no duration: %s is used", word, unreadableLeafLifetime)
		d = unreadableLeafLifetime
	case d < minLeafLifetime:
		r.problem("certificate.serviceCertValidityDuration %s is shorter than Kubernetes allows: %s is used", word, minLeafLifetime)
		d = minLeafLifetime
	}
	r.settings.LeafLifetime = d
}

// gateway tells of the certificate of an ingress gateway, which the operator makes.
func (r *reader) gateway(spec *configv1alpha2.CertificateSpec) {
	for _, p := range CheckIngressGateway(spec) {
		r.problem("%s; no certificate is made", p)
	}
	_, problems := IngressGatewayFrom(spec)
	r.problems = append(r.problems, problems...)
}

// ineffective tells of fields that only made sense inside Open Service Mesh.
func (r *reader) ineffective(spec configv1alpha2.MeshConfigSpec) {
	on := func(b *bool) bool { return b != nil && *b }
	var resync, windows string
	if spec.Sidecar != nil {
		resync, windows = spec.Sidecar.ConfigResyncInterval, spec.Sidecar.EnvoyWindowsImage
	}
	if d, err := time.ParseDuration(resync); resync != "" && (err != nil || d != 0) {
		r.problem("sidecar.configResyncInterval has no effect: proxies follow every change at once")
	}
	if windows != "" {
		r.problem("sidecar.envoyWindowsImage has no effect: Windows nodes are not supported")
	}
	f := spec.FeatureFlags
	if f == nil {
		return
	}
	for _, flag := range []struct {
		name string
		set  *bool
	}{
		{"enableMulticlusterMode", f.EnableMulticlusterMode},
		{"enableSnapshotCacheMode", f.EnableSnapshotCacheMode},
		{"enableAsyncProxyServiceMapping", f.EnableAsyncProxyServiceMapping},
		{"enableMeshRootCertificate", f.EnableMeshRootCertificate},
	} {
		if on(flag.set) {
			r.problem("featureFlags.%s has no effect", flag.name)
		}
	}
}
