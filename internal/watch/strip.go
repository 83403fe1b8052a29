package watch

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// ownPrefix is what the names of the mesh's labels and annotations begin with.
const ownPrefix = "openservicemesh.io/"

const scrapeAnnotation = "prometheus.io/scrape"

// CacheOptions are how the cache that a Watcher reads from is to hold objects: without
// what nobody reads, so that it is small in a large cluster, and MeshConfigs of the
// mesh's namespace only, since others may not be read. reach tells how the cache gets
// on with the API server.
func CacheOptions(meshNamespace string, reach *Reach) cache.Options {
	by := byObject()
	by[&configv1alpha2.MeshConfig{}] = cache.ByObject{Namespaces: map[string]cache.Config{meshNamespace: {}}}
	return cache.Options{DefaultTransform: stripMetadata, ByObject: by, NewInformer: reach.informer}
}

// byObject is how a cache is to hold the large kinds.
func byObject() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&corev1.Pod{}:                {Transform: stripPod},
		&corev1.Service{}:            {Transform: stripService},
		&corev1.Namespace{}:          {Transform: stripNamespace},
		&discoveryv1.EndpointSlice{}: {Transform: stripSlice},
	}
}

// stripMetadata drops what only those who wrote an object need.
func stripMetadata(o any) (any, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return o, nil //nolint:nilerr // what has no metadata has nothing to drop
	}
	m.SetManagedFields(nil)
	if a := m.GetAnnotations(); a[corev1.LastAppliedConfigAnnotation] != "" {
		a = maps.Clone(a)
		delete(a, corev1.LastAppliedConfigAnnotation)
		m.SetAnnotations(a)
	}
	return o, nil
}

// stripPod keeps of a pod what podOf reads.
func stripPod(o any) (any, error) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	out := &corev1.Pod{TypeMeta: p.TypeMeta, ObjectMeta: p.ObjectMeta}
	out.ManagedFields, out.Finalizers = nil, nil
	out.Annotations = pick(p.Annotations, func(k string) bool { return k == operatorv1alpha1.AnnotationRevision || k == scrapeAnnotation })
	out.Spec.ServiceAccountName, out.Spec.NodeName = p.Spec.ServiceAccountName, p.Spec.NodeName
	for _, c := range p.Spec.Containers {
		if len(c.Ports) > 0 {
			out.Spec.Containers = append(out.Spec.Containers, corev1.Container{Name: c.Name, Ports: c.Ports})
		}
	}
	for _, c := range p.Spec.InitContainers {
		switch {
		case c.Name == proxyContainer:
			out.Spec.InitContainers = append(out.Spec.InitContainers, corev1.Container{Name: c.Name, RestartPolicy: c.RestartPolicy})
		case native(c) && len(c.Ports) > 0:
			out.Spec.InitContainers = append(out.Spec.InitContainers, corev1.Container{Name: c.Name, RestartPolicy: c.RestartPolicy, Ports: c.Ports})
		}
	}
	for _, v := range p.Spec.Volumes {
		if v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, proves) {
			out.Spec.Volumes = append(out.Spec.Volumes, v)
		}
	}
	out.Status.Phase, out.Status.PodIPs = p.Status.Phase, p.Status.PodIPs
	return out, nil
}

// proves reports whether a pod gets an identity, or a token for one, from a volume.
func proves(s corev1.VolumeProjection) bool {
	return s.PodCertificate != nil || s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience != ""
}

func stripService(o any) (any, error) {
	s, ok := o.(*corev1.Service)
	if !ok {
		return o, nil
	}
	s.ManagedFields, s.Labels, s.Status = nil, nil, corev1.ServiceStatus{}
	s.Annotations = pick(s.Annotations, func(k string) bool { return k == corev1.AnnotationTopologyMode })
	return s, nil
}

func stripNamespace(o any) (any, error) {
	n, ok := o.(*corev1.Namespace)
	if !ok {
		return o, nil
	}
	own := func(k string) bool { return strings.HasPrefix(k, ownPrefix) }
	n.ManagedFields, n.Status = nil, corev1.NamespaceStatus{Phase: n.Status.Phase}
	n.Labels, n.Annotations = pick(n.Labels, own), pick(n.Annotations, own)
	return n, nil
}

func stripSlice(o any) (any, error) {
	s, ok := o.(*discoveryv1.EndpointSlice)
	if !ok {
		return o, nil
	}
	s.ManagedFields, s.Annotations, s.OwnerReferences = nil, nil, nil
	s.Labels = pick(s.Labels, func(k string) bool { return k == discoveryv1.LabelServiceName })
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		e.DeprecatedTopology = nil
		if e.TargetRef != nil {
			e.TargetRef = &corev1.ObjectReference{Kind: e.TargetRef.Kind, Name: e.TargetRef.Name}
		}
	}
	return s, nil
}

// pick keeps some entries of a map; nil if none is left.
func pick(m map[string]string, keep func(key string) bool) map[string]string {
	var out map[string]string
	for k, v := range m {
		if keep(k) {
			if out == nil {
				out = map[string]string{}
			}
			out[k] = v
		}
	}
	return out
}
