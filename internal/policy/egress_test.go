package policy_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/policy"
)

// TestNothingOutsideIsCalledThatNoEgressNames reads each way out back, and looks for an
// object that names its source, port, protocol, host and range.
func TestNothingOutsideIsCalledThatNoEgressNames(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := maker{rt: rt, hostile: rapid.Bool().Draw(rt, "hostile")}.facts().Model()
		c := policy.New(m, bundle(), nil)
		for _, class := range m.Classes {
			for _, e := range c.Proxy(class).Egress {
				for _, way := range e.Ways {
					checkWay(rt, m, class.ServiceAccount, e.Port, way)
				}
			}
		}
	})
}

func checkWay(rt *rapid.T, m *mesh.Model, source identity.ServiceAccount, port uint16, way ir.EgressWay) {
	names := slices.Clone(way.ServerNames)
	for _, h := range way.Hosts {
		names = append(names, h.Host)
	}
	if len(names) == 0 {
		names = []string{""}
	}
	within := way.Ranges
	if len(within) == 0 {
		within = []netip.Prefix{{}}
	}
	for _, n := range names {
		for _, r := range within {
			named := false
			for _, o := range m.Policies.Egresses {
				named = named || namesPlace(o.Spec, source, port, way.Kind, n, r)
			}
			if !named {
				rt.Errorf("no Egress lets %s call port %d of %q in %s by %s", source, port, n, r, way.Kind)
			}
		}
	}
}

// namesPlace reads an Egress as it is written.
func namesPlace(spec policyv1alpha1.EgressSpec, source identity.ServiceAccount, port uint16, kind ir.EgressKind, name string, within netip.Prefix) bool {
	protocols := map[ir.EgressKind][]string{ir.EgressHTTP: {"http"}, ir.EgressTLS: {"https"}, ir.EgressBytes: {"tcp", "tcp-server-first"}}
	is := slices.Contains(spec.Sources, policyv1alpha1.EgressSource{Kind: "ServiceAccount", Namespace: source.Namespace, Name: source.Name})
	speaks := slices.ContainsFunc(spec.Ports, func(p policyv1alpha1.PortSpec) bool {
		return p.Number == int(port) && slices.Contains(protocols[kind], strings.ToLower(p.Protocol))
	})
	lists := kind == ir.EgressBytes || slices.ContainsFunc(spec.Hosts, func(h string) bool {
		h = strings.TrimSuffix(strings.ToLower(h), ".")
		return h == name || kind == ir.EgressTLS && h == "*" && name == ""
	}) || kind == ir.EgressTLS && len(spec.Hosts) == 0 && name == ""
	holds := !within.IsValid() && len(spec.IPAddresses) == 0 || slices.ContainsFunc(spec.IPAddresses, func(r string) bool {
		p, err := netip.ParsePrefix(r)
		return err == nil && p.Masked() == within
	})
	return is && speaks && lists && holds
}

// TestWaysHaveNothingInCommon holds or Envoy refuses a listener.
func TestWaysHaveNothingInCommon(t *testing.T) {
	t.Parallel()
	type chain struct {
		kind   ir.EgressKind
		within netip.Prefix
		name   string
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := maker{rt: rt}.facts().Model()
		c := policy.New(m, bundle(), nil)
		for _, class := range m.Classes {
			for _, e := range c.Proxy(class).Egress {
				seen := map[chain]bool{}
				for _, way := range e.Ways {
					within, names := way.Ranges, way.ServerNames
					if len(within) == 0 {
						within = []netip.Prefix{{}}
					}
					if len(names) == 0 {
						names = []string{""}
					}
					for _, r := range within {
						for _, n := range names {
							if seen[chain{way.Kind, r, n}] {
								rt.Errorf("port %d has two ways for %q in %s", e.Port, n, r)
							}
							seen[chain{way.Kind, r, n}] = true
						}
					}
				}
			}
		}
	})
}

// TestAnEgressTouchesItsSourcesOnly changes all Egresses, and looks whose proxies change.
func TestAnEgressTouchesItsSourcesOnly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		f := maker{rt: rt}.facts()
		before := f.Model()
		first := policy.New(before, bundle(), nil)
		proxies := map[string]*ir.Proxy{}
		for id, class := range before.Classes {
			proxies[id] = first.Proxy(class)
		}
		next := *f
		next.Policies.Egresses = maker{rt: rt}.facts().Policies.Egresses
		after := next.Model()
		second := policy.New(after, bundle(), first)
		for id, class := range after.Classes {
			if second.Proxy(class) != proxies[id] && !named(class.ServiceAccount, f.Policies.Egresses, next.Policies.Egresses) {
				rt.Errorf("the proxies of %s change", class.ServiceAccount)
			}
		}
	})
}

func named(account identity.ServiceAccount, all ...map[mesh.Key]*mesh.Object[policyv1alpha1.EgressSpec]) bool {
	for _, objects := range all {
		for _, o := range objects {
			for _, s := range o.Spec.Sources {
				if s.Namespace == account.Namespace && s.Name == account.Name {
					return true
				}
			}
		}
	}
	return false
}
