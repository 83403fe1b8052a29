package contract

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha2 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha2"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/test/contract/reading"
)

// Ports of pods, and whether HTTP is spoken there.
const (
	webPort, otherWebPort, bytesPort = 8080, 8081, 9090
)

// drawer draws what admission accepts. What it draws from is small, so that objects meet
// each other.
type drawer struct{ *rapid.T }

func (d drawer) one(what string, of ...string) string {
	return rapid.SampledFrom(of).Draw(d.T, what)
}

func (d drawer) number(what string, most int) int {
	return rapid.IntRange(0, most).Draw(d.T, what)
}

func (d drawer) rarely(what string) bool      { return d.number(what, 7) == 7 }
func (d drawer) often(what string) bool       { return d.number(what, 3) != 3 }
func (d drawer) either(what string) bool      { return rapid.Bool().Draw(d.T, what) }
func (d drawer) namespace(what string) string { return d.one(what, "a", "b") }
func (d drawer) account(what string) string   { return d.one(what, "x", "y") }
func (d drawer) service(what string) string {
	return d.one(what, "s0", "s1", "s2", "pods", "others", "gone", "external")
}

func (d drawer) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: d.namespace("namespace"), Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(d.number("age", 2)), 0))}
}

// mesh draws a mesh of two namespaces.
func (d drawer) mesh() *reading.Mesh {
	m := &reading.Mesh{Permissive: d.number("permissive", 2) == 2, Egress: d.either("egress")}
	for i, namespace := range []string{"a", "b"} {
		for j, name := range []string{"s0", "s1", "s2", "pods", "others", "external"} {
			if j > 0 && d.rarely("without that service") {
				continue
			}
			s := reading.Service{Namespace: namespace, Name: name, Ports: d.ports()}
			switch name {
			case "external":
				s.ExternalName = "a.example"
			case "pods", "others":
				s.Headless = true
			default:
				s.Address = netip.AddrFrom4([4]byte{10, 96, byte(i), byte(j + 1)})
			}
			if s.ExternalName == "" {
				s.Selector = d.selector()
			}
			m.Services = append(m.Services, s)
		}
		for j := range 1 + d.number("pods", 3) {
			p := reading.Pod{
				Namespace: namespace, Name: fmt.Sprint("p", j), Account: d.account("account of a pod"),
				Meshed: j == 0 || d.often("meshed"),
			}
			p.Labels = map[string]string{"account": p.Account, "app": d.one("app", "0", "1")}
			if d.often("has a port by name") {
				p.Ports = map[string]uint16{"web": uint16(webPort + d.number("web", 1))}
			}
			m.Pods = append(m.Pods, p)
		}
	}
	d.access(m)
	d.splits(m)
	d.egresses(m)
	d.ingresses(m)
	return m
}

func (d drawer) selector() map[string]string {
	switch d.number("selector", 5) {
	case 0:
		return nil
	case 1:
		return map[string]string{"app": "0"}
	case 2:
		return map[string]string{"app": "1"}
	case 3:
		return map[string]string{"account": d.account("selected account"), "app": "0"}
	default:
		return map[string]string{"account": d.account("selected account")}
	}
}

func (d drawer) ports() []reading.Port {
	var out []reading.Port
	many := 1 + d.number("ports", 2)
	for i := range many {
		p := reading.Port{Name: fmt.Sprint("p", i), Number: uint16(80 + i), Target: webPort, HTTP: true}
		switch d.number("target", 4) {
		case 0:
			p.Target, p.HTTP = bytesPort, false
		case 1:
			p.Target, p.TargetName = 0, "web"
		case 2:
			p.Target = otherWebPort
		}
		if many == 1 && d.either("unnamed") {
			p.Name = ""
		}
		out = append(out, p)
	}
	return out
}

func (d drawer) access(m *reading.Mesh) {
	for _, namespace := range []string{"a", "b"} {
		for i := range d.number("groups", 2) {
			m.HTTPRouteGroups = append(m.HTTPRouteGroups, specsv1alpha4.HTTPRouteGroup{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("g", i)}, Spec: specsv1alpha4.HTTPRouteGroupSpec{Matches: d.matches()},
			})
		}
		for i := range d.number("tcp routes", 2) {
			r := specsv1alpha4.TCPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("t", i)}}
			for range d.number("tcp ports", 2) {
				r.Spec.Matches.Ports = append(r.Spec.Matches.Ports, rapid.SampledFrom([]int{webPort, otherWebPort, bytesPort}).Draw(d.T, "tcp port"))
			}
			m.TCPRoutes = append(m.TCPRoutes, r)
		}
	}
	for i := range d.number("targets", 5) {
		t := accessv1alpha3.TrafficTarget{ObjectMeta: d.meta(fmt.Sprint("target-", i))}
		t.Spec.Destination = accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: t.Namespace, Name: d.account("destination")}
		for range d.number("sources", 3) {
			s := accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: d.namespace("namespace of a source"), Name: d.account("source")}
			if d.rarely("nobody") {
				s.Namespace = ""
			}
			t.Spec.Sources = append(t.Spec.Sources, s)
		}
		for range d.number("rules", 3) {
			rule := accessv1alpha3.TrafficTargetRule{Kind: "HTTPRouteGroup", Name: d.one("group", "g0", "g1", "g0", "gone")}
			switch d.number("rule", 15) {
			case 0:
				rule.Kind = "UDPRoute"
			case 1, 2, 3, 4:
				rule.Kind, rule.Name = "TCPRoute", d.one("tcp route", "t0", "t1", "t0", "gone")
			}
			for range max(0, d.number("named matches", 3)-1) {
				rule.Matches = append(rule.Matches, d.one("named match", "m0", "m1", "m2"))
			}
			t.Spec.Rules = append(t.Spec.Rules, rule)
		}
		m.TrafficTargets = append(m.TrafficTargets, t)
	}
}

func (d drawer) matches() []specsv1alpha4.HTTPMatch {
	var out []specsv1alpha4.HTTPMatch
	for i := range d.number("matches", 3) {
		match := specsv1alpha4.HTTPMatch{
			Name:      fmt.Sprint("m", i),
			PathRegex: d.one("path", "", ".*", "/a", "^/a/b$", "/a/.*", "/[ab]/.*", "(?i)/A", "/a|/b", "/a.*b", "/a/(b|c)", "(/a)", "/a/?b", "^/a", "/"),
		}
		for range d.number("methods", 2) {
			match.Methods = append(match.Methods, d.one("method", "GET", "POST", "*"))
		}
		for range max(0, d.number("headers", 3)-1) {
			match.Headers = append(match.Headers, map[string]string{
				d.one("header", "x", "X", "host"): d.one("value", "1", "2", "[12]", ".*", "1.*", "s0", "s0.a", "a.example", ""),
			})
		}
		out = append(out, match)
	}
	return out
}

// splits draws half of the TrafficSplits as v1alpha2, which the API server hands out as
// v1alpha4.
func (d drawer) splits(m *reading.Mesh) {
	for i := range d.number("splits", 3) {
		t := splitv1alpha4.TrafficSplit{ObjectMeta: d.meta(fmt.Sprint("split-", i))}
		t.Spec.Service = d.one("root", "s0", "s1", "pods", "s2") + d.one("domain", "", "", "."+t.Namespace, "."+t.Namespace+".svc.cluster.local")
		for range d.number("back ends", 3) {
			weight := rapid.SampledFrom([]float64{0, 1, 1, 2, 50, 33.3, 0.5}).Draw(d.T, "weight")
			t.Spec.Backends = append(t.Spec.Backends, splitv1alpha4.TrafficSplitBackend{Service: d.service("back end"), Weight: weight})
		}
		for range max(0, d.number("split matches", 3)-1) {
			ref := corev1.TypedLocalObjectReference{Kind: "HTTPRouteGroup", Name: d.one("matched group", "g0", "g1", "gone")}
			if d.either("api group") {
				ref.APIGroup = new(d.one("group", "specs.smi-spec.io", "specs.smi-spec.io/v1alpha4"))
			}
			t.Spec.Matches = append(t.Spec.Matches, ref)
		}
		if d.either("v1alpha2") {
			t = d.asOlderVersion(t)
		}
		m.TrafficSplits = append(m.TrafficSplits, t)
	}
}

func (d drawer) asOlderVersion(t splitv1alpha4.TrafficSplit) splitv1alpha4.TrafficSplit {
	var old splitv1alpha2.TrafficSplit
	d.reread(t, &old)
	var out splitv1alpha4.TrafficSplit
	d.reread(old, &out)
	out.ObjectMeta = t.ObjectMeta
	return out
}

func (d drawer) reread(from, to any) {
	data, err := json.Marshal(from)
	if err != nil {
		d.Fatal(err)
	}
	if err := json.Unmarshal(data, to); err != nil {
		d.Fatal(err)
	}
}

func (d drawer) egresses(m *reading.Mesh) {
	for _, namespace := range []string{"a", "b"} {
		if !d.either("a setting") {
			continue
		}
		s := policyv1alpha1.UpstreamTrafficSetting{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "u"}}
		s.Spec.Host = d.one("host of a setting", "s0", "pods") + "." + namespace + ".svc.cluster.local"
		s.Spec.ConnectionSettings = &policyv1alpha1.ConnectionSettingsSpec{TCP: &policyv1alpha1.TCPConnectionSettings{MaxConnections: new(int64(9))}}
		if d.either("limits") {
			s.Spec.RateLimit = &policyv1alpha1.RateLimitSpec{Local: &policyv1alpha1.LocalRateLimitSpec{
				TCP:  &policyv1alpha1.TCPLocalRateLimitSpec{Connections: 9, Unit: "second"},
				HTTP: &policyv1alpha1.HTTPLocalRateLimitSpec{Requests: 9, Unit: "second"},
			}}
			s.Spec.HTTPRoutes = []policyv1alpha1.HTTPRouteSpec{{Path: d.one("limited path", ".*", "/a", "/a/.*"), RateLimit: &policyv1alpha1.HTTPPerRouteRateLimitSpec{
				Local: &policyv1alpha1.HTTPLocalRateLimitSpec{Requests: 3, Unit: "second"},
			}}}
		}
		m.Settings = append(m.Settings, s)
	}
	for i := range d.number("egresses", 4) {
		e := policyv1alpha1.Egress{ObjectMeta: d.meta(fmt.Sprint("egress-", i))}
		for range 1 + d.number("sources", 1) {
			e.Spec.Sources = append(e.Spec.Sources, policyv1alpha1.EgressSource{Kind: "ServiceAccount", Name: d.account("source"), Namespace: d.namespace("namespace of a source")})
		}
		for range d.number("hosts", 3) {
			e.Spec.Hosts = append(e.Spec.Hosts, d.one("host", "a.example", "*.a.example", "b.example", "x.a.example", "*", "B.example"))
		}
		for range max(0, d.number("ranges", 3)-1) {
			e.Spec.IPAddresses = append(e.Spec.IPAddresses, d.one("range", "10.0.0.0/8", "10.1.2.3/16", "10.1.2.3/32", "172.0.0.0/8", "0.0.0.0/0"))
		}
		for range 1 + d.number("egress ports", 2) {
			e.Spec.Ports = append(e.Spec.Ports, policyv1alpha1.PortSpec{
				Number: rapid.SampledFrom([]int{80, 80, 443, webPort, bytesPort}).Draw(d.T, "egress port"), Protocol: d.one("egress protocol", "http", "https", "tcp", "tcp-server-first"),
			})
		}
		if d.rarely("limited") || d.rarely("limited too") {
			e.Spec.Matches = append(e.Spec.Matches, corev1.TypedLocalObjectReference{APIGroup: new("specs.smi-spec.io/v1alpha4"), Kind: "HTTPRouteGroup", Name: d.one("group", "g0", "g1")})
		}
		if d.rarely("bounded") {
			e.Spec.Matches = append(e.Spec.Matches, corev1.TypedLocalObjectReference{APIGroup: new("policy.openservicemesh.io/v1alpha1"), Kind: "UpstreamTrafficSetting", Name: "u"})
		}
		m.Egresses = append(m.Egresses, e)
	}
}

func (d drawer) ingresses(m *reading.Mesh) {
	for i := range d.number("ingress backends", 3) {
		o := policyv1alpha1.IngressBackend{ObjectMeta: d.meta(fmt.Sprint("ingress-", i))}
		named := d.either("named")
		if named {
			o.Spec.Sources = append(o.Spec.Sources, policyv1alpha1.IngressSourceSpec{Kind: "AuthenticatedPrincipal", Name: d.one("principal", "gate.example", "x.a.cluster.local", "*")})
		}
		switch d.number("source", 3) {
		case 0:
			o.Spec.Sources = append(o.Spec.Sources, policyv1alpha1.IngressSourceSpec{Kind: "IPRange", Name: d.one("range", "10.0.0.0/8", "172.0.0.0/8", "192.0.2.0/24")})
		case 1:
			o.Spec.Sources = append(o.Spec.Sources, policyv1alpha1.IngressSourceSpec{Kind: "Service", Name: d.service("gateway"), Namespace: d.namespace("namespace of a gateway")})
		}
		taken := map[string]bool{}
		for range 1 + d.number("back ends", 1) {
			b := policyv1alpha1.BackendSpec{Name: d.one("back end", "s0", "s1", "pods"), Port: policyv1alpha1.PortSpec{
				Number: rapid.SampledFrom([]int{webPort, otherWebPort, bytesPort}).Draw(d.T, "back end port"), Protocol: d.one("back end protocol", "http", "https", "HTTPS"),
			}}
			key := fmt.Sprint(b.Name, b.Port.Number)
			if taken[key] {
				continue
			}
			taken[key] = true
			if b.Port.Protocol != "http" && (!named || d.either("tls")) {
				b.TLS = &policyv1alpha1.TLSSpec{SkipClientCertValidation: !named || d.either("skip")}
				for range d.number("sni hosts", 2) {
					b.TLS.SNIHosts = append(b.TLS.SNIHosts, d.one("sni host", "gate.example", "*.gate.example", "s0.a.svc.cluster.local"))
				}
			}
			o.Spec.Backends = append(o.Spec.Backends, b)
		}
		if d.rarely("limited") {
			o.Spec.Matches = append(o.Spec.Matches, corev1.TypedLocalObjectReference{Kind: "HTTPRouteGroup", Name: d.one("group", "g0", "g1")})
		}
		m.IngressBackends = append(m.IngressBackends, o)
	}
}

func (d drawer) request() reading.Request {
	r := reading.Request{
		Method: d.one("method", "GET", "POST"), Path: d.one("path", "/", "/a", "/b", "/A", "/a/b", "/a/c", "/a/c/b", "/ab", "/a?b", "/a/b?/a"),
		Host: d.one("host", "s0", "s0.a", "pods", "pods.a", "pods.b.svc.cluster.local", "p0.pods.a.svc", "others.a", "a.example", "x.a.example", "a.example:80", "b.example", "B.example:443", "other"),
	}
	if x := d.one("x", "", "1", "2", "12"); x != "" {
		r.Headers = map[string]string{"x": x}
	}
	return r
}

func (d drawer) speaks() reading.Speaks {
	return rapid.SampledFrom([]reading.Speaks{reading.HTTP, reading.HTTP, reading.HTTP, reading.HTTP, reading.TLS, reading.Bytes}).Draw(d.T, "speaks")
}

func (d drawer) call(m *reading.Mesh, from []*reading.Pod) reading.Call {
	c := reading.Call{From: rapid.SampledFrom(from).Draw(d.T, "caller"), Speaks: d.speaks(), Request: d.request()}
	c.ServerName = d.one("server name", "a.example", "x.a.example", "b.example", "")
	switch d.number("where to", 5) {
	case 0:
		c.Address = netip.MustParseAddr(d.one("outside", "10.1.2.3", "10.1.9.9", "10.200.0.1", "192.0.2.1"))
		c.Port = rapid.SampledFrom([]uint16{80, 443, webPort, bytesPort}).Draw(d.T, "port")
	case 1, 2:
		c.Address = rapid.SampledFrom(m.Pods).Draw(d.T, "callee").Address
		c.Port = rapid.SampledFrom([]uint16{webPort, otherWebPort, bytesPort, 80}).Draw(d.T, "port")
	default:
		s := rapid.SampledFrom(m.Services).Filter(func(s reading.Service) bool { return s.Address.IsValid() }).Draw(d.T, "service")
		c.Address, c.Port = s.Address, uint16(80+d.number("port", 2))
	}
	return c
}

func (d drawer) gateway(to []*reading.Pod) reading.Gateway {
	return reading.Gateway{
		To: rapid.SampledFrom(to).Draw(d.T, "pod"), Port: rapid.SampledFrom([]uint16{webPort, otherWebPort, bytesPort}).Draw(d.T, "port"),
		Source: netip.MustParseAddr(d.one("address", "10.1.2.3", "192.0.2.7", "203.0.113.1")), Speaks: d.speaks(), Request: d.request(),
		ServerName:  d.one("server name", "gate.example", "x.gate.example", "other.example", "s0.a.svc.cluster.local", ""),
		Certificate: d.one("certificate", "", "gate.example", "other.example", "spiffe://cluster.local/ns/a/sa/x", "spiffe://cluster.local/ns/b/sa/y"),
	}
}
