package cmd

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

const webEndpoints = "shop/web|80"

func TestControlPlane(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	p := startPlane(ctx, t)
	p.ready(ctx, t)
	web, buyer := p.pod(ctx, t, "web-1", "web", "10.0.0.2"), p.pod(ctx, t, "buyer-1", "buyer", "10.0.0.9")
	service, slice := p.serviceOf(ctx, t, "web", web)
	sidecar := p.sidecar(t, buyer)
	holds := func(want ...string) func() bool {
		return func() bool {
			got, _ := sidecar.addresses(webEndpoints)
			return slices.Equal(got, want)
		}
	}
	sidecar.until(t, "the endpoint of the Service", holds("10.0.0.2"))
	for kind, want := range map[string]string{resource.ListenerType: "outbound-listener", resource.ClusterType: "shop/web|80", resource.SecretType: "trust-bundle"} {
		sidecar.until(t, want, func() bool { return slices.Contains(sidecar.has(kind), want) })
	}

	t.Run("an endpoint is one response with one load assignment", func(t *testing.T) {
		second := p.pod(ctx, t, "web-2", "web", "10.0.0.3")
		_, mark := sidecar.responses(0)
		slice.Endpoints = append(slice.Endpoints, endpointAt(second))
		must(t, p.Update(ctx, slice))
		sidecar.until(t, "the second endpoint", holds("10.0.0.2", "10.0.0.3"))
		got, _ := sidecar.responses(mark)
		if diff := cmp.Diff([]string{"ClusterLoadAssignment +" + webEndpoints}, got); diff != "" {
			t.Errorf("responses (-want +got):\n%s", diff)
		}
	})

	t.Run("what no proxy could see is not sent", func(t *testing.T) {
		_, mark := sidecar.responses(0)
		must(t, p.annotate(ctx, service))
		must(t, p.annotate(ctx, web))
		must(t, p.annotate(ctx, slice))
		must(t, p.annotate(ctx, &configv1alpha2.MeshConfig{ObjectMeta: metav1.ObjectMeta{Namespace: "osm-system", Name: "osm-mesh-config"}}))
		must(t, p.Get(ctx, client.ObjectKeyFromObject(slice), slice))
		slice.Endpoints = slice.Endpoints[:1]
		must(t, p.Update(ctx, slice))
		sidecar.until(t, "what was sent after", holds("10.0.0.2"))
		got, _ := sidecar.responses(mark)
		if diff := cmp.Diff([]string{"ClusterLoadAssignment +" + webEndpoints}, got); diff != "" {
			t.Errorf("responses (-want +got):\n%s", diff)
		}
	})

	t.Run("an endpoint of a new account waits until its callers know it", func(t *testing.T) { p.newAccount(ctx, t, buyer, slice) })
	t.Run("a replica that reconnects is sent nothing", func(t *testing.T) { reconnects(t, p, buyer, sidecar) })
	t.Run("only a pod's own sidecar is served", func(t *testing.T) { p.strangers(t, web, buyer) })
	t.Run("policies are told what became of them", func(t *testing.T) { p.statuses(ctx, t) })
	t.Run("enforcing takes what was allowed", func(t *testing.T) { p.enforce(ctx, t, sidecar) })
	t.Run("pods are injected", func(t *testing.T) { p.injects(ctx, t) })
	t.Run("debug pages are switched", func(t *testing.T) { p.debugs(ctx, t, buyer) })
	t.Run("a pod that is gone loses its stream", func(t *testing.T) {
		must(t, p.Delete(ctx, buyer, client.GracePeriodSeconds(0)))
		ended(t, sidecar, codes.PermissionDenied)
	})
	t.Run("new roots are in force at once", func(t *testing.T) { p.rotate(t, web) })
	t.Run("the end comes in order", func(t *testing.T) { p.ends(ctx, t, web) })
}

// annotate changes what nobody reads.
func (p *plane) annotate(ctx context.Context, o client.Object) error {
	if err := p.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
		return err
	}
	annotations := o.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations["note"] = "nothing that a proxy could see"
	o.SetAnnotations(annotations)
	return p.Update(ctx, o)
}

// newAccount adds an endpoint of another ServiceAccount while a sidecar takes its time
// over its clusters.
func (p *plane) newAccount(ctx context.Context, t *testing.T, buyer *corev1.Pod, slice *discoveryv1.EndpointSlice) {
	t.Helper()
	slow := p.sidecar(t, buyer)
	slow.until(t, "the Service's endpoints", func() bool { got, ok := slow.addresses(webEndpoints); return ok && len(got) == 1 })
	gate := make(chan struct{})
	slow.mu.Lock()
	slow.slow = gate
	slow.mu.Unlock()
	_, mark := slow.responses(0)

	canary := p.pod(ctx, t, "canary-1", "canary", "10.0.0.5")
	must(t, p.Get(ctx, client.ObjectKeyFromObject(canary), canary))
	canary.Labels["app"] = "web"
	must(t, p.Update(ctx, canary))
	must(t, p.Get(ctx, client.ObjectKeyFromObject(slice), slice))
	slice.Endpoints = append(slice.Endpoints, endpointAt(canary))
	must(t, p.Update(ctx, slice))
	slow.until(t, "the clusters that allow the account", func() bool {
		got, _ := slow.responses(mark)
		return slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "Cluster +shop/web|80") })
	})
	if got, _ := slow.addresses(webEndpoints); slices.Contains(got, "10.0.0.5") {
		t.Error("the endpoint was announced before the sidecar acknowledged that it may be called")
	}
	close(gate)
	slow.until(t, "the endpoint once it may be called", func() bool {
		got, _ := slow.addresses(webEndpoints)
		return slices.Equal(got, []string{"10.0.0.2", "10.0.0.5"})
	})
}

// reconnects connects again with what is there already.
func reconnects(t *testing.T, p *plane, buyer *corev1.Pod, before *proxy) {
	t.Helper()
	again := p.sidecar(t, buyer)
	again.until(t, "all that the first has", func() bool {
		return slices.Equal(again.has(resource.ClusterType), before.has(resource.ClusterType)) &&
			slices.Equal(again.has(resource.ListenerType), before.has(resource.ListenerType))
	})
	again.mu.Lock()
	before.mu.Lock()
	defer again.mu.Unlock()
	defer before.mu.Unlock()
	for kind, resources := range before.resources {
		for name, r := range resources {
			if got := again.resources[kind][name].GetVersion(); got != r.GetVersion() {
				t.Errorf("%s %s has version %q on one stream and %q on another", kind, name, r.GetVersion(), got)
			}
		}
	}
}

// strangers are those who are not whom they say they are.
func (p *plane) strangers(t *testing.T, web, buyer *corev1.Pod) {
	t.Helper()
	uid := func(pod *corev1.Pod) pki.Option { return pki.PodUID(string(pod.UID)) }
	for name, tc := range map[string]struct {
		certificate pki.Credentials
		node        string
		want        codes.Code
	}{
		"another pod's node":             {p.authority.Workload(t, "shop", "buyer", uid(buyer)), nodeOf(web), codes.PermissionDenied},
		"another account's certificate":  {p.authority.Workload(t, "shop", "web", uid(buyer)), nodeOf(buyer), codes.PermissionDenied},
		"a pod that never was":           {p.authority.Workload(t, "shop", "buyer", pki.PodUID("none")), "none.ghost.shop", codes.PermissionDenied},
		"a pod of the same name, before": {p.authority.Workload(t, "shop", "buyer", pki.PodUID("old")), "old.buyer-1.shop", codes.PermissionDenied},
		"another authority's":            {pki.New(t).Workload(t, "shop", "buyer", uid(buyer)), nodeOf(buyer), codes.Unavailable},
		"a certificate that has ended":   {p.authority.Workload(t, "shop", "buyer", uid(buyer), pki.Expired()), nodeOf(buyer), codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			stranger := connectProxy(t, p.options.xdsPort, p.authority, tc.certificate, tc.node)
			ended(t, stranger, tc.want)
			if got := stranger.has(resource.ClusterType); len(got) > 0 {
				t.Errorf("it was served %q", got)
			}
		})
	}
}

func ended(t *testing.T, p *proxy, want codes.Code) {
	t.Helper()
	select {
	case err := <-p.ended:
		if status.Code(err) != want {
			t.Errorf("the stream ended with %v, want %s", err, want)
		}
	case <-time.After(30 * time.Second):
		t.Error("the stream goes on")
	}
}

// statuses looks at what is written about a TrafficTarget that names what is not there.
func (p *plane) statuses(ctx context.Context, t *testing.T) {
	t.Helper()
	target := &accessv1alpha3.TrafficTarget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "buys"},
		Spec: accessv1alpha3.TrafficTargetSpec{
			Destination: accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: "shop", Name: "web"},
			Sources:     []accessv1alpha3.IdentityBindingSubject{{Kind: "ServiceAccount", Namespace: "shop", Name: "buyer"}},
			Rules:       []accessv1alpha3.TrafficTargetRule{{Kind: "HTTPRouteGroup", Name: "missing"}},
		},
	}
	must(t, p.Create(ctx, target))
	eventually(ctx, t, "the status of a TrafficTarget", func(ctx context.Context) error {
		if err := p.Get(ctx, client.ObjectKeyFromObject(target), target); err != nil {
			return err
		}
		c := meta.FindStatusCondition(target.Status.Conditions, "ResolvedRefs")
		if c == nil || c.Status != metav1.ConditionFalse || c.ObservedGeneration != target.Generation || !strings.Contains(c.Message, "missing") {
			return fmt.Errorf("conditions are %+v", target.Status.Conditions)
		}
		return nil
	})
	eventually(ctx, t, "an event about it", func(ctx context.Context) error {
		var events eventsv1.EventList
		if err := p.List(ctx, &events, client.InNamespace("shop")); err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Regarding.Kind == "TrafficTarget" && e.Regarding.Name == "buys" && e.Type == corev1.EventTypeWarning {
				return nil
			}
		}
		return fmt.Errorf("there are %d events", len(events.Items))
	})
	version := target.ResourceVersion
	eventually(ctx, t, "the MeshConfig is accepted", func(ctx context.Context) error {
		var config configv1alpha2.MeshConfig
		if err := p.Get(ctx, client.ObjectKey{Namespace: "osm-system", Name: "osm-mesh-config"}, &config); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(config.Status.Conditions, "Accepted") {
			return fmt.Errorf("conditions are %+v", config.Status.Conditions)
		}
		return nil
	})
	must(t, p.Get(ctx, client.ObjectKeyFromObject(target), target))
	if target.ResourceVersion != version {
		t.Error("a status was written twice")
	}
	must(t, p.Delete(ctx, target))
}

// enforce switches permissive mode off: nothing allows the buyer anything.
func (p *plane) enforce(ctx context.Context, t *testing.T, sidecar *proxy) {
	t.Helper()
	p.config(ctx, t, func(s *configv1alpha2.MeshConfigSpec) {
		s.Traffic = &configv1alpha2.TrafficSpec{EnablePermissiveTrafficPolicyMode: new(false), EnableEgress: new(false)}
	})
	sidecar.until(t, "the end of what was allowed", func() bool { return !slices.Contains(sidecar.has(resource.ClusterType), "shop/web|80") })
}

// config changes the MeshConfig.
func (p *plane) config(ctx context.Context, t *testing.T, change func(*configv1alpha2.MeshConfigSpec)) {
	t.Helper()
	must(t, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		var config configv1alpha2.MeshConfig
		if err := p.Get(ctx, client.ObjectKey{Namespace: "osm-system", Name: "osm-mesh-config"}, &config); err != nil {
			return err
		}
		change(&config.Spec)
		return p.Update(ctx, &config)
	}))
}

// injects asks the webhook what it makes of a pod.
func (p *plane) injects(ctx context.Context, t *testing.T) {
	t.Helper()
	pod, err := json.Marshal(&corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "new"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	})
	must(t, err)
	review, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "1", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Namespace: "shop", Name: "new", Operation: admissionv1.Create,
			Object: runtime.RawExtension{Raw: pod},
		},
	})
	must(t, err)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("https://127.0.0.1:%d/mutate-pod-creation", p.options.injectorPort), bytes.NewReader(review))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	https := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: p.authority.Pool(), ServerName: "osm-injector.osm-system.svc",
	}}}
	resp, err := https.Do(req)
	must(t, err)
	defer resp.Body.Close()
	var answer admissionv1.AdmissionReview
	must(t, json.NewDecoder(resp.Body).Decode(&answer))
	if r := answer.Response; r == nil || !r.Allowed || !strings.Contains(string(r.Patch), "envoy:test") {
		t.Errorf("the webhook answers %+v", answer.Response)
	}
}

// debugs switches the debug server on and off.
func (p *plane) debugs(ctx context.Context, t *testing.T, buyer *corev1.Pod) {
	t.Helper()
	set := func(on bool) {
		p.config(ctx, t, func(s *configv1alpha2.MeshConfigSpec) {
			s.Observability = &configv1alpha2.ObservabilitySpec{EnableDebugServer: &on}
		})
	}
	set(true)
	shows := func(path, what string) {
		t.Helper()
		eventually(ctx, t, path, func(ctx context.Context) error {
			code, body, err := get(ctx, p.options.debugPort, path)
			if err == nil && (code != http.StatusOK || !strings.Contains(body, what)) {
				err = fmt.Errorf("%d without %s: %s", code, what, body)
			}
			return err
		})
	}
	shows("/debug", "/debug/proxy")
	shows("/debug/proxy", string(buyer.UID))
	shows("/debug/policies", `"MeshConfig"`)
	shows("/debug/classes", "shop/buyer/")
	_, body, err := get(ctx, p.options.debugPort, "/debug/proxy")
	must(t, err)
	var proxies []struct{ PodUID, Class string }
	must(t, json.Unmarshal([]byte(body), &proxies))
	i := slices.IndexFunc(proxies, func(s struct{ PodUID, Class string }) bool { return s.PodUID == string(buyer.UID) })
	if i < 0 {
		t.Fatalf("the buyer is not among %+v", proxies)
	}
	shows("/debug/xds?class="+proxies[i].Class, resource.ListenerType)
	if strings.Contains(body, "PRIVATE") || strings.Contains(body, "BEGIN CERTIFICATE") {
		t.Error("the debug page shows certificates")
	}
	set(false)
	eventually(ctx, t, "the debug server is off", func(ctx context.Context) error {
		if _, _, err := get(ctx, p.options.debugPort, "/debug"); err == nil {
			return errors.New("it answers")
		}
		return nil
	})
}

// rotate puts other roots in place: who has none of their certificates is let go, and
// proxies verify one another by them.
func (p *plane) rotate(t *testing.T, web *corev1.Pod) {
	t.Helper()
	old := p.sidecar(t, web)
	old.until(t, "the roots", func() bool { return len(old.has(resource.SecretType)) == 1 })
	next := pki.New(t)
	both := append(slices.Clone(p.authority.RootsPEM()), next.RootsPEM()...)
	_, mark := old.responses(0)
	write(t, p.options.trustDir, "ca.pem", both)
	old.until(t, "both roots", func() bool {
		got, _ := old.responses(mark)
		return slices.Contains(got, "Secret +trust-bundle")
	})
	serving := next.ControlPlane(t, "osm", "v1", pki.DNSNames("osm-controller-v1.osm-system.svc"))
	write(t, p.options.servingDir, "tls.crt", serving.ChainPEM())
	write(t, p.options.servingDir, "tls.key", serving.KeyPEM(t))
	write(t, p.options.trustDir, "ca.pem", next.RootsPEM())
	ended(t, old, codes.Unauthenticated)
	p.authority = next
	p.sidecar(t, web).until(t, "a stream under the new roots", func() bool { return true })
}

// ends stops the process: not ready first, then streams, then the rest.
func (p *plane) ends(ctx context.Context, t *testing.T, web *corev1.Pod) {
	t.Helper()
	var last *proxy
	eventually(ctx, t, "a stream", func(context.Context) error {
		last = p.sidecar(t, web)
		select {
		case err := <-last.ended:
			return err
		case <-last.changed:
			return nil
		case <-time.After(5 * time.Second):
			return errors.New("nothing came")
		}
	})
	p.stop()
	eventually(ctx, t, "it says that it is not ready", func(ctx context.Context) error {
		code, body, err := get(ctx, p.options.httpPort, "/health/ready")
		if err == nil && code != http.StatusServiceUnavailable {
			err = fmt.Errorf("%d %s", code, body)
		}
		return err
	})
	select {
	case err := <-last.ended:
		t.Errorf("the stream ended before the replica said that it is not ready: %v", err)
	default:
	}
	ended(t, last, codes.Unavailable)
}
