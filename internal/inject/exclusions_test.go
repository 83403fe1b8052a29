package inject_test

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/inject"
	"github.com/openservicemesh/osm-operator/internal/redirect"
)

func TestMeshWideListsAreFollowedAsFarAsTheyCanBe(t *testing.T) {
	got, problems := inject.Exclusions{
		InboundPorts: []int{9000, 15003, 0}, OutboundPorts: []int{15003, 70000},
		OutboundRanges: []string{"10.0.0.0/8", "10.0.0.1"}, OutboundOnly: []string{"::ffff:10.0.0.0/104"},
		Interfaces: []string{"net1", "cali+", "+", "a/b"},
	}.Usable()
	want := inject.Exclusions{
		InboundPorts: []int{9000}, OutboundPorts: []int{15003}, OutboundRanges: []string{"10.0.0.0/8"}, Interfaces: []string{"net1", "cali+"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for i, part := range []string{"inboundPortExclusionList: port 15003", "0 is not a port", "70000", `"10.0.0.1"`, "outboundIPRangeInclusionList", `"+"`, `"a/b"`} {
		if i >= len(problems) || !strings.Contains(problems[i], part) {
			t.Fatalf("problems %q, want the one at %d to speak of %s", problems, i, part)
		}
	}
	if len(problems) != 7 {
		t.Errorf("%d problems: %q", len(problems), problems)
	}
}

// TestWhatIsAdmittedCanBeRedirected draws lists, good and bad, of the mesh and of the pod:
// a pod that is let in has an init container that can do what it is told to.
func TestWhatIsAdmittedCanBeRedirected(t *testing.T) {
	ports := []int{-1, 0, 1, 80, 9000, 14999, 15000, 15001, 15002, 15003, 15010, 15128, 65535, 65536}
	ranges := []string{"10.0.0.0/8", "10.1.2.3/8", "fd00::/8", "::ffff:10.0.0.0/104", "0.0.0.0/0", "10.0.0.1", "x", ""}
	interfaces := []string{"net1", "cali+", "+", "", "a b", "way-too-long-name", "..", "a:b"}
	rapid.Check(t, func(rt *rapid.T) {
		drawPorts := func(name string) []int { return rapid.SliceOfN(rapid.SampledFrom(ports), 0, 3).Draw(rt, name) }
		drawTexts := func(name string, from []string) []string {
			return rapid.SliceOfN(rapid.SampledFrom(from), 0, 3).Draw(rt, name)
		}
		c := config()
		c.Exclusions, _ = inject.Exclusions{
			InboundPorts: drawPorts("inbound"), OutboundPorts: drawPorts("outbound"), OutboundRanges: drawTexts("ranges", ranges),
			OutboundOnly: drawTexts("only", ranges), Interfaces: drawTexts("interfaces", interfaces),
		}.Usable()
		p := pod(func(p *corev1.Pod) {
			p.Annotations = map[string]string{}
			annotate := func(key string, values []string) {
				if len(values) > 0 {
					p.Annotations[key] = strings.Join(values, ",")
				}
			}
			annotate(operatorv1alpha1.AnnotationInboundPortExclusions, numbers(drawPorts("inbound annotation")))
			annotate(operatorv1alpha1.AnnotationOutboundPortExclusions, numbers(drawPorts("outbound annotation")))
			annotate(operatorv1alpha1.AnnotationOutboundRangeExclusions, drawTexts("range annotation", ranges))
		})
		out, err := inject.Pod(p, namespace(), c, "uuid-1")
		if err != nil {
			return
		}
		if err := redirection(out.Spec.InitContainers[0].Args).Validate(); err != nil {
			rt.Errorf("admitted with %q: %v", out.Spec.InitContainers[0].Args, err)
		}
	})
}

func numbers(in []int) []string {
	var out []string
	for _, n := range in {
		out = append(out, strconv.Itoa(n))
	}
	return out
}

// redirection reads the arguments of the init container.
func redirection(args []string) redirect.Config {
	c := redirect.Default()
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		for one := range strings.SplitSeq(value, ",") {
			switch name {
			case "--inbound-exclude-ports":
				c.InboundPortExclusions = append(c.InboundPortExclusions, port(one))
			case "--outbound-exclude-ports":
				c.OutboundPortExclusions = append(c.OutboundPortExclusions, port(one))
			case "--outbound-exclude-cidrs":
				c.OutboundCIDRExclusions = append(c.OutboundCIDRExclusions, prefix(one))
			case "--outbound-include-cidrs":
				c.OutboundCIDRInclusions = append(c.OutboundCIDRInclusions, prefix(one))
			case "--exclude-interfaces":
				c.InterfaceExclusions = append(c.InterfaceExclusions, one)
			}
		}
	}
	return c
}

// port is 0, which is refused, where a text is none.
func port(text string) uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// prefix is the zero value, which is refused, where a text is none.
func prefix(text string) netip.Prefix {
	p, _ := netip.ParsePrefix(text)
	return p
}
