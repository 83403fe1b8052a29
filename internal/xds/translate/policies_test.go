package translate_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh/meshtest"
	"github.com/openservicemesh/osm-operator/internal/policy"
)

// TestEnvoyAcceptsWhatPoliciesBecome loads what the golden files of policies are compiled
// into, for each class of proxies, with a server of external authorization and without.
func TestEnvoyAcceptsWhatPoliciesBecome(t *testing.T) {
	t.Parallel()
	envoy := realEnvoy(t)
	models, err := filepath.Glob(filepath.Join("..", "..", "policy", "testdata", "*", "model.yaml"))
	if err != nil || len(models) == 0 {
		t.Fatalf("there are no golden files of policies: %v", err)
	}
	for _, path := range models {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		facts, err := meshtest.Read(data)
		if err != nil {
			t.Fatal(err)
		}
		m := facts.Model()
		c := policy.New(m, []byte(roots), nil)
		for id, class := range m.Classes {
			p := *c.Proxy(class)
			shared := *p.Shared
			shared.TLS = sharedSettings().TLS
			if p.Metrics = len(p.Egress) == 0; p.Metrics {
				shared.ExternalAuthorization = &ir.ExternalAuthorization{Address: "opa.example", Port: 9191}
			}
			p.Shared = &shared
			t.Run(filepath.Base(filepath.Dir(path))+"/"+strings.ReplaceAll(id, "/", "."), func(t *testing.T) {
				t.Parallel()
				validate(t, envoy, &p)
			})
		}
	}
}
