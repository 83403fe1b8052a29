package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// uninstallOptions are the flags of "uninstall mesh".
type uninstallOptions struct {
	mesh                     string
	force, wide, deleteSpace bool
	timeout                  time.Duration
}

func newUninstall(env *Env) *cobra.Command {
	c := &cobra.Command{Use: "uninstall", Aliases: []string{"delete", "del"}, Short: "Take a mesh away", Args: cobra.NoArgs}
	c.AddCommand(newUninstallMesh(env))
	return c
}

func newUninstallMesh(env *Env) *cobra.Command {
	var o uninstallOptions
	c := &cobra.Command{
		Use: "mesh", Short: "Delete a mesh, and with -a the operator and the CRDs",
		Long: `Delete a mesh. The deletion is held while pods with its sidecar exist: take their
namespaces out of the mesh with "osm namespace remove", and restart them.`,
		Args: cobra.NoArgs,
	}
	flags := c.Flags()
	flags.StringVar(&o.mesh, "mesh-name", defaultMesh, "name of the mesh")
	flags.BoolVarP(&o.force, "force", "f", false, "do not ask")
	flags.BoolVarP(&o.wide, "delete-cluster-wide-resources", "a", false, "delete the operator and the CRDs too, and with them all policies")
	flags.BoolVar(&o.deleteSpace, "delete-namespace", false, "delete the mesh's namespace even if it was there before the mesh")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long to wait until all is gone")
	flags.String("ca-bundle-secret-name", "", "not used any more: the root of trust goes with the mesh")
	flags.Uint16P("local-port", "p", 9091, "not used any more")
	c.RunE = func(cmd *cobra.Command, _ []string) error { return env.uninstall(cmd.Context(), o) }
	return c
}

func (e *Env) uninstall(ctx context.Context, o uninstallOptions) error {
	cluster, err := e.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	m, found, err := findMesh(ctx, cluster, o.mesh)
	if err != nil {
		return err
	}
	if !found && !o.wide {
		return fmt.Errorf("mesh [%s] does not exist", o.mesh)
	}
	if !o.force && !e.confirm(fmt.Sprintf("Uninstall OSM [mesh name: %s]?", o.mesh)) {
		return errors.New("nothing was uninstalled")
	}
	if found {
		if err := e.deleteMesh(ctx, cluster, m); err != nil {
			return err
		}
		e.printf("OSM [mesh name: %s] in namespace [%s] uninstalled\n", m.Name, m.Spec.Namespace)
	}
	if o.deleteSpace {
		if err := e.deleteNamespace(ctx, cluster, e.meshNamespace(m)); err != nil {
			return err
		}
	}
	if o.wide {
		return e.deleteWide(ctx, cluster)
	}
	return nil
}

// findMesh reads a Mesh; a cluster that does not know the kind has none.
func findMesh(ctx context.Context, cluster client.Client, name string) (m *operatorv1alpha1.Mesh, found bool, err error) {
	m = &operatorv1alpha1.Mesh{}
	err = cluster.Get(ctx, client.ObjectKey{Name: name}, m)
	switch {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return m, false, nil
	case err != nil:
		return m, false, fmt.Errorf("reading mesh [%s]: %w", name, err)
	}
	return m, true, nil
}

func (e *Env) meshNamespace(m *operatorv1alpha1.Mesh) string {
	if m.Spec.Namespace != "" {
		return m.Spec.Namespace
	}
	return e.Namespace
}

// deleteMesh deletes a Mesh and returns when it and its namespace's contents are
// gone, telling what it waits for.
func (e *Env) deleteMesh(ctx context.Context, cluster client.Client, m *operatorv1alpha1.Mesh) error {
	if err := cluster.Delete(ctx, m); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting mesh [%s]: %w", m.Name, err)
	}
	last := ""
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		var live operatorv1alpha1.Mesh
		err := cluster.Get(ctx, client.ObjectKeyFromObject(m), &live)
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if c := meta.FindStatusCondition(live.Status.Conditions, operatorv1alpha1.ConditionDegraded); c != nil && c.Message != last &&
			c.Reason == operatorv1alpha1.ReasonWaitingForWorkloads {
			last = c.Message
			e.progress(last + ": " + strings.Join(live.Status.Deletion.Pods, ", "))
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for mesh [%s] to go: %w", m.Name, err)
	}
	// The namespace is the mesh's own if it has it as owner; then the garbage
	// collector takes it.
	return wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		var ns corev1.Namespace
		err := cluster.Get(ctx, client.ObjectKey{Name: e.meshNamespace(m)}, &ns)
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return err == nil && !metav1.IsControlledBy(&ns, m), err
	})
}

func (e *Env) deleteNamespace(ctx context.Context, cluster client.Client, name string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	err := cluster.Delete(ctx, ns)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting namespace [%s]: %w", name, err)
	}
	e.printf("OSM namespace [%s] deleted successfully\n", name)
	return nil
}

// deleteWide deletes the operator, then the CRDs.
func (e *Env) deleteWide(ctx context.Context, cluster client.Client) error {
	meshes, err := listMeshes(ctx, cluster)
	if err != nil {
		return err
	}
	if len(meshes) > 0 {
		return fmt.Errorf("mesh [%s] still needs the operator: uninstall it first", meshes[0].Name)
	}
	crds, objects, err := manifests(placeholder)
	if err != nil {
		return err
	}
	if err := deleteAll(ctx, cluster, objects); err != nil {
		return err
	}
	e.printf("The operator was deleted\n")
	if err := deleteAll(ctx, cluster, crds); err != nil {
		return err
	}
	for _, crd := range crds {
		e.printf("CRD [%s] deleted successfully\n", crd.GetName())
	}
	return nil
}

// confirm asks a question, three times at most.
func (e *Env) confirm(question string) bool {
	in := bufio.NewScanner(e.In)
	for range 3 {
		fmt.Fprintf(e.Err, "%s [y/n]: ", question)
		if !in.Scan() {
			return false
		}
		switch strings.ToLower(strings.TrimSpace(in.Text())) {
		case "y", "yes":
			return true
		case "n", "no":
			return false
		}
	}
	return false
}
