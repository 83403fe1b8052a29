package policystatus

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
)

// subject is an object that is reported on.
type subject struct {
	object client.Object
	gvk    schema.GroupVersionKind
	// conditions are its conditions as they are; nil for a kind whose status is not the
	// mesh's, which hears of reports by events alone.
	conditions func() []metav1.Condition
	// resolves says that it has the condition ResolvedRefs.
	resolves bool
	// status is what Open Service Mesh's users read; nil for a kind without it.
	status func() policyv1alpha1.PolicyStatus
}

// subjectOf returns an empty subject of a kind, and whether the kind is known.
func subjectOf(kind string) (subject, bool) {
	switch kind {
	case "TrafficTarget":
		o := &accessv1alpha3.TrafficTarget{}
		return subject{object: o, gvk: accessv1alpha3.GroupVersion.WithKind(kind), conditions: func() []metav1.Condition { return o.Status.Conditions }, resolves: true}, true
	case "HTTPRouteGroup":
		o := &specsv1alpha4.HTTPRouteGroup{}
		return subject{object: o, gvk: specsv1alpha4.GroupVersion.WithKind(kind), conditions: func() []metav1.Condition { return o.Status.Conditions }, resolves: true}, true
	case "TCPRoute":
		o := &specsv1alpha4.TCPRoute{}
		return subject{object: o, gvk: specsv1alpha4.GroupVersion.WithKind(kind), conditions: func() []metav1.Condition { return o.Status.Conditions }, resolves: true}, true
	case "TrafficSplit":
		o := &splitv1alpha4.TrafficSplit{}
		return subject{object: o, gvk: splitv1alpha4.GroupVersion.WithKind(kind), conditions: func() []metav1.Condition { return o.Status.Conditions }, resolves: true}, true
	case "Egress":
		o := &policyv1alpha1.Egress{}
		return osmSubject(kind, o, &o.Status), true
	case "IngressBackend":
		o := &policyv1alpha1.IngressBackend{}
		return osmSubject(kind, o, &o.Status), true
	case "Retry":
		o := &policyv1alpha1.Retry{}
		return osmSubject(kind, o, &o.Status), true
	case "UpstreamTrafficSetting":
		o := &policyv1alpha1.UpstreamTrafficSetting{}
		return osmSubject(kind, o, &o.Status), true
	case "MeshConfig":
		o := &configv1alpha2.MeshConfig{}
		return subject{object: o, gvk: configv1alpha2.GroupVersion.WithKind(kind), conditions: func() []metav1.Condition { return o.Status.Conditions }}, true
	case "Service":
		return subject{object: &corev1.Service{}, gvk: corev1.SchemeGroupVersion.WithKind(kind)}, true
	default:
		return subject{}, false
	}
}

// osmSubject is a subject of Open Service Mesh's own kinds.
func osmSubject(kind string, o client.Object, status *policyv1alpha1.PolicyStatus) subject {
	return subject{
		object: o, gvk: policyv1alpha1.GroupVersion.WithKind(kind), resolves: true,
		conditions: func() []metav1.Condition { return status.Conditions },
		status:     func() policyv1alpha1.PolicyStatus { return *status },
	}
}
