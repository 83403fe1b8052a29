package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/config"
)

// fieldOwner is whom the CLI writes as.
const fieldOwner = "osm-cli"

// placeholder is the image in config/manager that stands for the release's.
const placeholder = "controller:latest"

// manifests returns the objects that install the operator with an image: CRDs
// first, then the namespace, then all else in the order of the files.
func manifests(image string) (crds, rest []*unstructured.Unstructured, err error) {
	var namespaces, others []*unstructured.Unstructured
	for _, dir := range []string{"crd/bases", "manager", "rbac", "webhook"} {
		entries, err := fs.ReadDir(config.Manifests, dir)
		if err != nil {
			return nil, nil, fmt.Errorf("reading the built-in manifests: %w", err)
		}
		for _, entry := range entries {
			if entry.Name() == "kustomization.yaml" {
				continue
			}
			objects, err := decodeFile(path.Join(dir, entry.Name()), image)
			if err != nil {
				return nil, nil, err
			}
			for _, o := range objects {
				switch o.GetKind() {
				case "CustomResourceDefinition":
					crds = append(crds, o)
				case "Namespace":
					namespaces = append(namespaces, o)
				default:
					others = append(others, o)
				}
			}
		}
	}
	return crds, append(namespaces, others...), nil
}

func decodeFile(name, image string) ([]*unstructured.Unstructured, error) {
	raw, err := config.Manifests.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading the built-in manifest %s: %w", name, err)
	}
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(string(bytes.ReplaceAll(raw, []byte(placeholder), []byte(image)))), 4096)
	var out []*unstructured.Unstructured
	for {
		o := &unstructured.Unstructured{}
		if err := decoder.Decode(&o.Object); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("decoding the built-in manifest %s: %w", name, err)
		}
		if len(o.Object) > 0 {
			out = append(out, o)
		}
	}
}

// applyAll writes objects by server-side apply.
func applyAll(ctx context.Context, cluster client.Client, objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		err := cluster.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(fieldOwner), client.ForceOwnership)
		if err != nil {
			return fmt.Errorf("installing %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// waitForCRDs returns when the API server serves the kinds.
func waitForCRDs(ctx context.Context, cluster client.Client, crds []*unstructured.Unstructured) error {
	for _, o := range crds {
		err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			var crd apiextensionsv1.CustomResourceDefinition
			if err := cluster.Get(ctx, client.ObjectKey{Name: o.GetName()}, &crd); err != nil {
				return false, client.IgnoreNotFound(err)
			}
			for _, c := range crd.Status.Conditions {
				if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
					return true, nil
				}
			}
			return false, nil
		})
		if err != nil {
			return fmt.Errorf("waiting for the API server to serve %s: %w", o.GetName(), err)
		}
	}
	return nil
}

// deleteAll deletes objects, and returns when they are gone.
func deleteAll(ctx context.Context, cluster client.Client, objects []*unstructured.Unstructured) error {
	gone := func(err error) bool { return apierrors.IsNotFound(err) || meta.IsNoMatchError(err) }
	for _, o := range objects {
		if err := cluster.Delete(ctx, o, client.PropagationPolicy("Background")); err != nil && !gone(err) {
			return fmt.Errorf("deleting %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	for _, o := range objects {
		err := wait.PollUntilContextCancel(ctx, 300*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			live := &unstructured.Unstructured{}
			live.SetGroupVersionKind(o.GroupVersionKind())
			err := cluster.Get(ctx, client.ObjectKeyFromObject(o), live)
			if gone(err) {
				return true, nil
			}
			return false, err
		})
		if err != nil {
			return fmt.Errorf("waiting for %s %s to go: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}
