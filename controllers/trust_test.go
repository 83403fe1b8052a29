package controllers_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/controllers/trust"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/release"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// TestIssuersFit holds what signs for workloads to its root, and to how long the MeshConfig
// wants certificates to be good.
func TestIssuersFit(t *testing.T) {
	ctx, c := start(t)
	if err := c.Create(ctx, newMesh("osm", nil)); err != nil {
		t.Fatal(err)
	}
	var secret corev1.Secret
	key := client.ObjectKey{Namespace: "osm-system", Name: render.IssuerSecret(release.RevisionName(release.Current))}
	lifetime := func() (time.Duration, error) {
		if err := c.Get(ctx, key, &secret); err != nil {
			return 0, err
		}
		chain, err := ca.ParseChain(secret.Data[corev1.TLSCertKey])
		if err != nil {
			return 0, err
		}
		return chain.Leaf().NotAfter.Sub(chain.Leaf().NotBefore).Truncate(time.Hour), nil
	}
	is := func(want time.Duration) func() error {
		return func() error {
			got, err := lifetime()
			if err == nil && got != want {
				err = fmt.Errorf("the issuer is good for %s, want %s", got, want)
			}
			return err
		}
	}
	set := func(duration string) {
		t.Helper()
		var config configv1alpha2.MeshConfig
		eventually(ctx, t, "the MeshConfig is written", func() error {
			if err := c.Get(ctx, client.ObjectKey{Namespace: "osm-system", Name: operatorv1alpha1.MeshConfigName}, &config); err != nil {
				return err
			}
			config.Spec.Certificate = &configv1alpha2.CertificateSpec{ServiceCertValidityDuration: duration}
			return c.Update(ctx, &config)
		})
	}
	eventually(ctx, t, "an issuer for leaves of two days", is(30*24*time.Hour))
	set("1440h")
	eventually(ctx, t, "an issuer for leaves of sixty days", is(180*24*time.Hour))

	set("1h")
	foreign := pki.New(t).Intermediate
	secret.Data = map[string][]byte{corev1.TLSCertKey: foreign.ChainPEM(), corev1.TLSPrivateKeyKey: foreign.KeyPEM(t)}
	if err := c.Update(ctx, &secret); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "an issuer of another root is replaced", func() error {
		if err := c.Get(ctx, key, &secret); err != nil {
			return err
		}
		if bytes.Equal(secret.Data[corev1.TLSCertKey], foreign.ChainPEM()) {
			return errors.New("it is still there")
		}
		return nil
	})
	if got, err := lifetime(); err != nil || got != 30*24*time.Hour {
		t.Errorf("what took its place is good for %s, %v", got, err)
	}
}

// TestCertificatesTellWhenTheyEnd reads the metrics of a Mesh's certificates while it is
// there, and when it has gone.
func TestCertificatesTellWhenTheyEnd(t *testing.T) {
	ctx, c, config := serve(t)
	expiry, registry := &trust.Expiry{}, prometheus.NewPedanticRegistry()
	if err := registry.Register(expiry); err != nil {
		t.Fatal(err)
	}
	runCounted(ctx, t, config, c.Scheme(), noReports{}, expiry, prometheus.NewRegistry())
	told := func(want map[string]int) func() error {
		return func() error {
			families, err := registry.Gather()
			if err != nil {
				return err
			}
			days := map[string]int{}
			for _, family := range families {
				for _, m := range family.GetMetric() {
					name := ""
					for _, label := range m.GetLabel() {
						name += label.GetValue() + " "
					}
					left := time.Until(time.Unix(int64(m.GetGauge().GetValue()), 0))
					days[name] = int((left + time.Hour) / (24 * time.Hour))
				}
			}
			if diff := cmp.Diff(want, days); diff != "" {
				return errors.New(diff)
			}
			return nil
		}
	}
	mesh := newMesh("osm", nil)
	if err := c.Create(ctx, mesh); err != nil {
		t.Fatal(err)
	}
	revision := release.RevisionName(release.Current)
	eventually(ctx, t, "each tells its end, in days", told(map[string]int{"root osm  ": 3650, "issuer osm " + revision + " ": 30, "serving osm " + revision + " ": 30}))
	if err := c.Delete(ctx, mesh); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "nothing is told of a Mesh that has gone", told(map[string]int{}))
}
