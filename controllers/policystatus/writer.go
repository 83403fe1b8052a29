// Package policystatus writes what the control plane found about policy objects into
// their status. One replica writes, by a lease; nothing is written that is there
// already, and transitions are events.
package policystatus

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/policy"
)

// Condition types of policy objects.
const (
	// conditionAccepted is True when the object means something.
	conditionAccepted = "Accepted"
	// conditionResolvedRefs is True when all that it names was found.
	conditionResolvedRefs = "ResolvedRefs"
)

// pace is how often reports are looked at: a burst of changes is written once.
const pace = time.Second

// Writer writes reports.
type Writer struct {
	// Client reads from the cache and writes status.
	Client client.Client
	// Reports returns what is to be said now.
	Reports  func() []policy.ObjectReport
	Recorder events.EventRecorder
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: one replica writes.
func (w *Writer) NeedLeaderElection() bool { return true }

// Start implements manager.Runnable.
func (w *Writer) Start(ctx context.Context) error {
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			for _, r := range w.Reports() {
				if err := w.write(ctx, r); err != nil && ctx.Err() == nil {
					logf.FromContext(ctx).Info("Writing a status again later", "kind", r.Kind, "name", r.Key.String(), "reason", err.Error())
				}
			}
		}
	}
}

// object returns an empty object of a kind, and where its conditions are.
func object(kind string) (client.Object, func() *[]metav1.Condition) {
	switch kind {
	case "TrafficTarget":
		o := &accessv1alpha3.TrafficTarget{}
		return o, func() *[]metav1.Condition { return &o.Status.Conditions }
	case "HTTPRouteGroup":
		o := &specsv1alpha4.HTTPRouteGroup{}
		return o, func() *[]metav1.Condition { return &o.Status.Conditions }
	case "TrafficSplit":
		o := &splitv1alpha4.TrafficSplit{}
		return o, func() *[]metav1.Condition { return &o.Status.Conditions }
	case "TCPRoute":
		o := &specsv1alpha4.TCPRoute{}
		return o, func() *[]metav1.Condition { return &o.Status.Conditions }
	case "Retry":
		o := &policyv1alpha1.Retry{}
		return o, func() *[]metav1.Condition { return &o.Status.Conditions }
	case "UpstreamTrafficSetting":
		o := &policyv1alpha1.UpstreamTrafficSetting{}
		return o, func() *[]metav1.Condition { return &o.Status.Conditions }
	default:
		return nil, nil
	}
}

// write brings the status of one object up to date, if the report still speaks of it.
func (w *Writer) write(ctx context.Context, r policy.ObjectReport) error {
	o, conditions := object(r.Kind)
	if o == nil {
		return nil
	}
	if err := w.Client.Get(ctx, client.ObjectKey{Namespace: r.Key.Namespace, Name: r.Key.Name}, o); err != nil {
		return client.IgnoreNotFound(err)
	}
	if string(o.GetUID()) != r.UID || o.GetGeneration() != r.Generation {
		return nil
	}
	before, ok := o.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("copying %s %s", r.Kind, r.Key)
	}
	changed := false
	var turned []metav1.Condition
	for kind, verdict := range map[string]policy.Verdict{conditionAccepted: r.Accepted, conditionResolvedRefs: r.Resolved} {
		next := condition(kind, verdict, r.Generation)
		if old := meta.FindStatusCondition(*conditions(), kind); old == nil && !verdict.OK || old != nil && old.Status != next.Status {
			turned = append(turned, next)
		}
		changed = meta.SetStatusCondition(conditions(), next) || changed
	}
	if !changed {
		return nil
	}
	if err := w.Client.Status().Patch(ctx, o, client.MergeFrom(before)); err != nil {
		return client.IgnoreNotFound(err)
	}
	for _, c := range turned {
		w.Recorder.Eventf(o, nil, eventType(c), c.Reason, "Compile", "%s is %s: %s", c.Type, c.Status, c.Message)
	}
	return nil
}

func condition(kind string, v policy.Verdict, generation int64) metav1.Condition {
	status := metav1.ConditionFalse
	if v.OK {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: kind, Status: status, Reason: v.Reason, Message: v.Message, ObservedGeneration: generation}
}

func eventType(c metav1.Condition) string {
	if c.Status == metav1.ConditionTrue {
		return corev1.EventTypeNormal
	}
	return corev1.EventTypeWarning
}
