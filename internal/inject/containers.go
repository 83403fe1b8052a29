package inject

import (
	"cmp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/openservicemesh/osm-operator/internal/xds/bootstrap"
)

// concurrency is the number of the sidecar's worker threads: by default Envoy takes
// one for each CPU of the node, however little the pod may use.
const concurrency = 2

// initContainer redirects the pod's traffic, then ends.
func initContainer(c Config, lists Exclusions) corev1.Container {
	args := []string{"init", "--proxy-uid=" + strconv.Itoa(ProxyUID)}
	add := func(flag, value string) {
		if value != "" {
			args = append(args, "--"+flag+"="+value)
		}
	}
	same := func(s string) string { return s }
	add("inbound-exclude-ports", join(lists.InboundPorts, strconv.Itoa))
	add("outbound-exclude-ports", join(lists.OutboundPorts, strconv.Itoa))
	add("outbound-exclude-cidrs", join(lists.OutboundRanges, same))
	add("outbound-include-cidrs", join(lists.OutboundOnly, same))
	add("exclude-interfaces", join(lists.Interfaces, same))
	var env []corev1.EnvVar
	if c.PodIPMode {
		env = append(env, fieldEnv("POD_IPS", "status.podIPs"))
		args = append(args, "--local-proxy-mode=PodIP", "--pod-ips=$(POD_IPS)")
	}
	return corev1.Container{
		Name:            InitContainer,
		Image:           c.OSMImage,
		ImagePullPolicy: c.PullPolicy,
		Args:            args,
		Env:             env,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		},
		TerminationMessagePath:   corev1.TerminationMessagePathDefault,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext: &corev1.SecurityContext{
			// Kubernetes gives capabilities to no user but root.
			RunAsUser: new(int64(0)), RunAsGroup: new(int64(0)), RunAsNonRoot: new(false),
			Privileged: new(c.PrivilegedInit), AllowPrivilegeEscalation: new(c.PrivilegedInit), ReadOnlyRootFilesystem: new(true),
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
}

// proxyContainer is the sidecar: an init container that goes on running, so that
// the application starts after it and ends before it.
func proxyContainer(pod *corev1.Pod, ns Namespace, c Config) corev1.Container {
	ready := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: "/ready", Port: intstr.FromInt32(bootstrap.ReadyPort), Scheme: corev1.URISchemeHTTP,
	}}
	port := func(name string, n int32) corev1.ContainerPort {
		return corev1.ContainerPort{Name: name, ContainerPort: n, Protocol: corev1.ProtocolTCP}
	}
	kind, controller := controllerOf(pod)
	return corev1.Container{
		Name:            ProxyContainer,
		Image:           c.EnvoyImage,
		ImagePullPolicy: c.PullPolicy,
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways),
		Command:         []string{"envoy"},
		Args: []string{
			"--config-path", bootstrap.Dir + "/" + bootstrap.BootstrapFile,
			"--service-cluster", serviceAccount(pod) + "." + ns.Name,
			"--service-node", "$(POD_UID).$(POD_NAME).$(POD_NAMESPACE)",
			"--log-level", cmp.Or(c.LogLevel, "error"),
			"--concurrency", strconv.Itoa(concurrency),
			"--drain-time-s", "30",
			"--drain-strategy", "immediate",
			"--parent-shutdown-time-s", "35",
			"--disable-hot-restart",
		},
		Env: []corev1.EnvVar{
			fieldEnv("POD_UID", "metadata.uid"), fieldEnv("POD_NAME", "metadata.name"),
			fieldEnv("POD_NAMESPACE", "metadata.namespace"), fieldEnv("POD_IP", "status.podIP"),
			fieldEnv("SERVICE_ACCOUNT", "spec.serviceAccountName"),
			{Name: "POD_CONTROLLER_KIND", Value: kind},
			{Name: "POD_CONTROLLER_NAME", Value: controller},
			// What OpenTelemetry knows the sidecar by; Zipkin takes --service-cluster.
			{Name: "OTEL_RESOURCE_ATTRIBUTES", Value: resourceAttributes(pod, ns)},
		},
		Ports: []corev1.ContainerPort{
			port("proxy-inbound", 15003), port("proxy-metrics", 15010), port("proxy-ready", bootstrap.ReadyPort),
		},
		Resources:                *c.Resources.DeepCopy(),
		TerminationMessagePath:   corev1.TerminationMessagePathDefault,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		// The application waits until the sidecar has its configuration, as long as that takes.
		StartupProbe:   &corev1.Probe{ProbeHandler: ready, PeriodSeconds: 1, TimeoutSeconds: 2, SuccessThreshold: 1, FailureThreshold: 3600},
		ReadinessProbe: &corev1.Probe{ProbeHandler: ready, PeriodSeconds: 5, TimeoutSeconds: 2, SuccessThreshold: 1, FailureThreshold: 3},
		VolumeMounts: []corev1.VolumeMount{
			{Name: bootstrapVolume, MountPath: bootstrap.Dir, ReadOnly: true},
			{Name: identityVolume, MountPath: bootstrap.IdentityDir, ReadOnly: true},
			{Name: trustVolume, MountPath: bootstrap.TrustDir, ReadOnly: true},
		},
		SecurityContext: sidecarSecurity(),
	}
}

// resourceAttributes name what a sidecar's spans and logs come from, in OpenTelemetry's
// words. The kubelet puts in what is known only of the pod itself.
func resourceAttributes(pod *corev1.Pod, ns Namespace) string {
	return strings.Join([]string{
		"service.name=" + serviceAccount(pod) + "." + ns.Name,
		"service.namespace=" + ns.Name,
		"service.instance.id=$(POD_UID)",
		"k8s.namespace.name=" + ns.Name,
		"k8s.pod.name=$(POD_NAME)",
		"k8s.pod.uid=$(POD_UID)",
	}, ",")
}

// controllerOf returns the kind and name of what made a pod, which metrics know it by: for
// a ReplicaSet of a Deployment, the Deployment. A pod that nothing made may get its name
// only after admission.
func controllerOf(pod *corev1.Pod) (kind, name string) {
	for _, o := range pod.OwnerReferences {
		if o.Controller == nil || !*o.Controller {
			continue
		}
		if hash := pod.Labels["pod-template-hash"]; o.Kind == "ReplicaSet" && hash != "" {
			return "Deployment", strings.TrimSuffix(o.Name, "-"+hash)
		}
		return o.Kind, o.Name
	}
	return "Pod", "$(POD_NAME)"
}

func fieldEnv(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
}
