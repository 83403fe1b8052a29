package render

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// Paths of the webhooks, as Open Service Mesh served them.
const (
	// InjectPath takes new pods.
	InjectPath = "/mutate-pod-creation"
	// ValidatePath takes policies.
	ValidatePath = "/validate"
)

// Webhooks returns the two webhook configurations of a mesh. Neither matches a
// deletion, nor anything in the namespaces that the cluster and the mesh live in but
// the MeshConfig, which passes when nobody answers: nothing can get stuck while the
// control plane is away.
func Webhooks(in MeshInput) []Object {
	return []Object{mutatingWebhook(in), validatingWebhook(in)}
}

// enrolled selects the namespaces that belong to the mesh.
func enrolled(in MeshInput) *metav1.LabelSelector {
	return &metav1.LabelSelector{
		MatchLabels: map[string]string{operatorv1alpha1.LabelMonitoredBy: in.Mesh.Name},
		MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: operatorv1alpha1.LabelIgnore, Operator: metav1.LabelSelectorOpDoesNotExist},
			{Key: "control-plane", Operator: metav1.LabelSelectorOpDoesNotExist},
			{Key: "name", Operator: metav1.LabelSelectorOpNotIn, Values: []string{in.Revision.Namespace}},
			{
				Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn,
				Values: []string{in.Revision.Namespace, in.OperatorNamespace, metav1.NamespaceSystem, metav1.NamespacePublic, "kube-node-lease"},
			},
		},
	}
}

func clientConfig(in MeshInput, service, path string, port int32) admissionregistrationv1.WebhookClientConfig {
	return admissionregistrationv1.WebhookClientConfig{
		CABundle: in.TrustBundle,
		Service: &admissionregistrationv1.ServiceReference{
			Namespace: in.Revision.Namespace, Name: service, Path: new(path), Port: new(port),
		},
	}
}

func mutatingWebhook(in MeshInput) Object {
	scope := admissionregistrationv1.NamespacedScope
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "MutatingWebhookConfiguration"},
		ObjectMeta: in.meta("", MutatingWebhook(in.Mesh.Name), map[string]string{"app": InjectorService}),
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:                    "osm-inject.k8s.io",
			ClientConfig:            clientConfig(in, InjectorService, InjectPath, InjectorPort),
			FailurePolicy:           new(admissionregistrationv1.Fail),
			MatchPolicy:             new(admissionregistrationv1.Equivalent),
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			ReinvocationPolicy:      new(admissionregistrationv1.IfNeededReinvocationPolicy),
			TimeoutSeconds:          new(int32(10)),
			AdmissionReviewVersions: []string{"v1"},
			NamespaceSelector:       enrolled(in),
			ObjectSelector:          &metav1.LabelSelector{},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule: admissionregistrationv1.Rule{
					APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}, Scope: &scope,
				},
			}},
		}},
	}
}

func validatingWebhook(in MeshInput) Object {
	scope := admissionregistrationv1.NamespacedScope
	write := []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update}
	rule := func(group, version string, resources ...string) admissionregistrationv1.RuleWithOperations {
		return admissionregistrationv1.RuleWithOperations{Operations: write, Rule: admissionregistrationv1.Rule{
			APIGroups: []string{group}, APIVersions: []string{version}, Resources: resources, Scope: &scope,
		}}
	}
	return &admissionregistrationv1.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: in.meta("", ValidatingWebhook(in.Mesh.Name), map[string]string{"app": ValidatorService}),
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name:                    "osm-validator.k8s.io",
			ClientConfig:            clientConfig(in, ValidatorService, ValidatePath, ValidatorPort),
			FailurePolicy:           new(admissionregistrationv1.Fail),
			MatchPolicy:             new(admissionregistrationv1.Equivalent),
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds:          new(int32(10)),
			AdmissionReviewVersions: []string{"v1"},
			NamespaceSelector:       enrolled(in),
			ObjectSelector:          &metav1.LabelSelector{},
			MatchConditions:         specChanges(),
			Rules: []admissionregistrationv1.RuleWithOperations{
				rule("policy.openservicemesh.io", "v1alpha1", "egresses", "ingressbackends", "upstreamtrafficsettings", "retries"),
				rule("access.smi-spec.io", "v1alpha3", "traffictargets"),
				rule("specs.smi-spec.io", "v1alpha4", "httproutegroups", "tcproutes"),
				rule("split.smi-spec.io", "v1alpha4", "trafficsplits"),
			},
		}, {
			Name:         "osm-meshconfig.k8s.io",
			ClientConfig: clientConfig(in, ValidatorService, ValidatePath, ValidatorPort),
			// What configures the control plane must be there before it is, and be mended while it
			// is away: what slips through is told in status.
			FailurePolicy:           new(admissionregistrationv1.Ignore),
			MatchPolicy:             new(admissionregistrationv1.Equivalent),
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds:          new(int32(5)),
			AdmissionReviewVersions: []string{"v1"},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: in.Revision.Namespace}},
			ObjectSelector:          &metav1.LabelSelector{},
			MatchConditions:         specChanges(),
			Rules:                   []admissionregistrationv1.RuleWithOperations{rule("config.openservicemesh.io", "v1alpha2", "meshconfigs")},
		}},
	}
}

// specChanges lets an update of metadata alone pass, such as the removal of a finalizer,
// which must never be held up.
func specChanges() []admissionregistrationv1.MatchCondition {
	return []admissionregistrationv1.MatchCondition{{
		Name: "spec-changes", Expression: "oldObject == null || !has(oldObject.spec) || !has(object.spec) || object.spec != oldObject.spec",
	}}
}
