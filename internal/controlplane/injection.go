package controlplane

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/inject"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/watch"
)

// Injection gives the injector what it asks for. It is safe for concurrent use.
type Injection struct {
	// Read-only after NewInjection.
	reader client.Reader
	base   inject.Config
	roots  func() string

	followed atomic.Pointer[inject.MeshWide]
}

// NewInjection returns an Injection that waits for the MeshConfig. reader reads
// namespaces and control planes from the cache; base are the settings of this control plane
// that the MeshConfig cannot change; roots returns the mesh's roots as PEM.
func NewInjection(reader client.Reader, base inject.Config, roots func() string) *Injection {
	return &Injection{reader: reader, base: base, roots: roots}
}

// Namespace returns what is known of a namespace.
func (i *Injection) Namespace(ctx context.Context, name string) (inject.Namespace, error) {
	labels, annotations, err := watch.ReadNamespace(ctx, i.reader, name)
	return inject.Namespace{Name: name, Labels: labels, Annotations: annotations}, err
}

// Config returns the settings for the sidecar of a pod that asks for a revision, or for
// none: the mesh's current one then. A revision that is gone gives the current one too,
// since a workload that was scaled down may still ask for it.
func (i *Injection) Config(ctx context.Context, revision string) (inject.Config, error) {
	f := i.followed.Load()
	if f == nil {
		return inject.Config{}, errors.New("the control plane has not read its MeshConfig yet: try again")
	}
	c, err := i.revision(ctx, revision)
	if err != nil {
		return inject.Config{}, err
	}
	c = c.With(*f)
	c.Roots = i.roots()
	return c, nil
}

// revision returns the settings of a control plane, which may be another than this.
func (i *Injection) revision(ctx context.Context, wanted string) (inject.Config, error) {
	if wanted != "" && wanted != i.base.Revision {
		c, found, err := i.other(ctx, wanted)
		if err != nil || found {
			return c, err
		}
	}
	if wanted == i.base.Revision {
		return i.base, nil
	}
	current, err := watch.ReadCurrentRevision(ctx, i.reader, i.base.Mesh)
	if err != nil {
		return inject.Config{}, err
	}
	if current == "" || current == i.base.Revision {
		return i.base, nil
	}
	c, found, err := i.other(ctx, current)
	if err != nil || found {
		return c, err
	}
	return i.base, nil
}

// other returns the settings of another control plane of the mesh, if it is there.
func (i *Injection) other(ctx context.Context, revision string) (inject.Config, bool, error) {
	spec, found, err := watch.ReadRevision(ctx, i.reader, render.RevisionObject(i.base.Mesh, revision))
	if err != nil || !found || spec.Mesh != i.base.Mesh {
		return inject.Config{}, false, err
	}
	c := i.base
	c.Revision = spec.Revision
	c.ControlPlane, c.ControlPlaneName = Host(spec.Namespace, spec.Revision)
	c.ControlPlaneID = identity.ControlPlane(identity.TrustDomain(spec.TrustDomain), spec.Mesh, spec.Revision)
	c.OSMImage, c.EnvoyImage, c.PullPolicy, c.Identity = spec.OSMImage, spec.EnvoyImage, spec.PullPolicy, spec.WorkloadIdentity
	return c, true, nil
}

// Host returns the host at which a revision serves its proxies, and the name in
// its certificate.
func Host(namespace, revision string) (host, name string) {
	name = render.Deployment(revision) + "." + namespace + ".svc"
	return name + ".cluster.local", name
}

// Follow takes the MeshConfig, and returns what of it cannot be followed, a sentence each.
func (i *Injection) Follow(spec configv1alpha2.MeshConfigSpec, leafLifetime time.Duration) (problems []string) {
	f, problems := inject.MeshWideOf(spec, leafLifetime)
	i.followed.Store(&f)
	return problems
}
