package mesh

import (
	"cmp"
	"fmt"
	"time"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
)

// Defaults of MeshConfig fields whose value cannot be read, as Open Service Mesh had them.
const (
	defaultAuthzTimeout    = time.Second
	defaultAuthzStatPrefix = "inboundExtAuthz"
	defaultTracingPort     = 9411
	defaultTracingEndpoint = "/api/v2/spans"
	minLeafLifetime        = time.Hour
)

// SettingsFrom returns the settings that a MeshConfig makes of the defaults. A value
// that cannot be read leaves the default, and is told of.
func SettingsFrom(defaults Settings, spec configv1alpha2.MeshConfigSpec) (Settings, []string) {
	s := defaults
	var problems []string
	if t := spec.Traffic; t != nil {
		set(&s.Permissive, t.EnablePermissiveTrafficPolicyMode)
		set(&s.Egress, t.EnableEgress)
		if a := t.InboundExternalAuthorization; a != nil && a.Enable != nil && *a.Enable {
			authz, problem := authorizationFrom(a)
			s.ExternalAuthorization = authz
			problems = append(problems, problem...)
		}
	}
	if t := spec.Sidecar; t != nil {
		s.TLS.MinVersion = cmp.Or(t.TLSMinProtocolVersion, s.TLS.MinVersion)
		s.TLS.MaxVersion = cmp.Or(t.TLSMaxProtocolVersion, s.TLS.MaxVersion)
		if len(t.CipherSuites) > 0 {
			s.TLS.CipherSuites = t.CipherSuites
		}
		if len(t.ECDHCurves) > 0 {
			s.TLS.Curves = t.ECDHCurves
		}
		if s.TLS.MaxVersion < s.TLS.MinVersion && s.TLS.MaxVersion != "TLS_AUTO" && s.TLS.MinVersion != "TLS_AUTO" {
			// The user asked for an older maximum: the default minimum gives way.
			s.TLS.MinVersion = s.TLS.MaxVersion
		}
	}
	if o := spec.Observability; o != nil && o.Tracing != nil && o.Tracing.Enable != nil && *o.Tracing.Enable {
		port := cmp.Or(o.Tracing.Port, defaultTracingPort)
		if port < 1 || port > 65535 {
			problems = append(problems, fmt.Sprintf("observability.tracing.port %d is no port: %d is used", port, defaultTracingPort))
			port = defaultTracingPort
		}
		s.Tracing = &Tracing{
			Address:  cmp.Or(o.Tracing.Address, "jaeger."+s.Namespace+".svc.cluster.local"),
			Port:     uint16(port),
			Endpoint: cmp.Or(o.Tracing.Endpoint, defaultTracingEndpoint),
		}
	}
	if c := spec.Certificate; c != nil && c.ServiceCertValidityDuration != "" {
		d, err := time.ParseDuration(c.ServiceCertValidityDuration)
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("certificate.serviceCertValidityDuration %q is no duration: %s is used", c.ServiceCertValidityDuration, s.LeafLifetime))
		case d < minLeafLifetime:
			problems = append(problems, fmt.Sprintf("certificate.serviceCertValidityDuration %s is less than Kubernetes issues for: %s is used", d, minLeafLifetime))
			s.LeafLifetime = minLeafLifetime
		default:
			s.LeafLifetime = d
		}
	}
	if f := spec.FeatureFlags; f != nil {
		set(&s.EgressPolicy, f.EnableEgressPolicy)
		set(&s.IngressPolicy, f.EnableIngressBackendPolicy)
		set(&s.RetryPolicy, f.EnableRetryPolicy)
	}
	return s, problems
}

func set(into *bool, from *bool) {
	if from != nil {
		*into = *from
	}
}

func authorizationFrom(a *configv1alpha2.ExternalAuthzSpec) (*ExternalAuthorization, []string) {
	out := &ExternalAuthorization{
		Address: a.Address, Port: uint16(min(max(a.Port, 0), 65535)), //nolint:gosec // bounded
		StatPrefix: cmp.Or(a.StatPrefix, defaultAuthzStatPrefix), Timeout: defaultAuthzTimeout,
	}
	set(&out.FailureModeAllow, a.FailureModeAllow)
	if a.Timeout == "" {
		return out, nil
	}
	d, err := time.ParseDuration(a.Timeout)
	if err != nil || d <= 0 {
		return out, []string{fmt.Sprintf("traffic.inboundExternalAuthorization.timeout %q is no duration: %s is used", a.Timeout, defaultAuthzTimeout)}
	}
	out.Timeout = d
	return out, nil
}
