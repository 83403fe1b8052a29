package reading

import (
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
)

// place is something outside the mesh that an Egress is for. The zero range is any
// address, the empty name any server.
type place struct {
	port   uint16
	speaks Speaks
	within netip.Prefix
	name   string
	by     *policyv1alpha1.Egress
}

// places are all that a pod may call by Egresses; of two objects for one place the older
// one's.
func (m *Mesh) places(from *Pod) []place {
	var out []place
	for _, e := range byAge(m.Egresses, func(e *policyv1alpha1.Egress) *metav1.ObjectMeta { return &e.ObjectMeta }) {
		ours := func(s policyv1alpha1.EgressSource) bool {
			return s.Kind == "ServiceAccount" && from.account() == account{s.Namespace, s.Name}
		}
		if !slices.ContainsFunc(e.Spec.Sources, ours) || !m.settingThere(e) {
			continue
		}
		for _, p := range placesOf(e) {
			same := func(o place) bool {
				return o.port == p.port && o.speaks == p.speaks && o.within == p.within && o.name == p.name
			}
			if !slices.ContainsFunc(out, same) {
				out = append(out, p)
			}
		}
	}
	return out
}

// settingThere is false where an Egress names an UpstreamTrafficSetting that is missing:
// then it is dropped.
func (m *Mesh) settingThere(e *policyv1alpha1.Egress) bool {
	for _, match := range e.Spec.Matches {
		there := func(s policyv1alpha1.UpstreamTrafficSetting) bool {
			return s.Namespace == e.Namespace && s.Name == match.Name
		}
		if match.Kind == "UpstreamTrafficSetting" && !slices.ContainsFunc(m.Settings, there) {
			return false
		}
	}
	return true
}

// placesOf are the places of one object. Hosts are for http and https; without hosts
// https is for any server name, and http for nothing; without ranges any address is meant.
func placesOf(e *policyv1alpha1.Egress) []place {
	var hosts []string
	for _, h := range e.Spec.Hosts {
		hosts = append(hosts, strings.TrimSuffix(strings.ToLower(h), "."))
	}
	var out []place
	for _, p := range e.Spec.Ports {
		one := place{port: uint16(p.Number), by: e}
		names := []string{""}
		switch p.Protocol {
		case "http":
			one.speaks, names = HTTP, hosts
		case "https":
			one.speaks = TLS
			if len(hosts) > 0 {
				names = hosts
			}
		case "tcp", "tcp-server-first":
			one.speaks = Bytes
		default:
			continue
		}
		for _, within := range rangesOf(e) {
			for _, n := range names {
				if one.within, one.name = within, n; one.speaks == TLS && n == "*" {
					one.name = ""
				}
				out = append(out, one)
			}
		}
	}
	return out
}

// rangesOf are the addresses that an object is for; the zero range is any.
func rangesOf(e *policyv1alpha1.Egress) []netip.Prefix {
	if len(e.Spec.IPAddresses) == 0 {
		return []netip.Prefix{{}}
	}
	var out []netip.Prefix
	for _, word := range e.Spec.IPAddresses {
		if p, err := netip.ParsePrefix(word); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// outside says how a call ends that is to nothing of the mesh: by port, then by the most
// exact range, then by server name, then by what is spoken. There is no falling back from
// one to another, but to what passes to unknown destinations.
func (m *Mesh) outside(c Call) Shares {
	here := m.nearest(c)
	spoken := func(s Speaks) bool { return slices.ContainsFunc(here, func(p place) bool { return p.speaks == s }) }
	byName := func(p place) bool {
		return p.speaks == TLS && (p.name == "" || under(strings.ToLower(c.ServerName), p.name))
	}
	switch {
	case c.Speaks == TLS && slices.ContainsFunc(here, byName):
		return m.pass(c)
	case c.Speaks == HTTP && spoken(HTTP):
		return m.byHost(c, here)
	case spoken(Bytes), m.Egress:
		return m.pass(c)
	default:
		return sure(Reset)
	}
}

// nearest are the places that a call may be for: those of the most exact range.
func (m *Mesh) nearest(c Call) []place {
	exactness := func(p place) int { return p.within.Bits() } // -1 for the zero range
	var here []place
	most := -1
	for _, p := range m.places(c.From) {
		if p.port == c.Port && (!p.within.IsValid() || p.within.Contains(c.Address)) {
			here = append(here, p)
			most = max(most, exactness(p))
		}
	}
	return slices.DeleteFunc(here, func(p place) bool { return exactness(p) != most })
}

// under reports whether a host is meant by a name, which may begin with a wildcard.
func under(host, name string) bool {
	if suffix, ok := strings.CutPrefix(name, "*"); ok {
		return len(host) > len(suffix) && strings.HasSuffix(host, suffix)
	}
	return host == name
}

// byHost finds the most exact of the hosts that a request is for, with the port that was
// called or without one. One that is not listed is answered 404, and so is a request that
// is of none of the kinds that the object names.
func (m *Mesh) byHost(c Call, here []place) Shares {
	host, port, _ := strings.Cut(strings.ToLower(c.Host), ":")
	if port != "" && port != portText(c.Port) {
		return sure(Missing)
	}
	best := exactHost(host, here)
	if best == nil || !m.mayLeave(best.by, c.Request) {
		return sure(Missing)
	}
	if best.within.IsValid() {
		return answered(true, m.pass(c))
	}
	return sure(ByHost + host + ":" + portText(c.Port))
}

// exactHost is the place that a host is named by most exactly; nil if it is not.
func exactHost(host string, here []place) *place {
	var best *place
	for i := range here {
		p := &here[i]
		if p.speaks != HTTP || !under(host, p.name) {
			continue
		}
		if best == nil || p.name == host || best.name != host && len(p.name) > len(best.name) {
			best = p
		}
	}
	return best
}

// mayLeave reports whether the HTTPRouteGroups of an Egress, if it names any, have a
// request. A missing group has none.
func (m *Mesh) mayLeave(e *policyv1alpha1.Egress, r Request) bool {
	limited := false
	for _, match := range e.Spec.Matches {
		if match.Kind == "HTTPRouteGroup" {
			limited = true
			if m.groupHolds(e.Namespace, match.Name, nil, r) {
				return true
			}
		}
	}
	return !limited
}

func portText(n uint16) string { return strings.TrimPrefix(at(netip.IPv4Unspecified(), n), "0.0.0.0:") }

// pass connects to where the application did, in clear. A pod with a sidecar takes that
// for a gateway's call.
func (m *Mesh) pass(c Call) Shares {
	pod := m.podAt(c.Address)
	if pod == nil || !pod.Meshed {
		return sure(Passed + at(c.Address, c.Port))
	}
	return sure(m.Enters(Gateway{
		Source: c.From.Address, To: pod, Port: c.Port, Speaks: c.Speaks, Request: c.Request, ServerName: c.ServerName,
	}))
}
