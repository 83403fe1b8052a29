package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/release"
)

// installOptions are the flags of "install".
type installOptions struct {
	mesh, chartPath string
	singleMesh      bool
	timeout         time.Duration
	set             []string
	atomic          bool
}

func newInstall(env *Env) *cobra.Command {
	var o installOptions
	c := &cobra.Command{
		Use: "install", Short: "Install the operator and a mesh",
		Long: `Install the operator and a mesh.

The operator's manifests and one Mesh object are written, and the command returns
when the mesh is ready. Values that were Helm's are given with --set, such as
--set osm.enablePermissiveTrafficPolicy=false; they become fields of the Mesh.`,
		Args: cobra.NoArgs,
	}
	flags := c.Flags()
	flags.StringVar(&o.mesh, "mesh-name", defaultMesh, "name of the mesh")
	flags.StringVar(&o.chartPath, "osm-chart-path", "", "not used any more: there is no chart")
	flags.BoolVar(&o.singleMesh, "enforce-single-mesh", true, "refuse if the cluster has a mesh already")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long to wait until the mesh is ready")
	flags.StringArrayVar(&o.set, "set", nil, "a value, as key=value; can be repeated")
	flags.BoolVar(&o.atomic, "atomic", false, "take the mesh away again if it does not become ready")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.chartPath != "" {
			return errors.New("--osm-chart-path: there is no chart any more: describe the mesh with --set, or write a Mesh object")
		}
		return env.install(cmd.Context(), o)
	}
	return c
}

func (e *Env) install(ctx context.Context, o installOptions) error {
	mesh, err := meshFromValues(o.mesh, e.Namespace, o.set)
	if err != nil {
		return err
	}
	cluster, err := e.Client()
	if err != nil {
		return err
	}
	if err := checkOther(ctx, cluster, o); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	current, err := release.NewCatalogue(nil).Resolve("", release.Current)
	if err != nil {
		return err
	}
	osmImage := current.Images.OSM
	if mesh.Spec.Images != nil {
		osmImage = cmp.Or(mesh.Spec.Images.OSM, osmImage)
	}
	crds, objects, err := manifests(osmImage)
	if err != nil {
		return err
	}
	e.progress("Installing the operator")
	if err := applyAll(ctx, cluster, crds); err != nil {
		return err
	}
	if err := waitForCRDs(ctx, cluster, crds); err != nil {
		return err
	}
	if err := applyAll(ctx, cluster, objects); err != nil {
		return err
	}
	e.progress("Creating mesh [" + mesh.Name + "]")
	if err := cluster.Create(ctx, mesh); err != nil {
		return fmt.Errorf("creating mesh [%s]: %w", mesh.Name, err)
	}
	if err := e.waitReady(ctx, cluster, mesh.Name); err != nil {
		return e.failed(ctx, cluster, o, mesh, err)
	}
	e.printf("OSM installed successfully in namespace [%s] with mesh name [%s]\n", mesh.Spec.Namespace, mesh.Name)
	return nil
}

// checkOther refuses a second mesh if it was asked to, and one of the same name always.
func checkOther(ctx context.Context, cluster client.Client, o installOptions) error {
	meshes, err := listMeshes(ctx, cluster)
	if err != nil {
		return err
	}
	for _, m := range meshes {
		if m.Name == o.mesh {
			return fmt.Errorf("mesh [%s] exists already in namespace [%s]: edit the Mesh object to change it", m.Name, m.Namespace)
		}
		if o.singleMesh {
			return fmt.Errorf("mesh [%s] exists already in namespace [%s]: give --enforce-single-mesh=false to have another", m.Name, m.Namespace)
		}
	}
	return nil
}

// waitReady returns when a mesh is ready, and tells of each change on the way.
func (e *Env) waitReady(ctx context.Context, cluster client.Client, name string) error {
	last := ""
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		var m operatorv1alpha1.Mesh
		if err := cluster.Get(ctx, client.ObjectKey{Name: name}, &m); err != nil {
			return false, err
		}
		c := meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionReady)
		if c == nil {
			return false, nil
		}
		if c.Message != last {
			last = c.Message
			e.progress(last)
		}
		return c.Status == metav1.ConditionTrue && c.ObservedGeneration == m.Generation, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for mesh [%s] to become ready, which is now: %s: %w", name, cmp.Or(last, "not seen by the operator"), err)
	}
	return nil
}

// failed takes the mesh away if that was asked for.
func (e *Env) failed(ctx context.Context, cluster client.Client, o installOptions, mesh *operatorv1alpha1.Mesh, cause error) error {
	if !o.atomic {
		return cause
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := cluster.Delete(ctx, mesh); client.IgnoreNotFound(err) != nil {
		return errors.Join(cause, fmt.Errorf("taking mesh [%s] away: %w", mesh.Name, err))
	}
	return fmt.Errorf("mesh [%s] was taken away: %w", mesh.Name, cause)
}

// progress tells people what happens, apart from what programs read.
func (e *Env) progress(text string) { fmt.Fprintf(e.Err, "%s...\n", text) }
