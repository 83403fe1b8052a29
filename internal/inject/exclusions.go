package inject

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// maxInterfaceName is how long the kernel takes the name of an interface.
const maxInterfaceName = 15

// LeftOut is what a sentence about an entry of a mesh-wide list ends with.
const LeftOut = "; it is left out"

// ExclusionsOf returns the mesh-wide lists of a MeshConfig as they are written.
func ExclusionsOf(t *configv1alpha2.TrafficSpec) Exclusions {
	if t == nil {
		return Exclusions{}
	}
	return Exclusions{
		InboundPorts: t.InboundPortExclusionList, OutboundPorts: t.OutboundPortExclusionList,
		OutboundRanges: t.OutboundIPRangeExclusionList, OutboundOnly: t.OutboundIPRangeInclusionList,
		Interfaces: t.NetworkInterfaceExclusionList,
	}
}

// Usable returns the mesh-wide lists without what cannot be followed, which would keep
// the init container of every pod from ending, and a sentence for each thing left out.
func (e Exclusions) Usable() (lists Exclusions, problems []string) {
	ports := func(field string, in []int, check func(int) error) []int {
		return usable(field, in, check, &problems)
	}
	texts := func(field string, in []string, check func(string) error) []string {
		return usable(field, in, check, &problems)
	}
	isRange := func(s string) error {
		_, err := parseRange(s)
		return err
	}
	return Exclusions{
		InboundPorts:   ports("traffic.inboundPortExclusionList", e.InboundPorts, checkInboundPort),
		OutboundPorts:  ports("traffic.outboundPortExclusionList", e.OutboundPorts, checkPort),
		OutboundRanges: texts("traffic.outboundIPRangeExclusionList", e.OutboundRanges, isRange),
		OutboundOnly:   texts("traffic.outboundIPRangeInclusionList", e.OutboundOnly, isRange),
		Interfaces:     texts("traffic.networkInterfaceExclusionList", e.Interfaces, checkInterface),
	}, problems
}

func usable[T any](field string, in []T, check func(T) error, problems *[]string) []T {
	var out []T
	for _, one := range in {
		if err := check(one); err != nil {
			*problems = append(*problems, fmt.Sprintf("%s: %v%s", field, err, LeftOut))
			continue
		}
		out = append(out, one)
	}
	return out
}

// exclusions joins the mesh-wide lists with those of the pod's annotations.
func exclusions(pod *corev1.Pod, c Config) (Exclusions, error) {
	out := Exclusions{
		InboundPorts:   slices.Clone(c.Exclusions.InboundPorts),
		OutboundPorts:  slices.Clone(c.Exclusions.OutboundPorts),
		OutboundRanges: slices.Clone(c.Exclusions.OutboundRanges),
		OutboundOnly:   slices.Clone(c.Exclusions.OutboundOnly),
		Interfaces:     slices.Clone(c.Exclusions.Interfaces),
	}
	for _, l := range []struct {
		key   string
		list  *[]int
		check func(int) error
	}{
		{operatorv1alpha1.AnnotationInboundPortExclusions, &out.InboundPorts, checkInboundPort},
		{operatorv1alpha1.AnnotationOutboundPortExclusions, &out.OutboundPorts, checkPort},
	} {
		ports, err := parsePorts(pod.Annotations, l.key, l.check)
		if err != nil {
			return Exclusions{}, err
		}
		*l.list = sorted(append(*l.list, ports...))
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

func checkPort(n int) error {
	if n < 1 || n > 65535 {
		return fmt.Errorf("%d is not a port: give numbers from 1 to 65535", n)
	}
	return nil
}

// checkInboundPort refuses the ports that the sidecar takes redirected connections on,
// and its admin interface: other pods would reach them directly.
func checkInboundPort(n int) error {
	switch n {
	case 15000, 15001, 15003:
		return fmt.Errorf("port %d is the sidecar's, and others must not reach it directly: take it off the list", n)
	default:
		return checkPort(n)
	}
}

// checkInterface takes names of interfaces, and stems with a + behind. The + alone
// would turn redirection off.
func checkInterface(name string) error {
	stem := strings.TrimSuffix(name, "+")
	odd := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/:+*"\`, r) }
	if stem == "" || stem == "." || stem == ".." || len(stem) > maxInterfaceName || strings.ContainsFunc(stem, odd) {
		return fmt.Errorf("%q is not the name of a network interface", name)
	}
	return nil
}

func parsePorts(annotations map[string]string, key string, check func(int) error) ([]int, error) {
	var out []int
	for _, field := range fields(annotations, key) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %q is not a port: give numbers from 1 to 65535 with commas between", key, field)
		}
		if err := check(n); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", key, err)
		}
		out = append(out, n)
	}
	return out, nil
}

func parseRanges(annotations map[string]string, key string) ([]string, error) {
	var out []string
	for _, field := range fields(annotations, key) {
		p, err := parseRange(field)
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", key, err)
		}
		out = append(out, p.String())
	}
	return out, nil
}

func parseRange(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is not a range: give ranges such as 10.0.0.0/8", text)
	case p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q: write a range of IPv4 addresses in IPv4's form, such as 10.0.0.0/8", text)
	}
	return p.Masked(), nil
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
