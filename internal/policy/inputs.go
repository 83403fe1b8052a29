package policy

import (
	"reflect"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// inputs are what policies are compiled from: the parts of a Model that are read, and no
// others. What is not here cannot be read, and what is here is compared, so that nothing
// that matters goes unnoticed. Maps of a Model are other maps if anything in them is.
type inputs struct {
	Settings        mesh.Settings
	Namespaces      map[string]*mesh.Namespace
	Services        map[mesh.Key]*mesh.Service
	ServiceAccounts map[mesh.Key][]identity.ServiceAccount
	Running         map[identity.ServiceAccount]bool
	Classes         map[string]*mesh.Class
	Policies        mesh.Policies
	TrustBundle     []byte
	// endpoints come and go all the time, and few of them matter here.
	endpoints reading[*mesh.Endpoints]
}

func inputsOf(m *mesh.Model, trustBundle []byte) inputs {
	return inputs{
		Settings: m.Settings, Namespaces: m.Namespaces, Services: m.Services, ServiceAccounts: m.ServiceAccounts, Running: m.Running,
		Classes: m.Classes, Policies: m.Policies, TrustBundle: trustBundle,
		endpoints: reading[*mesh.Endpoints]{all: m.Endpoints, read: map[mesh.Key]*mesh.Endpoints{}},
	}
}

// same reports whether nothing differs that was read of these inputs.
func (in *inputs) same(now inputs) bool {
	return in.endpoints.same(now.endpoints) && identical(reflect.ValueOf(in).Elem(), reflect.ValueOf(now))
}

// same reports whether two maps are one.
func same[K comparable, V any](a, b map[K]V) bool {
	return identical(reflect.ValueOf(a), reflect.ValueOf(b))
}

// identical compares maps by what they are, and all else by value.
func identical(a, b reflect.Value) bool {
	switch {
	case a.Kind() == reflect.Map:
		return a.UnsafePointer() == b.UnsafePointer()
	case a.Kind() != reflect.Struct:
		return reflect.DeepEqual(a.Interface(), b.Interface())
	}
	for i := range a.NumField() {
		if a.Type().Field(i).IsExported() && !identical(a.Field(i), b.Field(i)) {
			return false
		}
	}
	return true
}

// reading is a map of which it is known what was read.
type reading[V comparable] struct{ all, read map[mesh.Key]V }

func (r reading[V]) get(key mesh.Key) V {
	v := r.all[key]
	r.read[key] = v
	return v
}

// same reports whether what was read is in another map as well.
func (r reading[V]) same(now reading[V]) bool {
	for key, v := range r.read {
		if now.all[key] != v {
			return false
		}
	}
	return true
}

func (c *Compiler) serviceOf(key mesh.Key) *mesh.Service { return c.model.Services[key] }
