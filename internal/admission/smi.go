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
	}
	return trafficTargetWarnings(o), nil
}

// trafficTargetWarnings tells of what can be written and allows nothing.
func trafficTargetWarnings(o *accessv1alpha3.TrafficTarget) []string {
	var out []string
	warn := func(wrong bool, format string, args ...any) {
		if wrong {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	warn(len(o.Spec.Sources) == 0, "spec.sources names nobody, so that nobody is allowed")
	warn(len(o.Spec.Rules) == 0, "spec.rules is empty, so that nothing is allowed")
	warn(o.Spec.Destination.Name == "", "spec.destination has no name, so that nothing is allowed")
	for i, s := range o.Spec.Sources {
		warn(s.Namespace == "", "spec.sources[%d] has no namespace and so matches nobody", i)
		warn(s.Name == "", "spec.sources[%d] has no name and so matches nobody", i)
	}
	for i, r := range o.Spec.Rules {
		warn(r.Name == "", "spec.rules[%d] has no name and so is no %s", i, r.Kind)
		warn(r.Kind == "UDPRoute", "spec.rules[%d]: UDP is not captured by the mesh, so that the UDPRoute has no effect", i)
	}
	return out
}

func httpRouteGroup(o *specsv1alpha4.HTTPRouteGroup) ([]string, error) {
	var errs []error
	var warnings []string
	if len(o.Spec.Matches) == 0 {
		warnings = append(warnings, "spec.matches is empty, so that nothing matches")
	}
	seen := map[string]bool{}
	methods := []string{"*", "GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
	for i, m := range o.Spec.Matches {
		at := fmt.Sprintf("spec.matches[%d]", i)
		if seen[m.Name] {
			warnings = append(warnings, fmt.Sprintf("%s: %q is there twice, and a rule that names it means the last", at, m.Name))
		}
		seen[m.Name] = true
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
	return warnings, errors.Join(errs...)
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
	var warnings []string
	if o.Spec.Service == "" {
		warnings = append(warnings, "spec.service has no name and so is no Service")
	}
	seen := map[string]bool{}
	for i, b := range o.Spec.Backends {
		if b.Service == "" {
			warnings = append(warnings, fmt.Sprintf("spec.backends[%d] has no name and so is no Service", i))
		} else if seen[b.Service] {
			warnings = append(warnings, fmt.Sprintf("spec.backends[%d]: %s is there twice", i, b.Service))
		}
		seen[b.Service] = true
		if b.Weight < 0 {
			return nil, fmt.Errorf("spec.backends[%d].weight is %v but must not be less than 0", i, b.Weight)
		}
		total += b.Weight
	}
	if total == 0 {
		warnings = append(warnings, "all weights are 0: the service gets no traffic")
	}
	return warnings, nil
}
