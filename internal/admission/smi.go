package admission

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"

	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
)

// longestRegex is the longest regular expression that is taken, in bytes; proxies
// hold every one in memory.
const longestRegex = 4096

func trafficTarget(o *accessv1alpha3.TrafficTarget) ([]string, error) {
	var warnings []string
	if ns := o.Spec.Destination.Namespace; ns != o.Namespace {
		return nil, fmt.Errorf("spec.destination.namespace is %q but must be %q, the namespace of the TrafficTarget", ns, o.Namespace)
	}
	if o.Spec.Destination.Kind != "ServiceAccount" {
		return nil, fmt.Errorf("spec.destination.kind is %q but must be ServiceAccount", o.Spec.Destination.Kind)
	}
	for i, s := range o.Spec.Sources {
		if s.Kind != "ServiceAccount" {
			return nil, fmt.Errorf("spec.sources[%d].kind is %q but must be ServiceAccount", i, s.Kind)
		}
		if s.Namespace == "" {
			warnings = append(warnings, fmt.Sprintf("spec.sources[%d] has no namespace and so matches nobody", i))
		}
	}
	for i, r := range o.Spec.Rules {
		if r.Kind == "UDPRoute" {
			warnings = append(warnings, fmt.Sprintf("spec.rules[%d]: UDP is not captured by the mesh, so that the UDPRoute has no effect", i))
		}
	}
	return warnings, nil
}

func httpRouteGroup(o *specsv1alpha4.HTTPRouteGroup) error {
	var errs []error
	methods := []string{"*", "GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
	for i, m := range o.Spec.Matches {
		at := fmt.Sprintf("spec.matches[%d]", i)
		if err := regex(m.PathRegex); err != nil {
			errs = append(errs, fmt.Errorf("%s.pathRegex: %w", at, err))
		}
		for _, method := range m.Methods {
			if !slices.Contains(methods, method) {
				errs = append(errs, fmt.Errorf("%s.methods: %q is no HTTP method: use %v", at, method, methods))
			}
		}
		for _, headers := range m.Headers {
			for name, value := range headers {
				if err := regex(value); err != nil {
					errs = append(errs, fmt.Errorf("%s.headers[%s]: %w", at, name, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func regex(s string) error {
	if len(s) > longestRegex {
		return fmt.Errorf("the regular expression has %d bytes, but %d at the most are taken", len(s), longestRegex)
	}
	if _, err := syntax.Parse(s, syntax.Perl); err != nil {
		return fmt.Errorf("%q is no RE2 regular expression: %w", s, err)
	}
	return nil
}

func tcpRoute(o *specsv1alpha4.TCPRoute) error {
	for i, p := range o.Spec.Matches.Ports {
		if p < 1 || p > 65535 {
			return fmt.Errorf("spec.matches.ports[%d]: %d is no port: give a number from 1 to 65535", i, p)
		}
	}
	return nil
}

func trafficSplit(o *splitv1alpha4.TrafficSplit) ([]string, error) {
	total := 0.0
	for i, b := range o.Spec.Backends {
		if b.Weight < 0 {
			return nil, fmt.Errorf("spec.backends[%d].weight is %v but must not be less than 0", i, b.Weight)
		}
		total += b.Weight
	}
	if total == 0 {
		return []string{"all weights are 0: the service gets no traffic"}, nil
	}
	return nil, nil
}
