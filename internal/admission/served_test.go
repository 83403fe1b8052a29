package admission_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/admission"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/testkit/apiserver"
)

// heard are the warnings that came with an answer of the API server.
type heard struct {
	mu       sync.Mutex
	warnings []string // protected by mu
}

// HandleWarningHeader implements rest.WarningHandler.
func (h *heard) HandleWarningHeader(_ int, _, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.warnings = append(h.warnings, text)
}

func (h *heard) take() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := strings.Join(h.warnings, "\n")
	h.warnings = nil
	return out
}

// admitting is a real API server that asks the webhook as a mesh's does, in namespace shop.
func admitting(t *testing.T) (context.Context, client.Client, *heard) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	var env *envtest.Environment
	config := apiserver.Start(t, func(e *envtest.Environment) {
		env = e
		for _, o := range render.Webhooks(render.MeshInput{
			Mesh:     &operatorv1alpha1.Mesh{ObjectMeta: metav1.ObjectMeta{Name: "osm", UID: "1"}},
			Revision: operatorv1alpha1.MeshRevisionSpec{Namespace: "osm-system"}, OperatorNamespace: "osm-operator-system",
		}) {
			if w, ok := o.(*admissionregistrationv1.ValidatingWebhookConfiguration); ok {
				e.WebhookInstallOptions.ValidatingWebhooks = append(e.WebhookInstallOptions.ValidatingWebhooks, w)
			}
		}
	})
	at := env.WebhookInstallOptions
	server := webhook.NewServer(webhook.Options{Host: at.LocalServingHost, Port: at.LocalServingPort, CertDir: at.LocalServingCertDir})
	server.Register(render.ValidatePath, &ctrladmission.Webhook{Handler: &admission.Validator{}})
	done := make(chan error, 1)
	serving, stop := context.WithCancel(ctx)
	go func() { done <- server.Start(serving) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the webhook ended: %v", err)
		}
	})
	h := &heard{}
	config.WarningHandler = h
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{operatorv1alpha1.LabelMonitoredBy: "osm"}}}
	if err := c.Create(ctx, ns); err != nil {
		t.Fatal(err)
	}
	// The API server takes a moment to ask.
	refused := parse(t, "TrafficTarget", "{destination: {kind: ServiceAccount, name: a, namespace: other}, rules: []}")
	err = wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		err := c.Create(ctx, refused.DeepCopy(), client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), "osm:"), nil
	})
	if err != nil {
		t.Fatalf("the webhook is not asked: %v", err)
	}
	h.take()
	return ctx, c, h
}

// parse makes an object of a kind from its spec.
func parse(t *testing.T, kind, spec string) *unstructured.Unstructured {
	t.Helper()
	groups := map[string]string{
		"Egress": "policy.openservicemesh.io/v1alpha1", "IngressBackend": "policy.openservicemesh.io/v1alpha1",
		"TrafficTarget": "access.smi-spec.io/v1alpha3", "HTTPRouteGroup": "specs.smi-spec.io/v1alpha4", "TCPRoute": "specs.smi-spec.io/v1alpha4",
		"TrafficSplit": "split.smi-spec.io/v1alpha4", "TrafficSplit/v1alpha2": "split.smi-spec.io/v1alpha2",
	}
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte("spec: "+spec), &o.Object); err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	o.SetAPIVersion(groups[kind])
	bare, _, _ := strings.Cut(kind, "/")
	o.SetKind(bare)
	o.SetNamespace("shop")
	o.SetGenerateName("a-")
	return o
}

// line is an object of which one field is to be spoilt, and what is said of it.
type line struct {
	kind, spec string
	// refused is in the API server's refusal, warned in its warnings; both empty for an
	// object that is taken without a word.
	refused, warned string
}

// TestPoliciesAreAdmittedLineByLine asks a real API server, and through it the webhook, of
// each field of Egress, IngressBackend and the kinds of SMI. What Open Service Mesh took,
// and had no effect, is taken with a warning.
func TestPoliciesAreAdmittedLineByLine(t *testing.T) {
	ctx, c, h := admitting(t)
	ask := func(t *testing.T, lines map[string]line) {
		t.Helper()
		for name, l := range lines {
			err := c.Create(ctx, parse(t, l.kind, l.spec))
			warnings := h.take()
			switch {
			case l.refused == "" && err != nil:
				t.Errorf("%s is refused: %v", name, err)
			case l.refused != "" && (err == nil || !strings.Contains(err.Error(), l.refused)):
				t.Errorf("%s: %v, want a refusal with %q", name, err, l.refused)
			case l.warned == "" && warnings != "" && l.refused == "":
				t.Errorf("%s is warned of: %q", name, warnings)
			case !strings.Contains(warnings, l.warned):
				t.Errorf("%s: the warnings are %q, want %q", name, warnings, l.warned)
			}
		}
	}
	t.Run("Egress", func(t *testing.T) { ask(t, egressLines()) })
	t.Run("IngressBackend", func(t *testing.T) { ask(t, ingressLines()) })
	t.Run("TrafficTarget", func(t *testing.T) { ask(t, targetLines()) })
	t.Run("routes", func(t *testing.T) { ask(t, routeLines()) })
	t.Run("TrafficSplit", func(t *testing.T) { ask(t, splitLines()) })
	t.Run("an update is held to the same", func(t *testing.T) {
		o := parse(t, "TCPRoute", "{matches: {ports: [80]}}")
		if err := c.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
		if err := unstructured.SetNestedSlice(o.Object, []any{int64(0)}, "spec", "matches", "ports"); err != nil {
			t.Fatal(err)
		}
		if err := c.Update(ctx, o); err == nil || !strings.Contains(err.Error(), "no port") {
			t.Errorf("updated: %v", err)
		}
	})
	t.Run("a namespace outside of the mesh is nobody's affair", func(t *testing.T) {
		o := parse(t, "TCPRoute", "{matches: {ports: [0]}}")
		o.SetNamespace("default")
		if err := c.Create(ctx, o); err != nil {
			t.Error(err)
		}
	})
}

func egressLines() map[string]line {
	const by, to = "sources: [{kind: ServiceAccount, name: a, namespace: b}]", "ports: [{number: 80, protocol: http}]"
	egress := func(spec, refused, warned string) line { return line{"Egress", "{" + spec + "}", refused, warned} }
	return map[string]line{
		"all that there is": egress(by+", hosts: ['*.example', a.b], ipAddresses: [10.0.0.0/8, '::/0'], ports: [{number: 80, protocol: HTTP}, {number: 80, protocol: https}, {number: 1, protocol: tcp-server-first}], "+
			"matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: a}, {apiGroup: policy.openservicemesh.io/v1alpha1, kind: UpstreamTrafficSetting, name: a}]", "", ""),
		"no sources":                     egress(to, "spec.sources: Required", ""),
		"sources that are none":          egress("sources: [], "+to, "", "names nobody"),
		"sources that are text":          egress("sources: a, "+to, "must be of type array", ""),
		"a source of another kind":       egress("sources: [{kind: Group, name: a, namespace: b}], "+to, "Unsupported value", ""),
		"a source without kind":          egress("sources: [{name: a, namespace: b}], "+to, "sources[0].kind: Required", ""),
		"a source without name":          egress("sources: [{kind: ServiceAccount, namespace: b}], "+to, "sources[0].name: Required", ""),
		"a source without namespace":     egress("sources: [{kind: ServiceAccount, name: a}], "+to, "sources[0].namespace: Required", ""),
		"a source with an empty name":    egress("sources: [{kind: ServiceAccount, name: '', namespace: b}], "+to, "", "spec.sources[0] has no name"),
		"a source whose name is number":  egress("sources: [{kind: ServiceAccount, name: 1, namespace: b}], "+to, "must be of type string", ""),
		"no ports":                       egress(by, "spec.ports: Required", ""),
		"ports that are none":            egress(by+", ports: []", "", "nothing may be called"),
		"a port of 0":                    egress(by+", ports: [{number: 0, protocol: http}]", "greater than or equal to 1", ""),
		"a port below zero":              egress(by+", ports: [{number: -1, protocol: http}]", "greater than or equal to 1", ""),
		"a port of 65536":                egress(by+", ports: [{number: 65536, protocol: http}]", "less than or equal to 65535", ""),
		"a port that is text":            egress(by+", ports: [{number: '80', protocol: http}]", "must be of type integer", ""),
		"a port without number":          egress(by+", ports: [{protocol: http}]", "ports[0].number: Required", ""),
		"a port without protocol":        egress(by+", ports: [{number: 80}]", "ports[0].protocol: Required", ""),
		"a protocol that is none":        egress(by+", ports: [{number: 80, protocol: gopher}]", "", `"gopher" is none of http`),
		"a port there twice":             egress(by+", ports: [{number: 80, protocol: http}, {number: 80, protocol: http}]", "", "is there twice"),
		"a host with a space":            egress(by+", hosts: ['a .b'], "+to, "", `"a .b" is no host name`),
		"a host that is empty":           egress(by+", hosts: [''], "+to, "", `"" is no host name`),
		"a host that is a URL":           egress(by+", hosts: ['http://a.b/'], "+to, "", "is no host name"),
		"a host that is a number":        egress(by+", hosts: [1], "+to, "must be of type string", ""),
		"a range that is an address":     egress(by+", ipAddresses: [10.0.0.1], "+to, "no range in CIDR form", ""),
		"a range of too many bits":       egress(by+", ipAddresses: [10.0.0.0/33], "+to, "no range in CIDR form", ""),
		"a match of another kind":        egress(by+", "+to+", matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: TCPRoute, name: a}]", "TCPRoute cannot be matched", ""),
		"a match of another group":       egress(by+", "+to+", matches: [{apiGroup: specs.smi-spec.io, kind: HTTPRouteGroup, name: a}]", "cannot be matched", ""),
		"a match without group":          egress(by+", "+to+", matches: [{kind: HTTPRouteGroup, name: a}]", "cannot be matched", ""),
		"a match without name":           egress(by+", "+to+", matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup}]", "matches[0].name: Required", ""),
		"two settings":                   egress(by+", "+to+", matches: [{apiGroup: policy.openservicemesh.io/v1alpha1, kind: UpstreamTrafficSetting, name: a}, {apiGroup: policy.openservicemesh.io/v1alpha1, kind: UpstreamTrafficSetting, name: b}]", "one at the most", ""),
		"a match that does not exist":    egress(by+", "+to+", matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: nothing}]", "", ""),
		"a spec that is a list of texts": {"Egress", "[a]", "must be of type object", ""},
	}
}

func ingressLines() map[string]line {
	const from, to = "sources: [{kind: IPRange, name: 10.0.0.0/8}]", "backends: [{name: a, port: {number: 80, protocol: http}}]"
	ingress := func(spec, refused, warned string) line {
		return line{"IngressBackend", "{" + spec + "}", refused, warned}
	}
	return map[string]line{
		"all that there is": ingress("sources: [{kind: Service, name: a, namespace: b}, {kind: IPRange, name: '::/0'}, {kind: AuthenticatedPrincipal, name: a.b}], "+
			"backends: [{name: a, port: {number: 80, protocol: HTTPS}, tls: {skipClientCertValidation: false, sniHosts: [a.b]}}, {name: a, port: {number: 81, protocol: http}}], matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: a}]", "", ""),
		"no sources":                     ingress(to, "spec.sources: Required", ""),
		"sources that are none":          ingress("sources: [], "+to, "", "nobody is let in"),
		"a source of another kind":       ingress("sources: [{kind: Pod, name: a}], "+to, "is not one of Service", ""),
		"a source without kind":          ingress("sources: [{name: a}], "+to, "sources[0].kind: Required", ""),
		"a source without name":          ingress("sources: [{kind: Service, namespace: a}], "+to, "sources[0].name: Required", ""),
		"a Service without namespace":    ingress("sources: [{kind: Service, name: a}], "+to, "needs name and namespace", ""),
		"a Service with an empty name":   ingress("sources: [{kind: Service, name: '', namespace: a}], "+to, "needs name and namespace", ""),
		"a principal with an empty name": ingress("sources: [{kind: AuthenticatedPrincipal, name: ''}], "+to, "needs a name", ""),
		"a range that is none":           ingress("sources: [{kind: IPRange, name: everywhere}], "+to, "no range in CIDR form", ""),
		"a range that is an address":     ingress("sources: [{kind: IPRange, name: 10.0.0.1}], "+to, "no range in CIDR form", ""),
		"no back ends":                   ingress(from, "spec.backends: Required", ""),
		"back ends that are none":        ingress(from+", backends: []", "", "nothing is opened"),
		"a back end without name":        ingress(from+", backends: [{port: {number: 80, protocol: http}}]", "backends[0].name: Required", ""),
		"a back end with an empty name":  ingress(from+", backends: [{name: '', port: {number: 80, protocol: http}}]", "", "spec.backends[0] has no name"),
		"a back end without port":        ingress(from+", backends: [{name: a}]", "backends[0].port: Required", ""),
		"a port of 0":                    ingress(from+", backends: [{name: a, port: {number: 0, protocol: http}}]", "greater than or equal to 1", ""),
		"a port of 65536":                ingress(from+", backends: [{name: a, port: {number: 65536, protocol: http}}]", "less than or equal to 65535", ""),
		"a port by name":                 ingress(from+", backends: [{name: a, port: {number: http, protocol: http}}]", "must be of type integer", ""),
		"a protocol that is none":        ingress(from+", backends: [{name: a, port: {number: 80, protocol: tcp}}]", "must be http or https", ""),
		"a back end there twice":         ingress(from+", backends: [{name: a, port: {number: 80, protocol: http}}, {name: a, port: {number: 80, protocol: http}}]", "is there twice", ""),
		"https by nobody's name":         ingress(from+", backends: [{name: a, port: {number: 80, protocol: https}}]", "needs a source of kind AuthenticatedPrincipal", ""),
		"https by anybody":               ingress(from+", backends: [{name: a, port: {number: 80, protocol: https}, tls: {skipClientCertValidation: true}}]", "", ""),
		"TLS in clear":                   ingress(from+", backends: [{name: a, port: {number: 80, protocol: http}, tls: {skipClientCertValidation: true}}]", "", "tls has no effect"),
		"TLS that does not say":          ingress(from+", backends: [{name: a, port: {number: 80, protocol: https}, tls: {sniHosts: [a]}}]", "skipClientCertValidation: Required", ""),
		"TLS that is text":               ingress(from+", backends: [{name: a, port: {number: 80, protocol: https}, tls: {skipClientCertValidation: 'yes'}}]", "must be of type boolean", ""),
		"a server's name with a space":   ingress(from+", backends: [{name: a, port: {number: 80, protocol: https}, tls: {skipClientCertValidation: true, sniHosts: ['a b']}}]", "", `"a b" is no host name`),
		"a match of another kind":        ingress(from+", "+to+", matches: [{apiGroup: a.b/v1, kind: TCPRoute, name: a}]", "", "is no HTTPRouteGroup"),
		"a match without kind":           ingress(from+", "+to+", matches: [{name: a}]", "matches[0].kind: Required", ""),
		"a Service that does not exist":  ingress("sources: [{kind: Service, name: nothing, namespace: nowhere}], "+to, "", ""),
		"a back end that does not exist": ingress(from+", backends: [{name: nothing, port: {number: 80, protocol: http}}]", "", ""),
		"matches that are not a list":    ingress(from+", "+to+", matches: {}", "must be of type array", ""),
		"back ends that are not a list":  ingress(from+", backends: {name: a}", "must be of type array", ""),
		"a back end that is a text":      ingress(from+", backends: [a]", "must be of type object", ""),
		"a name of a million characters": ingress("sources: [{kind: AuthenticatedPrincipal, name: "+strings.Repeat("a", 1<<20)+"}], "+to, "", ""),
		"a principal who is a wildcard":  ingress("sources: [{kind: AuthenticatedPrincipal, name: '*'}], "+to, "", ""),
		"a name that is more than that":  ingress("sources: [{kind: AuthenticatedPrincipal, name: "+strings.Repeat("a", 4<<20)+"}], "+to, "too large", ""),
	}
}

func targetLines() map[string]line {
	const to, by, rules = "destination: {kind: ServiceAccount, name: a, namespace: shop}", "sources: [{kind: ServiceAccount, name: b, namespace: other}]", "rules: [{kind: HTTPRouteGroup, name: a}]"
	target := func(spec, refused, warned string) line {
		return line{"TrafficTarget", "{" + spec + "}", refused, warned}
	}
	return map[string]line{
		"all that there is":                 target(to+", "+by+", rules: [{kind: HTTPRouteGroup, name: a, matches: [a]}, {kind: TCPRoute, name: a}]", "", ""),
		"no destination":                    target(by+", "+rules, "spec.destination: Required", ""),
		"a destination of another kind":     target("destination: {kind: Service, name: a, namespace: shop}, "+by+", "+rules, "must be ServiceAccount", ""),
		"a destination without kind":        target("destination: {name: a, namespace: shop}, "+by+", "+rules, "destination.kind: Required", ""),
		"a destination without name":        target("destination: {kind: ServiceAccount, namespace: shop}, "+by+", "+rules, "destination.name: Required", ""),
		"a destination with an empty name":  target("destination: {kind: ServiceAccount, name: '', namespace: shop}, "+by+", "+rules, "", "spec.destination has no name"),
		"a destination without namespace":   target("destination: {kind: ServiceAccount, name: a}, "+by+", "+rules, `must be "shop"`, ""),
		"a destination elsewhere":           target("destination: {kind: ServiceAccount, name: a, namespace: other}, "+by+", "+rules, `must be "shop"`, ""),
		"a destination that is a list":      target("destination: [{kind: ServiceAccount, name: a, namespace: shop}], "+by+", "+rules, "must be of type object", ""),
		"no sources":                        target(to+", "+rules, "", "nobody is allowed"),
		"sources that are none":             target(to+", sources: [], "+rules, "", "nobody is allowed"),
		"a source of another kind":          target(to+", sources: [{kind: Group, name: b, namespace: c}], "+rules, "must be ServiceAccount", ""),
		"a source without namespace":        target(to+", sources: [{kind: ServiceAccount, name: b}], "+rules, "", "no namespace and so matches nobody"),
		"a source with an empty name":       target(to+", sources: [{kind: ServiceAccount, name: '', namespace: b}], "+rules, "", "no name and so matches nobody"),
		"a source that is text":             target(to+", sources: [b], "+rules, "must be of type object", ""),
		"no rules":                          target(to+", "+by, "spec.rules: Required", ""),
		"rules that are none":               target(to+", "+by+", rules: []", "", "nothing is allowed"),
		"a rule of UDP":                     target(to+", "+by+", rules: [{kind: UDPRoute, name: a}]", "", "UDP is not captured"),
		"a rule of another kind":            target(to+", "+by+", rules: [{kind: HTTPRoute, name: a}]", "Unsupported value", ""),
		"a rule without name":               target(to+", "+by+", rules: [{kind: TCPRoute}]", "rules[0].name: Required", ""),
		"a rule with an empty name":         target(to+", "+by+", rules: [{kind: TCPRoute, name: ''}]", "", "spec.rules[0] has no name"),
		"matches that are a text":           target(to+", "+by+", rules: [{kind: HTTPRouteGroup, name: a, matches: a}]", "must be of type array", ""),
		"a rule that names what is nowhere": target(to+", "+by+", rules: [{kind: HTTPRouteGroup, name: nothing}]", "", ""),
	}
}

func routeLines() map[string]line {
	group := func(matches, refused, warned string) line {
		return line{"HTTPRouteGroup", "{matches: [" + matches + "]}", refused, warned}
	}
	tcp := func(spec, refused string) line { return line{"TCPRoute", spec, refused, ""} }
	return map[string]line{
		"all that there is":               group("{name: a, pathRegex: '/a.*', methods: [GET, '*'], headers: [{host: a, x-b: 'c.*'}]}, {name: b}", "", ""),
		"no matches":                      {"HTTPRouteGroup", "{}", "spec.matches: Required", ""},
		"matches that are none":           group("", "", "nothing matches"),
		"a match without name":            group("{pathRegex: /a}", "matches[0].name: Required", ""),
		"a name there twice":              group("{name: a}, {name: a}", "", "is there twice"),
		"a path that is none":             group("{name: a, pathRegex: '('}", "no RE2 regular expression", ""),
		"a path of another dialect":       group("{name: a, pathRegex: '(?=a)'}", "no RE2 regular expression", ""),
		"a path that explodes":            group("{name: a, pathRegex: '((a{1000}){1000}){1000}'}", "no RE2 regular expression", ""),
		"a path that is long":             group("{name: a, pathRegex: "+strings.Repeat("a", 5000)+"}", "5000 bytes", ""),
		"a path that is a number":         group("{name: a, pathRegex: 1}", "must be of type string", ""),
		"a method that is none":           group("{name: a, methods: [FETCH]}", "no HTTP method", ""),
		"a method in lower case":          group("{name: a, methods: [get]}", "no HTTP method", ""),
		"methods that are a text":         group("{name: a, methods: GET}", "must be of type array", ""),
		"a header's value that is none":   group("{name: a, headers: [{x: '['}]}", "no RE2 regular expression", ""),
		"a header's value that is number": group("{name: a, headers: [{x: 1}]}", "must be of type string", ""),
		"headers that are an object":      group("{name: a, headers: {x: a}}", "must be of type array", ""),
		"ports":                           tcp("{matches: {name: a, ports: [1, 65535]}}", ""),
		"any port":                        tcp("{}", ""),
		"a port of 0":                     tcp("{matches: {ports: [0]}}", "0 is no port"),
		"a port below zero":               tcp("{matches: {ports: [-1]}}", "-1 is no port"),
		"a port of 65536":                 tcp("{matches: {ports: [65536]}}", "65536 is no port"),
		"a port that is text":             tcp("{matches: {ports: ['80']}}", "must be of type integer"),
		"a port with a fraction":          tcp("{matches: {ports: [80.5]}}", "must be of type integer"),
		"ports that are a number":         tcp("{matches: {ports: 80}}", "must be of type array"),
	}
}

func splitLines() map[string]line {
	split := func(spec, refused, warned string) line {
		return line{"TrafficSplit", "{" + spec + "}", refused, warned}
	}
	const two = "backends: [{service: a, weight: 1}, {service: b, weight: 99}]"
	return map[string]line{
		"all that there is":                split("service: a, "+two+", matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: a}]", "", ""),
		"the older version":                {"TrafficSplit/v1alpha2", "{service: a.shop.svc.cluster.local, " + two + "}", "", ""},
		"a weight below zero, older":       {"TrafficSplit/v1alpha2", "{service: a, backends: [{service: a, weight: -1}]}", "greater than or equal to 0", ""},
		"no root":                          split(two, "spec.service: Required", ""),
		"a root with an empty name":        split("service: '', "+two, "", "no name and so is no Service"),
		"a root that is a number":          split("service: 1, "+two, "must be of type string", ""),
		"no back ends":                     split("service: a", "spec.backends: Required", ""),
		"back ends that are none":          split("service: a, backends: []", "", "all weights are 0"),
		"a back end without name":          split("service: a, backends: [{weight: 1}]", "backends[0].service: Required", ""),
		"a back end with an empty name":    split("service: a, backends: [{service: '', weight: 1}]", "", "spec.backends[0] has no name"),
		"a back end without weight":        split("service: a, backends: [{service: a}]", "backends[0].weight: Required", ""),
		"a back end there twice":           split("service: a, backends: [{service: a, weight: 1}, {service: a, weight: 1}]", "", "a is there twice"),
		"a weight below zero":              split("service: a, backends: [{service: a, weight: -1}]", "greater than or equal to 0", ""),
		"a weight that is text":            split("service: a, backends: [{service: a, weight: '1'}]", "must be of type number", ""),
		"a weight with a unit":             split("service: a, backends: [{service: a, weight: 500m}]", "must be of type number", ""),
		"a weight that is huge":            split("service: a, backends: [{service: a, weight: 1e300}, {service: b, weight: 1}]", "", ""),
		"all weights 0":                    split("service: a, backends: [{service: a, weight: 0}]", "", "all weights are 0"),
		"a match without name":             split("service: a, "+two+", matches: [{kind: HTTPRouteGroup}]", "matches[0].name: Required", ""),
		"a back end that does not exist":   split("service: a, backends: [{service: nothing, weight: 1}]", "", ""),
		"back ends that are not a list":    split("service: a, backends: {service: a, weight: 1}", "must be of type array", ""),
		"matches that are not a list":      split("service: a, "+two+", matches: a", "must be of type array", ""),
		"a back end that is the root too":  split("service: a, backends: [{service: a, weight: 1}]", "", ""),
		"a back end of unicode characters": split("service: a, backends: [{service: 'büyer☃', weight: 1}]", "", ""),
	}
}
