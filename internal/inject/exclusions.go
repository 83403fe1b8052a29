package inject

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// exclusions joins the mesh-wide lists with those of the pod's annotations.
func exclusions(pod *corev1.Pod, c Config) (Exclusions, error) {
	out := Exclusions{
		InboundPorts:   slices.Clone(c.Exclusions.InboundPorts),
		OutboundPorts:  slices.Clone(c.Exclusions.OutboundPorts),
		OutboundRanges: slices.Clone(c.Exclusions.OutboundRanges),
		OutboundOnly:   slices.Clone(c.Exclusions.OutboundOnly),
		Interfaces:     slices.Clone(c.Exclusions.Interfaces),
	}
	for key, list := range map[string]*[]int{
		operatorv1alpha1.AnnotationInboundPortExclusions:  &out.InboundPorts,
		operatorv1alpha1.AnnotationOutboundPortExclusions: &out.OutboundPorts,
	} {
		ports, err := parsePorts(pod.Annotations, key)
		if err != nil {
			return Exclusions{}, err
		}
		*list = sorted(append(*list, ports...))
	}
	for key, list := range map[string]*[]string{
		operatorv1alpha1.AnnotationOutboundRangeExclusions: &out.OutboundRanges,
		operatorv1alpha1.AnnotationOutboundRangeInclusions: &out.OutboundOnly,
	} {
		ranges, err := parseRanges(pod.Annotations, key)
		if err != nil {
			return Exclusions{}, err
		}
		*list = sorted(append(*list, ranges...))
	}
	out.Interfaces = sorted(out.Interfaces)
	return out, nil
}

func sorted[T interface{ int | string }](in []T) []T {
	slices.Sort(in)
	return slices.Compact(in)
}

func parsePorts(annotations map[string]string, key string) ([]int, error) {
	var out []int
	for _, field := range fields(annotations, key) {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("annotation %s: %q is not a port: give numbers from 1 to 65535 with commas between", key, field)
		}
		out = append(out, n)
	}
	return out, nil
}

func parseRanges(annotations map[string]string, key string) ([]string, error) {
	var out []string
	for _, field := range fields(annotations, key) {
		p, err := netip.ParsePrefix(field)
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %q is not a range: give ranges such as 10.0.0.0/8 with commas between", key, field)
		}
		out = append(out, p.Masked().String())
	}
	return out, nil
}

func fields(annotations map[string]string, key string) []string {
	value, ok := annotations[key]
	if !ok {
		return nil
	}
	parts := strings.Split(value, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}
