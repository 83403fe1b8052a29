package resource_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// flat is a set as one would write it without layers: versions by type and name.
type flat map[string]map[string]string

// drawLayer draws a set of one layer, and writes it into f, over what is there.
func drawLayer(rt *rapid.T, f flat) *resource.Set {
	s := resource.NewSet()
	for i := range 3 {
		name := fmt.Sprint(i)
		version := rapid.SampledFrom([]string{"", "", "1", "2"}).Draw(rt, "version")
		for typeURL, msg := range map[string]proto.Message{
			resource.ClusterType:  &clusterv3.Cluster{Name: name, AltStatName: version},
			resource.ListenerType: &listenerv3.Listener{Name: name, StatPrefix: version},
		} {
			if version == "" {
				continue
			}
			r, err := resource.New(msg, name)
			if err != nil {
				rt.Fatal(err)
			}
			s.Add(r)
			f[typeURL][name] = r.Version
		}
		if rapid.Bool().Draw(rt, "refers") {
			s.Refer(name, []ir.EndpointSet{})
			f[resource.EndpointType][name] = ""
		}
	}
	return s
}

func drawSet(rt *rapid.T) (*resource.Set, flat) {
	f := flat{resource.ClusterType: {}, resource.ListenerType: {}, resource.EndpointType: {}}
	below := drawLayer(rt, f)
	return drawLayer(rt, f).Over(below), f
}

func TestLayersAreReadAsOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s, want := drawSet(rt)
		got := flat{resource.EndpointType: {}}
		for _, typeURL := range []string{resource.ClusterType, resource.ListenerType} {
			got[typeURL] = map[string]string{}
			for n, r := range s.All(typeURL) {
				got[typeURL][n] = r.Version
				if s.Get(typeURL, n) != r {
					rt.Errorf("%s %s is got otherwise than listed", typeURL, n)
				}
			}
			inOrder := s.Sorted(typeURL)
			if len(inOrder) != len(got[typeURL]) || !slices.IsSortedFunc(inOrder, func(a, b *resource.Resource) int { return strings.Compare(a.Name, b.Name) }) {
				rt.Errorf("in order, %s has %d resources, want %d", typeURL, len(inOrder), len(got[typeURL]))
			}
			for _, r := range inOrder {
				if s.Get(typeURL, r.Name) != r {
					rt.Errorf("in order, %s %s is another one", typeURL, r.Name)
				}
			}
			if s.Has(typeURL) != (len(want[typeURL]) > 0) {
				rt.Errorf("has %s is %t", typeURL, s.Has(typeURL))
			}
		}
		for n := range s.References() {
			if _, twice := got[resource.EndpointType][n]; twice || !s.RefersTo(n) {
				rt.Errorf("a reference to %s: listed twice %t, has it %t", n, twice, s.RefersTo(n))
			}
			got[resource.EndpointType][n] = ""
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestDifferenceNamesAllThatDiffers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		none := func() flat {
			return flat{resource.ClusterType: {}, resource.ListenerType: {}, resource.EndpointType: {}}
		}
		before, after := none(), none()
		a, b := drawLayer(rt, before).Own(), drawLayer(rt, after).Own()
		switch rapid.IntRange(0, 4).Draw(rt, "which") {
		case 0:
			a, before = nil, none()
		case 1:
			b, after = nil, none()
		case 2:
			b, after = a, before
		}
		got := resource.Difference(a, b)
		for typeURL := range before {
			var want []string
			for n, v := range before[typeURL] {
				if other, ok := after[typeURL][n]; !ok || other != v {
					want = append(want, n)
				}
			}
			for n := range after[typeURL] {
				if _, ok := before[typeURL][n]; !ok {
					want = append(want, n)
				}
			}
			slices.Sort(want)
			if diff := cmp.Diff(want, slices.Sorted(slices.Values(got[typeURL]))); diff != "" {
				rt.Errorf("%s (-want +got):\n%s", typeURL, diff)
			}
			delete(got, typeURL)
		}
		if len(got) > 0 {
			rt.Errorf("other types: %v", slices.Collect(maps.Keys(got)))
		}
	})
}
