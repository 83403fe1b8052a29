package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/xds/bootstrap"
)

// Pod returns a pod with the sidecar. uuid is the mark of a pod that has none yet.
// A pod that was injected before is taken back first, so that the result is the
// same, and containers that other webhooks added since are looked at too. The error
// is for the person who made the pod.
func Pod(pod *corev1.Pod, ns Namespace, c Config, uuid types.UID) (*corev1.Pod, error) {
	if id := pod.Labels[operatorv1alpha1.LabelProxyUUID]; Injected(pod) && id != "" {
		uuid = types.UID(id)
	}
	out, err := Remove(pod)
	if err != nil {
		return nil, err
	}
	if err := acceptable(out); err != nil {
		return nil, err
	}
	scrape, err := metricsEnabled(ns)
	if err != nil {
		return nil, err
	}
	lists, err := exclusions(out, c)
	if err != nil {
		return nil, err
	}
	before, err := json.Marshal(remember(out))
	if err != nil {
		return nil, fmt.Errorf("remembering the pod as it was: %w", err)
	}
	probes, err := rewrite(out)
	if err != nil {
		return nil, err
	}
	if err := drain(out); err != nil {
		return nil, err
	}
	files, err := documents(c, probes)
	if err != nil {
		return nil, err
	}
	if files[operatorv1alpha1.AnnotationSettings], err = c.Settings(); err != nil {
		return nil, err
	}
	annotate(out, c, string(before), files, scrape)
	label(out, c, string(uuid))
	out.Spec.InitContainers = append(containers(out, ns, c, lists), out.Spec.InitContainers...)
	out.Spec.Volumes = append(out.Spec.Volumes, volumes(c)...)
	return out, nil
}

// rewrite points the probes and hooks of a pod to the sidecar, and returns what that
// has to listen for.
func rewrite(pod *corev1.Pod) ([]bootstrap.Probe, error) {
	r := newRewriter()
	for _, container := range probed(pod) {
		if err := r.container(container); err != nil {
			return nil, err
		}
	}
	return r.probes, nil
}

// containers are the mesh's, in the order in which they start.
func containers(pod *corev1.Pod, ns Namespace, c Config, lists Exclusions) []corev1.Container {
	out := []corev1.Container{initContainer(c, lists)}
	if c.byToken() {
		out = append(out, identityContainer(c))
	}
	return append(out, proxyContainer(pod, ns, c))
}

// acceptable refuses pods that claim what is the sidecar's: such a pod could take
// part in the mesh without being held to its rules.
func acceptable(pod *corev1.Pod) error {
	var errs []error
	for i := range pod.Spec.InitContainers {
		errs = append(errs, acceptableContainer(&pod.Spec.InitContainers[i])...)
	}
	for i := range pod.Spec.Containers {
		errs = append(errs, acceptableContainer(&pod.Spec.Containers[i])...)
	}
	if s := pod.Spec.SecurityContext; s != nil && s.RunAsUser != nil && *s.RunAsUser == ProxyUID {
		errs = append(errs, fmt.Errorf("the pod runs as user %d, which is the sidecar's: choose another runAsUser", ProxyUID))
	}
	for _, v := range pod.Spec.Volumes {
		if slices.Contains(ownVolumes(), v.Name) {
			errs = append(errs, fmt.Errorf("volume name %s is the mesh's: give the volume another name", v.Name))
		}
	}
	return errors.Join(errs...)
}

// acceptableContainer says what of a container is the sidecar's.
func acceptableContainer(c *corev1.Container) []error {
	var errs []error
	if own(c.Name) {
		errs = append(errs, fmt.Errorf("container name %s is the mesh's: give the container another name", c.Name))
	}
	if s := c.SecurityContext; s != nil && s.RunAsUser != nil && *s.RunAsUser == ProxyUID {
		errs = append(errs, fmt.Errorf("container %s runs as user %d, which is the sidecar's: choose another runAsUser", c.Name, ProxyUID))
	}
	for _, p := range c.Ports {
		if p.ContainerPort >= 15000 && p.ContainerPort <= 15999 && reserved(p.ContainerPort) {
			errs = append(errs, fmt.Errorf("container %s uses port %d, which is the sidecar's: choose another port", c.Name, p.ContainerPort))
		}
	}
	return errs
}

// reserved reports whether the sidecar listens on a port.
func reserved(port int32) bool {
	switch port {
	case 15000, 15001, 15003, 15010, 15905, hookPort, livenessPort, readinessPort, startupPort, tcpCheckPort:
		return true
	default:
		return port >= firstFreePort && port <= lastFreePort
	}
}

// documents are the files that the sidecar starts from; nothing in them is secret.
func documents(c Config, probes []bootstrap.Probe) (map[string]string, error) {
	boot, err := bootstrap.Build(bootstrap.Config{
		ControlPlaneHost: c.ControlPlane,
		ControlPlanePort: 15128,
		ControlPlaneName: c.ControlPlaneName,
		Probes:           probes,
	})
	if err != nil {
		return nil, fmt.Errorf("building the sidecar's bootstrap: %w", err)
	}
	certificate, err := bootstrap.CertificateDocument()
	if err != nil {
		return nil, fmt.Errorf("building the sidecar's certificate document: %w", err)
	}
	validation, err := bootstrap.ValidationDocument()
	if err != nil {
		return nil, fmt.Errorf("building the sidecar's validation document: %w", err)
	}
	files := map[string]string{
		bootstrapAnnotation: string(boot), certificateAnnotation: string(certificate), validationAnnotation: string(validation),
	}
	if c.byToken() {
		if c.Roots == "" {
			return nil, errors.New("the control plane has not read the mesh's roots yet: try again")
		}
		files[rootsAnnotation] = c.Roots
	}
	return files, nil
}

func annotate(pod *corev1.Pod, c Config, before string, files map[string]string, scrape bool) {
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	maps.Copy(pod.Annotations, files)
	pod.Annotations[originalAnnotation] = before
	pod.Annotations[operatorv1alpha1.AnnotationRevision] = c.Revision
	if !has(pod.Annotations, defaultContainerAnnotation) && len(pod.Spec.Containers) > 0 {
		pod.Annotations[defaultContainerAnnotation] = pod.Spec.Containers[0].Name
	}
	if scrape {
		pod.Annotations[scrapeAnnotation] = "true"
		pod.Annotations[scrapePortAnnotation] = "15010"
		pod.Annotations[scrapePathAnnotation] = "/stats/prometheus"
	}
}

func label(pod *corev1.Pod, c Config, uuid string) {
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[operatorv1alpha1.LabelInjectedBy] = c.Mesh
	pod.Labels[operatorv1alpha1.LabelInjectedRevision] = c.Revision
	pod.Labels[operatorv1alpha1.LabelProxyUUID] = uuid
}

// serviceAccount is the account that a pod runs as.
func serviceAccount(pod *corev1.Pod) string {
	if pod.Spec.ServiceAccountName == "" {
		return "default"
	}
	return pod.Spec.ServiceAccountName
}

func join[T any](list []T, text func(T) string) string {
	parts := make([]string, 0, len(list))
	for _, item := range list {
		parts = append(parts, text(item))
	}
	return strings.Join(parts, ",")
}
