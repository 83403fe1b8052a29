package reading

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
)

func at(address netip.Addr, port uint16) string { return fmt.Sprintf("%s:%d", address, port) }

// Ends says where a call ends: Services of the mesh by their addresses first, then pods of
// headless Services, then Egresses, then what passes to unknown destinations.
func (m *Mesh) Ends(c Call) Shares {
	if !m.hasAnywhere(c.From) {
		return sure(Refused)
	}
	for i := range m.Services {
		s := &m.Services[i]
		if s.Address != c.Address || !m.sees(c.From, s) {
			continue
		}
		if p := s.port(c.Port); p != nil {
			return m.toService(c, s, p, false)
		}
	}
	return m.toHeadless(c)
}

// hasAnywhere reports whether a pod may call anything at all: else its sidecar does not
// listen, and connections are refused.
func (m *Mesh) hasAnywhere(from *Pod) bool {
	sees := func(s Service) bool { return len(s.Ports) > 0 && m.sees(from, &s) }
	return m.Egress || slices.ContainsFunc(m.Services, sees) || len(m.places(from)) > 0
}

// sees reports whether a caller sees a Service: in permissive mode every one; in enforced
// mode one that selects a pod whose ServiceAccount it may call, and the root of a split
// with such a back end.
func (m *Mesh) sees(from *Pod, s *Service) bool {
	if s.ExternalName != "" || !s.Headless && !s.Address.IsValid() {
		return false
	}
	if m.reaches(from, s) {
		return true
	}
	split := m.splitOf(s)
	if split == nil {
		return false
	}
	for _, b := range split.Spec.Backends {
		if backend := m.service(s.Namespace, b.Service); b.Weight > 0 && backend != nil && m.reaches(from, backend) {
			return true
		}
	}
	return false
}

// reaches reports whether a caller may call pods of a Service.
func (m *Mesh) reaches(from *Pod, s *Service) bool {
	if s.ExternalName != "" {
		return false
	}
	if m.Permissive {
		return true
	}
	for i := range m.Pods {
		if s.selects(&m.Pods[i]) && m.mayCall(from.account(), m.Pods[i].account()) {
			return true
		}
	}
	return false
}

// endpoint is a port of a pod.
type endpoint struct {
	pod  *Pod
	port uint16
}

// endpoints are those of a port of a Service that a caller may call: in enforced mode
// those with an allowed ServiceAccount, and with a sidecar.
func (m *Mesh) endpoints(from *Pod, s *Service, p *Port) []endpoint {
	var out []endpoint
	for i := range m.Pods {
		pod := &m.Pods[i]
		if port := p.of(pod); s.selects(pod) && port != 0 && (m.Permissive || pod.Meshed && m.mayCall(from.account(), pod.account())) {
			out = append(out, endpoint{pod, port})
		}
	}
	return out
}

// deliver says how a call to a Service ends at one of its endpoints. Pods without sidecar
// are called in clear. Where gateways may ask for the name of the Service, whoever asks
// for it from their addresses is taken for one of them.
func (m *Mesh) deliver(c Call, s *Service, e endpoint) Shares {
	if !e.pod.Meshed {
		return sure(Served + at(e.pod.Address, e.port))
	}
	name := s.Name + "." + s.Namespace + ".svc.cluster.local"
	_, gateways := m.opened(e.pod, e.port)
	if gateways == nil || !slices.Contains(sniHosts(gateways.object, gateways.BackendSpec), name) || !m.from(gateways.object, c.From.Address) {
		return sure(m.admitted(c, c.From.account(), e.pod, e.port))
	}
	if c.Speaks != HTTP {
		return sure(NotHTTP)
	}
	return sure(m.entersByTLS(Gateway{
		Source: c.From.Address, To: e.pod, Port: e.port, Speaks: TLS, Request: c.Request, ServerName: name,
		Certificate: "spiffe://cluster.local/ns/" + c.From.Namespace + "/sa/" + c.From.Account,
	}, gateways))
}

// none is how a call ends that nobody is there for.
func none(p *Port) Shares {
	if p.HTTP {
		return sure(Nobody)
	}
	return sure(Reset)
}

// toService says how a call to a port of a Service ends. The pod of a headless one is the
// one that was dialled.
func (m *Mesh) toService(c Call, s *Service, p *Port, dialled bool) Shares {
	if p.HTTP && c.Speaks != HTTP {
		return sure(NotHTTP)
	}
	if split := m.splitFor(c, s, p); split != nil {
		return m.toBackends(c, s, p, split)
	}
	return m.toEndpoints(c, s, p, p, dialled)
}

func (m *Mesh) toEndpoints(c Call, s *Service, p, root *Port, dialled bool) Shares {
	if !m.reaches(c.From, s) {
		return none(root)
	}
	all := m.endpoints(c.From, s, p)
	if dialled {
		all = slices.DeleteFunc(all, func(e endpoint) bool { return e.pod.Address != c.Address || e.port != c.Port })
	}
	if len(all) == 0 {
		return none(root)
	}
	out := Shares{}
	for _, e := range all {
		out.Add(answered(root.HTTP, m.deliver(c, s, e)), 1/float64(len(all)))
	}
	return out
}

// answered: a request that nobody takes is answered by the caller's sidecar.
func answered(http bool, ends Shares) Shares {
	if http && ends[Reset] > 0 {
		ends[Nobody] += ends[Reset]
		delete(ends, Reset)
	}
	return ends
}

// splitOf returns the TrafficSplit of a root: of several the oldest. The root is named
// alone or by a host name, and is in the namespace of the split.
func (m *Mesh) splitOf(root *Service) *splitv1alpha4.TrafficSplit {
	for _, t := range byAge(m.TrafficSplits, func(t *splitv1alpha4.TrafficSplit) *metav1.ObjectMeta { return &t.ObjectMeta }) {
		name, _, _ := strings.Cut(t.Spec.Service, ".")
		if t.Namespace == root.Namespace && name == root.Name {
			return t
		}
	}
	return nil
}

// splitFor returns the split that a call to a root follows; nil is none. With matches it
// is for requests of these kinds only, and for no bytes; bytes to a pod of a headless
// Service are for that pod.
func (m *Mesh) splitFor(c Call, root *Service, p *Port) *splitv1alpha4.TrafficSplit {
	split := m.splitOf(root)
	switch {
	case split == nil:
		return nil
	case !p.HTTP && (root.Headless || len(split.Spec.Matches) > 0):
		return nil
	case len(split.Spec.Matches) == 0:
		return split
	}
	for _, match := range split.Spec.Matches {
		group := ""
		if match.APIGroup != nil {
			group, _, _ = strings.Cut(*match.APIGroup, "/")
		}
		ours := match.Kind == "HTTPRouteGroup" && (group == "" || group == "specs.smi-spec.io")
		if ours && m.groupHolds(split.Namespace, match.Name, nil, c.Request) {
			return split
		}
	}
	return nil
}

// toBackends shares calls among back ends by weight. The port of each is that of the same
// number as the caller's on the root, else one without a name; a back end without it, or
// that does not exist, is left out. One that the caller may not reach keeps its share and
// fails it.
func (m *Mesh) toBackends(c Call, root *Service, p *Port, split *splitv1alpha4.TrafficSplit) Shares {
	type share struct {
		service *Service
		port    *Port
		weight  float64
	}
	var all []share
	total := 0.0
	for _, b := range split.Spec.Backends {
		s := m.service(root.Namespace, b.Service)
		if s == nil || s.ExternalName != "" {
			continue
		}
		port := s.port(p.Number)
		for i := range s.Ports {
			if port == nil && s.Ports[i].Name == "" {
				port = &s.Ports[i]
			}
		}
		if port != nil {
			all = append(all, share{s, port, b.Weight})
			total += b.Weight
		}
	}
	if total == 0 {
		return none(p)
	}
	out := Shares{}
	for _, b := range all {
		if b.weight > 0 {
			dialled := root.Headless && b.service == root
			out.Add(m.toEndpoints(c, b.service, b.port, p, dialled), b.weight/total)
		}
	}
	return out
}

// headless is a port of a headless Service that clients connect to.
type headless struct {
	service *Service
	port    *Port
}

// headlessOn are the headless Services that a caller sees on a port of pods: the ports
// that their pods have, or while there are no pods the one that the Service names.
func (m *Mesh) headlessOn(c Call) []headless {
	var out []headless
	for i := range m.Services {
		s := &m.Services[i]
		if !s.Headless || !m.sees(c.From, s) {
			continue
		}
		for j := range s.Ports {
			p := &s.Ports[j]
			var ports []uint16
			for k := range m.Pods {
				if port := p.of(&m.Pods[k]); s.selects(&m.Pods[k]) && port != 0 {
					ports = append(ports, port)
				}
			}
			if len(ports) == 0 {
				ports = []uint16{max(p.Target, 0)}
				if p.TargetName != "" {
					ports[0] = p.Number
				}
			}
			if slices.Contains(ports, c.Port) {
				out = append(out, headless{s, p})
			}
		}
	}
	slices.SortFunc(out, func(a, b headless) int {
		return strings.Compare(fmt.Sprintf("%s/%s %05d", a.service.Namespace, a.service.Name, a.port.Number), fmt.Sprintf("%s/%s %05d", b.service.Namespace, b.service.Name, b.port.Number))
	})
	return out
}

// toHeadless says how a call ends that is to no address of a Service. Requests by the
// host of a headless Service are for that Service; all else is for the pod that was
// dialled, if it is one of a headless Service, and is unknown otherwise.
func (m *Mesh) toHeadless(c Call) Shares {
	all := m.headlessOn(c)
	http := c.Speaks == HTTP && slices.ContainsFunc(all, func(h headless) bool { return h.port.HTTP })
	if http {
		for _, h := range all {
			if h.port.HTTP && m.hostOf(c, h) {
				return m.toService(c, h.service, h.port, true)
			}
		}
	}
	if s, e, ok := m.dialled(c, all); ok {
		return answered(http, m.deliver(c, s, e))
	}
	onPort := func(p place) bool { return p.port == c.Port }
	if len(all) == 0 || m.Egress || slices.ContainsFunc(m.places(c.From), onPort) {
		return answered(http, m.outside(c))
	}
	return none(&Port{HTTP: http})
}

// dialled finds the pod of a headless Service whose address a call is to.
func (m *Mesh) dialled(c Call, all []headless) (*Service, endpoint, bool) {
	for _, h := range all {
		if !m.reaches(c.From, h.service) {
			continue
		}
		for _, e := range m.endpoints(c.From, h.service, h.port) {
			if e.pod.Address == c.Address && e.port == c.Port {
				return h.service, e, true
			}
		}
	}
	return nil, endpoint{}, false
}

// hostOf reports whether the host of a request is one of a headless Service: its names,
// the bare one in its own namespace, and <pod>.<name> but for the bare one. Where there is
// a split, the names of pods are for the pods.
func (m *Mesh) hostOf(c Call, h headless) bool {
	host, _, _ := strings.Cut(strings.ToLower(c.Host), ":")
	s := h.service
	if host == s.Name {
		return c.From.Namespace == s.Namespace
	}
	split := m.splitOf(s)
	shared := split != nil && (len(split.Spec.Matches) == 0 || m.hasMatches(split))
	for _, suffix := range []string{"", ".svc", ".svc.cluster", ".svc.cluster.local"} {
		n := s.Name + "." + s.Namespace + suffix
		if host == n || !shared && strings.HasSuffix(host, "."+n) {
			return true
		}
	}
	return false
}

// hasMatches reports whether any request is split.
func (m *Mesh) hasMatches(split *splitv1alpha4.TrafficSplit) bool {
	for _, match := range split.Spec.Matches {
		for i := range m.HTTPRouteGroups {
			g := &m.HTTPRouteGroups[i]
			if g.Namespace == split.Namespace && g.Name == match.Name && match.Kind == "HTTPRouteGroup" && len(g.Spec.Matches) > 0 {
				return true
			}
		}
	}
	return false
}
