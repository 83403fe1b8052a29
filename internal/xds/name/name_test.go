package name_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// TestNames holds names that dashboards, saved queries and the command line know.
func TestNames(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"shop/cart|8080":                 name.Cluster("shop", "cart", 8080),
		"shop/cart|8080|local":           name.LocalCluster("shop", "cart", 8080),
		"shop/cart|8080|81":              name.SecondCluster("shop", "cart", 8080, 81),
		"outbound/shop/cart/80":          name.Outbound("shop", "cart", 80),
		"outbound-headless/80":           name.Headless(80),
		"headless|80":                    name.HeadlessCluster(80),
		"rds-inbound.8080":               name.InboundRoute(8080),
		"shop/cart|80":                   name.Endpoints("shop", "cart", 80, "", false, "", ""),
		"shop/cart|80|sa=a/b|meshed":     name.Endpoints("shop", "cart", 80, "a/b", true, "", ""),
		"shop/cart|80|zone=eu-1|node=n1": name.Endpoints("shop", "cart", 80, "", false, "eu-1", "n1"),
		"inbound-listener":               name.InboundListener,
		"outbound-listener":              name.OutboundListener,
		"inbound-prometheus-listener":    name.PrometheusListener,
		"passthrough-outbound":           name.PassthroughCluster,
		"envoy-metrics-cluster":          name.MetricsCluster,
		"osm-controller":                 name.ControlPlaneCluster,
		"envoy-tracing-cluster":          name.TracingCluster,
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestEndpointsAreToldApart holds for whatever Kubernetes takes as names.
func TestEndpointsAreToldApart(t *testing.T) {
	t.Parallel()
	type set struct {
		namespace, service string
		port               uint16
		accounts           string
		meshed             bool
		zone, node         string
	}
	label := rapid.StringMatching(`[a-z]([a-z0-9-]{0,3}[a-z0-9])?`)
	draw := rapid.Custom(func(rt *rapid.T) set {
		optional := func(of *rapid.Generator[string], what string) string {
			return rapid.OneOf(rapid.Just(""), of).Draw(rt, what)
		}
		return set{
			label.Draw(rt, "namespace"), label.Draw(rt, "service"), rapid.Uint16Range(1, 3).Draw(rt, "port"),
			optional(rapid.StringMatching(`[a-b]/[a-b](,[a-b]/[a-b])?`), "accounts"), rapid.Bool().Draw(rt, "meshed"),
			optional(label, "zone"), optional(label, "node"),
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		a, b := draw.Draw(rt, "a"), draw.Draw(rt, "b")
		of := func(s set) string {
			return name.Endpoints(s.namespace, s.service, s.port, s.accounts, s.meshed, s.zone, s.node)
		}
		if (a == b) != (of(a) == of(b)) {
			rt.Errorf("%v is %q, %v is %q", a, of(a), b, of(b))
		}
	})
}
