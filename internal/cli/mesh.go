package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

func newMesh(env *Env) *cobra.Command {
	c := &cobra.Command{Use: "mesh", Short: "Look into the meshes of a cluster", Args: cobra.NoArgs}
	c.AddCommand(newMeshList(env))
	return c
}

// meshInfo is a mesh as "mesh list" tells of it.
type meshInfo struct {
	Name       string   `json:"name"`
	Namespace  string   `json:"namespace"`
	Version    string   `json:"version"`
	Namespaces []string `json:"addedNamespaces"`
	Ready      string   `json:"ready"`
	Revision   string   `json:"revision,omitempty"`
	Pods       *int32   `json:"pods,omitempty"`
	Connected  *int32   `json:"connected,omitempty"`
}

func newMeshList(env *Env) *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List the meshes of the cluster", Args: cobra.NoArgs,
	}
	format := addOutput(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cluster, err := env.Client()
		if err != nil {
			return err
		}
		meshes, err := listMeshes(cmd.Context(), cluster)
		if err != nil {
			return err
		}
		t := table{
			Header: []string{"MESH NAME", "MESH NAMESPACE", "VERSION", "READY", "ADDED NAMESPACES"},
			Wide:   []string{"REVISION", "PODS", "CONNECTED"},
			Empty:  "No osm mesh control planes found",
		}
		for _, m := range meshes {
			t.Rows = append(t.Rows, row{
				Cells: []string{m.Name, m.Namespace, cmp.Or(m.Version, "-"), m.Ready, cmp.Or(strings.Join(m.Namespaces, ","), "-")},
				Wide:  []string{cmp.Or(m.Revision, "-"), count(m.Pods), count(m.Connected)},
			})
		}
		return env.print(*format, meshes, t)
	}
	return c
}

func count(n *int32) string {
	if n == nil {
		return "unknown"
	}
	return strconv.Itoa(int(*n))
}

func listMeshes(ctx context.Context, cluster client.Client) ([]meshInfo, error) {
	var meshes operatorv1alpha1.MeshList
	if err := cluster.List(ctx, &meshes); err != nil {
		if meta.IsNoMatchError(err) {
			return []meshInfo{}, nil
		}
		return nil, fmt.Errorf("listing meshes: %w", err)
	}
	var namespaces corev1.NamespaceList
	if err := cluster.List(ctx, &namespaces, client.HasLabels{operatorv1alpha1.LabelMonitoredBy}); err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	out := make([]meshInfo, 0, len(meshes.Items))
	for _, m := range meshes.Items {
		info := meshInfo{
			Name: m.Name, Namespace: m.Spec.Namespace, Version: m.Status.Version, Revision: m.Status.Revision,
			Ready: "Unknown", Namespaces: []string{},
		}
		if c := meta.FindStatusCondition(m.Status.Conditions, operatorv1alpha1.ConditionReady); c != nil {
			info.Ready = string(c.Status)
		}
		if p := m.Status.Proxies; p != nil {
			info.Pods, info.Connected = p.Pods, p.Connected
		}
		for _, n := range namespaces.Items {
			if n.Labels[operatorv1alpha1.LabelMonitoredBy] == m.Name {
				info.Namespaces = append(info.Namespaces, n.Name)
			}
		}
		slices.Sort(info.Namespaces)
		out = append(out, info)
	}
	return out, nil
}
