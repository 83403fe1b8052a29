package admission

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
)

func egress(o *policyv1alpha1.Egress) error {
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
	return errors.Join(errs...)
}

func ingressBackend(o *policyv1alpha1.IngressBackend) error {
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
	return errors.Join(errs...)
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
