package render

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// MeshInput is what the objects of a mesh are drawn from.
type MeshInput struct {
	Mesh *operatorv1alpha1.Mesh
	// Revision is the control plane that new pods get, Beside are those beside it.
	Revision operatorv1alpha1.MeshRevisionSpec
	Beside   []operatorv1alpha1.MeshRevisionSpec
	// TrustBundle are the mesh's roots in PEM form.
	TrustBundle []byte
	// OperatorNamespace is where the operator runs, OperatorServiceAccount as whom.
	OperatorNamespace, OperatorServiceAccount string
}

// Foundation returns the namespace, and what the operator may do in it: all that
// follows needs both.
func Foundation(in MeshInput) []Object {
	namespace := &corev1.Namespace{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: in.meta("", in.Revision.Namespace, map[string]string{
			"pod-security.kubernetes.io/enforce": "restricted",
			// Open Service Mesh's webhooks knew the mesh's namespace by this label.
			"name": in.Revision.Namespace,
		}),
	}
	operator := in.operator()
	return []Object{namespace, in.roleBinding(in.Revision.Namespace, OperatorNamespaceRole, OperatorNamespaceRole, operator)}
}

// meshConfig holds only the fields that the Mesh enforces: all others are the
// users' and are not named, so that server-side apply leaves them alone.
func meshConfig(in MeshInput) Object {
	config := &configv1alpha2.MeshConfig{
		TypeMeta:   metav1.TypeMeta{APIVersion: configv1alpha2.GroupVersion.String(), Kind: "MeshConfig"},
		ObjectMeta: in.meta(in.Revision.Namespace, operatorv1alpha1.MeshConfigName, nil),
	}
	if in.Mesh.Spec.MeshConfig != nil {
		config.Spec = *in.Mesh.Spec.MeshConfig
	}
	return config
}

// Access returns the MeshConfig, and the control plane's account, its bindings and who
// may reach it.
func Access(in MeshInput) []Object {
	ns := in.Revision.Namespace
	subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Name: ServiceAccount, Namespace: ns}}
	return []Object{
		meshConfig(in),
		&corev1.ServiceAccount{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
			ObjectMeta: in.meta(ns, ServiceAccount, nil),
		},
		&rbacv1.ClusterRoleBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleBinding"},
			ObjectMeta: in.meta("", ControllerBinding(in.Mesh.Name), nil),
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: ControllerRole},
			Subjects:   subjects,
		},
		in.roleBinding(ns, ControllerNamespaceRole, ControllerNamespaceRole, subjects),
		networkPolicy(in),
	}
}

// operator is who acts.
func (in MeshInput) operator() []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: "ServiceAccount", Name: in.OperatorServiceAccount, Namespace: in.OperatorNamespace}}
}

// WorkloadAccess lets the operator restart the workloads of namespaces.
func WorkloadAccess(in MeshInput, namespaces []string) []Object {
	var out []Object
	for _, namespace := range namespaces {
		out = append(out, in.roleBinding(namespace, WorkloadsBinding(in.Mesh.Name), WorkloadsRole, in.operator()))
	}
	return out
}

// roleBinding binds subjects in a namespace to a ClusterRole.
func (in MeshInput) roleBinding(namespace, name, role string, subjects []rbacv1.Subject) Object {
	return &rbacv1.RoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "RoleBinding"},
		ObjectMeta: in.meta(namespace, name, nil),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   subjects,
	}
}

// networkPolicy lets everyone reach what everyone needs, and the operator and control
// planes alone the report stream.
func networkPolicy(in MeshInput) Object {
	tcp := corev1.ProtocolTCP
	port := func(n int32) networkingv1.NetworkPolicyPort {
		return networkingv1.NetworkPolicyPort{Protocol: &tcp, Port: new(intstr.FromInt32(n))}
	}
	controlPlanes := metav1.LabelSelector{MatchLabels: map[string]string{"app": ControllerService, operatorv1alpha1.LabelMesh: in.Mesh.Name}}
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: in.meta(in.Revision.Namespace, ControllerService, nil),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: controlPlanes,
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{Ports: []networkingv1.NetworkPolicyPort{port(XDSPort), port(IdentityPort), port(InjectorPort), port(HTTPPort), port(DebugPort), port(ValidatorPort)}},
				{
					Ports: []networkingv1.NetworkPolicyPort{port(ReportPort)},
					From: []networkingv1.NetworkPolicyPeer{
						{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: in.OperatorNamespace}}},
						{PodSelector: &controlPlanes},
					},
				},
			},
		},
	}
}

// ControlPlane returns the MeshRevisions, and the stable Services that lead to the one
// that new pods get.
func ControlPlane(in MeshInput) []Object {
	var out []Object
	for _, spec := range append([]operatorv1alpha1.MeshRevisionSpec{in.Revision}, in.Beside...) {
		out = append(out, &operatorv1alpha1.MeshRevision{
			TypeMeta:   metav1.TypeMeta{APIVersion: operatorv1alpha1.GroupVersion.String(), Kind: "MeshRevision"},
			ObjectMeta: in.meta("", RevisionObject(spec.Mesh, spec.Revision), map[string]string{operatorv1alpha1.LabelRevision: spec.Revision}),
			Spec:       spec,
		})
	}
	return append(
		out,
		in.service(ControllerService, servicePort("xds", XDSPort), servicePort("http", HTTPPort), servicePort("debug", DebugPort)),
		in.service(InjectorService, servicePort("webhook", InjectorPort)),
		in.service(ValidatorService, servicePort("webhook", ValidatorPort)),
	)
}

func (in MeshInput) service(name string, ports ...corev1.ServicePort) Object {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: in.meta(in.Revision.Namespace, name, map[string]string{"app": name}),
		Spec: corev1.ServiceSpec{
			Type:           corev1.ServiceTypeClusterIP,
			IPFamilyPolicy: new(corev1.IPFamilyPolicyPreferDualStack),
			Selector:       controllerSelector(in.Revision),
			Ports:          ports,
		},
	}
}

func servicePort(name string, number int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: number, TargetPort: intstr.FromInt32(number), Protocol: corev1.ProtocolTCP}
}

// controllerSelector selects the pods of one revision's control plane.
func controllerSelector(spec operatorv1alpha1.MeshRevisionSpec) map[string]string {
	return map[string]string{
		"app":                          ControllerService,
		operatorv1alpha1.LabelMesh:     spec.Mesh,
		operatorv1alpha1.LabelRevision: spec.Revision,
	}
}
