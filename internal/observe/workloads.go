package observe

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/gate"
	"github.com/openservicemesh/osm-operator/internal/plan/rollout"
)

// Proxy is what a control plane told of a connected proxy.
type Proxy struct {
	// Synced says that it acknowledged all that it was sent.
	Synced bool
	// Rejected is what it rejected, empty if nothing.
	Rejected string
}

// Proxies are the proxies of each revision, by pod UID. A revision that is not in it, or
// of which some replica could not be read, is not known.
type Proxies map[string]map[string]Proxy

// Workloads are what a mesh's pods belong to.
type Workloads struct {
	All []rollout.Workload
	// Loose are the pods that belong to none of them.
	Loose []rollout.Loose
}

// ReadWorkloads lists the workloads of the namespaces that are in a mesh, if they have pods
// with its sidecar or ask for a revision. It reads live: the operator's cache has no
// workloads of others.
func ReadWorkloads(ctx context.Context, live client.Reader, mesh string, pods []Pod, proxies Proxies) (Workloads, error) {
	var namespaces corev1.NamespaceList
	if err := live.List(ctx, &namespaces, client.MatchingLabels{operatorv1alpha1.LabelMonitoredBy: mesh}); err != nil {
		return Workloads{}, fmt.Errorf("listing the namespaces of Mesh %s: %w", mesh, err)
	}
	kept, out := map[rollout.Ref][]Pod{}, Workloads{}
	for _, p := range pods {
		ref := rollout.Ref{Kind: p.Kind, Namespace: p.Namespace, Name: p.Owner}
		kept[ref] = append(kept[ref], p)
	}
	for i := range namespaces.Items {
		all, err := readNamespace(ctx, live, &namespaces.Items[i])
		if err != nil {
			return Workloads{}, err
		}
		for _, w := range all {
			mine := kept[w.Ref]
			delete(kept, w.Ref)
			if len(mine) == 0 && w.Revision == "" {
				continue
			}
			for _, p := range mine {
				w.Pods = append(w.Pods, rollout.Pod{Revision: p.Revision, Pod: gated(p, proxies[p.Revision])})
			}
			out.All = append(out.All, w)
		}
	}
	for ref, pods := range kept {
		for _, p := range pods {
			out.Loose = append(out.Loose, rollout.Loose{Name: p.Namespace + "/" + p.Name, Revision: p.Revision, Reason: loose(ref)})
		}
	}
	return out, nil
}

// gated is a pod as gates look at it.
func gated(p Pod, proxies map[string]Proxy) gate.Pod {
	proxy, connected := proxies[p.UID]
	return gate.Pod{
		Name: p.Namespace + "/" + p.Name, Ready: p.Ready, Restarts: p.Restarts, Stuck: p.Stuck, Created: p.Created,
		Connected: connected, Synced: proxy.Synced, Rejected: proxy.Rejected,
	}
}

// loose says why a pod cannot be moved.
func loose(r rollout.Ref) string {
	switch r.Kind {
	case "":
		return "nothing would make it again"
	case "Deployment", "StatefulSet", "DaemonSet":
		return "its " + r.Kind + " " + r.Name + " is not there, or its namespace is not in the mesh"
	default:
		return "it belongs to " + r.Kind + " " + r.Name + ", which the mesh does not restart"
	}
}

func readNamespace(ctx context.Context, live client.Reader, ns *corev1.Namespace) ([]rollout.Workload, error) {
	var (
		deployments  appsv1.DeploymentList
		statefulSets appsv1.StatefulSetList
		daemonSets   appsv1.DaemonSetList
		out          []rollout.Workload
	)
	for _, list := range []client.ObjectList{&deployments, &statefulSets, &daemonSets} {
		if err := live.List(ctx, list, client.InNamespace(ns.Name)); err != nil {
			return nil, fmt.Errorf("listing the workloads of namespace %s: %w", ns.Name, err)
		}
	}
	for i := range deployments.Items {
		out = append(out, deploymentOf(&deployments.Items[i]))
	}
	for i := range statefulSets.Items {
		out = append(out, statefulSetOf(&statefulSets.Items[i]))
	}
	for i := range daemonSets.Items {
		out = append(out, daemonSetOf(&daemonSets.Items[i]))
	}
	for i := range out {
		out[i].NamespaceLabels = ns.Labels
		if out[i].Excluded == "" && ns.Labels[operatorv1alpha1.LabelUpgrade] == optedOut {
			out[i].Excluded = "its namespace has the label " + operatorv1alpha1.LabelUpgrade + "=" + optedOut
		}
	}
	return out, nil
}

// optedOut is the value of LabelUpgrade that keeps upgrades away.
const optedOut = "disabled"

// noneReady is why a workload is not moved that has pods, none of which is ready.
const noneReady = "it is not well as it is: no pod is ready"

// onDelete is why a workload is left alone whose controller does not replace pods.
const onDelete = "its update strategy OnDelete leaves it to a person to delete pods"

func workload(kind string, o metav1.Object, template *corev1.PodTemplateSpec, rolledOut bool) rollout.Workload {
	w := rollout.Workload{
		Ref:    rollout.Ref{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()},
		Labels: o.GetLabels(), Revision: template.Annotations[operatorv1alpha1.AnnotationRevision],
		Wave: o.GetAnnotations()[operatorv1alpha1.AnnotationWave], RolledOut: rolledOut,
	}
	if w.Labels[operatorv1alpha1.LabelUpgrade] == optedOut {
		w.Excluded = "it has the label " + operatorv1alpha1.LabelUpgrade + "=" + optedOut
	}
	return w
}

func wanted(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

func deploymentOf(d *appsv1.Deployment) rollout.Workload {
	n, s := wanted(d.Spec.Replicas), d.Status
	w := workload("Deployment", d, &d.Spec.Template, s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n)
	if d.Spec.Paused && w.Excluded == "" {
		w.Excluded = "it is paused"
	}
	for _, c := range d.Status.Conditions {
		bad := c.Type == appsv1.DeploymentAvailable || c.Type == appsv1.DeploymentProgressing
		if bad && c.Status == corev1.ConditionFalse {
			w.Unwell = "it is not well as it is: " + c.Reason
		}
	}
	return w
}

func statefulSetOf(d *appsv1.StatefulSet) rollout.Workload {
	n, s := wanted(d.Spec.Replicas), d.Status
	updated := n == 0 || s.UpdatedReplicas == n && s.CurrentRevision == s.UpdateRevision
	done := updated && s.ObservedGeneration >= d.Generation && s.Replicas == n && s.ReadyReplicas == n
	w := workload("StatefulSet", d, &d.Spec.Template, done)
	if n > 0 && s.ReadyReplicas == 0 {
		w.Unwell = noneReady
	}
	if w.Excluded == "" {
		w.Excluded = heldBack(d.Spec.UpdateStrategy)
	}
	return w
}

// heldBack says why the controller of a StatefulSet does not replace all pods.
func heldBack(s appsv1.StatefulSetUpdateStrategy) string {
	switch {
	case s.Type == appsv1.OnDeleteStatefulSetStrategyType:
		return onDelete
	case s.RollingUpdate != nil && s.RollingUpdate.Partition != nil && *s.RollingUpdate.Partition > 0:
		return "its partition holds pods back"
	default:
		return ""
	}
}

func daemonSetOf(d *appsv1.DaemonSet) rollout.Workload {
	s := d.Status
	n := s.DesiredNumberScheduled
	w := workload("DaemonSet", d, &d.Spec.Template, s.ObservedGeneration >= d.Generation && s.UpdatedNumberScheduled == n && s.NumberAvailable == n)
	if n > 0 && s.NumberReady == 0 {
		w.Unwell = noneReady
	}
	if d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType && w.Excluded == "" {
		w.Excluded = onDelete
	}
	return w
}
