package render

import (
	"cmp"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// RevisionInput is what the objects of one control plane are drawn from.
type RevisionInput struct {
	Revision *operatorv1alpha1.MeshRevision
}

func (in RevisionInput) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:      name,
		Namespace: in.Revision.Spec.Namespace,
		Labels: labels(in.Revision.Spec.Mesh, map[string]string{
			"app":                          ControllerService,
			"app.kubernetes.io/version":    in.Revision.Spec.Version,
			"meshName":                     in.Revision.Spec.Mesh,
			operatorv1alpha1.LabelRevision: in.Revision.Spec.Revision,
		}),
		OwnerReferences: owner("MeshRevision", in.Revision.Name, in.Revision),
	}
}

// Revision returns the objects of one control plane.
func Revision(in RevisionInput) []Object {
	spec := in.Revision.Spec
	name := Deployment(spec.Revision)
	return []Object{
		&corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: in.meta(name),
			Spec: corev1.ServiceSpec{
				Type:           corev1.ServiceTypeClusterIP,
				IPFamilyPolicy: new(corev1.IPFamilyPolicyPreferDualStack),
				Selector:       controllerSelector(spec),
				Ports:          []corev1.ServicePort{servicePort("xds", XDSPort), servicePort("report", ReportPort), servicePort("identity", IdentityPort), servicePort("http", HTTPPort)},
			},
		},
		&policyv1.PodDisruptionBudget{
			TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
			ObjectMeta: in.meta(name),
			Spec: policyv1.PodDisruptionBudgetSpec{
				MaxUnavailable:             new(intstr.FromInt32(1)),
				UnhealthyPodEvictionPolicy: new(policyv1.AlwaysAllow),
				Selector:                   &metav1.LabelSelector{MatchLabels: controllerSelector(spec)},
			},
		},
		deployment(in),
	}
}

func deployment(in RevisionInput) Object {
	spec := in.Revision.Spec
	meta := in.meta(Deployment(spec.Revision))
	podLabels := map[string]string{"app.kubernetes.io/name": "openservicemesh.io", "app.kubernetes.io/instance": spec.Mesh, "app.kubernetes.io/version": spec.Version}
	maps.Copy(podLabels, controllerSelector(spec))
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{
			Replicas:                new(spec.Replicas),
			RevisionHistoryLimit:    new(int32(3)),
			ProgressDeadlineSeconds: new(int32(300)),
			// A replica counts once the nodes have had the time to learn its address: the
			// webhooks must answer when the Mesh is said to be ready.
			MinReadySeconds: 3,
			Selector:        &metav1.LabelSelector{MatchLabels: controllerSelector(spec)},
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{
					MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1)),
				},
			},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: podLabels}, Spec: podSpec(spec)},
		},
	}
}

func podSpec(spec operatorv1alpha1.MeshRevisionSpec) corev1.PodSpec {
	return corev1.PodSpec{
		ServiceAccountName:            ServiceAccount,
		PriorityClassName:             "system-cluster-critical",
		TerminationGracePeriodSeconds: new(int64(30)),
		ImagePullSecrets:              spec.PullSecrets,
		Tolerations:                   spec.Tolerations,
		NodeSelector:                  spec.NodeSelector,
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), RunAsGroup: new(int64(65532)), FSGroup: new(int64(65532)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{
			spread(spec, corev1.LabelHostname), spread(spec, corev1.LabelTopologyZone),
		},
		Containers: []corev1.Container{container(spec)},
		Volumes: []corev1.Volume{
			secretVolume("serving", ServingSecret(spec.Revision)),
			secretVolume("issuer", IssuerSecret(spec.Revision)),
			{Name: "trust", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: operatorv1alpha1.TrustBundleConfigMap},
				DefaultMode:          new(int32(0o444)),
			}}},
		},
	}
}

func spread(spec operatorv1alpha1.MeshRevisionSpec, key string) corev1.TopologySpreadConstraint {
	return corev1.TopologySpreadConstraint{
		MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway,
		LabelSelector: &metav1.LabelSelector{MatchLabels: controllerSelector(spec)},
	}
}

func secretVolume(name, secret string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: secret, DefaultMode: new(int32(0o440)),
	}}}
}

func container(spec operatorv1alpha1.MeshRevisionSpec) corev1.Container {
	port := func(name string, n int32) corev1.ContainerPort {
		return corev1.ContainerPort{Name: name, ContainerPort: n, Protocol: corev1.ProtocolTCP}
	}
	probe := func(path string, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:   corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(HTTPPort), Scheme: corev1.URISchemeHTTP}},
			TimeoutSeconds: 5, PeriodSeconds: 3, SuccessThreshold: 1, FailureThreshold: failures,
		}
	}
	return corev1.Container{
		Name:            ControllerService,
		Image:           spec.OSMImage,
		ImagePullPolicy: spec.PullPolicy,
		Args: []string{
			"control-plane",
			"--mesh=" + spec.Mesh,
			"--mesh-namespace=" + spec.Namespace,
			"--revision=" + spec.Revision,
			"--trust-domain=" + spec.TrustDomain,
			"--workload-identity=" + string(cmp.Or(spec.WorkloadIdentity, operatorv1alpha1.WorkloadIdentityPodCertificate)),
			"--osm-image=" + spec.OSMImage,
			"--envoy-image=" + spec.EnvoyImage,
			"--image-pull-policy=" + string(spec.PullPolicy),
			"--xds-port=" + strconv.Itoa(XDSPort),
		},
		Env: []corev1.EnvVar{
			{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
			{Name: "GOMEMLIMIT", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory"}}},
		},
		Ports: []corev1.ContainerPort{
			port("xds", XDSPort), port("report", ReportPort), port("identity", IdentityPort), port("injector", InjectorPort),
			port("http", HTTPPort), port("debug", DebugPort), port("validator", ValidatorPort),
		},
		Resources:      spec.Resources,
		StartupProbe:   probe("/health/alive", 40),
		LivenessProbe:  probe("/health/alive", 5),
		ReadinessProbe: probe("/health/ready", 2),
		VolumeMounts: []corev1.VolumeMount{
			{Name: "serving", MountPath: "/var/run/osm/serving", ReadOnly: true},
			{Name: "issuer", MountPath: "/var/run/osm/issuer", ReadOnly: true},
			{Name: "trust", MountPath: "/var/run/osm/trust", ReadOnly: true},
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
}
