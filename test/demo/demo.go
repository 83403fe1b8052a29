package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/cmd"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
	"github.com/openservicemesh/osm-operator/test/apps/books"
	"github.com/openservicemesh/osm-operator/test/apps/manifests"
)

// demo is one showing.
type demo struct {
	*cluster.Cluster
	out     io.Writer
	started time.Time
}

func newDemo(out io.Writer) (*demo, error) {
	c, err := cluster.New()
	if err != nil {
		return nil, err
	}
	return &demo{Cluster: c, out: out, started: time.Now()}, nil
}

// namespaces are those of the bookstore.
var namespaces = []string{"bookbuyer", "bookthief", "bookstore", "bookwarehouse"} //nolint:gochecknoglobals // a constant

// outsider is a namespace that is not in the mesh.
const outsider = "outside"

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "[%4.0fs] %s\n", time.Since(d.started).Seconds(), fmt.Sprintf(format, args...))
}

// osm runs the CLI, as a reader could.
func (d *demo) osm(args ...string) error {
	d.say("$ osm %s", strings.Join(args, " "))
	var out bytes.Buffer
	code := cmd.Execute(args, cmd.Streams{In: strings.NewReader(""), Out: &out, Err: &out})
	for line := range strings.Lines(out.String()) {
		fmt.Fprintf(d.out, "        %s", line)
	}
	if code != 0 {
		return fmt.Errorf("osm %s: exit code %d", strings.Join(args, " "), code)
	}
	return nil
}

func (d *demo) up(ctx context.Context) error {
	if err := d.install(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"Adding namespaces to the mesh", d.enrol},
		{"Starting the bookstore", d.bookstore},
	} {
		d.say("%s", step.what)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(step.what), err)
		}
	}
	return d.prove(ctx)
}

func (d *demo) install(ctx context.Context) error {
	exists, err := d.meshExists(ctx)
	if err != nil {
		return err
	}
	if exists {
		d.say("The mesh is there already")
		return nil
	}
	return d.osm("install", "--set", "osm.enablePermissiveTrafficPolicy=false", "--set", "osm.enableEgress=false")
}

func (d *demo) enrol(ctx context.Context) error {
	for _, name := range append([]string{outsider}, namespaces...) {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := d.Create(ctx, ns); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating namespace %s: %w", name, err)
		}
	}
	return d.osm(append([]string{"namespace", "add"}, namespaces...)...)
}

// bookstore starts the applications with their policies, and waits until all run.
func (d *demo) bookstore(ctx context.Context) error {
	files, err := manifests.Bookstore()
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := d.ApplyYAML(ctx, file, nil); err != nil {
			return err
		}
	}
	for _, manifest := range []string{thiefManifest, outsideManifest} {
		if err := d.ApplyYAML(ctx, manifest, nil); err != nil {
			return err
		}
	}
	for _, w := range []struct{ namespace, name string }{
		{"bookbuyer", "bookbuyer"},
		{"bookthief", "bookthief"},
		{"bookstore", "bookstore"},
		{"bookstore", "bookstore-v2"},
		{"bookwarehouse", "bookwarehouse"},
		{outsider, "outsider"},
	} {
		if err := d.Deployment(ctx, w.namespace, w.name); err != nil {
			return err
		}
		d.say("%s runs", w.name)
	}
	return nil
}

func (d *demo) down(ctx context.Context) error {
	for _, name := range append([]string{outsider}, namespaces...) {
		d.say("Deleting namespace %s", name)
		if err := client.IgnoreNotFound(d.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})); err != nil {
			return fmt.Errorf("deleting namespace %s: %w", name, err)
		}
	}
	exists, err := d.meshExists(ctx)
	if err != nil || !exists {
		return err
	}
	return d.osm("uninstall", "mesh", "-f", "-a")
}

func (d *demo) meshExists(ctx context.Context) (bool, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(meshKind())
	err := d.List(ctx, list)
	if noKind(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("listing meshes: %w", err)
	}
	return len(list.Items) > 0, nil
}

// counted returns what an application has counted, and has it count anew.
func (d *demo) counted(ctx context.Context, namespace, app string, reset bool) (books.Counters, error) {
	pod, err := d.Pod(ctx, namespace, app)
	if err != nil {
		return books.Counters{}, err
	}
	command := []string{cluster.App, "counters"}
	if reset {
		command = append(command, "-reset")
	}
	out, err := d.Exec(ctx, namespace, pod.Name, pod.Spec.Containers[0].Name, command...)
	if err != nil {
		return books.Counters{}, err
	}
	var t books.Counters
	if err := json.Unmarshal([]byte(out), &t); err != nil {
		return books.Counters{}, errors.Join(fmt.Errorf("decoding the counters of %s", app), err)
	}
	return t, nil
}
