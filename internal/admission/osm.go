package admission

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
)

// egress refuses what Open Service Mesh's webhook refused, and warns of what it took and
// had no effect.
func egress(o *policyv1alpha1.Egress) ([]string, error) {
	var errs []error
	settings := 0
	for i, m := range o.Spec.Matches {
		group := ""
		if m.APIGroup != nil {
			group = *m.APIGroup
		}
		switch group + " " + m.Kind {
		case "specs.smi-spec.io/v1alpha4 HTTPRouteGroup":
		case "policy.openservicemesh.io/v1alpha1 UpstreamTrafficSetting":
			settings++
		default:
			errs = append(errs, fmt.Errorf("spec.matches[%d]: %s %s cannot be matched: use specs.smi-spec.io/v1alpha4 HTTPRouteGroup or policy.openservicemesh.io/v1alpha1 UpstreamTrafficSetting", i, group, m.Kind))
		}
	}
	if settings > 1 {
		errs = append(errs, fmt.Errorf("spec.matches: %d UpstreamTrafficSettings are named, but one at the most can act", settings))
	}
	for i, r := range o.Spec.IPAddresses {
		if _, err := netip.ParsePrefix(r); err != nil {
			errs = append(errs, fmt.Errorf("spec.ipAddresses[%d]: %q is no range in CIDR form, such as 10.0.0.0/8", i, r))
		}
	}
	return egressWarnings(o), errors.Join(errs...)
}

func egressWarnings(o *policyv1alpha1.Egress) []string {
	var out []string
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if len(o.Spec.Sources) == 0 {
		warn("spec.sources names nobody, so that nobody may call")
	}
	for i, s := range o.Spec.Sources {
		if s.Name == "" || s.Namespace == "" {
			warn("spec.sources[%d] has no name or no namespace and so is nobody", i)
		}
	}
	if len(o.Spec.Ports) == 0 {
		warn("spec.ports is empty, so that nothing may be called")
	}
	seen := map[policyv1alpha1.PortSpec]bool{}
	for i, p := range o.Spec.Ports {
		if seen[p] {
			warn("spec.ports[%d]: %s on port %d is there twice", i, p.Protocol, p.Number)
		}
		seen[p] = true
		switch strings.ToLower(p.Protocol) {
		case "http", "https", "tcp", "tcp-server-first":
		default:
			warn("spec.ports[%d].protocol %q is none of http, https, tcp and tcp-server-first and has no effect", i, p.Protocol)
		}
	}
	for i, h := range o.Spec.Hosts {
		if h == "" || strings.ContainsAny(h, " \t\r\n/") {
			warn("spec.hosts[%d]: %q is no host name and has no effect", i, h)
		}
	}
	return out
}

func ingressBackend(o *policyv1alpha1.IngressBackend) ([]string, error) {
	var errs []error
	seen := map[string]bool{}
	principal := false
	for i, s := range o.Spec.Sources {
		principal = principal || s.Kind == "AuthenticatedPrincipal"
		if err := ingressSource(s); err != nil {
			errs = append(errs, fmt.Errorf("spec.sources[%d]: %w", i, err))
		}
	}
	for i, b := range o.Spec.Backends {
		key := fmt.Sprintf("%s:%d", b.Name, b.Port.Number)
		if seen[key] {
			errs = append(errs, fmt.Errorf("spec.backends[%d]: %s is there twice", i, key))
		}
		seen[key] = true
		switch strings.ToLower(b.Port.Protocol) {
		case "http":
		case "https":
			skip := b.TLS != nil && b.TLS.SkipClientCertValidation
			if !principal && !skip {
				errs = append(errs, fmt.Errorf("spec.backends[%d]: https needs a source of kind AuthenticatedPrincipal, or tls.skipClientCertValidation", i))
			}
		default:
			errs = append(errs, fmt.Errorf("spec.backends[%d].port.protocol is %q but must be http or https", i, b.Port.Protocol))
		}
	}
	return ingressBackendWarnings(o), errors.Join(errs...)
}

func ingressBackendWarnings(o *policyv1alpha1.IngressBackend) []string {
	var out []string
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if len(o.Spec.Sources) == 0 {
		warn("spec.sources is empty, so that nobody is let in")
	}
	if len(o.Spec.Backends) == 0 {
		warn("spec.backends is empty, so that nothing is opened")
	}
	for i, b := range o.Spec.Backends {
		if b.Name == "" {
			warn("spec.backends[%d] has no name and so is no Service", i)
		}
		if b.TLS == nil {
			continue
		}
		if strings.EqualFold(b.Port.Protocol, "http") {
			warn("spec.backends[%d].tls has no effect: the protocol is http", i)
		}
		for n, h := range b.TLS.SNIHosts {
			if h == "" || strings.ContainsAny(h, " \t\r\n/") {
				warn("spec.backends[%d].tls.sniHosts[%d]: %q is no host name and has no effect", i, n, h)
			}
		}
	}
	for i, m := range o.Spec.Matches {
		if m.Kind != "HTTPRouteGroup" {
			warn("spec.matches[%d]: kind %q is no HTTPRouteGroup, and the object is not followed with it", i, m.Kind)
		}
	}
	return out
}

func ingressSource(s policyv1alpha1.IngressSourceSpec) error {
	switch s.Kind {
	case "Service":
		if s.Name == "" || s.Namespace == "" {
			return errors.New("a Service needs name and namespace")
		}
	case "AuthenticatedPrincipal":
		if s.Name == "" {
			return errors.New("an AuthenticatedPrincipal needs a name")
		}
	case "IPRange":
		if _, err := netip.ParsePrefix(s.Name); err != nil {
			return fmt.Errorf("name %q is no range in CIDR form, such as 10.0.0.0/8", s.Name)
		}
	default:
		return fmt.Errorf("kind %q is not one of Service, AuthenticatedPrincipal, IPRange", s.Kind)
	}
	return nil
}

func upstreamTrafficSetting(o *policyv1alpha1.UpstreamTrafficSetting) error {
	var errs []error
	for i, r := range o.Spec.HTTPRoutes {
		if err := regex(r.Path); err != nil {
			errs = append(errs, fmt.Errorf("spec.httpRoutes[%d].path: %w", i, err))
		}
	}
	return errors.Join(errs...)
}
