package inject_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/inject"
)

// TestSettingsTellWhatAPodWasMadeWith has each setting that new pods get be seen in the mark
// of a pod, and nothing else.
func TestSettingsTellWhatAPodWasMadeWith(t *testing.T) {
	t.Parallel()
	memory := func(q string) *corev1.ResourceRequirements {
		return &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(q)}}
	}
	plain := configv1alpha2.MeshConfigSpec{
		Sidecar: &configv1alpha2.SidecarSpec{Resources: memory("500m")},
		Traffic: &configv1alpha2.TrafficSpec{OutboundPortExclusionList: []int{1, 2}},
	}
	mark := func(c inject.Config, spec configv1alpha2.MeshConfigSpec, leaf time.Duration) string {
		t.Helper()
		wide, _ := inject.MeshWideOf(spec, leaf)
		injected, err := inject.Pod(pod(nil), namespace(), c.With(wide), "uuid-1")
		if err != nil {
			t.Fatal(err)
		}
		return injected.Annotations[operatorv1alpha1.AnnotationSettings]
	}
	const day = 24 * time.Hour
	before := mark(config(), plain, day)
	for name, tc := range map[string]struct {
		sidecar func(*configv1alpha2.SidecarSpec)
		traffic func(*configv1alpha2.TrafficSpec)
		config  func(*inject.Config)
		leaf    time.Duration
		same    bool
	}{
		"nothing":             {same: true},
		"resources":           {sidecar: func(s *configv1alpha2.SidecarSpec) { s.Resources = memory("400m") }},
		"resources, as much":  {sidecar: func(s *configv1alpha2.SidecarSpec) { s.Resources = memory("0.5") }, same: true},
		"a log level":         {sidecar: func(s *configv1alpha2.SidecarSpec) { s.LogLevel = "debug" }},
		"the log level":       {sidecar: func(s *configv1alpha2.SidecarSpec) { s.LogLevel = "error" }, same: true},
		"an image of Envoy":   {sidecar: func(s *configv1alpha2.SidecarSpec) { s.EnvoyImage = "envoy:2" }},
		"the image of Envoy":  {sidecar: func(s *configv1alpha2.SidecarSpec) { s.EnvoyImage = config().EnvoyImage }, same: true},
		"an image":            {sidecar: func(s *configv1alpha2.SidecarSpec) { s.InitContainerImage = "osm:2" }},
		"a privileged init":   {sidecar: func(s *configv1alpha2.SidecarSpec) { s.EnablePrivilegedInitContainer = new(true) }},
		"the pod's address":   {sidecar: func(s *configv1alpha2.SidecarSpec) { s.LocalProxyMode = "PodIP" }},
		"what is followed":    {sidecar: func(s *configv1alpha2.SidecarSpec) { s.TLSMinProtocolVersion = "TLSv1_2" }, same: true},
		"more ports":          {traffic: func(s *configv1alpha2.TrafficSpec) { s.OutboundPortExclusionList = []int{1, 2, 3} }},
		"another order":       {traffic: func(s *configv1alpha2.TrafficSpec) { s.OutboundPortExclusionList = []int{2, 1, 1} }, same: true},
		"ports the other way": {traffic: func(s *configv1alpha2.TrafficSpec) { s.InboundPortExclusionList = []int{1} }},
		"ranges":              {traffic: func(s *configv1alpha2.TrafficSpec) { s.OutboundIPRangeExclusionList = []string{"10.0.0.0/8"} }},
		"no other ranges":     {traffic: func(s *configv1alpha2.TrafficSpec) { s.OutboundIPRangeInclusionList = []string{"10.0.0.0/8"} }},
		"interfaces":          {traffic: func(s *configv1alpha2.TrafficSpec) { s.NetworkInterfaceExclusionList = []string{"net1"} }},
		"what is left out":    {traffic: func(s *configv1alpha2.TrafficSpec) { s.NetworkInterfaceExclusionList = []string{"+"} }, same: true},
		"a policy mode":       {traffic: func(s *configv1alpha2.TrafficSpec) { s.EnableEgress = new(true) }, same: true},
		"a lifetime":          {leaf: 2 * day},
		"images of the Mesh":  {config: func(c *inject.Config) { c.EnvoyImage = "envoy:2" }},
		"another revision":    {config: func(c *inject.Config) { c.Revision = "v0-2-0" }, same: true},
	} {
		spec, c, leaf := *plain.DeepCopy(), config(), day
		if tc.sidecar != nil {
			tc.sidecar(spec.Sidecar)
		}
		if tc.traffic != nil {
			tc.traffic(spec.Traffic)
		}
		if tc.config != nil {
			tc.config(&c)
		}
		if tc.leaf != 0 {
			leaf = tc.leaf
		}
		if got := mark(c, spec, leaf); (got == before) != tc.same {
			t.Errorf("%s: %s after %s, want the same: %t", name, got, before, tc.same)
		}
	}
}
