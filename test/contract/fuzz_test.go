package contract

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/mesh/meshtest"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/xds/translate"
)

// FuzzManifests reads policy objects as users write them, accepted or not, and makes of
// them what proxies are sent: it never fails, and Envoy's API takes all of it.
func FuzzManifests(f *testing.F) {
	models, err := filepath.Glob("../../internal/policy/testdata/*/model.yaml")
	if err != nil || len(models) == 0 {
		f.Fatalf("there are no models to begin with: %v", err)
	}
	for _, m := range models {
		data, err := os.ReadFile(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		read, err := meshtest.Read(data)
		if err != nil || !named(&read.Policies) {
			return
		}
		for _, permissive := range []bool{false, true} {
			facts := small()
			facts.Permissive, facts.Policies = permissive, read.Policies
			model := facts.Model()
			compiler, translator := policy.New(model, []byte("roots"), nil), translate.New()
			compiler.Report()
			for _, class := range model.Classes {
				if _, err := proxyOf(model, compiler, translator, class); err != nil {
					t.Errorf("%s: %v", class.ID, err)
				}
			}
		}
	})
}

// named reports whether objects have names that the API server takes.
func named(p *mesh.Policies) bool {
	return namedAll(p.TrafficTargets) && namedAll(p.HTTPRouteGroups) && namedAll(p.TCPRoutes) && namedAll(p.TrafficSplits) &&
		namedAll(p.Egresses) && namedAll(p.IngressBackends) && namedAll(p.Retries) && namedAll(p.UpstreamTrafficSettings)
}

func namedAll[S any](all map[mesh.Key]*mesh.Object[S]) bool {
	for k := range all {
		if len(validation.IsDNS1123Label(k.Namespace)) > 0 || len(validation.IsDNS1123Subdomain(k.Name)) > 0 {
			return false
		}
	}
	return true
}

// small is a mesh with a Service of every kind, by names that the models have.
func small() *meshtest.Facts {
	f := &meshtest.Facts{}
	for _, n := range []string{"bookstore", "bookbuyer", "store", "buyer"} {
		for _, namespace := range []string{"shop", n} {
			labels := map[string]string{"app": n}
			f.Services = append(f.Services,
				meshtest.Service{Name: namespace + "/" + n, Selector: labels, Ports: []meshtest.Port{{Number: 80, Target: 8080}, {Name: "tcp-db", Number: 5432, Protocol: mesh.TCP}}},
				meshtest.Service{Name: namespace + "/" + n + "-headless", Headless: true, Selector: labels, Ports: []meshtest.Port{{Number: 80, Target: 8080}}},
			)
			f.Pods = append(f.Pods, meshtest.Pod{Name: namespace + "/" + n, Account: n, Labels: labels})
		}
	}
	return f
}
