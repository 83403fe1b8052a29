package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// defaultMesh is the name of a mesh when nobody says.
const defaultMesh = "osm"

func newNamespace(env *Env) *cobra.Command {
	c := &cobra.Command{Use: "namespace", Aliases: []string{"ns"}, Short: "Add namespaces to a mesh, and take them out", Args: cobra.NoArgs}
	c.AddCommand(newNamespaceAdd(env), newNamespaceRemove(env), newNamespaceIgnore(env), newNamespaceList(env))
	return c
}

func newNamespaceAdd(env *Env) *cobra.Command {
	c := &cobra.Command{Use: "add NAMESPACE...", Short: "Add namespaces to a mesh", Args: cobra.MinimumNArgs(1)}
	mesh := c.Flags().String("mesh-name", defaultMesh, "name of the mesh")
	disable := c.Flags().Bool("disable-sidecar-injection", false, "add the namespaces without injection of sidecars")
	c.RunE = func(cmd *cobra.Command, names []string) error {
		cluster, err := env.Client()
		if err != nil {
			return err
		}
		meshes, err := listMeshes(cmd.Context(), cluster)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(meshes, func(m meshInfo) bool { return m.Name == *mesh }) {
			return fmt.Errorf("mesh %s does not exist: \"osm mesh list\" tells which do", *mesh)
		}
		var errs []error
		for _, name := range names {
			if err := addNamespace(cmd.Context(), cluster, meshes, name, *mesh, *disable); err != nil {
				errs = append(errs, err)
				continue
			}
			env.printf("Namespace [%s] successfully added to mesh [%s]\n", name, *mesh)
		}
		return errors.Join(errs...)
	}
	return c
}

func addNamespace(ctx context.Context, cluster client.Client, meshes []meshInfo, name, mesh string, disable bool) error {
	return changeNamespace(ctx, cluster, name, func(ns *corev1.Namespace) error {
		for _, m := range meshes {
			if m.Namespace == name {
				return fmt.Errorf("namespace [%s] holds the control plane of mesh [%s] and cannot be added", name, m.Name)
			}
		}
		if ns.Labels[operatorv1alpha1.LabelIgnore] == "true" {
			return fmt.Errorf("namespace [%s] is ignored: take the label %s away first", name, operatorv1alpha1.LabelIgnore)
		}
		if other := ns.Labels[operatorv1alpha1.LabelMonitoredBy]; other != "" && other != mesh {
			return fmt.Errorf("namespace [%s] belongs to mesh [%s]: remove it from there first", name, other)
		}
		ns.Labels = with(ns.Labels, operatorv1alpha1.LabelMonitoredBy, mesh)
		injection := "enabled"
		if disable {
			injection = "disabled"
		}
		ns.Annotations = with(ns.Annotations, operatorv1alpha1.AnnotationInjection, injection)
		return nil
	})
}

func newNamespaceRemove(env *Env) *cobra.Command {
	c := &cobra.Command{Use: "remove NAMESPACE", Short: "Take a namespace out of a mesh", Args: cobra.ExactArgs(1)}
	mesh := c.Flags().String("mesh-name", defaultMesh, "name of the mesh")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cluster, err := env.Client()
		if err != nil {
			return err
		}
		err = changeNamespace(cmd.Context(), cluster, args[0], func(ns *corev1.Namespace) error {
			if ns.Labels[operatorv1alpha1.LabelMonitoredBy] != *mesh {
				return fmt.Errorf("namespace [%s] does not belong to mesh [%s]", args[0], *mesh)
			}
			delete(ns.Labels, operatorv1alpha1.LabelMonitoredBy)
			delete(ns.Labels, operatorv1alpha1.LabelIgnore)
			delete(ns.Annotations, operatorv1alpha1.AnnotationInjection)
			delete(ns.Annotations, operatorv1alpha1.AnnotationMetrics)
			return nil
		})
		if err != nil {
			return err
		}
		env.printf("Namespace [%s] successfully removed from mesh [%s]\n", args[0], *mesh)
		return nil
	}
	return c
}

func newNamespaceIgnore(env *Env) *cobra.Command {
	c := &cobra.Command{Use: "ignore NAMESPACE...", Short: "Keep every mesh out of namespaces", Args: cobra.MinimumNArgs(1)}
	c.RunE = func(cmd *cobra.Command, names []string) error {
		cluster, err := env.Client()
		if err != nil {
			return err
		}
		var errs []error
		for _, name := range names {
			err := changeNamespace(cmd.Context(), cluster, name, func(ns *corev1.Namespace) error {
				ns.Labels = with(ns.Labels, operatorv1alpha1.LabelIgnore, "true")
				return nil
			})
			if err != nil {
				errs = append(errs, err)
				continue
			}
			env.printf("Successfully ignored namespace [%s]\n", name)
		}
		return errors.Join(errs...)
	}
	return c
}

// namespaceInfo is a namespace as "namespace list" tells of it.
type namespaceInfo struct {
	Namespace string `json:"namespace"`
	Mesh      string `json:"mesh"`
	Injection string `json:"sidecarInjection"`
}

func newNamespaceList(env *Env) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the namespaces of meshes", Args: cobra.NoArgs}
	mesh := c.Flags().String("mesh-name", "", "name of the mesh; all meshes when absent")
	format := addOutput(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cluster, err := env.Client()
		if err != nil {
			return err
		}
		var list corev1.NamespaceList
		if err := cluster.List(cmd.Context(), &list, client.HasLabels{operatorv1alpha1.LabelMonitoredBy}); err != nil {
			return fmt.Errorf("listing namespaces: %w", err)
		}
		infos := []namespaceInfo{}
		t := table{Header: []string{"NAMESPACE", "MESH", "SIDECAR-INJECTION"}, Empty: "No namespaces in any mesh"}
		if *mesh != "" {
			t.Empty = fmt.Sprintf("No namespaces in mesh [%s]", *mesh)
		}
		for _, ns := range list.Items {
			info := namespaceInfo{Namespace: ns.Name, Mesh: ns.Labels[operatorv1alpha1.LabelMonitoredBy]}
			if *mesh != "" && info.Mesh != *mesh {
				continue
			}
			info.Injection = cmp.Or(ns.Annotations[operatorv1alpha1.AnnotationInjection], "-")
			if ns.Labels[operatorv1alpha1.LabelIgnore] == "true" {
				info.Injection = "disabled (ignored)"
			}
			infos = append(infos, info)
			t.Rows = append(t.Rows, row{Cells: []string{info.Namespace, info.Mesh, info.Injection}})
		}
		return env.print(*format, infos, t)
	}
	return c
}

// changeNamespace patches a namespace; a change by someone else in between is an
// error rather than lost.
func changeNamespace(ctx context.Context, cluster client.Client, name string, change func(*corev1.Namespace) error) error {
	var ns corev1.Namespace
	if err := cluster.Get(ctx, client.ObjectKey{Name: name}, &ns); err != nil {
		return fmt.Errorf("reading namespace [%s]: %w", name, err)
	}
	before := ns.DeepCopy()
	if err := change(&ns); err != nil {
		return err
	}
	if err := cluster.Patch(ctx, &ns, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("changing namespace [%s]: %w", name, err)
	}
	return nil
}

// with returns a map with a value in it, the same map if there is one.
func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}
