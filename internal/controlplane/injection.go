package controlplane

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/inject"
	"github.com/openservicemesh/osm-operator/internal/watch"
)

// Injection gives the injector what it asks for. It is safe for concurrent use.
type Injection struct {
	// Read-only after NewInjection.
	reader client.Reader
	base   inject.Config
	roots  func() string

	current atomic.Pointer[inject.Config]
}

// NewInjection returns an Injection that waits for the MeshConfig. reader reads
// namespaces from the cache; base are the settings that the MeshConfig cannot change;
// roots returns the mesh's roots as PEM.
func NewInjection(reader client.Reader, base inject.Config, roots func() string) *Injection {
	return &Injection{reader: reader, base: base, roots: roots}
}

// Namespace returns what is known of a namespace.
func (i *Injection) Namespace(ctx context.Context, name string) (inject.Namespace, error) {
	labels, annotations, err := watch.ReadNamespace(ctx, i.reader, name)
	return inject.Namespace{Name: name, Labels: labels, Annotations: annotations}, err
}

// Config returns the settings for new sidecars.
func (i *Injection) Config() (inject.Config, error) {
	c := i.current.Load()
	if c == nil {
		return inject.Config{}, errors.New("the control plane has not read its MeshConfig yet: try again")
	}
	config := *c
	config.Roots = i.roots()
	return config, nil
}

// Follow takes the MeshConfig, and returns what of it cannot be followed, a sentence each.
func (i *Injection) Follow(spec configv1alpha2.MeshConfigSpec, leafLifetime time.Duration) (problems []string) {
	c := i.base
	c.LeafLifetime = leafLifetime
	if s := spec.Sidecar; s != nil {
		c.LogLevel = s.LogLevel
		c.EnvoyImage = cmp.Or(s.EnvoyImage, c.EnvoyImage)
		c.OSMImage = cmp.Or(s.InitContainerImage, c.OSMImage)
		c.PrivilegedInit = s.EnablePrivilegedInitContainer != nil && *s.EnablePrivilegedInitContainer
		c.PodIPMode = s.LocalProxyMode == "PodIP"
		if s.Resources != nil {
			c.Resources = *s.Resources
		}
	}
	c.Exclusions, problems = inject.ExclusionsOf(spec.Traffic).Usable()
	i.current.Store(&c)
	return problems
}
