package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh/meshtest"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
)

// badMesh allows nothing: whatever is allowed is due to the object that is added.
const badMesh = `
services:
- {name: shop/store, selector: {app: store}, ips: [10.96.0.1], ports: [{number: 80}]}
- {name: shop/next, selector: {app: next}, ips: [10.96.0.2], ports: [{number: 80}]}
- {name: other/store, selector: {app: store}, ips: [10.96.0.3], ports: [{number: 80}]}
pods:
- {name: shop/store, account: store, labels: {app: store}}
- {name: shop/next, account: next, labels: {app: next}}
- {name: shop/buyer, account: buyer}
- {name: other/store, account: store, labels: {app: store}}
`

// Objects that mean something, to be spoilt.
const (
	badTarget = `---
kind: TrafficTarget
metadata: {name: bad, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: store, namespace: shop}
  sources: [{kind: ServiceAccount, name: buyer, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: routes}]
`
	badGroup = `---
kind: HTTPRouteGroup
metadata: {name: routes, namespace: shop}
spec: {matches: [%s]}
`
	badRoute   = "---\nkind: TCPRoute\nmetadata: {name: routes, namespace: shop}\nspec: {matches: {ports: %s}}\n"
	badSplit   = "---\nkind: TrafficSplit\nmetadata: {name: bad, namespace: shop}\nspec: {service: store, backends: [%s]}\n"
	badSetting = "---\nkind: UpstreamTrafficSetting\nmetadata: {name: bad, namespace: shop}\nspec: {%s}\n"
	badRetry   = `---
kind: Retry
metadata: {name: bad, namespace: shop}
spec: {source: {kind: ServiceAccount, name: buyer, namespace: %s}, destinations: [{kind: Service, name: store, namespace: shop}], retryPolicy: {%s}}
`
	badEgress = `---
kind: Egress
metadata: {name: bad, namespace: shop}
spec: {sources: [{kind: ServiceAccount, name: buyer, namespace: shop}], %s}
`
	badIngress = `---
kind: IngressBackend
metadata: {name: bad, namespace: shop}
spec: {%s}
`
	storeHost = "host: store.shop.svc.cluster.local, "
)

// TestBadInput adds one object that is wrong in one way: it is told in the status, nothing
// fails, and nobody may do more than before. What the API server refuses is tried all the
// same: objects may have been stored before it did.
func TestBadInput(t *testing.T) {
	t.Parallel()
	exploding := strings.Repeat("(", 30) + "a" + strings.Repeat("{30})", 30)
	large := strings.Repeat("a", 1<<20)
	for name, tc := range map[string]struct {
		objects string
		// about is the kind and the name of the object that it is told of, in the words of says.
		about, says string
	}{
		"target: no such group":            {badTarget, "TrafficTarget shop/bad", "routes"},
		"target: a group elsewhere":        {badTarget + strings.ReplaceAll(fmt.Sprintf(badGroup, "{name: a}"), "namespace: shop", "namespace: other"), "TrafficTarget shop/bad", "routes"},
		"target: another namespace":        {strings.Replace(badTarget, "name: store, namespace: shop", "name: store, namespace: other", 1) + fmt.Sprintf(badGroup, "{name: a}"), "TrafficTarget shop/bad", "namespace"},
		"target: a source of no kind":      {strings.Replace(badTarget, "[{kind: ServiceAccount", "[{kind: Everybody", 1) + fmt.Sprintf(badGroup, "{name: a}"), "TrafficTarget shop/bad", "Everybody"},
		"target: a rule of no kind":        {strings.Replace(badTarget, "kind: HTTPRouteGroup", "kind: UDPRoute", 1), "TrafficTarget shop/bad", "UDPRoute"},
		"target: unicode for a name":       {strings.Replace(badTarget, "{kind: ServiceAccount, name: buyer", "{kind: ServiceAccount, name: büyer☃", 1) + fmt.Sprintf(badGroup, "{name: a}"), "TrafficTarget shop/bad", "büyer☃"},
		"target: nobody":                   {strings.Replace(badTarget, "{kind: ServiceAccount, name: buyer, namespace: shop}", "", 1) + fmt.Sprintf(badGroup, "{name: a}"), "TrafficTarget shop/bad", "source"},
		"group: an unreadable path":        {badTarget + fmt.Sprintf(badGroup, "{name: a, pathRegex: '('}"), "HTTPRouteGroup shop/routes", "("},
		"group: a path that explodes":      {badTarget + fmt.Sprintf(badGroup, "{name: a, pathRegex: '"+exploding+"'}"), "HTTPRouteGroup shop/routes", "a"},
		"group: a path that is large":      {badTarget + fmt.Sprintf(badGroup, "{name: a, pathRegex: '(a{1000}){30}'}"), "HTTPRouteGroup shop/routes", "a"},
		"group: a path of 1 MiB":           {badTarget + fmt.Sprintf(badGroup, "{name: a, pathRegex: '"+large+"'}"), "HTTPRouteGroup shop/routes", "bytes"},
		"group: a header with a space":     {badTarget + fmt.Sprintf(badGroup, "{name: a, headers: [{'x a': b}]}"), "HTTPRouteGroup shop/routes", "x a"},
		"group: a header of unicode":       {badTarget + fmt.Sprintf(badGroup, "{name: a, headers: [{'☃': b}]}"), "HTTPRouteGroup shop/routes", "☃"},
		"group: a method with a space":     {badTarget + fmt.Sprintf(badGroup, "{name: a, methods: ['GET POST']}"), "HTTPRouteGroup shop/routes", "GET POST"},
		"group: one name twice":            {badTarget + fmt.Sprintf(badGroup, "{name: a, pathRegex: '('}, {name: a, pathRegex: '('}"), "HTTPRouteGroup shop/routes", "("},
		"group: nothing":                   {badTarget + fmt.Sprintf(badGroup, ""), "HTTPRouteGroup shop/routes", "match"},
		"route: a port that is none":       {strings.Replace(badTarget, "HTTPRouteGroup", "TCPRoute", 1) + fmt.Sprintf(badRoute, "[0, -1, 70000]"), "TCPRoute shop/routes", "70000"},
		"split: a weight below zero":       {fmt.Sprintf(badSplit, "{service: store, weight: -1}, {service: next, weight: 1}"), "TrafficSplit shop/bad", "-1"},
		"split: no such service":           {fmt.Sprintf(badSplit, "{service: nothing, weight: 1}"), "TrafficSplit shop/bad", "nothing"},
		"split: a service elsewhere":       {fmt.Sprintf(badSplit, "{service: store.other, weight: 1}"), "TrafficSplit shop/bad", "store.other"},
		"split: all weights zero":          {fmt.Sprintf(badSplit, "{service: store, weight: 0}"), "TrafficSplit shop/bad", "weight"},
		"split: nobody":                    {fmt.Sprintf(badSplit, ""), "TrafficSplit shop/bad", "back"},
		"setting: a host with a space":     {fmt.Sprintf(badSetting, "host: 'store .shop.svc.cluster.local'"), "UpstreamTrafficSetting shop/bad", "store .shop"},
		"setting: a host elsewhere":        {fmt.Sprintf(badSetting, "host: store.other.svc.cluster.local"), "UpstreamTrafficSetting shop/bad", "store.other"},
		"setting: a host of unicode":       {fmt.Sprintf(badSetting, "host: '☃.shop.svc.cluster.local'"), "UpstreamTrafficSetting shop/bad", "☃"},
		"setting: no such service":         {fmt.Sprintf(badSetting, "host: nothing.shop.svc.cluster.local"), "UpstreamTrafficSetting shop/bad", "nothing"},
		"setting: a time without unit":     {fmt.Sprintf(badSetting, storeHost+"connectionSettings: {tcp: {connectTimeout: '5'}}"), "UpstreamTrafficSetting shop/bad", "connectTimeout"},
		"setting: a bound below zero":      {fmt.Sprintf(badSetting, storeHost+"connectionSettings: {http: {maxRequests: -1}}"), "UpstreamTrafficSetting shop/bad", "maxRequests"},
		"setting: a rate of a day":         {fmt.Sprintf(badSetting, storeHost+"rateLimit: {local: {http: {requests: 1, unit: day}}}"), "UpstreamTrafficSetting shop/bad", "day"},
		"setting: a rate below zero":       {fmt.Sprintf(badSetting, storeHost+"rateLimit: {local: {tcp: {connections: -1, unit: hour}}}"), "UpstreamTrafficSetting shop/bad", "-1"},
		"setting: an answer that is none":  {fmt.Sprintf(badSetting, storeHost+"rateLimit: {local: {http: {requests: 1, unit: hour, responseStatusCode: 99}}}"), "UpstreamTrafficSetting shop/bad", "99"},
		"setting: a path that explodes":    {fmt.Sprintf(badSetting, storeHost+"httpRoutes: [{path: '"+exploding+"', rateLimit: {local: {requests: 1, unit: hour}}}]"), "UpstreamTrafficSetting shop/bad", "httpRoutes"},
		"setting: health that is none":     {fmt.Sprintf(badSetting, storeHost+"healthCheck: {interval: often}"), "UpstreamTrafficSetting shop/bad", "often"},
		"retry: a condition that is none":  {fmt.Sprintf(badRetry, "shop", "retryOn: whenever"), "Retry shop/bad", "whenever"},
		"retry: a number below zero":       {fmt.Sprintf(badRetry, "shop", "retryOn: 5xx, numRetries: -1"), "Retry shop/bad", "-1"},
		"retry: a time without unit":       {fmt.Sprintf(badRetry, "shop", "retryOn: 5xx, perTryTimeout: '1'"), "Retry shop/bad", "perTryTimeout"},
		"egress: a port that is none":      {fmt.Sprintf(badEgress, "hosts: [a.example], ports: [{number: 70000, protocol: http}]"), "Egress shop/bad", "70000"},
		"egress: a protocol that is none":  {fmt.Sprintf(badEgress, "hosts: [a.example], ports: [{number: 80, protocol: gopher}]"), "Egress shop/bad", "gopher"},
		"egress: a host with a space":      {fmt.Sprintf(badEgress, "hosts: ['a .example'], ports: [{number: 80, protocol: http}]"), "Egress shop/bad", "a .example"},
		"egress: a range that is none":     {fmt.Sprintf(badEgress, "ipAddresses: [10.0.0.0/99], ports: [{number: 90, protocol: tcp}]"), "Egress shop/bad", "10.0.0.0/99"},
		"egress: no such group":            {fmt.Sprintf(badEgress, "hosts: [a.example], ports: [{number: 80, protocol: http}], matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: nothing}]"), "Egress shop/bad", "nothing"},
		"ingress: no source":               {fmt.Sprintf(badIngress, "backends: [{name: store, port: {number: 80, protocol: http}}], sources: []"), "IngressBackend shop/bad", "source"},
		"ingress: a range that is none":    {fmt.Sprintf(badIngress, "backends: [{name: store, port: {number: 80, protocol: http}}], sources: [{kind: IPRange, name: everywhere}]"), "IngressBackend shop/bad", "everywhere"},
		"ingress: no such gateway":         {fmt.Sprintf(badIngress, "backends: [{name: store, port: {number: 80, protocol: http}}], sources: [{kind: Service, name: gate, namespace: edge}]"), "IngressBackend shop/bad", "gate"},
		"ingress: a protocol that is none": {fmt.Sprintf(badIngress, "backends: [{name: store, port: {number: 80, protocol: gopher}}], sources: [{kind: IPRange, name: 10.0.0.0/8}]"), "IngressBackend shop/bad", "gopher"},
		"ingress: a port that is none":     {fmt.Sprintf(badIngress, "backends: [{name: store, port: {number: 70000, protocol: http}}], sources: [{kind: IPRange, name: 10.0.0.0/8}]"), "IngressBackend shop/bad", "70000"},
		"ingress: no such service":         {fmt.Sprintf(badIngress, "backends: [{name: nothing, port: {number: 80, protocol: http}}], sources: [{kind: IPRange, name: 10.0.0.0/8}]"), "IngressBackend shop/bad", "nothing"},
		"ingress: https by nobody's name":  {fmt.Sprintf(badIngress, "backends: [{name: store, port: {number: 80, protocol: https}, tls: {}}], sources: [{kind: IPRange, name: 10.0.0.0/8}]"), "IngressBackend shop/bad", "AuthenticatedPrincipal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts, err := meshtest.Read([]byte(badMesh + tc.objects))
			if err != nil {
				t.Fatal(err)
			}
			c, proxies := sent(t, facts)
			for _, p := range proxies {
				checkNobody(t, p)
			}
			told := false
			for _, r := range c.Report() {
				if r.Kind+" "+r.Key.String() == tc.about {
					told = strings.Contains(r.Accepted.Message+"\n"+r.Resolved.Message, tc.says) &&
						(r.Accepted.Reason != policy.ReasonAccepted || r.Resolved.Reason != policy.ReasonResolved)
					t.Logf("%+v", r)
				}
			}
			if !told {
				t.Errorf("nothing with %q is told of %s", tc.says, tc.about)
			}
		})
	}
}

// sent compiles and translates for all classes.
func sent(t *testing.T, facts *meshtest.Facts) (*policy.Compiler, []*ir.Proxy) {
	t.Helper()
	m := facts.Model()
	c, translator := policy.New(m, bundle(), nil), translate.New()
	var out []*ir.Proxy
	for id, class := range m.Classes {
		p := c.Proxy(class)
		if _, err := translator.Proxy(p); err != nil {
			t.Errorf("class %s: %v", id, err)
		}
		out = append(out, p)
	}
	return c, out
}

// checkNobody finds that nobody may do anything.
func checkNobody(t *testing.T, p *ir.Proxy) {
	t.Helper()
	running := func(a identity.ServiceAccount) bool {
		return slices.Contains([]string{"store", "next", "buyer"}, a.Name)
	}
	for _, port := range p.Inbound {
		for _, r := range port.Routes {
			// One who does not exist is nobody.
			if r.Allow.Any || slices.ContainsFunc(r.Allow.ServiceAccounts, running) || len(r.Also) > 0 {
				t.Errorf("%s: port %d: %s may be asked by %v", p.Class, port.Port, r.Name, r.Allow)
			}
		}
		for _, in := range port.Ingress {
			if in.TLS == nil && len(in.Sources) > 0 || in.TLS != nil && (in.TLS.AnyName || len(in.TLS.Names) > 0) {
				t.Errorf("%s: port %d: gateways are let in: %+v", p.Class, port.Port, in)
			}
		}
	}
	for _, e := range p.Egress {
		for _, way := range e.Ways {
			led := slices.ContainsFunc(way.Hosts, func(h ir.EgressHost) bool { return len(h.Routes) > 0 })
			if led || len(way.ServerNames) > 0 {
				t.Errorf("%s: port %d leads out: %+v", p.Class, e.Port, way)
			}
		}
	}
}

// TestMuchInput has objects that are as large as the API server stores: they may be
// followed, and hold up nothing.
func TestMuchInput(t *testing.T) {
	t.Parallel()
	many := func(n int, each func(int) string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = each(i)
		}
		return strings.Join(all, ", ")
	}
	const good = "---\nkind: TrafficTarget\nmetadata: {name: good, namespace: shop}\nspec: {destination: {kind: ServiceAccount, name: next, namespace: shop}, sources: [{kind: ServiceAccount, name: buyer, namespace: shop}], rules: [{kind: HTTPRouteGroup, name: good}]}\n" +
		"---\nkind: HTTPRouteGroup\nmetadata: {name: good, namespace: shop}\nspec: {matches: [{name: a, pathRegex: /good}]}\n"
	for name, objects := range map[string]string{
		"a thousand matches": badTarget + fmt.Sprintf(badGroup, many(1000, func(i int) string { return fmt.Sprintf("{name: m%d, pathRegex: '/a/%d/.*', methods: [GET]}", i, i) })),
		"1 MiB of matches":   badTarget + fmt.Sprintf(badGroup, many(3000, func(i int) string { return fmt.Sprintf("{name: m%d, pathRegex: '/a.*/%0300d'}", i, i) })),
		"1 MiB of sources": strings.Replace(badTarget, "[{kind: ServiceAccount, name: buyer, namespace: shop}]",
			"["+many(4000, func(i int) string { return fmt.Sprintf("{kind: ServiceAccount, name: s%0220d, namespace: shop}", i) })+"]", 1) + fmt.Sprintf(badGroup, "{name: a}"),
		"a thousand matches for ten thousand sources": strings.Replace(badTarget, "[{kind: ServiceAccount, name: buyer, namespace: shop}]",
			"["+many(10000, func(i int) string { return fmt.Sprintf("{kind: ServiceAccount, name: s%d, namespace: shop}", i) })+"]", 1) +
			fmt.Sprintf(badGroup, many(1000, func(i int) string { return fmt.Sprintf("{name: m%d, pathRegex: '/a/%d/.*'}", i, i) })),
		"1 MiB of ports":   strings.Replace(badTarget, "HTTPRouteGroup", "TCPRoute", 1) + fmt.Sprintf(badRoute, "["+many(100000, func(i int) string { return fmt.Sprint(i) })+"]"),
		"1 MiB of weights": fmt.Sprintf(badSplit, many(10000, func(int) string { return "{service: next, weight: 2147483647}" })),
		"1 MiB of hosts":   fmt.Sprintf(badEgress, "hosts: ["+many(30000, func(i int) string { return fmt.Sprintf("h%d.example.com", i) })+"], ports: [{number: 80, protocol: http}]"),
		"1 MiB of paths": fmt.Sprintf(badSetting, storeHost+"httpRoutes: ["+many(10000, func(i int) string {
			return fmt.Sprintf("{path: '/%d', rateLimit: {local: {requests: 1, unit: hour}}}", i)
		})+"]"),
		"1 MiB of ranges": fmt.Sprintf(badIngress, "backends: [{name: store, port: {number: 80, protocol: http}}], sources: ["+many(25000, func(i int) string { return fmt.Sprintf("{kind: IPRange, name: 10.%d.%d.0/24}", i/256, i%256) })+"]"),
		"1 MiB of header": badTarget + fmt.Sprintf(badGroup, "{name: a, headers: [{x-a: '"+strings.Repeat("b", 1<<20)+"'}]}"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts, err := meshtest.Read([]byte(badMesh + good + objects))
			if err != nil {
				t.Fatal(err)
			}
			c, proxies := sent(t, facts)
			if len(c.Report()) == 0 {
				t.Error("nothing is told of it")
			}
			for _, p := range proxies {
				if p.Identity.ServiceAccount.Name != "next" {
					continue
				}
				if r := p.Inbound[0].Routes; len(r) != 1 || r[0].Match.Path.Value != "/good" || r[0].Allow.Nobody() {
					t.Errorf("what others may do is %+v", r)
				}
			}
			for _, r := range c.Report() {
				if n := len(r.Accepted.Message) + len(r.Resolved.Message); n > 8<<10 {
					t.Errorf("%d bytes are told of %s %s", n, r.Kind, r.Key)
				}
			}
		})
	}
}
