package admission_test

import (
	"encoding/json"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/openservicemesh/osm-operator/internal/admission"
)

// TestMeshConfigsThatMeanNothingAreRefused asks about MeshConfigs, new ones and changed
// ones.
func TestMeshConfigsThatMeanNothingAreRefused(t *testing.T) {
	t.Parallel()
	const bad = `{"sidecar":{"cipherSuites":["nonsense"]}}`
	for name, tc := range map[string]struct {
		before, now string // specs; before is empty for a new one
		called      string
		refusal     []string // parts of the refusal; allowed when empty
		warnings    []string // parts of the warnings, one of each
	}{
		"nothing": {now: `{}`},
		"what Open Service Mesh's installer wrote": {now: `{
			"sidecar":{"enablePrivilegedInitContainer":false,"logLevel":"error","maxDataPlaneConnections":0,"configResyncInterval":"0s","localProxyMode":"Localhost","tlsMinProtocolVersion":"TLSv1_2","tlsMaxProtocolVersion":"TLSv1_3"},
			"traffic":{"enableEgress":true,"enablePermissiveTrafficPolicyMode":true,"outboundPortExclusionList":[],"inboundPortExclusionList":[],"outboundIPRangeExclusionList":[],"networkInterfaceExclusionList":[]},
			"observability":{"osmLogLevel":"info","enableDebugServer":false,"tracing":{"enable":false}},
			"certificate":{"serviceCertValidityDuration":"24h","certKeyBitSize":2048},
			"featureFlags":{"enableWASMStats":true,"enableEgressPolicy":true,"enableIngressBackendPolicy":true,"enableRetryPolicy":false,"enableSnapshotCacheMode":false,"enableAsyncProxyServiceMapping":false,"enableEnvoyActiveHealthChecks":false}}`},
		"a cipher suite that is none": {now: bad, refusal: []string{`spec.sidecar.cipherSuites[0]: "nonsense" is no cipher suite`, "such as ECDHE-ECDSA-AES128-GCM-SHA256"}},
		"a curve that is none":        {now: `{"sidecar":{"ecdhCurves":["X25519","curve"]}}`, refusal: []string{`spec.sidecar.ecdhCurves[1]: "curve" is no key exchange`, "X25519MLKEM768"}},
		"lists of what is none": {
			now:     `{"traffic":{"outboundPortExclusionList":[70000],"inboundPortExclusionList":[15003],"outboundIPRangeExclusionList":["10.0.0.1"],"outboundIPRangeInclusionList":["x"],"networkInterfaceExclusionList":["+"]}}`,
			refusal: []string{"outboundPortExclusionList: 70000", "inboundPortExclusionList: port 15003", `outboundIPRangeExclusionList: "10.0.0.1"`, `outboundIPRangeInclusionList: "x"`, `networkInterfaceExclusionList: "+"`},
		},
		"a gateway's certificate that can be made": {
			now: `{"certificate":{"ingressGateway":{"subjectAltNames":["osm-contour-envoy.osm-system.cluster.local"],"validityDuration":"24h","secret":{"name":"osm-contour-envoy-client-cert","namespace":"osm-system"}}}}`,
		},
		"a gateway's certificate for nobody, into nothing": {
			now:     `{"certificate":{"ingressGateway":{"subjectAltNames":["Gate way"],"validityDuration":"24h","secret":{"name":"","namespace":"a.b"}}}}`,
			refusal: []string{`spec.certificate.ingressGateway.subjectAltNames[0]: "Gate way" is no host name`, `secret.name: ""`, `secret.namespace: "a.b"`},
		},
		"a gateway's certificate for the control plane": {
			now:     `{"certificate":{"ingressGateway":{"subjectAltNames":["osm-controller.osm-system.svc"],"validityDuration":"24h","secret":{"name":"a","namespace":"b"}}}}`,
			refusal: []string{"is the name of a Service"},
		},
		"a gateway's certificate of a time that is none, and more names": {
			now:      `{"certificate":{"ingressGateway":{"subjectAltNames":["a.b","c.d"],"validityDuration":"a day","secret":{"name":"a","namespace":"b"}}}}`,
			warnings: []string{`spec.certificate.ingressGateway.validityDuration "a day" is no duration: 24h0m0s is used`, "the first is used, the other 1 are not"},
		},
		"what was there before holds up nothing": {
			before: bad, now: `{"sidecar":{"cipherSuites":["nonsense"]},"traffic":{"enableEgress":false}}`,
			warnings: []string{`"nonsense" is no cipher suite that Envoy knows`},
		},
		"more of what was there before is refused": {before: bad, now: `{"sidecar":{"cipherSuites":["nonsense","more"]}}`, refusal: []string{`"more"`}},
		"what Open Service Mesh fell back from is told of": {
			now:      `{"traffic":{"inboundExternalAuthorization":{"enable":true,"address":"opa","port":9191,"timeout":"soon"}},"certificate":{"serviceCertValidityDuration":"a day","certKeyBitSize":1}}`,
			warnings: []string{"spec.traffic.inboundExternalAuthorization.timeout", "spec.certificate.serviceCertValidityDuration"},
		},
		"what has no effect is told of": {
			now:      `{"sidecar":{"envoyWindowsImage":"w","configResyncInterval":"30s"},"featureFlags":{"enableSnapshotCacheMode":true}}`,
			warnings: []string{"spec.sidecar.configResyncInterval has no effect", "spec.sidecar.envoyWindowsImage has no effect", "spec.featureFlags.enableSnapshotCacheMode has no effect"},
		},
		"a MeshConfig by another name is told of": {now: bad, called: "mine", warnings: []string{"called osm-mesh-config"}},
		"a list that is a number":                 {now: `{"sidecar":{"cipherSuites":7}}`, refusal: []string{"decoding"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := func(spec string) runtime.RawExtension {
				if spec == "" {
					return runtime.RawExtension{}
				}
				called := tc.called
				if called == "" {
					called = "osm-mesh-config"
				}
				return runtime.RawExtension{Raw: []byte(`{"metadata":{"name":"` + called + `","namespace":"osm-system"},"spec":` + spec + `}`)}
			}
			body, err := json.Marshal(admissionv1.AdmissionReview{
				TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
				Request: &admissionv1.AdmissionRequest{
					UID: "1", Kind: metav1.GroupVersionKind{Kind: "MeshConfig"}, Namespace: "osm-system", Name: "osm-mesh-config",
					Object: object(tc.now), OldObject: object(tc.before),
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			code, got := send(t, &admission.Validator{}, body)
			if got == nil {
				t.Fatalf("no answer: %d", code)
			}
			said := ""
			if got.Result != nil {
				said = got.Result.Message
			}
			if got.Allowed != (len(tc.refusal) == 0) {
				t.Errorf("allowed %t: %q", got.Allowed, said)
			}
			for _, part := range tc.refusal {
				if !strings.Contains(said, part) {
					t.Errorf("%q does not say %q", said, part)
				}
			}
			if len(got.Warnings) != len(tc.warnings) {
				t.Fatalf("warnings are %q, want %d", got.Warnings, len(tc.warnings))
			}
			for i, part := range tc.warnings {
				if !strings.Contains(got.Warnings[i], part) {
					t.Errorf("the warning %q does not say %q", got.Warnings[i], part)
				}
			}
		})
	}
}
