package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/openservicemesh/osm-operator/internal/mesh/meshtest"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
)

// TestMatchesAndSourcesDoNotMultiply: what proxies are sent grows with what somebody writes, and
// not with its square: otherwise two objects of a namespace would fill the control plane's memory.
func TestMatchesAndSourcesDoNotMultiply(t *testing.T) {
	t.Parallel()
	sources, matches := make([]string, 10_000), make([]string, 3000)
	for i := range sources {
		sources[i] = fmt.Sprintf("{kind: ServiceAccount, name: s%d, namespace: shop}", i)
	}
	for i := range matches {
		matches[i] = fmt.Sprintf("{name: m%d, pathRegex: '/a/%d/.*'}", i, i)
	}
	for name, n := range map[string]int{"as few as have routes of their own": 500, "as many as share one": len(matches)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			written := strings.Replace(badTarget, "[{kind: ServiceAccount, name: buyer, namespace: shop}]", "["+strings.Join(sources, ", ")+"]", 1) +
				fmt.Sprintf(badGroup, strings.Join(matches[:n], ", "))
			facts, err := meshtest.Read([]byte(badMesh + written))
			if err != nil {
				t.Fatal(err)
			}
			m := facts.Model()
			c, translator := policy.New(m, bundle(), nil), translate.New()
			for id, class := range m.Classes {
				set, err := translator.Proxy(c.Proxy(class))
				if err != nil {
					t.Fatalf("class %s: %v", id, err)
				}
				size := 0
				for _, kind := range []string{resource.ListenerType, resource.RouteType, resource.ClusterType} {
					for _, r := range set.All(kind) {
						size += len(r.Body)
					}
				}
				if most := 8 * len(written); size > most {
					t.Errorf("class %s: %d bytes are written, and %d are sent", id, len(written), size)
				}
			}
		})
	}
}
