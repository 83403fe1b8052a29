package apiserver_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/openservicemesh/osm-operator/internal/testkit/apiserver"
)

// TestSamples has a real API server, with KUBEBUILDER_ASSETS set, take every example of
// config/samples, with nothing in it that the server does not know.
func TestSamples(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c, err := client.New(apiserver.Start(t), client.Options{FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../../config/samples/*_*.yaml")
	if err != nil || len(files) < 12 {
		t.Fatalf("found %d samples: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var object unstructured.Unstructured
			if err := yaml.UnmarshalStrict(data, &object.Object); err != nil {
				t.Fatal(err)
			}
			if ns := object.GetNamespace(); ns != "" {
				err := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
				if err != nil && !apierrors.IsAlreadyExists(err) {
					t.Fatal(err)
				}
			}
			applied := client.ApplyConfigurationFromUnstructured(&object)
			if err := c.Apply(ctx, applied, client.FieldOwner("samples"), client.ForceOwnership); err != nil {
				t.Error(err)
			}
		})
	}
}
