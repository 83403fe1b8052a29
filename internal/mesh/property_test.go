package mesh_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// world is a small cluster whose things come, change and go. about tells which thing a
// fact is about, so that the last fact about each is known.
func drawFact(t *rapid.T) (about string, fact mesh.Fact) {
	ns := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace")
	name := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "name")
	k := key(ns, name)
	gone := rapid.IntRange(0, 3).Draw(t, "gone") == 0
	kind := rapid.SampledFrom([]string{"namespace", "service", "slice", "pod", "node", "group", "split", "settings"}).Draw(t, "kind")
	switch kind {
	case "namespace":
		return kind + ns, mesh.NamespaceFact{Name: ns, Monitored: !gone}
	case "service":
		f := mesh.ServiceFact{Key: k}
		if !gone {
			f.Service = drawService(t, k)
		}
		return kind + k.String(), f
	case "slice":
		f := mesh.SliceFact{Key: k}
		if !gone {
			f.Slice = drawSlice(t, k)
		}
		return kind + k.String(), f
	case "pod":
		f := mesh.PodFact{Key: k}
		if !gone {
			f.Pod = drawPod(t, k)
		}
		return kind + k.String(), f
	case "node":
		return kind + name, mesh.NodeFact{Name: name, Zone: rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "zone")}
	case "group":
		return kind + k.String(), drawPolicy[specsv1alpha4.HTTPRouteGroupSpec](t, k, gone)
	case "split":
		return kind + k.String(), drawPolicy[splitv1alpha4.TrafficSplitSpec](t, k, gone)
	default:
		s := settings()
		s.Permissive = gone
		return kind, mesh.SettingsFact{Settings: s}
	}
}

func drawPolicy[S mesh.PolicySpec](t *rapid.T, k mesh.Key, gone bool) mesh.Fact {
	if gone {
		return mesh.PolicyFact[S]{Key: k}
	}
	return object[S](k, rapid.Int64Range(1, 2).Draw(t, "generation"), time.Unix(0, 0))
}

func drawLabels(t *rapid.T, name string) map[string]string {
	values := rapid.SampledFrom([]string{"", "1", "2"})
	out := map[string]string{}
	for _, label := range []string{"app", "tier"} {
		if v := values.Draw(t, name+label); v != "" {
			out[label] = v
		}
	}
	return out
}

func drawService(t *rapid.T, k mesh.Key) *mesh.Service {
	s := &mesh.Service{Key: k, Selector: drawLabels(t, "selector"), PreferSameZone: rapid.IntRange(0, 4).Draw(t, "locality") == 0}
	for i := range rapid.IntRange(0, 2).Draw(t, "ports") {
		s.Ports = append(s.Ports, mesh.ServicePort{
			Name: fmt.Sprintf("p%d", i), Number: uint16(80 + i), TargetPortName: rapid.SampledFrom([]string{"", "web"}).Draw(t, "target"), Protocol: mesh.HTTP,
		})
	}
	return s
}

func drawSlice(t *rapid.T, k mesh.Key) *mesh.Slice {
	s := &mesh.Slice{
		Key: k, Service: key(k.Namespace, rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "service")),
		Ports: map[string]uint16{"p0": uint16(rapid.IntRange(8080, 8081).Draw(t, "port"))},
	}
	for range rapid.IntRange(0, 3).Draw(t, "endpoints") {
		s.Endpoints = append(s.Endpoints, mesh.SliceEndpoint{
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(1, 4).Draw(t, "address"))})},
			Ready:     rapid.Bool().Draw(t, "ready"), Terminating: rapid.Bool().Draw(t, "terminating"),
			Pod: key(k.Namespace, rapid.SampledFrom([]string{"x", "y", ""}).Draw(t, "pod")),
		})
	}
	return s
}

func drawPod(t *rapid.T, k mesh.Key) *mesh.Pod {
	return &mesh.Pod{
		Workload: mesh.Workload{
			Key: k, UID: rapid.SampledFrom([]string{"1", "2"}).Draw(t, "uid"), Meshed: rapid.Bool().Draw(t, "meshed"),
			ServiceAccount: identity.ServiceAccount{Namespace: k.Namespace, Name: rapid.SampledFrom([]string{"i", "j"}).Draw(t, "account")},
			Node:           rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "node"),
		},
		Labels: drawLabels(t, "label"), NamedPorts: map[string]uint16{"web": uint16(rapid.IntRange(8080, 8081).Draw(t, "port"))},
		Ended: rapid.IntRange(0, 4).Draw(t, "ended") == 0,
	}
}

// TestIncrementalEqualsFromScratch gives facts one by one, publishing now and then, and
// holds each Model to one made at once of the last fact about each thing, in another
// order; and each Change to what differs between two Models.
func TestIncrementalEqualsFromScratch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := mesh.NewState(settings())
		last := map[string]mesh.Fact{}
		before, _ := s.Publish()
		copied := *before
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			about, fact := drawFact(t)
			last[about] = fact
			s.Apply(fact)
			if rapid.IntRange(0, 2).Draw(t, "publish") != 0 {
				continue
			}
			after, change := s.Publish()
			if diff := cmp.Diff(difference(before, after), change); diff != "" {
				t.Fatalf("the change is not what differs (-differs +change):\n%s", diff)
			}
			if diff := cmp.Diff(&copied, before, addresses()); diff != "" {
				t.Fatalf("a published Model has changed:\n%s", diff)
			}
			before, copied = after, clone(after)
		}
		incremental, _ := s.Publish()
		var facts []mesh.Fact
		for _, f := range last {
			facts = append(facts, f)
		}
		scratch := publish(rapid.Permutation(facts).Draw(t, "order")...)
		if diff := cmp.Diff(scratch, incremental, addresses()); diff != "" {
			t.Fatalf("incremental is not the same as from scratch (-scratch +incremental):\n%s", diff)
		}
	})
}

// clone copies a Model as deep as a State may change by mistake.
func clone(m *mesh.Model) mesh.Model {
	out := *m
	for _, field := range []string{"Namespaces", "Services", "Endpoints", "Workloads", "Classes", "ServiceAccounts", "Running"} {
		v := reflect.ValueOf(&out).Elem().FieldByName(field)
		next := reflect.MakeMap(v.Type())
		for iter := v.MapRange(); iter.Next(); {
			value := iter.Value()
			if value.Kind() == reflect.Pointer {
				value = reflect.New(value.Type().Elem())
				value.Elem().Set(iter.Value().Elem())
			}
			next.SetMapIndex(iter.Key(), value)
		}
		v.Set(next)
	}
	return out
}

// difference is what a Change should say of two Models.
func difference(a, b *mesh.Model) mesh.Change {
	services := differs(a.Services, b.Services)
	for k := range differs(a.ServiceAccounts, b.ServiceAccounts) {
		services[k] = struct{}{}
	}
	return mesh.Change{
		Endpoints: differs(a.Endpoints, b.Endpoints), Services: services, Classes: differs(a.Classes, b.Classes),
		Workloads: differs(a.Workloads, b.Workloads), Policies: !reflect.DeepEqual(a.Policies, b.Policies),
		Settings: !reflect.DeepEqual(a.Settings, b.Settings), Namespaces: len(differs(a.Namespaces, b.Namespaces)) > 0,
	}
}

func differs[K comparable, V any](a, b map[K]V) map[K]struct{} {
	out := map[K]struct{}{}
	for k, v := range a {
		if other, ok := b[k]; !ok || !reflect.DeepEqual(v, other) {
			out[k] = struct{}{}
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			out[k] = struct{}{}
		}
	}
	return out
}

// FuzzState takes whatever facts there may be.
func FuzzState(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		s := mesh.NewState(settings())
		for range rapid.IntRange(0, 50).Draw(t, "steps") {
			_, fact := drawFact(t)
			s.Apply(fact)
			if m, _ := s.Publish(); m == nil {
				t.Fatal("no Model")
			}
		}
	}))
}

// TestEndpointsDifferByEachField holds the comparison that is written by hand to all
// fields of an Endpoint, those to come included.
func TestEndpointsDifferByEachField(t *testing.T) {
	base := mesh.SliceEndpoint{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	values := map[string]any{
		"Addresses": []netip.Addr{netip.MustParseAddr("10.0.0.2")}, "Ready": true, "Serving": true, "Terminating": true,
		"Hostname": "h", "Node": "n", "Zone": "z", "ZoneHints": []string{"z"}, "Pod": key("a", "p"),
	}
	for i := range reflect.TypeFor[mesh.SliceEndpoint]().NumField() {
		field := reflect.TypeFor[mesh.SliceEndpoint]().Field(i).Name
		value, ok := values[field]
		if !ok {
			t.Errorf("field %s is not tested", field)
			continue
		}
		s := mesh.NewState(settings())
		with := func(e mesh.SliceEndpoint) mesh.Fact {
			return slice("a", "s", "web", "10.0.0.1", func(s *mesh.Slice) { s.Endpoints = []mesh.SliceEndpoint{e} })
		}
		s.Apply(namespace("a"), service("a", "web"), with(base))
		s.Publish()
		other := base
		reflect.ValueOf(&other).Elem().Field(i).Set(reflect.ValueOf(value))
		s.Apply(with(other))
		if _, c := s.Publish(); len(c.Endpoints) != 1 {
			t.Errorf("another %s is no change", field)
		}
	}
	if got, want := reflect.TypeFor[mesh.Endpoint]().NumField(), reflect.TypeFor[mesh.SliceEndpoint]().NumField()+1; got != want {
		t.Errorf("an Endpoint has %d fields, but sameEndpoint was written for %d", got, want)
	}
}
