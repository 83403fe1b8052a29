package cmd

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// TestPoliciesTellWhoAcknowledgedThem has two sidecars take, reject and miss what comes of a
// TrafficTarget, and a replica that does not answer.
func TestPoliciesTellWhoAcknowledgedThem(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	p := startPlane(ctx, t)
	p.ready(ctx, t)
	web, buyer := p.pod(ctx, t, "web-1", "web", "10.0.0.2"), p.pod(ctx, t, "buyer-1", "buyer", "10.0.0.9")
	p.serviceOf(ctx, t, "web", web)
	callee, caller := p.sidecar(t, web), p.sidecar(t, buyer)
	callee.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.RouteType, ResourceNamesSubscribe: []string{name.InboundRoute(80)}})

	routes := &specsv1alpha4.HTTPRouteGroup{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "routes"},
		Spec:       specsv1alpha4.HTTPRouteGroupSpec{Matches: []specsv1alpha4.HTTPMatch{{Name: "a", PathRegex: "/a"}, {Name: "b", PathRegex: "/b"}}},
	}
	target := &accessv1alpha3.TrafficTarget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "buys"},
		Spec: accessv1alpha3.TrafficTargetSpec{
			Destination: accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: "shop", Name: "web"},
			Sources:     []accessv1alpha3.IdentityBindingSubject{{Kind: "ServiceAccount", Namespace: "shop", Name: "buyer"}},
			Rules:       []accessv1alpha3.TrafficTargetRule{{Kind: "HTTPRouteGroup", Name: "routes", Matches: []string{"a"}}},
		},
	}
	must(t, p.Create(ctx, routes))
	must(t, p.Create(ctx, target))
	says := func(status metav1.ConditionStatus, reason, words string) {
		t.Helper()
		eventually(ctx, t, "the condition Programmed is "+reason, func(ctx context.Context) error {
			if err := p.Get(ctx, client.ObjectKeyFromObject(target), target); err != nil {
				return err
			}
			c := meta.FindStatusCondition(target.Status.Conditions, "Programmed")
			if c == nil || c.Status != status || c.Reason != reason || c.ObservedGeneration != target.Generation || !strings.Contains(c.Message, words) {
				return fmt.Errorf("conditions are %+v", target.Status.Conditions)
			}
			return nil
		})
	}
	permissive := func(on bool) {
		t.Helper()
		var config configv1alpha2.MeshConfig
		must(t, p.Get(ctx, client.ObjectKey{Namespace: "osm-system", Name: "osm-mesh-config"}, &config))
		config.Spec.Traffic = &configv1alpha2.TrafficSpec{EnablePermissiveTrafficPolicyMode: new(on)}
		must(t, p.Update(ctx, &config))
	}
	edit := func(match string) {
		t.Helper()
		must(t, p.Get(ctx, client.ObjectKeyFromObject(target), target))
		target.Spec.Rules[0].Matches = []string{match}
		must(t, p.Update(ctx, target))
	}

	permissive(true)
	says(metav1.ConditionTrue, "NoProxies", "0 of 0")
	permissive(false)
	says(metav1.ConditionTrue, "Acknowledged", "acknowledged by 2 of 2 proxies: they accepted it")
	must(t, p.Get(ctx, client.ObjectKeyFromObject(routes), routes))
	if !meta.IsStatusConditionTrue(routes.Status.Conditions, "Programmed") {
		t.Errorf("its routes say %+v", routes.Status.Conditions)
	}

	version := target.ResourceVersion
	must(t, p.annotate(ctx, web)) // nothing that could matter

	callee.refuse(resource.RouteType, true)
	edit("b")
	says(metav1.ConditionFalse, "Rejected", "acknowledged by 1 of 2 proxies; shop/web-1 rejected")
	if c := meta.FindStatusCondition(target.Status.Conditions, "Programmed"); !strings.Contains(c.Message, "cannot bind: address in use") {
		t.Errorf("without its words: %q", c.Message)
	}
	if target.ResourceVersion == version {
		t.Error("nothing was written")
	}
	eventually(ctx, t, "an event about it", func(ctx context.Context) error {
		var events eventsv1.EventList
		if err := p.List(ctx, &events, client.InNamespace("shop")); err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Regarding.Name == "buys" && e.Reason == "Rejected" && e.Type == corev1.EventTypeWarning {
				return nil
			}
		}
		return fmt.Errorf("there are %d events", len(events.Items))
	})

	callee.refuse(resource.RouteType, false)
	edit("a")
	says(metav1.ConditionTrue, "Acknowledged", "2 of 2")

	// Another replica runs, and does not tell. The caller may be connected to it.
	replica := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "osm-system", Name: "osm-controller-2", Labels: map[string]string{
			"app": render.ControllerService, operatorv1alpha1.LabelMesh: "osm", operatorv1alpha1.LabelRevision: "v2",
		}},
		Spec: corev1.PodSpec{AutomountServiceAccountToken: new(false), Containers: []corev1.Container{{Name: "osm", Image: "osm"}}},
	}
	must(t, client.IgnoreAlreadyExists(p.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "osm-system", Name: "default"}})))
	must(t, p.Create(ctx, replica))
	replica.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "127.0.0.2", PodIPs: []corev1.PodIP{{IP: "127.0.0.2"}}}
	must(t, p.Status().Update(ctx, replica))
	_ = caller.stream.CloseSend()
	edit("b")
	says(metav1.ConditionUnknown, "ReplicasUnread", "acknowledged by 1 of 2 proxies; not known of others, since replicas of the control plane do not tell or are behind: osm-controller-2")
}
