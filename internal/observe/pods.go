package observe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// Pods are the pods of a mesh that have its sidecar and have not ended.
type Pods struct {
	// Names are namespace/name, sorted.
	Names []string
	// ByRevision counts them by the revision that injected them.
	ByRevision map[string]int32
	// All are the pods, in no order.
	All []Pod
}

// Pod is a pod with a sidecar.
type Pod struct {
	UID, Namespace, Name string
	// Revision is the one that injected it.
	Revision string
	// Settings is the hash of what its sidecar was made with; empty if the pod does not say.
	Settings string
	// Kind and Owner name what keeps the pod; Kind is empty if nothing does.
	Kind, Owner string
	Ready       bool
	// Restarts is the count of that container which restarted most, Stuck why a container
	// waits that has run before.
	Restarts int32
	Stuck    string
	Created  time.Time
}

// ReadPods lists the pods that a mesh has injected. The reader's cache holds no
// pods that have ended.
func ReadPods(ctx context.Context, r client.Reader, mesh string) (Pods, error) {
	var list corev1.PodList
	if err := r.List(ctx, &list, client.MatchingLabels{operatorv1alpha1.LabelInjectedBy: mesh}); err != nil {
		return Pods{}, fmt.Errorf("listing the pods of Mesh %s: %w", mesh, err)
	}
	pods := Pods{ByRevision: map[string]int32{}}
	for i := range list.Items {
		p := &list.Items[i]
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		pods.Names = append(pods.Names, p.Namespace+"/"+p.Name)
		pods.ByRevision[p.Labels[operatorv1alpha1.LabelInjectedRevision]]++
		pods.All = append(pods.All, podOf(p))
	}
	slices.Sort(pods.Names)
	return pods, nil
}

func podOf(p *corev1.Pod) Pod {
	out := Pod{
		UID: string(p.UID), Namespace: p.Namespace, Name: p.Name, Created: p.CreationTimestamp.Time,
		Revision: p.Labels[operatorv1alpha1.LabelInjectedRevision],
		Settings: p.Annotations[operatorv1alpha1.AnnotationSettings],
	}
	out.Kind, out.Owner = keeper(p)
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			out.Ready = c.Status == corev1.ConditionTrue
		}
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		out.Restarts = max(out.Restarts, c.RestartCount)
		if w := c.State.Waiting; w != nil && !begins(w.Reason) {
			out.Stuck = fmt.Sprintf("(%s: %s)", c.Name, w.Reason)
		}
	}
	return out
}

// begins says that a container which waits for this reason is on its way.
func begins(reason string) bool {
	return reason == "" || reason == "PodInitializing" || reason == "ContainerCreating"
}

// keeper names the workload that a pod belongs to. The ReplicaSet between a Deployment
// and its pods has the Deployment's name and the hash of the template.
func keeper(p *corev1.Pod) (kind, name string) {
	owner := metav1.GetControllerOfNoCopy(p)
	if owner == nil {
		return "", ""
	}
	hash := p.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
	if deployment, ok := strings.CutSuffix(owner.Name, "-"+hash); ok && owner.Kind == "ReplicaSet" && hash != "" {
		return "Deployment", deployment
	}
	return owner.Kind, owner.Name
}
