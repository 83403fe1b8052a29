package policy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// ingressKey is a Service and the port of its pods that gateways call.
type ingressKey struct {
	service mesh.Key
	port    uint16
}

// ingressObject is an IngressBackend that is read.
type ingressObject struct {
	*mesh.Object[policyv1alpha1.IngressBackendSpec]
	remarks remarks
	sources []netip.Prefix
	// names are those that certificates of gateways may have.
	anyName bool
	names   []string
	routes  []ir.IngressRoute
}

// ingressBackend is a back end that is followed.
type ingressBackend struct {
	from *ingressObject
	ir.Ingress
}

// compileIngress reads all IngressBackends, the older first: of several for one port
// of a Service only the first is followed.
func (c *Compiler) compileIngress() {
	c.ingress = map[ingressKey]*ingressBackend{}
	older := mesh.Older[policyv1alpha1.IngressBackendSpec, policyv1alpha1.IngressBackendSpec]
	for _, o := range slices.SortedFunc(maps.Values(c.model.Policies.IngressBackends), older) {
		i := &ingressObject{Object: o}
		c.ingresses = append(c.ingresses, i)
		if !c.model.Settings.IngressPolicy {
			i.remarks.ignored(ReasonNoEffect, "", "featureFlags.enableIngressBackendPolicy is off in the MeshConfig")
			continue
		}
		c.readIngressSources(i)
		c.readIngressRoutes(i)
		opened := make([]*ingressBackend, len(o.Spec.Backends))
		for n, b := range o.Spec.Backends {
			opened[n] = c.readBackend(i, b)
		}
		if len(i.remarks.fatal) > 0 {
			continue
		}
		for n, b := range o.Spec.Backends {
			c.openIngress(i, b, opened[n])
		}
		if len(i.sources) == 0 {
			i.remarks.partly(ReasonAnySource, "", "no source is a Service or an IPRange: gateways may have any address")
		}
	}
}

// readIngressSources reads who the gateways are. One that cannot be read or found never
// makes the others more than they are.
func (c *Compiler) readIngressSources(i *ingressObject) {
	r := &i.remarks
	for _, s := range i.Spec.Sources {
		switch s.Kind {
		case "IPRange":
			p, ok := parseRange(s.Name)
			if !ok {
				r.ignored(ReasonInvalidRange, "", "%.64q is no range of addresses in CIDR form", s.Name)
				continue
			}
			i.sources = append(i.sources, p)
		case "Service":
			key := mesh.Key{Namespace: s.Namespace, Name: s.Name}
			found := c.readyAddresses(key)
			if len(found) == 0 {
				why := ""
				if c.model.Namespaces[key.Namespace] == nil {
					why = ": its namespace is not in the mesh, which sees the Services of its own namespaces only; " +
						"add it with injection disabled (osm namespace add " + key.Namespace + " --disable-sidecar-injection)"
				}
				r.missing(ReasonEndpointsNotFound, "", "endpoints not found for service %s%s", key, why)
				r.ignored(ReasonEndpointsNotFound, "", "endpoints not found for service %s%s", key, why)
			}
			i.sources = append(i.sources, found...)
		case "AuthenticatedPrincipal":
			i.anyName = i.anyName || s.Name == "*"
			i.names = append(i.names, c.certificateNames(s.Name)...)
		default:
			r.ignored(ReasonUnsupportedKind, "", "source %s is a %s, but must be a Service, an IPRange or an AuthenticatedPrincipal", s.Name, s.Kind)
		}
	}
	slices.SortFunc(i.sources, comparePrefixes)
	i.sources = slices.Compact(i.sources)
	slices.Sort(i.names)
	i.names = slices.Compact(i.names)
}

// certificateNames are the names that a principal goes by: as it is written, and where
// that is <sa>.<namespace>.<trust domain>, the name in the certificate of a workload.
func (c *Compiler) certificateNames(principal string) []string {
	out := []string{principal}
	account, ok := strings.CutSuffix(principal, "."+string(c.model.Settings.TrustDomain))
	if i := strings.LastIndexByte(account, '.'); ok && i > 0 && i < len(account)-1 {
		id := identity.ID{TrustDomain: c.model.Settings.TrustDomain, ServiceAccount: identity.ServiceAccount{Namespace: account[i+1:], Name: account[:i]}}
		out = append(out, id.URI())
	}
	return out
}

// readyAddresses are where a gateway calls from.
func (c *Compiler) readyAddresses(service mesh.Key) []netip.Prefix {
	e := c.model.endpoints.get(service)
	if e == nil {
		return nil
	}
	var out []netip.Prefix
	for _, item := range e.Items {
		if a := item.Address.Unmap(); a.IsValid() && (item.Ready || item.Serving) {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}

func (c *Compiler) readIngressRoutes(i *ingressObject) {
	var matches []*routeMatch
	for _, m := range i.Spec.Matches {
		if m.Kind != kindHTTPRouteGroup {
			i.remarks.ignored(ReasonUnsupportedKind, "", "matches names the %s %s, but can name an HTTPRouteGroup only", m.Kind, m.Name)
			continue
		}
		group := c.groups[mesh.Key{Namespace: i.Namespace, Name: m.Name}]
		if group == nil {
			i.remarks.missing(ReasonRouteNotFound, codeGroupNotFound, "HTTPRouteGroup %s does not exist: no request is allowed by it", m.Name)
			continue
		}
		matches = append(matches, group.usable...)
	}
	if len(i.Spec.Matches) == 0 {
		i.routes = []ir.IngressRoute{{Name: i.Key.String()}}
		return
	}
	slices.SortStableFunc(matches, compareMatches)
	for _, m := range matches {
		i.routes = append(i.routes, ir.IngressRoute{Name: m.name, Match: m.match})
	}
}

// readBackend reads one back end; nil is that it cannot be read.
func (c *Compiler) readBackend(i *ingressObject, b policyv1alpha1.BackendSpec) *ingressBackend {
	r := &i.remarks
	made := &ingressBackend{from: i, Ingress: ir.Ingress{Sources: i.sources, Routes: i.routes}}
	switch strings.ToLower(b.Port.Protocol) {
	case "http":
		if len(i.names) > 0 {
			r.partly(ReasonNoEffect, "", "back end %s port %d is called in clear: AuthenticatedPrincipal has no effect there", b.Name, b.Port.Number)
		}
	case "https":
		made.TLS = c.ingressTLS(i, b)
		if made.TLS == nil {
			return nil
		}
	default:
		r.ignored(ReasonInvalid, "", "back end %s port %d: %.64q is neither http nor https", b.Name, b.Port.Number, b.Port.Protocol)
		return nil
	}
	return made
}

// openIngress opens a port of a Service's pods to gateways.
func (c *Compiler) openIngress(i *ingressObject, b policyv1alpha1.BackendSpec, made *ingressBackend) {
	key := ingressKey{service: mesh.Key{Namespace: i.Namespace, Name: b.Name}, port: uint16(min(max(b.Port.Number, 0), 65535))}
	r := &i.remarks
	s := c.model.Services[key.service]
	switch {
	case s == nil:
		r.missing(ReasonServiceNotFound, "", "the Service %s does not exist", b.Name)
	case !slices.ContainsFunc(s.Ports, func(p mesh.ServicePort) bool { return p.TargetPortName != "" || p.TargetPort == key.port }):
		r.missing(ReasonBackendNotFound, "", "no port of the Service %s leads to port %d of its pods, which is what a back end names", b.Name, b.Port.Number)
	}
	if first := c.ingress[key]; first != nil {
		r.partly(ReasonConflict, "", "IngressBackend %s is for port %d of %s already, and is older: it is followed there", first.from.Key, key.port, b.Name)
		if first.from != i {
			first.from.remarks.partly(ReasonConflict, "", "IngressBackend %s is for port %d of %s too, and is younger: this one is followed there", i.Key, key.port, b.Name)
		}
		return
	}
	c.ingress[key] = made
}

// ingressTLS returns nil where nobody would be let in.
func (c *Compiler) ingressTLS(i *ingressObject, b policyv1alpha1.BackendSpec) *ir.IngressTLS {
	out := &ir.IngressTLS{AnyName: i.anyName, Names: i.names}
	if b.TLS != nil {
		out.NoCertificate = b.TLS.SkipClientCertValidation
		out.ServerNames = i.serverNames(b.TLS.SNIHosts)
		if len(b.TLS.SNIHosts) > 0 && len(out.ServerNames) == 0 {
			i.remarks.ignored(ReasonInvalidHost, "", "back end %s port %d: no host of sniHosts can be used", b.Name, b.Port.Number)
			return nil
		}
	}
	if !out.NoCertificate && !out.AnyName && len(out.Names) == 0 {
		i.remarks.ignored(ReasonInvalidSource, "", "back end %s port %d: https needs a source of kind AuthenticatedPrincipal, or tls.skipClientCertValidation: without it nobody is let in", b.Name, b.Port.Number)
		return nil
	}
	return out
}

// serverNames are the names that gateways ask for. Names of Services are those that
// sidecars ask for, and stay theirs unless gateways are known by their addresses.
func (i *ingressObject) serverNames(hosts []string) []string {
	var out []string
	for _, word := range hosts {
		n := strings.ToLower(word)
		switch {
		case !validHost(n) || n == "*":
			i.remarks.partly(ReasonInvalidHost, "", "sniHosts: %.64q is no host: it is left out", word)
		case n == "*."+clusterHosts || len(i.sources) == 0 && strings.HasSuffix(n, "."+clusterHosts):
			i.remarks.partly(ReasonInvalidHost, "", "sniHosts: sidecars ask for %s: it is left out, since gateways are not known by their addresses alone", word)
		default:
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// gateway is what is open to gateways, and which object says so; of that only the key and
// the age are kept, so that nothing else of it makes a difference.
type gateway struct {
	ir.Ingress
	from mesh.Object[struct{}]
}

// gateways puts together what is open on one port of a class's pods: one in clear and
// one by TLS, the oldest of each.
func gateways(all []*gateway) []ir.Ingress {
	all = slices.SortedStableFunc(slices.Values(all), func(a, b *gateway) int { return mesh.Older(&a.from, &b.from) })
	var out []ir.Ingress
	for _, b := range all {
		taken := slices.ContainsFunc(out, func(o ir.Ingress) bool { return (o.TLS == nil) == (b.TLS == nil) })
		if !taken {
			out = append(out, b.Ingress)
		}
	}
	return out
}

// ingressReports tells of each IngressBackend, and of those that another Service's
// is followed in place of, on a port that both lead to.
func (c *Compiler) ingressReports() []ObjectReport {
	if len(c.ingresses) == 0 {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(c.model.Classes)) {
		served := map[ingressPlace][]*ingressBackend{}
		eachPort(c.model.Classes[id], c.serviceOf, func(s *mesh.Service, _ mesh.ServicePort, target uint16) {
			if b := c.ingress[ingressKey{s.Key, target}]; b != nil {
				at := ingressPlace{target, b.TLS != nil}
				served[at] = append(served[at], b)
			}
		})
		for _, at := range slices.SortedFunc(maps.Keys(served), comparePorts) {
			conflictAt(at.port, served[at])
		}
	}
	var out []ObjectReport
	for _, i := range c.ingresses {
		out = append(out, i.remarks.report("IngressBackend", i.Key, i.UID, i.Generation))
	}
	return out
}

// conflictAt tells objects of each other that are for one port of the same pods, by
// Services of their own: the oldest is followed. Reports say the same of several classes
// once.
func conflictAt(port uint16, all []*ingressBackend) {
	first := slices.MinFunc(all, func(a, b *ingressBackend) int { return mesh.Older(a.from.Object, b.from.Object) }).from
	for _, b := range all {
		if b.from == first {
			continue
		}
		b.from.remarks.partly(ReasonConflict, "", "IngressBackend %s is for port %d of the same pods, by another Service, and is older: it is followed there", first.Key, port)
		first.remarks.partly(ReasonConflict, "", "IngressBackend %s is for port %d of the same pods, by another Service, and is younger: this one is followed there", b.from.Key, port)
	}
}

// ingressPlace is what gateways call of pods.
type ingressPlace struct {
	port uint16
	tls  bool
}

func comparePorts(a, b ingressPlace) int {
	byTLS := func(p ingressPlace) int {
		if p.tls {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(byTLS(a), byTLS(b)))
}
