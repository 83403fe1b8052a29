package policy_test

import (
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/mesh/meshtest"
)

// maker draws facts. What it draws from is small, so that objects meet each other;
// hostile draws anything that the API lets through, and more.
type maker struct {
	rt      *rapid.T
	hostile bool
}

func (m maker) one(what string, of ...string) string {
	if m.hostile && rapid.IntRange(0, 9).Draw(m.rt, what+" is hostile") == 0 {
		return rapid.OneOf(
			rapid.String(),
			rapid.StringMatching(`[(\[{}?*+.\\^$|a-z0-9/-]{0,40}`),
			rapid.SampledFrom([]string{"", "*", "a/b", "a.b.c", "((a{1000}){1000}){1000}", `\pL{1000}`, "(?i)x", "::1", "ns/*", "\x00"}),
		).Draw(m.rt, what)
	}
	return rapid.SampledFrom(of).Draw(m.rt, what)
}

func (m maker) namespace(what string) string { return m.one(what, "a", "b") }
func (m maker) account(what string) string   { return m.one(what, "x", "y", "z", "x.y") }
func (m maker) service(what string) string {
	return m.one(what, "s0", "s1", "s2", "s3", "headless", "external", "gone")
}
func (m maker) group(what string) string { return m.one(what, "g0", "g1", "gone") }
func (m maker) number(what string, most int) int {
	return rapid.IntRange(0, most).Draw(m.rt, what)
}

func (m maker) meta(name string) metav1.ObjectMeta {
	age := time.Unix(int64(m.number("age", 2)), 0)
	return metav1.ObjectMeta{Namespace: m.namespace("namespace"), Name: name, CreationTimestamp: metav1.NewTime(age)}
}

// facts draws a mesh of two namespaces.
func (m maker) facts() *meshtest.Facts {
	f := &meshtest.Facts{
		Permissive: rapid.Bool().Draw(m.rt, "permissive"), Egress: rapid.Bool().Draw(m.rt, "egress"),
		NoRetries: rapid.Bool().Draw(m.rt, "no retries"),
	}
	for _, namespace := range []string{"a", "b"} {
		for i := range 4 {
			f.Services = append(f.Services, m.drawService(namespace, fmt.Sprint("s", i)))
		}
		headless := m.drawService(namespace, "headless")
		headless.Headless, headless.IPs = true, nil
		f.Services = append(f.Services, headless, meshtest.Service{Name: namespace + "/external", ExternalName: "example.com", Ports: headless.Ports})
		for i := range m.number("pods", 4) {
			account := rapid.SampledFrom([]string{"x", "y", "x.y"}).Draw(m.rt, "account of a pod")
			f.Pods = append(f.Pods, meshtest.Pod{
				Name: fmt.Sprintf("%s/pod-%d", namespace, i), Account: account,
				Labels:   map[string]string{"account": account, "app": m.one("app", "0", "1")},
				Ports:    map[string]uint16{"web": uint16(8080 + m.number("web", 1))},
				Unmeshed: m.number("unmeshed", 4) == 0, Zone: rapid.SampledFrom([]string{"", "z"}).Draw(m.rt, "zone"),
			})
		}
	}
	m.policies(f)
	return f
}

func (m maker) drawService(namespace, name string) meshtest.Service {
	s := meshtest.Service{Name: namespace + "/" + name, PreferZone: m.number("prefers its zone", 4) == 0}
	switch m.number("selector", 3) {
	case 0:
		s.Selector = map[string]string{"account": m.account("selected account")}
	case 1:
		s.Selector = map[string]string{"app": m.one("selected app", "0", "1")}
	case 2:
		s.Selector = map[string]string{"account": m.account("selected account"), "app": "0"}
	}
	protocols := rapid.SampledFrom([]mesh.Protocol{mesh.HTTP, mesh.HTTP, mesh.TCP, mesh.TCPServerFirst})
	for i := range 1 + m.number("ports", 2) {
		p := meshtest.Port{
			Name: fmt.Sprint("p", i), Number: uint16(80 + i), Target: uint16(8080 + m.number("target", 1)),
			Protocol: protocols.Draw(m.rt, "protocol"),
		}
		if m.number("named", 3) == 0 {
			p.TargetName = m.one("target name", "web", "gone")
		}
		s.Ports = append(s.Ports, p)
	}
	return s
}

func (m maker) policies(f *meshtest.Facts) {
	p := &f.Policies
	for i := range 2 {
		meta := m.meta(fmt.Sprint("g", i))
		meshtest.Put(&p.HTTPRouteGroups, meta, m.routeGroup())
		meta.Name = fmt.Sprint("t", i)
		meshtest.Put(&p.TCPRoutes, meta, m.tcpRoute())
	}
	for i := range m.number("targets", 5) {
		meta := m.meta(fmt.Sprint("target-", i))
		meshtest.Put(&p.TrafficTargets, meta, m.target(meta.Namespace))
	}
	for i := range m.number("splits", 3) {
		meshtest.Put(&p.TrafficSplits, m.meta(fmt.Sprint("split-", i)), m.split())
	}
	for i := range m.number("ingress backends", 3) {
		meshtest.Put(&p.IngressBackends, m.meta(fmt.Sprint("ingress-", i)), m.ingress())
	}
	for i := range m.number("egresses", 4) {
		meshtest.Put(&p.Egresses, m.meta(fmt.Sprint("egress-", i)), m.egress())
	}
	for i := range m.number("retries", 2) {
		meshtest.Put(&p.Retries, m.meta(fmt.Sprint("retry-", i)), m.retry())
	}
	for i := range m.number("settings", 4) {
		meta := m.meta(fmt.Sprint("setting-", i))
		meshtest.Put(&p.UpstreamTrafficSettings, meta, m.setting(meta.Namespace))
	}
}

func (m maker) setting(namespace string) policyv1alpha1.UpstreamTrafficSettingSpec {
	n := int64(m.number("connections", 9))
	if m.hostile {
		n = rapid.OneOf(rapid.Int64(), rapid.Int64Range(-1, 1)).Draw(m.rt, "hostile number")
	}
	out := policyv1alpha1.UpstreamTrafficSettingSpec{
		Host: m.one("service of a host", "s0", "s1", "headless", "external", "gone") + "." + namespace + ".svc.cluster.local",
		ConnectionSettings: &policyv1alpha1.ConnectionSettingsSpec{
			TCP: &policyv1alpha1.TCPConnectionSettings{MaxConnections: &n, ConnectTimeout: new(policyv1alpha1.Duration(m.one("connect timeout", "1s", "-1s", "soon")))},
		},
	}
	if m.number("beyond", 1) == 0 {
		out.ConnectionSettings.HTTP = &policyv1alpha1.HTTPConnectionSettings{RequestTimeout: new(policyv1alpha1.Duration(m.one("request timeout", "1s", "0s", "?")))}
		out.OutlierDetection = &policyv1alpha1.OutlierDetectionSpec{ConsecutiveErrors: &n, MaxEjectionPercent: &n}
		out.LoadBalancing = &policyv1alpha1.LoadBalancingSpec{
			Policy:    policyv1alpha1.LoadBalancingPolicy(m.one("policy", "", "LeastRequest", "RoundRobin", "RingHash")),
			HashOn:    &policyv1alpha1.HashOnSpec{Kind: policyv1alpha1.HashOnKind(m.one("hash on", "Header", "Cookie", "SourceIP")), Name: m.one("hashed", "x-user", "a b")},
			SlowStart: &policyv1alpha1.SlowStartSpec{Window: "1m", MinWeightPercent: &n},
		}
	}
	if m.number("rate limit", 1) == 0 {
		out.RateLimit = &policyv1alpha1.RateLimitSpec{Local: &policyv1alpha1.LocalRateLimitSpec{}}
		if m.number("rate of connections", 1) == 0 {
			out.RateLimit.Local.TCP = &policyv1alpha1.TCPLocalRateLimitSpec{Connections: n, Unit: m.one("unit", "second", "minute", "hour"), Burst: n}
		}
		if m.number("rate of requests", 1) == 0 {
			out.RateLimit.Local.HTTP = m.rate(n)
		}
	}
	if out.RateLimit != nil && m.number("global", 1) == 0 {
		service := policyv1alpha1.RateLimitServiceSpec{Host: m.one("server", "limits.example", "10.0.0.1", "fd00::1", "a b"), Port: 8081}
		value := m.one("value of a descriptor", "a", "")
		out.RateLimit.Global = &policyv1alpha1.GlobalRateLimitSpec{
			TCP: &policyv1alpha1.TCPGlobalRateLimitSpec{RateLimitService: service, Domain: m.one("domain of connections", "d"), Descriptors: []policyv1alpha1.TCPRateLimitDescriptor{
				{Entries: []policyv1alpha1.TCPRateLimitDescriptorEntry{{Key: m.one("key", "k"), Value: value}}},
			}},
			HTTP: &policyv1alpha1.HTTPGlobalRateLimitSpec{RateLimitService: service, Domain: m.one("domain of requests", "d"), ResponseStatusCode: n, Descriptors: m.descriptors(value)},
		}
		out.HTTPRoutes = append(out.HTTPRoutes, policyv1alpha1.HTTPRouteSpec{Path: m.one("path of descriptors", "/a", "/b"), RateLimit: &policyv1alpha1.HTTPPerRouteRateLimitSpec{
			Global: &policyv1alpha1.HTTPGlobalPerRouteRateLimitSpec{Descriptors: m.descriptors(value)},
		}})
	}
	for range m.number("paths of a setting", 2) {
		out.HTTPRoutes = append(out.HTTPRoutes, policyv1alpha1.HTTPRouteSpec{
			Path: m.one("path of a setting", ".*", "/a", "/a/.*", "/[ab]/.*"), RateLimit: &policyv1alpha1.HTTPPerRouteRateLimitSpec{Local: m.rate(n + 1)},
		})
	}
	return out
}

func (m maker) descriptors(value string) []policyv1alpha1.HTTPGlobalRateLimitDescriptor {
	return []policyv1alpha1.HTTPGlobalRateLimitDescriptor{{Entries: []policyv1alpha1.HTTPGlobalRateLimitDescriptorEntry{
		{GenericKey: &policyv1alpha1.GenericKeyDescriptorEntry{Value: value}},
		{RemoteAddress: &policyv1alpha1.RemoteAddressDescriptorEntry{}},
		{RequestHeader: &policyv1alpha1.RequestHeaderDescriptorEntry{Name: m.one("header of a descriptor", "x-user", ":path", "host"), Key: value}},
	}}, {Entries: []policyv1alpha1.HTTPGlobalRateLimitDescriptorEntry{
		{HeaderValueMatch: &policyv1alpha1.HeaderValueMatchDescriptorEntry{Value: value, Headers: []policyv1alpha1.HTTPHeaderMatcher{
			{Name: m.one("matched header", "x"), Regex: m.one("matched value", "a.*", "(")},
			{Name: m.one("matched header", "y"), Contains: m.one("matched part", "a", "(")},
		}}},
	}}}
}

func (m maker) rate(n int64) *policyv1alpha1.HTTPLocalRateLimitSpec {
	return &policyv1alpha1.HTTPLocalRateLimitSpec{
		Requests: n, Unit: m.one("unit", "second", "minute", "hour"), Burst: n, ResponseStatusCode: rapid.SampledFrom([]int64{0, 503, 430, 200}).Draw(m.rt, "status"),
		ResponseHeadersToAdd: []policyv1alpha1.HTTPHeaderValue{{Name: m.one("header of an answer", "x-slow"), Value: m.one("value of an answer", "1")}},
	}
}

func (m maker) routeGroup() specsv1alpha4.HTTPRouteGroupSpec {
	var spec specsv1alpha4.HTTPRouteGroupSpec
	for range m.number("matches", 4) {
		match := specsv1alpha4.HTTPMatch{
			Name:      m.one("match", "m0", "m1", "m2"),
			PathRegex: m.one("path", "", ".*", "/a", "^/a/b$", "/a/.*", "/[ab]/.*", "(?i)/A", "/a|/b", "/a.*b", "/a/(b|c)", "(/a)", "/a/?b", "(bad", "^/a"),
		}
		for range m.number("methods", 2) {
			match.Methods = append(match.Methods, m.one("method", "GET", "POST", "*", "no method"))
		}
		for range m.number("headers", 2) {
			match.Headers = append(match.Headers, map[string]string{
				m.one("header", "x", "X", "host"): m.one("value", "1", "2", "[12]", ".*", "1.*", "h", ""),
			})
		}
		spec.Matches = append(spec.Matches, match)
	}
	return spec
}

func (m maker) tcpRoute() specsv1alpha4.TCPRouteSpec {
	var spec specsv1alpha4.TCPRouteSpec
	for range m.number("tcp ports", 2) {
		spec.Matches.Ports = append(spec.Matches.Ports, rapid.SampledFrom([]int{8080, 8081, 0, -1, 73616}).Draw(m.rt, "tcp port"))
	}
	return spec
}

func (m maker) subject(namespace string) accessv1alpha3.IdentityBindingSubject {
	s := accessv1alpha3.IdentityBindingSubject{Kind: "ServiceAccount", Namespace: namespace, Name: m.account("account")}
	switch m.number("subject", 9) {
	case 0:
		s.Kind = m.one("kind", "Group")
	case 1:
		s.Namespace = m.one("namespace of a subject", "")
	}
	return s
}

func (m maker) target(namespace string) accessv1alpha3.TrafficTargetSpec {
	spec := accessv1alpha3.TrafficTargetSpec{Destination: m.subject(namespace)}
	for range m.number("sources", 3) {
		spec.Sources = append(spec.Sources, m.subject(m.namespace("namespace of a source")))
	}
	for range m.number("rules", 3) {
		rule := accessv1alpha3.TrafficTargetRule{Kind: "HTTPRouteGroup", Name: m.group("group")}
		switch m.number("rule", 9) {
		case 0:
			rule.Kind = m.one("kind of a rule", "UDPRoute", "Other")
		case 1, 2, 3:
			rule.Kind, rule.Name = "TCPRoute", m.one("tcp route", "t0", "t1", "gone")
		}
		for range m.number("named matches", 2) {
			rule.Matches = append(rule.Matches, m.one("named match", "m0", "m1", "m2", "gone"))
		}
		spec.Rules = append(spec.Rules, rule)
	}
	return spec
}

func (m maker) split() splitv1alpha4.TrafficSplitSpec {
	spec := splitv1alpha4.TrafficSplitSpec{Service: m.service("root") + m.one("domain", "", ".a", ".b.svc.cluster.local")}
	weights := []float64{0, 1, 1, 90, 33.3, 0.5, 1e-9, 1e12}
	if m.hostile {
		weights = append(weights, -1, math.NaN(), math.Inf(1), math.MaxFloat64, math.SmallestNonzeroFloat64)
	}
	for range m.number("back ends", 3) {
		spec.Backends = append(spec.Backends, splitv1alpha4.TrafficSplitBackend{
			Service: m.service("back end"), Weight: rapid.SampledFrom(weights).Draw(m.rt, "weight"),
		})
	}
	for range m.number("split matches", 2) {
		ref := corev1.TypedLocalObjectReference{Kind: "HTTPRouteGroup", Name: m.group("matched group")}
		if m.number("api group", 2) == 0 {
			group := m.one("api group", "specs.smi-spec.io/v1alpha4", "other")
			ref.APIGroup = &group
		}
		spec.Matches = append(spec.Matches, ref)
	}
	return spec
}

func (m maker) retry() policyv1alpha1.RetrySpec {
	n := int64(m.number("retries of a retry", 3))
	if m.hostile {
		n = rapid.Int64().Draw(m.rt, "hostile retries")
	}
	return policyv1alpha1.RetrySpec{
		Source: policyv1alpha1.RetrySrcDstSpec{Kind: "ServiceAccount", Namespace: m.namespace("source of a retry"), Name: m.account("account of a retry")},
		Destinations: []policyv1alpha1.RetrySrcDstSpec{
			{Kind: "Service", Namespace: m.namespace("destination of a retry"), Name: m.service("service of a retry")},
		},
		RetryPolicy: policyv1alpha1.RetryPolicySpec{
			RetryOn: m.one("retry on", "5xx", "reset, 5xx", "never"), NumRetries: &n,
			PerTryTimeout: new(policyv1alpha1.Duration(m.one("per try", "1s", "0s", "-1s"))),
		},
	}
}

// egress draws from few hosts, ranges and ports, so that objects meet.
func (m maker) egress() policyv1alpha1.EgressSpec {
	var out policyv1alpha1.EgressSpec
	for range 1 + m.number("sources", 1) {
		out.Sources = append(out.Sources, policyv1alpha1.EgressSource{Kind: "ServiceAccount", Name: m.account("source"), Namespace: m.namespace("namespace of a source")})
	}
	for range m.number("hosts", 3) {
		out.Hosts = append(out.Hosts, m.one("host", "a.example", "*.a.example", "b.example", "*", "B.example."))
	}
	for range m.number("ranges", 2) {
		out.IPAddresses = append(out.IPAddresses, m.one("range", "10.0.0.0/8", "10.1.2.3/16", "10.0.0.1/8", "fd00::/8", "0.0.0.0/0"))
	}
	for range 1 + m.number("egress ports", 2) {
		out.Ports = append(out.Ports, policyv1alpha1.PortSpec{Number: 80 + m.number("egress port", 1), Protocol: m.one("egress protocol", "http", "https", "tcp", "tcp-server-first")})
	}
	if m.number("matches", 2) == 0 {
		out.Matches = append(out.Matches, corev1.TypedLocalObjectReference{
			APIGroup: new(m.one("group", "specs.smi-spec.io/v1alpha4")), Kind: m.one("kind", "HTTPRouteGroup"), Name: m.group("matched group"),
		})
	}
	return out
}

func (m maker) ingress() policyv1alpha1.IngressBackendSpec {
	var out policyv1alpha1.IngressBackendSpec
	for range 1 + m.number("back ends", 1) {
		b := policyv1alpha1.BackendSpec{Name: m.service("back end"), Port: policyv1alpha1.PortSpec{Number: 8080 + m.number("back end port", 1), Protocol: m.one("back end protocol", "http", "https")}}
		if m.number("tls", 1) == 0 {
			b.TLS = &policyv1alpha1.TLSSpec{SkipClientCertValidation: m.number("skip", 1) == 0}
			for range m.number("sni hosts", 2) {
				b.TLS.SNIHosts = append(b.TLS.SNIHosts, m.one("sni host", "gate.example", "*.gate.example", "s0.a.svc.cluster.local", "*.svc.cluster.local"))
			}
		}
		out.Backends = append(out.Backends, b)
	}
	for range m.number("ingress sources", 2) {
		s := policyv1alpha1.IngressSourceSpec{Kind: m.one("ingress source", "Service", "IPRange", "AuthenticatedPrincipal"), Namespace: m.namespace("namespace")}
		s.Name = map[string]string{"IPRange": m.one("range", "10.0.0.0/8", "fd00::/8"), "AuthenticatedPrincipal": m.one("principal", "gate.a.cluster.local", "*")}[s.Kind]
		if s.Kind == "Service" {
			s.Name = m.service("gateway")
		}
		out.Sources = append(out.Sources, s)
	}
	if m.number("matches", 2) == 0 {
		out.Matches = append(out.Matches, corev1.TypedLocalObjectReference{Kind: "HTTPRouteGroup", Name: m.group("matched group")})
	}
	return out
}
