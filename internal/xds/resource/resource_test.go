package resource_test

import (
	"bytes"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

func TestTypeURLsAreThoseOfTheMessages(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		msg  proto.Message
		want string
	}{
		"a listener":        {&listenerv3.Listener{}, resource.ListenerType},
		"a route":           {&routev3.RouteConfiguration{}, resource.RouteType},
		"a cluster":         {&clusterv3.Cluster{}, resource.ClusterType},
		"a load assignment": {&endpointv3.ClusterLoadAssignment{}, resource.EndpointType},
		"a secret":          {&tlsv3.Secret{}, resource.SecretType},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := resource.New(tt.msg, "x")
			if err != nil {
				t.Fatal(err)
			}
			if r.TypeURL != tt.want || r.Name != "x" {
				t.Errorf("got %s %q, want %s %q", r.TypeURL, r.Name, tt.want, "x")
			}
		})
	}
}

func TestVersionFollowsTheContents(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		draw := rapid.MapOf(rapid.StringN(0, 8, 8), rapid.StringN(0, 8, 8))
		a, b := draw.Draw(rt, "a"), draw.Draw(rt, "b")
		ra, rb := cluster(rt, a), cluster(rt, b)
		if again := cluster(rt, a); again.Version != ra.Version || !bytes.Equal(again.Body, ra.Body) {
			rt.Errorf("the same contents gave %s and %s", ra.Version, again.Version)
		}
		if same := proto.Equal(message(rt, a), message(rt, b)); same != (ra.Version == rb.Version) {
			rt.Errorf("contents equal is %t, versions are %s and %s", same, ra.Version, rb.Version)
		}
	})
}

func TestSetHoldsOneResourceOfAName(t *testing.T) {
	t.Parallel()
	first, err := resource.New(&clusterv3.Cluster{Name: "a"}, "a")
	if err != nil {
		t.Fatal(err)
	}
	second, err := resource.New(&clusterv3.Cluster{Name: "a", AltStatName: "b"}, "a")
	if err != nil {
		t.Fatal(err)
	}
	s := resource.NewSet()
	s.Add(first)
	s.Add(second)
	if got := s.Get(resource.ClusterType, "a"); got != second {
		t.Errorf("got %v, want the one added last", got)
	}
	if got := s.Get(resource.ListenerType, "a"); got != nil {
		t.Errorf("got %v for a listener, want none", got)
	}
}

func message(rt *rapid.T, fields map[string]string) *clusterv3.Cluster {
	values := map[string]any{}
	for k, v := range fields {
		values[k] = v
	}
	s, err := structpb.NewStruct(values)
	if err != nil {
		rt.Skip(err)
	}
	return &clusterv3.Cluster{Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"x": s}}}
}

func cluster(rt *rapid.T, fields map[string]string) *resource.Resource {
	r, err := resource.New(message(rt, fields), "c")
	if err != nil {
		rt.Fatal(err)
	}
	return r
}
