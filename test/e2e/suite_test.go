// Package e2e runs a mesh on a real cluster: real pods, real redirection, real Envoys
// and counted requests. It needs OSM_E2E=1 and a KUBECONFIG; make test-e2e sets both.
//
// One mesh serves all tests. Each test has namespaces of its own; those that change
// the whole mesh, such as the switch between permissive and enforced, run by
// themselves and put back what they changed.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/cmd"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

const (
	meshName      = "osm"
	meshNamespace = "osm-system"
)

// shared is the cluster that all tests use; it is read-only after TestMain.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	if os.Getenv("OSM_E2E") == "" {
		fmt.Println("skipping: OSM_E2E is not set")
		os.Exit(0)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	err := setUp(ctx)
	cancel()
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "setting up:", err)
	} else {
		code = m.Run()
	}
	if code != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		tellState(ctx)
		cancel()
	}
	if os.Getenv("OSM_E2E_KEEP") == "" {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
		if err := tearDown(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "tearing down:", err)
			code = max(code, 1)
		}
		cancel()
	}
	os.Exit(code)
}

// setUp installs the mesh as an administrator does.
func setUp(ctx context.Context) error {
	var err error
	if shared, err = cluster.New(); err != nil {
		return err
	}
	var m operatorv1alpha1.Mesh
	if err := shared.Get(ctx, client.ObjectKey{Name: meshName}, &m); err == nil {
		return nil
	}
	_, err = osm("install", "--timeout", "6m")
	return err
}

// tearDown takes all away, and with it tests that deletion always finishes.
func tearDown(ctx context.Context) error {
	if err := deleteTestNamespaces(ctx); err != nil {
		return err
	}
	_, err := osm("uninstall", "mesh", "-f", "-a")
	return err
}

// osm runs the CLI and returns what it printed.
func osm(args ...string) (string, error) {
	var out, errOut bytes.Buffer
	code := cmd.Execute(args, cmd.Streams{In: strings.NewReader(""), Out: &out, Err: &errOut})
	if code != 0 {
		return out.String(), fmt.Errorf("osm %s: exit code %d: %s%s", strings.Join(args, " "), code, out.String(), errOut.String())
	}
	return out.String(), nil
}

// deadline bounds a test.
func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// must ends the test if something that it needs went wrong.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// permissive switches the mesh's mode through its MeshConfig, as users do.
func permissive(ctx context.Context, t *testing.T, on bool) {
	t.Helper()
	must(t, patchMeshConfig(ctx, func(spec *configv1alpha2.MeshConfigSpec) {
		if spec.Traffic == nil {
			spec.Traffic = &configv1alpha2.TrafficSpec{}
		}
		spec.Traffic.EnablePermissiveTrafficPolicyMode = &on
	}))
}

func patchMeshConfig(ctx context.Context, change func(*configv1alpha2.MeshConfigSpec)) error {
	var config configv1alpha2.MeshConfig
	key := client.ObjectKey{Namespace: meshNamespace, Name: operatorv1alpha1.MeshConfigName}
	if err := shared.Get(ctx, key, &config); err != nil {
		return fmt.Errorf("reading the MeshConfig: %w", err)
	}
	before := config.DeepCopy()
	change(&config.Spec)
	return shared.Patch(ctx, &config, client.MergeFrom(before))
}
