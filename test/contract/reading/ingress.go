package reading

import (
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
)

// Gateway is a call from outside the mesh to a pod with a sidecar. What a client of TLS
// says inside of it is a request of HTTP.
type Gateway struct {
	Source netip.Addr
	To     *Pod
	Port   uint16
	Speaks Speaks
	Request
	ServerName string
	// Certificate is the name that its certificate of the mesh has, a host or the URI of a
	// workload; empty is that it has none.
	Certificate string
}

// Enters says how the call of a gateway ends.
func (m *Mesh) Enters(g Gateway) string {
	inClear, byTLS := m.opened(g.To, g.Port)
	if g.Speaks == TLS {
		return m.entersByTLS(g, byTLS)
	}
	if inClear == nil || !m.from(inClear.object, g.Source) {
		return Reset
	}
	if g.Speaks != HTTP {
		return NotHTTP
	}
	return m.entered(g, inClear)
}

// entersByTLS: names of Services are those that sidecars ask for, unless sniHosts has
// them. Connections that are no gateway's are held to be a sidecar's.
func (m *Mesh) entersByTLS(g Gateway, by *backend) string {
	name := strings.ToLower(g.ServerName)
	ofService := strings.HasSuffix(name, ".svc.cluster.local")
	if by == nil || ofService && !m.isGateway(by, name, g.Source) {
		return m.asSidecar(g)
	}
	if !m.isGateway(by, name, g.Source) {
		return Reset
	}
	end := m.entered(g, by)
	skip := by.TLS != nil && by.TLS.SkipClientCertValidation
	switch {
	case !skip && g.Certificate == "":
		return Reset
	case !skip && end != Missing && !principal(by.object, g.Certificate):
		return Denied
	default:
		return end
	}
}

// isGateway reports whether who asks for a name from an address is a gateway.
func (m *Mesh) isGateway(by *backend, name string, source netip.Addr) bool {
	hosts := sniHosts(by.object, by.BackendSpec)
	listed := slices.ContainsFunc(hosts, func(h string) bool { return under(name, strings.ToLower(h)) })
	return (listed || len(hosts) == 0 && !strings.HasSuffix(name, ".svc.cluster.local")) && m.from(by.object, source)
}

// asSidecar is a connection to the mesh: it needs the certificate of a workload.
func (m *Mesh) asSidecar(g Gateway) string {
	rest, ok := strings.CutPrefix(g.Certificate, "spiffe://cluster.local/ns/")
	namespace, name, isWorkload := strings.Cut(rest, "/sa/")
	if !ok || !isWorkload {
		return Reset
	}
	return m.admitted(Call{Speaks: HTTP, Request: g.Request}, account{namespace, name}, g.To, g.Port)
}

// entered compares the request with the HTTPRouteGroups that the object names, if any.
func (m *Mesh) entered(g Gateway, by *backend) string {
	limited := false
	for _, match := range by.object.Spec.Matches {
		limited = true
		if m.groupHolds(by.object.Namespace, match.Name, nil, g.Request) {
			return Served + at(g.To.Address, g.Port)
		}
	}
	if limited {
		return Missing
	}
	return Served + at(g.To.Address, g.Port)
}

// backend is a back end of an object.
type backend struct {
	object *policyv1alpha1.IngressBackend
	policyv1alpha1.BackendSpec
}

// opened are the back ends that are for a port of a pod, in clear and by TLS: the oldest
// object's. One back end, Service and port, is of one object only.
func (m *Mesh) opened(pod *Pod, port uint16) (inClear, byTLS *backend) {
	for _, b := range m.followed() {
		s := m.service(b.object.Namespace, b.Name)
		leads := func(p Port) bool { return p.of(pod) == port }
		if s == nil || !s.selects(pod) || uint16(b.Port.Number) != port || !slices.ContainsFunc(s.Ports, leads) {
			continue
		}
		switch {
		case strings.EqualFold(b.Port.Protocol, "http") && inClear == nil:
			inClear = b
		case strings.EqualFold(b.Port.Protocol, "https") && byTLS == nil:
			byTLS = b
		}
	}
	return inClear, byTLS
}

// followed are the back ends that count, those of older objects first.
func (m *Mesh) followed() []*backend {
	var out []*backend
	taken := map[string]bool{}
	for _, o := range byAge(m.IngressBackends, func(o *policyv1alpha1.IngressBackend) *metav1.ObjectMeta { return &o.ObjectMeta }) {
		if !m.counts(o) {
			continue
		}
		for _, b := range o.Spec.Backends {
			key := o.Namespace + "/" + b.Name + ":" + portText(uint16(b.Port.Number))
			if !taken[key] {
				taken[key] = true
				out = append(out, &backend{o, b})
			}
		}
	}
	return out
}

// counts is false where the whole object fails: a Service among the sources without ready
// endpoints, or an https back end that nobody could call.
func (m *Mesh) counts(o *policyv1alpha1.IngressBackend) bool {
	for _, s := range o.Spec.Sources {
		if s.Kind == "Service" && len(m.gateways(s)) == 0 {
			return false
		}
	}
	named := func(s policyv1alpha1.IngressSourceSpec) bool { return s.Kind == "AuthenticatedPrincipal" }
	for _, b := range o.Spec.Backends {
		if !strings.EqualFold(b.Port.Protocol, "https") {
			continue
		}
		skip := b.TLS != nil && b.TLS.SkipClientCertValidation
		if !skip && !slices.ContainsFunc(o.Spec.Sources, named) {
			return false
		}
		if b.TLS != nil && len(b.TLS.SNIHosts) > 0 && len(sniHosts(o, b)) == 0 {
			return false
		}
	}
	return true
}

// sniHosts are the names that gateways ask for. Those of Services count only where
// gateways are known by their addresses.
func sniHosts(o *policyv1alpha1.IngressBackend, b policyv1alpha1.BackendSpec) []string {
	if b.TLS == nil {
		return nil
	}
	address := func(s policyv1alpha1.IngressSourceSpec) bool { return s.Kind != "AuthenticatedPrincipal" }
	if slices.ContainsFunc(o.Spec.Sources, address) {
		return b.TLS.SNIHosts
	}
	return slices.DeleteFunc(slices.Clone(b.TLS.SNIHosts), func(h string) bool { return strings.HasSuffix(h, ".svc.cluster.local") })
}

func (m *Mesh) gateways(s policyv1alpha1.IngressSourceSpec) []netip.Addr {
	var out []netip.Addr
	if service := m.service(s.Namespace, s.Name); service != nil {
		for i := range m.Pods {
			if service.selects(&m.Pods[i]) {
				out = append(out, m.Pods[i].Address)
			}
		}
	}
	return out
}

// from reports whether an address is one of the sources; without any that are addresses
// every one is.
func (m *Mesh) from(o *policyv1alpha1.IngressBackend, address netip.Addr) bool {
	limited := false
	for _, s := range o.Spec.Sources {
		switch s.Kind {
		case "Service":
			if limited = true; slices.Contains(m.gateways(s), address) {
				return true
			}
		case "IPRange":
			limited = true
			if r, err := netip.ParsePrefix(s.Name); err == nil && r.Contains(address) {
				return true
			}
		}
	}
	return !limited
}

// principal reports whether a certificate is of one of the sources: its whole name, or
// <sa>.<namespace>.<trust domain> for that of the workload.
func principal(o *policyv1alpha1.IngressBackend, certificate string) bool {
	for _, s := range o.Spec.Sources {
		if s.Kind != "AuthenticatedPrincipal" {
			continue
		}
		workload, ok := strings.CutSuffix(s.Name, ".cluster.local")
		i := strings.LastIndexByte(workload, '.')
		if s.Name == "*" || s.Name == certificate || ok && i > 0 && certificate == "spiffe://cluster.local/ns/"+workload[i+1:]+"/sa/"+workload[:i] {
			return true
		}
	}
	return false
}
