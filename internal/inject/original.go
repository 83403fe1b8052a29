package inject

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// Annotations that injection writes. The first holds what Remove needs to give the
// pod back as it was; the others are files that the sidecar reads by downward API.
const (
	originalAnnotation         = "openservicemesh.io/original"
	bootstrapAnnotation        = "openservicemesh.io/bootstrap"
	certificateAnnotation      = "openservicemesh.io/sds-certificate"
	validationAnnotation       = "openservicemesh.io/sds-validation"
	rootsAnnotation            = "openservicemesh.io/roots"
	scrapeAnnotation           = "prometheus.io/scrape"
	scrapePortAnnotation       = "prometheus.io/port"
	scrapePathAnnotation       = "prometheus.io/path"
	defaultContainerAnnotation = "kubectl.kubernetes.io/default-container"
)

// original is what injection replaced in a pod.
type original struct {
	// Annotations are those that were there under keys that injection writes.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Labels likewise.
	Labels map[string]string `json:"labels,omitempty"`
	// Containers are the replaced parts of containers, by name.
	Containers map[string]replaced `json:"containers,omitempty"`
	// GracePeriod is the pod's own terminationGracePeriodSeconds.
	GracePeriod *int64 `json:"gracePeriod,omitempty"`
}

// replaced are the parts of a container that injection replaces.
type replaced struct {
	Liveness  *corev1.Probe     `json:"liveness,omitempty"`
	Readiness *corev1.Probe     `json:"readiness,omitempty"`
	Startup   *corev1.Probe     `json:"startup,omitempty"`
	Lifecycle *corev1.Lifecycle `json:"lifecycle,omitempty"`
}

// writtenAnnotations are the annotations that injection writes.
func writtenAnnotations() []string {
	return []string{
		originalAnnotation, bootstrapAnnotation, certificateAnnotation, validationAnnotation, rootsAnnotation,
		scrapeAnnotation, scrapePortAnnotation, scrapePathAnnotation, defaultContainerAnnotation,
		operatorv1alpha1.AnnotationRevision, operatorv1alpha1.AnnotationSettings,
	}
}

// writtenLabels are the labels that injection writes.
func writtenLabels() []string {
	return []string{operatorv1alpha1.LabelInjectedBy, operatorv1alpha1.LabelInjectedRevision, operatorv1alpha1.LabelProxyUUID}
}

// own reports whether a container is the mesh's, by its name.
func own(container string) bool {
	return slices.Contains([]string{ProxyContainer, InitContainer, IdentityContainer}, container)
}

// ownVolumes are the names of the mesh's volumes.
func ownVolumes() []string {
	return []string{identityVolume, trustVolume, bootstrapVolume, tokenVolume}
}

// Injected reports whether a pod says that it was injected.
func Injected(pod *corev1.Pod) bool { return has(pod.Annotations, originalAnnotation) }

// remember returns what injection will replace in a pod.
func remember(pod *corev1.Pod) original {
	o := original{
		Annotations: pick(pod.Annotations, writtenAnnotations()),
		Labels:      pick(pod.Labels, writtenLabels()),
		Containers:  map[string]replaced{},
		GracePeriod: pod.Spec.TerminationGracePeriodSeconds,
	}
	for _, c := range probed(pod) {
		part := replaced{Liveness: c.LivenessProbe, Readiness: c.ReadinessProbe, Startup: c.StartupProbe, Lifecycle: c.Lifecycle}
		o.Containers[c.Name] = part.deepCopy()
	}
	return o
}

func (r replaced) deepCopy() replaced {
	return replaced{
		Liveness: r.Liveness.DeepCopy(), Readiness: r.Readiness.DeepCopy(), Startup: r.Startup.DeepCopy(), Lifecycle: r.Lifecycle.DeepCopy(),
	}
}

// Remove returns the pod as it was before injection; a pod that was not injected is
// returned as it is.
func Remove(pod *corev1.Pod) (*corev1.Pod, error) {
	out := pod.DeepCopy()
	if !Injected(pod) {
		return out, nil
	}
	var o original
	if err := json.Unmarshal([]byte(pod.Annotations[originalAnnotation]), &o); err != nil {
		return nil, fmt.Errorf("annotation %s is damaged, so the pod cannot be restored: remove the sidecar by hand: %w", originalAnnotation, err)
	}
	out.Annotations = restore(out.Annotations, writtenAnnotations(), o.Annotations)
	out.Labels = restore(out.Labels, writtenLabels(), o.Labels)
	out.Spec.TerminationGracePeriodSeconds = o.GracePeriod
	out.Spec.InitContainers = slices.DeleteFunc(out.Spec.InitContainers, func(c corev1.Container) bool {
		return own(c.Name)
	})
	out.Spec.Volumes = slices.DeleteFunc(out.Spec.Volumes, func(v corev1.Volume) bool {
		return slices.Contains(ownVolumes(), v.Name)
	})
	for _, c := range probed(out) {
		part, known := o.Containers[c.Name]
		if !known {
			// Another webhook added it after injection: it is as it came.
			continue
		}
		c.LivenessProbe, c.ReadinessProbe, c.StartupProbe, c.Lifecycle = part.Liveness, part.Readiness, part.Startup, part.Lifecycle
	}
	if len(out.Spec.InitContainers) == 0 {
		out.Spec.InitContainers = nil
	}
	if len(out.Spec.Volumes) == 0 {
		out.Spec.Volumes = nil
	}
	return out, nil
}

// probed returns the containers whose probes and hooks the kubelet runs: all but
// plain init containers and the mesh's own.
func probed(pod *corev1.Pod) []*corev1.Container {
	var out []*corev1.Container
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if !own(c.Name) && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(out, c)
		}
	}
	for i := range pod.Spec.Containers {
		out = append(out, &pod.Spec.Containers[i])
	}
	return out
}

func pick(from map[string]string, keys []string) map[string]string {
	out := map[string]string{}
	for _, k := range keys {
		if v, ok := from[k]; ok {
			out[k] = v
		}
	}
	return out
}

func restore(current map[string]string, keys []string, before map[string]string) map[string]string {
	for _, k := range keys {
		delete(current, k)
	}
	if len(before) > 0 {
		if current == nil {
			current = map[string]string{}
		}
		maps.Copy(current, before)
	}
	if len(current) == 0 {
		return nil
	}
	return current
}
