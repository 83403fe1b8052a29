package admission_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/admission"
	"github.com/openservicemesh/osm-operator/internal/inject"
)

// injector answers for a namespace of the mesh; another one cannot be read.
func injector() *admission.Injector {
	return &admission.Injector{
		Namespace: func(_ context.Context, name string) (inject.Namespace, error) {
			if name != "shop" {
				return inject.Namespace{}, errors.New("it cannot be read")
			}
			return inject.Namespace{
				Name: name, Labels: map[string]string{operatorv1alpha1.LabelMonitoredBy: "osm"},
				Annotations: map[string]string{operatorv1alpha1.AnnotationInjection: "enabled"},
			}, nil
		},
		Config: func(context.Context, string) (inject.Config, error) {
			return inject.Config{
				Mesh: "osm", MeshNamespace: "osm-system", Revision: "v1", ControlPlane: "osm-controller-v1.osm-system.svc.cluster.local",
				ControlPlaneName: "osm-controller-v1.osm-system.svc", OSMImage: "osm:1", EnvoyImage: "envoy:1",
			}, nil
		},
		UUID: func() types.UID { return "uuid-1" },
	}
}

// send has a webhook answer a body, as anybody can send it who reaches its port.
func send(t *testing.T, handler ctrladmission.Handler, body []byte, headers ...string) (int, *admissionv1.AdmissionResponse) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	(&ctrladmission.Webhook{Handler: handler}).ServeHTTP(rec, req)
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(rec.Body.Bytes(), &review); err != nil || review.Response == nil {
		return rec.Code, nil
	}
	return rec.Code, review.Response
}

// review asks about an object of a namespace.
func review(t *testing.T, kind, namespace string, object []byte) []byte {
	t.Helper()
	out, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "1", Kind: metav1.GroupVersionKind{Kind: kind}, Namespace: namespace, Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: object},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func pod(t *testing.T, change func(*corev1.Pod)) []byte {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web:1"}}}}
	if change != nil {
		change(p)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// nested is JSON of so many levels.
func nested(levels int) string {
	return strings.Repeat(`{"a":`, levels) + "1" + strings.Repeat("}", levels)
}

// TestNoBodyLetsAPodInWithoutItsSidecar sends what an API server would not: the webhook
// knows nobody who calls it.
func TestNoBodyLetsAPodInWithoutItsSidecar(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	for range 64 {
		_, _ = zip.Write(make([]byte, 1<<20))
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	many := func(n int, probes bool) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			for i := range n {
				c := corev1.Container{Name: fmt.Sprint("c", i), Image: "web:1"}
				if probes {
					c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(1000 + i)}}}
					c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt(1000 + i)}}}
				}
				p.Spec.Containers = append(p.Spec.Containers, c)
			}
		}
	}
	for name, tc := range map[string]struct {
		body    []byte
		headers []string
		inject  bool
	}{
		"a pod":                                   {body: review(t, "Pod", "shop", pod(t, nil)), inject: true},
		"a pod of a thousand containers":          {body: review(t, "Pod", "shop", pod(t, many(1000, false))), inject: true},
		"a pod of a thousand containers' probes":  {body: review(t, "Pod", "shop", pod(t, many(1000, true)))},
		"a pod of a namespace that is not read":   {body: review(t, "Pod", "bank", pod(t, nil))},
		"nothing":                                 {},
		"no JSON":                                 {body: []byte("pod")},
		"no review":                               {body: []byte(`{"kind":"Pod"}`)},
		"a review of nothing":                     {body: review(t, "Pod", "shop", nil)},
		"a pod that is a list":                    {body: review(t, "Pod", "shop", []byte(`[]`))},
		"a pod whose containers are a number":     {body: review(t, "Pod", "shop", []byte(`{"spec":{"containers":7}}`))},
		"a pod of many levels":                    {body: review(t, "Pod", "shop", []byte(`{"spec":`+nested(9000)+`}`)), inject: true},
		"a pod of too many levels":                {body: []byte(`{"request":{"object":` + nested(200_000) + `}}`)},
		"ten megabytes":                           {body: append([]byte(`{"a":"`), bytes.Repeat([]byte("a"), 10<<20)...)},
		"a small body that says that it is large": {body: bomb.Bytes(), headers: []string{"Content-Encoding", "gzip"}},
		"a body of another kind":                  {body: review(t, "Pod", "shop", pod(t, nil)), headers: []string{"Content-Type", "text/plain"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, got := send(t, injector(), tc.body, tc.headers...)
			injected := got != nil && got.Allowed && bytes.Contains(got.Patch, []byte("osm-init"))
			if injected != tc.inject {
				t.Errorf("%d, %+v; want the sidecar: %t", code, got, tc.inject)
			}
			if !tc.inject && got != nil && got.Allowed {
				t.Errorf("let in without the sidecar: %+v", got)
			}
		})
	}
}

// TestPoliciesThatCanMeanNothingAreRefused asks about policies of all kinds.
func TestPoliciesThatCanMeanNothingAreRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		kind, object string
		want         string // part of the refusal; allowed when empty
	}{
		"a kind that is not validated":                 {"Retry", `{}`, ""},
		"a target":                                     {"TrafficTarget", `{"metadata":{"namespace":"shop"},"spec":{"destination":{"kind":"ServiceAccount","name":"db","namespace":"shop"},"rules":[{"kind":"HTTPRouteGroup","name":"g"}],"sources":[{"kind":"ServiceAccount","name":"web","namespace":"shop"}]}}`, ""},
		"a target of another namespace":                {"TrafficTarget", `{"metadata":{"namespace":"shop"},"spec":{"destination":{"kind":"ServiceAccount","name":"db","namespace":"bank"}}}`, "must be \"shop\""},
		"a target of users":                            {"TrafficTarget", `{"metadata":{"namespace":"shop"},"spec":{"destination":{"kind":"User","name":"db","namespace":"shop"}}}`, "must be ServiceAccount"},
		"a regular expression that is none":            {"HTTPRouteGroup", `{"spec":{"matches":[{"name":"a","pathRegex":"("}]}}`, "pathRegex"},
		"a regular expression of 64 KB":                {"HTTPRouteGroup", `{"spec":{"matches":[{"name":"a","pathRegex":"` + strings.Repeat("a", 64<<10) + `"}]}}`, "pathRegex"},
		"a path that is a number":                      {"HTTPRouteGroup", `{"spec":{"matches":[{"name":"a","pathRegex":1}]}}`, "decoding"},
		"a range of sources that is none":              {"IngressBackend", `{"spec":{"backends":[{"name":"a","port":{"number":80,"protocol":"http"}}],"sources":[{"kind":"IPRange","name":"x"}]}}`, "no range"},
		"a range of destinations that is none":         {"Egress", `{"spec":{"ipAddresses":["10.0.0.1"]}}`, "no range"},
		"an object that is no object":                  {"TrafficSplit", `[]`, "decoding"},
		"an object of many levels":                     {"TrafficSplit", nested(9000), ""},
		"an ingress by HTTPS that anybody may come by": {"IngressBackend", `{"spec":{"backends":[{"name":"a","port":{"number":80,"protocol":"https"}}],"sources":[{"kind":"Service","name":"a","namespace":"b"}]}}`, "AuthenticatedPrincipal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, got := send(t, &admission.Validator{}, review(t, tc.kind, "shop", []byte(tc.object)))
			if got == nil {
				t.Fatalf("no answer: %d", code)
			}
			said := ""
			if got.Result != nil {
				said = got.Result.Message
			}
			if got.Allowed != (tc.want == "") || !strings.Contains(said, tc.want) {
				t.Errorf("allowed %t: %q; want %q", got.Allowed, said, tc.want)
			}
		})
	}
}
