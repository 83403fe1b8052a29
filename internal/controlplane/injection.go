package controlplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/inject"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// Injection gives the injector what it asks for, from the cache of the control plane.
type Injection struct {
	// Reader reads from the cache.
	Reader client.Reader
	// Base are the settings that the MeshConfig cannot change.
	Base inject.Config
	// Model returns the newest Model, nil before the first.
	Model func() *mesh.Model
}

// Namespace returns what is known of a namespace.
func (i *Injection) Namespace(ctx context.Context, name string) (inject.Namespace, error) {
	var ns corev1.Namespace
	if err := i.Reader.Get(ctx, client.ObjectKey{Name: name}, &ns); err != nil {
		return inject.Namespace{}, err
	}
	return inject.Namespace{Name: name, Labels: ns.Labels, Annotations: ns.Annotations}, nil
}

// Config returns the settings for new sidecars.
func (i *Injection) Config() (inject.Config, error) {
	m := i.Model()
	if m == nil {
		return inject.Config{}, errors.New("the control plane is still reading the cluster: try again")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var config configv1alpha2.MeshConfig
	key := client.ObjectKey{Namespace: i.Base.MeshNamespace, Name: operatorv1alpha1.MeshConfigName}
	if err := i.Reader.Get(ctx, key, &config); client.IgnoreNotFound(err) != nil {
		return inject.Config{}, fmt.Errorf("reading MeshConfig %s: %w", key, err)
	}
	return merge(i.Base, config.Spec, m.Settings), nil
}

// merge puts what a MeshConfig says of sidecars over the settings of the Mesh.
func merge(base inject.Config, spec configv1alpha2.MeshConfigSpec, settings mesh.Settings) inject.Config {
	c := base
	c.LeafLifetime = settings.LeafLifetime
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
	if t := spec.Traffic; t != nil {
		c.Exclusions = inject.Exclusions{
			InboundPorts: t.InboundPortExclusionList, OutboundPorts: t.OutboundPortExclusionList,
			OutboundRanges: t.OutboundIPRangeExclusionList, OutboundOnly: t.OutboundIPRangeInclusionList,
			Interfaces: t.NetworkInterfaceExclusionList,
		}
	}
	return c
}
