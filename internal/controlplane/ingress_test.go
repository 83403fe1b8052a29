package controlplane_test

import (
	"strings"
	"testing"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// TestIngressFollowsItsGateways has endpoints of a gateway come and go, which concern
// those that it calls and nobody else.
func TestIngressFollowsItsGateways(t *testing.T) {
	ctx, w := t.Context(), newWorld(t.Context(), pki.New(t).RootsPEM())
	w.apply(ctx, joined(), service("web", 1), service("gate", 2), pod("web-1", "web", "web", 1), pod("buyer", "buyer", "buyer", 9),
		mesh.PolicyFact[policyv1alpha1.IngressBackendSpec]{Key: key("in"), Object: &mesh.Object[policyv1alpha1.IngressBackendSpec]{
			Key: key("in"), UID: "in", Generation: 1, Spec: policyv1alpha1.IngressBackendSpec{
				Backends: []policyv1alpha1.BackendSpec{{Name: "web", Port: policyv1alpha1.PortSpec{Number: 8080, Protocol: "http"}}},
				Sources:  []policyv1alpha1.IngressSourceSpec{{Kind: "Service", Namespace: "shop", Name: "gate"}},
			},
		}})
	for _, step := range []struct {
		name    string
		pods    map[string]byte
		touches bool
	}{
		{"the first endpoint of the gateway", map[string]byte{"gate-1": 20}, true},
		{"one more", map[string]byte{"gate-1": 20, "gate-2": 21}, true},
		{"the same again", map[string]byte{"gate-1": 20, "gate-2": 21}, false},
		{"none", nil, true},
	} {
		touched := false
		for _, sent := range w.apply(ctx, slice("gate", step.pods)) {
			touched = touched || strings.HasPrefix(sent, "class shop/web/")
			if strings.HasPrefix(sent, "class shop/buyer/") {
				t.Errorf("%s: the proxy of somebody else is sent something", step.name)
			}
		}
		if touched != step.touches {
			t.Errorf("%s: the proxy that the gateway calls is sent something: %t", step.name, touched)
		}
	}
}
