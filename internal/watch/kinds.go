package watch

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// kind is a kind of objects, and what becomes of one; an object that was deleted
// comes with gone set.
type kind struct {
	name   string
	object client.Object
	// optional says that a cluster may not have the kind.
	optional bool
	take     func(o client.Object, gone bool)
}

// kinds are all kinds that a Model is made of.
func (w *Watcher) kinds() []kind {
	return append([]kind{
		w.required("Namespace", &corev1.Namespace{}, w.namespace),
		w.required("Node", node(), w.node),
		w.required("Service", &corev1.Service{}, w.service),
		w.required("EndpointSlice", &discoveryv1.EndpointSlice{}, w.slice),
		w.required("Pod", &corev1.Pod{}, w.pod),
		{name: "MeshConfig", object: &configv1alpha2.MeshConfig{}, take: w.meshConfig},
	},
		policy(w, "TrafficTarget", func(o *accessv1alpha3.TrafficTarget) accessv1alpha3.TrafficTargetSpec { return o.Spec }),
		policy(w, "HTTPRouteGroup", func(o *specsv1alpha4.HTTPRouteGroup) specsv1alpha4.HTTPRouteGroupSpec { return o.Spec }),
		policy(w, "TCPRoute", func(o *specsv1alpha4.TCPRoute) specsv1alpha4.TCPRouteSpec { return o.Spec }),
		policy(w, "TrafficSplit", func(o *splitv1alpha4.TrafficSplit) splitv1alpha4.TrafficSplitSpec { return o.Spec }),
		policy(w, "Egress", func(o *policyv1alpha1.Egress) policyv1alpha1.EgressSpec { return o.Spec }),
		policy(w, "IngressBackend", func(o *policyv1alpha1.IngressBackend) policyv1alpha1.IngressBackendSpec { return o.Spec }),
		policy(w, "Retry", func(o *policyv1alpha1.Retry) policyv1alpha1.RetrySpec { return o.Spec }),
		policy(w, "UpstreamTrafficSetting", func(o *policyv1alpha1.UpstreamTrafficSetting) policyv1alpha1.UpstreamTrafficSettingSpec {
			return o.Spec
		}),
	)
}

// node is what is watched of nodes: labels, without what the kubelet writes every minute.
func node() *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}}
}

// required is a kind that every cluster has, and what fact it makes.
func (w *Watcher) required(name string, o client.Object, fact func(o client.Object, gone bool) mesh.Fact) kind {
	return kind{name: name, object: o, take: func(o client.Object, gone bool) { w.apply(fact(o, gone)) }}
}

func (w *Watcher) namespace(o client.Object, gone bool) mesh.Fact {
	return mesh.NamespaceFact{Name: o.GetName(), Monitored: !gone && o.GetLabels()[operatorv1alpha1.LabelMonitoredBy] == w.Defaults.Mesh}
}

func (*Watcher) node(o client.Object, gone bool) mesh.Fact {
	if gone {
		return mesh.NodeFact{Name: o.GetName()}
	}
	return mesh.NodeFact{Name: o.GetName(), Zone: o.GetLabels()[corev1.LabelTopologyZone]}
}

func (*Watcher) service(o client.Object, gone bool) mesh.Fact {
	f := mesh.ServiceFact{Key: keyOf(o)}
	if s, ok := o.(*corev1.Service); ok && !gone {
		f.Service = serviceOf(s)
	}
	return f
}

func (*Watcher) slice(o client.Object, gone bool) mesh.Fact {
	f := mesh.SliceFact{Key: keyOf(o)}
	if s, ok := o.(*discoveryv1.EndpointSlice); ok && !gone {
		f.Slice = sliceOf(s)
	}
	return f
}

func (w *Watcher) pod(o client.Object, gone bool) mesh.Fact {
	f := mesh.PodFact{Key: keyOf(o)}
	if p, ok := o.(*corev1.Pod); ok && !gone {
		f.Pod = podOf(p, w.signer)
	}
	return f
}

// policy is a kind of policy objects.
func policy[O any, P interface {
	*O
	client.Object
}, S mesh.PolicySpec](w *Watcher, name string, spec func(P) S,
) kind {
	return kind{name: name, object: P(new(O)), optional: true, take: func(o client.Object, gone bool) {
		f := mesh.PolicyFact[S]{Key: keyOf(o)}
		if typed, ok := o.(P); ok && !gone {
			f.Object = objectOf(o, spec(typed))
		}
		w.apply(f)
	}}
}

func objectOf[S any](o client.Object, spec S) *mesh.Object[S] {
	return &mesh.Object[S]{
		Key: keyOf(o), UID: string(o.GetUID()), Generation: o.GetGeneration(), Created: o.GetCreationTimestamp().Time, Spec: spec,
	}
}

// meshConfig follows the mesh's one MeshConfig. While there is none, what the last one
// said goes on to hold: nobody has said otherwise, and the operator makes it again.
func (w *Watcher) meshConfig(o client.Object, gone bool) {
	config, ok := o.(*configv1alpha2.MeshConfig)
	if !ok || gone || config.Namespace != w.Defaults.Namespace || config.Name != operatorv1alpha1.MeshConfigName {
		return
	}
	settings, problems := mesh.SettingsFrom(w.Defaults, config.Spec)
	w.MeshConfig(objectOf(config, config.Spec), problems)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.configured = true
	w.state.Apply(mesh.SettingsFact{Settings: settings})
}
