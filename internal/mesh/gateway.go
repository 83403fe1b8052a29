package mesh

import (
	"fmt"
	"strings"
	"time"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/identity"
)

const (
	// unreadableGatewayLifetime stands for what cannot be read, as Open Service Mesh had it.
	unreadableGatewayLifetime = 24 * time.Hour
	// The certificate of a gateway is renewed when a third of its life is over, which has
	// to be longer than it takes to look.
	minGatewayLifetime = time.Hour
	maxGatewayLifetime = 365 * 24 * time.Hour
)

// IngressGateway is the certificate that a gateway outside of the mesh shows to sidecars.
type IngressGateway struct {
	// Name is its DNS name, by which an IngressBackend lets it in.
	Name string
	// Lifetime is how long it is good.
	Lifetime time.Duration
	// Secret is where it is written.
	Secret Key
}

// IngressGatewayFrom returns the certificate that a MeshConfig asks for; nil where it asks
// for none, and where CheckIngressGateway finds that it cannot be made. Problems are what
// is not followed to the letter, a sentence each.
func IngressGatewayFrom(spec *configv1alpha2.CertificateSpec) (gateway *IngressGateway, problems []string) {
	if spec == nil || spec.IngressGateway == nil || len(CheckIngressGateway(spec)) > 0 {
		return nil, nil
	}
	g := spec.IngressGateway
	out := &IngressGateway{Name: g.SubjectAltNames[0], Secret: Key{Namespace: g.Secret.Namespace, Name: g.Secret.Name}}
	d, err := time.ParseDuration(g.ValidityDuration)
	out.Lifetime = min(max(d, minGatewayLifetime), maxGatewayLifetime).Truncate(time.Second)
	switch {
	case err != nil || d <= 0:
		out.Lifetime = unreadableGatewayLifetime
		problems = append(problems, fmt.Sprintf("certificate.ingressGateway.validityDuration %q is no duration: %s is used", g.ValidityDuration, out.Lifetime))
	case d != out.Lifetime:
		problems = append(problems, fmt.Sprintf("certificate.ingressGateway.validityDuration %s is not between %s and %s: %s is used", d, minGatewayLifetime, maxGatewayLifetime, out.Lifetime))
	}
	if more := len(g.SubjectAltNames) - 1; more > 0 {
		problems = append(problems, fmt.Sprintf("certificate.ingressGateway.subjectAltNames: the first is used, the other %d are not", more))
	}
	return out, problems
}

// CheckIngressGateway says why the certificate that a MeshConfig asks for cannot be made, a
// sentence each.
func CheckIngressGateway(spec *configv1alpha2.CertificateSpec) []string {
	if spec == nil || spec.IngressGateway == nil {
		return nil
	}
	var out []string
	wrong := func(field, format string, args ...any) {
		out = append(out, "certificate.ingressGateway."+field+": "+fmt.Sprintf(format, args...))
	}
	g := spec.IngressGateway
	if len(g.SubjectAltNames) == 0 {
		wrong("subjectAltNames", "a certificate needs a name, such as gateway.ingress.cluster.local")
	} else if n := g.SubjectAltNames[0]; !identity.HostName(n) {
		wrong("subjectAltNames[0]", "%q is no host name in lower case", n)
	} else if strings.HasSuffix(n, ".svc") || strings.HasSuffix(n, ".svc."+string(identity.DefaultTrustDomain)) {
		// Sidecars know their control plane by such a name.
		wrong("subjectAltNames[0]", "%q is the name of a Service, which is not given to a gateway", n)
	}
	if !identity.HostName(g.Secret.Name) {
		wrong("secret.name", "%q is no name of a Secret", g.Secret.Name)
	}
	if !identity.HostName(g.Secret.Namespace) || strings.Contains(g.Secret.Namespace, ".") {
		wrong("secret.namespace", "%q is no namespace", g.Secret.Namespace)
	}
	return out
}
