package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
	"github.com/openservicemesh/osm-operator/internal/testkit/walkthrough"
)

// TestTutorial is the reader of the tutorial: it runs each command, and sees what the
// page says that is to be seen.
func TestTutorial(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	root, err := filepath.Abs("../..")
	must(t, err)
	document, err := os.ReadFile(filepath.Join(root, "docs", "tutorial.md"))
	must(t, err)
	steps, err := walkthrough.Read(string(document))
	must(t, err)
	if len(steps) < 20 {
		t.Fatalf("the tutorial has only %d steps", len(steps))
	}
	keepMeshConfig(ctx, t)
	for _, name := range []string{"bookbuyer", "bookthief", "bookstore", "bookwarehouse", "outside", "gateway"} {
		deleteAfter(t, name)
	}
	path := "PATH=" + built(ctx, t, root) + string(os.PathListSeparator) + os.Getenv("PATH")
	for _, step := range steps {
		must(t, follow(ctx, step, root, path))
	}
}

// follow runs a step, again for up to a minute until it prints what the page says: what
// was applied before is at work soon, not at once.
func follow(ctx context.Context, step walkthrough.Step, root, path string) error {
	if !step.Told {
		return step.Run(ctx, root, path)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return cluster.Until(ctx, step.Heading, func(ctx context.Context) (bool, error) {
		err := step.Run(ctx, root, path)
		return err == nil, err
	})
}

// built returns a folder with the osm command.
func built(ctx context.Context, t *testing.T, root string) string {
	t.Helper()
	bin := t.TempDir()
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(bin, "osm"), ".")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building osm: %v: %s", err, out)
	}
	return bin
}

// keepMeshConfig puts the MeshConfig back as it is, once the test is done.
func keepMeshConfig(ctx context.Context, t *testing.T) {
	t.Helper()
	var before configv1alpha2.MeshConfig
	must(t, shared.Get(ctx, client.ObjectKey{Namespace: meshNamespace, Name: operatorv1alpha1.MeshConfigName}, &before))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's own is done by now
		defer cancel()
		if err := patchMeshConfig(ctx, func(spec *configv1alpha2.MeshConfigSpec) { *spec = before.Spec }); err != nil {
			t.Errorf("putting the MeshConfig back: %v", err)
		}
	})
}
