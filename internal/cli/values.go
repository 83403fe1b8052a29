package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// value puts a Helm value of Open Service Mesh's chart where it now belongs.
type value func(m *operatorv1alpha1.Mesh, text string) error

// meshFromValues returns the Mesh that values of Open Service Mesh's chart describe.
func meshFromValues(name, namespace string, set []string) (*operatorv1alpha1.Mesh, error) {
	m := &operatorv1alpha1.Mesh{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       operatorv1alpha1.MeshSpec{Namespace: namespace},
	}
	known := values()
	image := map[string]string{}
	for _, entry := range splitSet(set) {
		key, text, ok := strings.Cut(entry, "=")
		if !ok {
			return nil, fmt.Errorf("--set %s: give key=value", entry)
		}
		key = strings.TrimSpace(key)
		if part, isImage := strings.CutPrefix(key, "osm.image."); isImage && (part == "registry" || part == "tag") {
			image[part] = text
			continue
		}
		put, ok := known[key]
		if !ok {
			return nil, fmt.Errorf("--set %s: %s", key, whereItWent(key))
		}
		if err := put(m, text); err != nil {
			return nil, fmt.Errorf("--set %s: %w", key, err)
		}
	}
	if err := putImage(m, image); err != nil {
		return nil, err
	}
	return m, finishAuthority(m)
}

// finishAuthority says where Secrets are, which was the namespace of the mesh, whichever
// value comes first, and refuses a choice that is none.
func finishAuthority(m *operatorv1alpha1.Mesh) error {
	a := m.Spec.CertificateAuthority
	switch {
	case a == nil:
	case a.BuiltIn != nil && a.Vault != nil:
		return errors.New("--set: osm.vault goes with osm.certificateProvider.kind=vault, and with no osm.caBundleSecretName")
	case a.BuiltIn != nil && a.BuiltIn.Secret != nil:
		a.BuiltIn.Secret.Namespace = m.Spec.Namespace
	case a.Vault != nil:
		return finishVault(a.Vault, m.Spec.Namespace)
	}
	return nil
}

// finishVault fills in what Helm's chart did.
func finishVault(v *operatorv1alpha1.VaultAuthority, namespace string) error {
	if v.Host == "" {
		return errors.New("--set osm.vault.host: give the name of Vault's server")
	}
	if v.Token == nil || v.Token.SecretKeyRef.Name == "" || v.Token.SecretKeyRef.Key == "" {
		return errors.New("--set osm.vault.secret: give osm.vault.secret.name and osm.vault.secret.key, of a Secret with Vault's token")
	}
	v.Token.SecretKeyRef.Namespace = namespace
	v.Protocol, v.Role = cmp.Or(v.Protocol, "http"), cmp.Or(v.Role, "openservicemesh")
	return nil
}

// putImage makes one image of a registry and a tag, where they are given.
func putImage(m *operatorv1alpha1.Mesh, parts map[string]string) error {
	if len(parts) == 0 {
		return nil
	}
	registry, tag := parts["registry"], parts["tag"]
	if registry == "" || tag == "" {
		return errors.New("--set osm.image: give both osm.image.registry and osm.image.tag")
	}
	images(m).OSM = registry + "/osm:" + tag
	return nil
}

// splitSet separates a=1,b=2 as Helm does: a comma begins a new value if a key and
// an equals sign follow.
func splitSet(set []string) []string {
	var out []string
	for _, s := range set {
		for part := range strings.SplitSeq(s, ",") {
			if len(out) > 0 && !strings.Contains(part, "=") {
				out[len(out)-1] += "," + part
				continue
			}
			out = append(out, part)
		}
	}
	return out
}

// whereItWent says what stands for a value that has no place here.
func whereItWent(key string) string {
	gone := []struct{ prefix, text string }{
		{"osm.vault.token", "a token in a flag stays in the shell's history: write it into a Secret of the mesh's namespace, and give osm.vault.secret.name and osm.vault.secret.key"},
		{"osm.certmanager", "cert-manager is not offered yet: the built-in certificate authority and Vault are"},
		{"osm.deploy", "add-ons are not installed by the mesh: install Prometheus, Grafana or Jaeger from their own projects"},
		{"osm.prometheus", "add-ons are not installed by the mesh: install Prometheus from its own project"},
		{"osm.grafana", "add-ons are not installed by the mesh: install Grafana from its own project"},
		{"osm.fluentBit", "logs are not collected by the mesh: they are on standard output"},
		{"osm.enableFluentbit", "logs are not collected by the mesh: they are on standard output"},
		{"osm.injector", "there is no separate injector: the control plane injects; see osm.osmController"},
		{"osm.osmBootstrap", "there is no bootstrap: the operator installs the mesh"},
		{"osm.enableReconciler", "drift is always repaired"},
		{"osm.sidecarWindowsImage", "Windows nodes are not supported"},
		{"osm.curlImage", "it is not needed any more"},
		{"contour", "ingress controllers are not installed by the mesh"},
	}
	for _, g := range gone {
		if strings.HasPrefix(key, g.prefix) {
			return g.text
		}
	}
	known := make([]string, 0, len(values()))
	for k := range values() {
		known = append(known, k)
	}
	slices.Sort(known)
	return "unknown value; known are " + strings.Join(known, ", ")
}

func values() map[string]value {
	return map[string]value{
		"osm.enablePermissiveTrafficPolicy":      boolean(func(m *operatorv1alpha1.Mesh) **bool { return &traffic(m).EnablePermissiveTrafficPolicyMode }),
		"osm.enableEgress":                       boolean(func(m *operatorv1alpha1.Mesh) **bool { return &traffic(m).EnableEgress }),
		"osm.enableDebugServer":                  boolean(func(m *operatorv1alpha1.Mesh) **bool { return &observability(m).EnableDebugServer }),
		"osm.enablePrivilegedInitContainer":      boolean(func(m *operatorv1alpha1.Mesh) **bool { return &sidecar(m).EnablePrivilegedInitContainer }),
		"osm.tracing.enable":                     boolean(func(m *operatorv1alpha1.Mesh) **bool { return &tracing(m).Enable }),
		"osm.envoyLogLevel":                      text(func(m *operatorv1alpha1.Mesh) *string { return &sidecar(m).LogLevel }),
		"osm.controllerLogLevel":                 text(func(m *operatorv1alpha1.Mesh) *string { return &observability(m).OSMLogLevel }),
		"osm.localProxyMode":                     text(func(m *operatorv1alpha1.Mesh) *string { return &sidecar(m).LocalProxyMode }),
		"osm.configResyncInterval":               text(func(m *operatorv1alpha1.Mesh) *string { return &sidecar(m).ConfigResyncInterval }),
		"osm.sidecarImage":                       text(func(m *operatorv1alpha1.Mesh) *string { return &images(m).Envoy }),
		"osm.trustDomain":                        text(func(m *operatorv1alpha1.Mesh) *string { return &m.Spec.TrustDomain }),
		"osm.osmNamespace":                       text(func(m *operatorv1alpha1.Mesh) *string { return &m.Spec.Namespace }),
		"osm.meshName":                           text(func(m *operatorv1alpha1.Mesh) *string { return &m.Name }),
		"osm.tracing.address":                    text(func(m *operatorv1alpha1.Mesh) *string { return &tracing(m).Address }),
		"osm.tracing.endpoint":                   text(func(m *operatorv1alpha1.Mesh) *string { return &tracing(m).Endpoint }),
		"osm.tracing.port":                       number(func(m *operatorv1alpha1.Mesh) *int { return &tracing(m).Port }),
		"osm.certificateProvider.certKeyBitSize": number(func(m *operatorv1alpha1.Mesh) *int { return &certificate(m).CertKeyBitSize }),
		"osm.certificateProvider.serviceCertValidityDuration": text(func(m *operatorv1alpha1.Mesh) *string {
			return &certificate(m).ServiceCertValidityDuration
		}),
		"osm.certificateProvider.kind": provider,
		"osm.vault.host":               text(func(m *operatorv1alpha1.Mesh) *string { return &vault(m).Host }),
		"osm.vault.protocol":           text(func(m *operatorv1alpha1.Mesh) *string { return &vault(m).Protocol }),
		"osm.vault.role":               text(func(m *operatorv1alpha1.Mesh) *string { return &vault(m).Role }),
		"osm.vault.secret.name":        text(func(m *operatorv1alpha1.Mesh) *string { return &ensure(&vault(m).Token).SecretKeyRef.Name }),
		"osm.vault.secret.key":         text(func(m *operatorv1alpha1.Mesh) *string { return &ensure(&vault(m).Token).SecretKeyRef.Key }),
		"osm.vault.port": func(m *operatorv1alpha1.Mesh, s string) error {
			n, err := strconv.ParseInt(s, 10, 32)
			if err != nil || n < 1 || n > 65535 {
				return fmt.Errorf("%q is not a port", s)
			}
			vault(m).Port = int32(n)
			return nil
		},
		"osm.caBundleSecretName":            caBundle,
		"osm.outboundIPRangeExclusionList":  texts(func(m *operatorv1alpha1.Mesh) *[]string { return &traffic(m).OutboundIPRangeExclusionList }),
		"osm.outboundIPRangeInclusionList":  texts(func(m *operatorv1alpha1.Mesh) *[]string { return &traffic(m).OutboundIPRangeInclusionList }),
		"osm.networkInterfaceExclusionList": texts(func(m *operatorv1alpha1.Mesh) *[]string { return &traffic(m).NetworkInterfaceExclusionList }),
		"osm.outboundPortExclusionList":     numbers(func(m *operatorv1alpha1.Mesh) *[]int { return &traffic(m).OutboundPortExclusionList }),
		"osm.inboundPortExclusionList":      numbers(func(m *operatorv1alpha1.Mesh) *[]int { return &traffic(m).InboundPortExclusionList }),
		"osm.maxDataPlaneConnections": func(m *operatorv1alpha1.Mesh, s string) error {
			n, err := strconv.Atoi(s)
			if err != nil {
				return fmt.Errorf("%q is not a whole number", s)
			}
			sidecar(m).MaxDataPlaneConnections = &n
			return nil
		},
		"osm.osmController.replicaCount": func(m *operatorv1alpha1.Mesh, s string) error {
			n, err := strconv.ParseInt(s, 10, 32)
			if err != nil || n < 1 {
				return fmt.Errorf("%q is not a number of replicas", s)
			}
			controlPlane(m).Replicas = int32(n)
			return nil
		},
		"osm.image.pullPolicy": func(m *operatorv1alpha1.Mesh, s string) error {
			images(m).PullPolicy = corev1.PullPolicy(s)
			return nil
		},
		"osm.featureFlags.enableWASMStats":               boolean(func(m *operatorv1alpha1.Mesh) **bool { return &flags(m).EnableWASMStats }),
		"osm.featureFlags.enableEgressPolicy":            boolean(func(m *operatorv1alpha1.Mesh) **bool { return &flags(m).EnableEgressPolicy }),
		"osm.featureFlags.enableIngressBackendPolicy":    boolean(func(m *operatorv1alpha1.Mesh) **bool { return &flags(m).EnableIngressBackendPolicy }),
		"osm.featureFlags.enableEnvoyActiveHealthChecks": boolean(func(m *operatorv1alpha1.Mesh) **bool { return &flags(m).EnableEnvoyActiveHealthChecks }),
		"osm.featureFlags.enableRetryPolicy":             boolean(func(m *operatorv1alpha1.Mesh) **bool { return &flags(m).EnableRetryPolicy }),
	}
}

// provider chooses who signs; where nothing else is set the mesh's own authority does.
func provider(m *operatorv1alpha1.Mesh, s string) error {
	switch s {
	case "tresor":
		ensure(&ensure(&m.Spec.CertificateAuthority).BuiltIn)
	case "vault":
		vault(m)
	default:
		return fmt.Errorf("%q is not offered yet: the built-in certificate authority, tresor, and vault are", s)
	}
	return nil
}

func vault(m *operatorv1alpha1.Mesh) *operatorv1alpha1.VaultAuthority {
	return ensure(&ensure(&m.Spec.CertificateAuthority).Vault)
}

// caBundle names the Secret with the root that there is already. It was in the namespace of
// the mesh, whichever of the two values comes first.
func caBundle(m *operatorv1alpha1.Mesh, s string) error {
	if s == "" {
		return errors.New("give the name of a Secret")
	}
	builtIn := ensure(&ensure(&m.Spec.CertificateAuthority).BuiltIn)
	builtIn.Secret = &operatorv1alpha1.AuthoritySecret{Name: s}
	return nil
}

func boolean(field func(*operatorv1alpha1.Mesh) **bool) value {
	return func(m *operatorv1alpha1.Mesh, s string) error {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", s)
		}
		*field(m) = &b
		return nil
	}
}

func text(field func(*operatorv1alpha1.Mesh) *string) value {
	return func(m *operatorv1alpha1.Mesh, s string) error {
		*field(m) = s
		return nil
	}
}

func number(field func(*operatorv1alpha1.Mesh) *int) value {
	return func(m *operatorv1alpha1.Mesh, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", s)
		}
		*field(m) = n
		return nil
	}
}

func texts(field func(*operatorv1alpha1.Mesh) *[]string) value {
	return func(m *operatorv1alpha1.Mesh, s string) error {
		*field(m) = list(s)
		return nil
	}
}

func numbers(field func(*operatorv1alpha1.Mesh) *[]int) value {
	return func(m *operatorv1alpha1.Mesh, s string) error {
		out := []int{}
		for _, item := range list(s) {
			n, err := strconv.Atoi(item)
			if err != nil {
				return fmt.Errorf("%q is not a whole number", item)
			}
			out = append(out, n)
		}
		*field(m) = out
		return nil
	}
}

// list reads a list as Helm writes it: {a,b}.
func list(s string) []string {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "{"), "}")
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func meshConfig(m *operatorv1alpha1.Mesh) *configv1alpha2.MeshConfigSpec {
	return ensure(&m.Spec.MeshConfig)
}

func traffic(m *operatorv1alpha1.Mesh) *configv1alpha2.TrafficSpec {
	return ensure(&meshConfig(m).Traffic)
}

func sidecar(m *operatorv1alpha1.Mesh) *configv1alpha2.SidecarSpec {
	return ensure(&meshConfig(m).Sidecar)
}

func flags(m *operatorv1alpha1.Mesh) *configv1alpha2.FeatureFlags {
	return ensure(&meshConfig(m).FeatureFlags)
}

func certificate(m *operatorv1alpha1.Mesh) *configv1alpha2.CertificateSpec {
	return ensure(&meshConfig(m).Certificate)
}

func observability(m *operatorv1alpha1.Mesh) *configv1alpha2.ObservabilitySpec {
	return ensure(&meshConfig(m).Observability)
}

func tracing(m *operatorv1alpha1.Mesh) *configv1alpha2.TracingSpec {
	return ensure(&observability(m).Tracing)
}

func images(m *operatorv1alpha1.Mesh) *operatorv1alpha1.Images { return ensure(&m.Spec.Images) }

func controlPlane(m *operatorv1alpha1.Mesh) *operatorv1alpha1.ControlPlane {
	return ensure(&m.Spec.ControlPlane)
}

// ensure returns what a pointer points to, and makes it first if it points nowhere.
func ensure[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}
