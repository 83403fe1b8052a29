package policy_test

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/policy"
)

// without returns the policies without each one, by its name.
func without(p mesh.Policies) map[policy.ObjectName]mesh.Policies {
	out := map[policy.ObjectName]mesh.Policies{}
	all := reflect.ValueOf(p)
	for i := range all.NumField() {
		for _, key := range all.Field(i).MapKeys() {
			rest := p
			kept := reflect.MakeMap(all.Field(i).Type())
			for entries := all.Field(i).MapRange(); entries.Next(); {
				if !entries.Key().Equal(key) {
					kept.SetMapIndex(entries.Key(), entries.Value())
				}
			}
			reflect.ValueOf(&rest).Elem().Field(i).Set(kept)
			out[policy.ObjectName{Kind: kindOf(all.Type().Field(i).Name), Key: key.Interface().(mesh.Key)}] = rest
		}
	}
	return out
}

// kindOf is the kind of a field of mesh.Policies.
func kindOf(field string) string {
	switch field {
	case "Retries":
		return "Retry"
	case "Egresses":
		return "Egress"
	default:
		return field[:len(field)-1]
	}
}

// TestDependentsAreThoseForWhomItMakesADifference takes each policy away, and compares whose
// configuration is another one then: nobody is among them who was not said to depend on it.
func TestDependentsAreThoseForWhomItMakesADifference(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		f := maker{rt: rt}.facts()
		full := f.Model()
		before, c := compile(full, nil)
		dependents := c.Dependents()
		some := 3 // of what is drawn, to take less time
		for name, rest := range without(f.Policies) {
			if some == 0 {
				break
			}
			some--
			m := *full
			m.Policies = rest
			after, _ := compile(&m, nil)
			for id, p := range after.Proxies {
				if !slices.Contains(dependents[name], id) && !reflect.DeepEqual(p, before.Proxies[id]) {
					rt.Errorf("%s %s makes a difference for class %s, which is not among %q", name.Kind, name.Key, id, dependents[name])
				}
			}
		}
	})
}

// TestDependents are no more than those that read what a policy says.
func TestDependents(t *testing.T) {
	t.Parallel()
	f := bookshop(20, false)
	_, c := compile(f.Model(), nil)
	got := c.Dependents()
	first := mesh.Key{Namespace: "ns-0", Name: "s0000"}
	for kind, want := range map[string]int{"TrafficTarget": 6, "HTTPRouteGroup": 6} {
		if classes := got[policy.ObjectName{Kind: kind, Key: first}]; len(classes) != want {
			t.Errorf("a %s concerns %q, want %d classes", kind, classes, want)
		}
	}
	f.Permissive = true
	_, c = compile(f.Model(), nil)
	if got := slices.Collect(maps.Keys(c.Dependents())); len(got) > 0 {
		t.Errorf("in permissive mode %v concern somebody", got)
	}
}

func TestStatesOfPolicies(t *testing.T) {
	t.Parallel()
	f := bookshop(5, false)
	state := func() string {
		_, c := compile(f.Model(), nil)
		return policy.State(c.Report())
	}
	before := state()
	if diff := cmp.Diff(before, state()); diff != "" {
		t.Errorf("of the same policies (-want +got):\n%s", diff)
	}
	target := f.Policies.TrafficTargets[mesh.Key{Namespace: "ns-0", Name: "s0000"}]
	target.UID = "uid"
	if named := state(); named == before {
		t.Error("another object is the same state")
	} else {
		before = named
	}
	target.Generation++
	if state() == before {
		t.Error("another generation is the same state")
	}
}
