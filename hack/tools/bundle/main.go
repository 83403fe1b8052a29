// Command bundle makes the bundle that the Operator Lifecycle Manager installs from, out
// of the manifests that kubectl installs from.
//
// What it has made is held to the validators of the Operator Framework, warnings included.
// It reads the built manifests on standard input and is used as in kustomize build
// config/default | bundle -base CSV -samples DIR -release FILE -out bundle.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

func main() {
	var o options
	flag.StringVar(&o.base, "base", "", "`file` with what people read of the operator")
	flag.StringVar(&o.samples, "samples", "", "`folder` of example objects")
	flag.StringVar(&o.release, "release", "", "Go `file` with the version and the images")
	flag.StringVar(&o.out, "out", "bundle", "`folder` of the bundle; what is in it is replaced")
	flag.Parse()
	err := run(os.Stdin, o)
	if err == nil {
		err = verify(o.out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bundle:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct{ base, samples, release, out string }

// object is a manifest.
type object = map[string]any

// run reads the manifests and writes the bundle.
func run(in io.Reader, o options) error {
	objects, err := readObjects(in)
	if err != nil {
		return err
	}
	base, err := readFile(o.base)
	if err != nil {
		return err
	}
	samples, err := readFolder(o.samples)
	if err != nil {
		return err
	}
	release, err := readRelease(o.release)
	if err != nil {
		return err
	}
	csv, err := makeCSV(base, objects, samples, release)
	if err != nil {
		return err
	}
	files := map[string]object{
		"manifests/osm-operator.clusterserviceversion.yaml": csv,
		"metadata/annotations.yaml":                         annotations(),
	}
	for _, x := range objects {
		if name := fileOf(x); name != "" {
			files["manifests/"+name] = x
		}
	}
	return write(o.out, files)
}

// annotations say what is in the bundle, to those who build catalogues.
func annotations() object {
	return object{"annotations": object{
		"operators.operatorframework.io.bundle.mediatype.v1":       "registry+v1",
		"operators.operatorframework.io.bundle.manifests.v1":       "manifests/",
		"operators.operatorframework.io.bundle.metadata.v1":        "metadata/",
		"operators.operatorframework.io.bundle.package.v1":         "osm-operator",
		"operators.operatorframework.io.bundle.channels.v1":        "candidate",
		"operators.operatorframework.io.bundle.channel.default.v1": "candidate",
	}}
}

// fileOf names the file of an object that the bundle ships as it is; empty for what the
// ClusterServiceVersion holds, or what the Operator Lifecycle Manager does not install.
func fileOf(x object) string {
	name := text(x, "metadata", "name")
	switch kind := text(x, "kind"); kind {
	case "CustomResourceDefinition":
		return text(x, "spec", "group") + "_" + text(x, "spec", "names", "plural") + ".yaml"
	case "ClusterRole":
		if name != operatorName { // that one is in the ClusterServiceVersion
			return name + "_clusterrole.yaml"
		}
	case "PodDisruptionBudget":
		return name + "_poddisruptionbudget.yaml"
	}
	return ""
}

// write replaces the content of the bundle.
func write(out string, files map[string]object) error {
	for _, folder := range []string{"manifests", "metadata"} {
		if err := os.RemoveAll(filepath.Join(out, folder)); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(out, folder), 0o755); err != nil {
			return err
		}
	}
	for name, x := range files {
		if meta, ok := x["metadata"].(object); ok {
			delete(meta, "namespace") // the one that the operator is installed into
		}
		data, err := sigsyaml.Marshal(x)
		if err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(out, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// readObjects reads a stream of YAML documents.
func readObjects(in io.Reader) ([]object, error) {
	var out []object
	documents := yaml.NewYAMLReader(bufio.NewReader(in))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		var x object
		if err := sigsyaml.Unmarshal(document, &x); err != nil {
			return nil, err
		}
		if len(x) > 0 {
			out = append(out, x)
		}
	}
}

// readFile reads the one object of a file.
func readFile(name string) (object, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var x object
	if err := sigsyaml.Unmarshal(data, &x); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return x, nil
}

// readFolder reads all objects of a folder, in the order of its files.
func readFolder(name string) ([]object, error) {
	files, err := filepath.Glob(filepath.Join(name, "*.yaml"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var out []object
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		objects, err := readObjects(strings.NewReader(string(data)))
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		for _, x := range objects {
			if text(x, "kind") != "Kustomization" {
				out = append(out, x)
			}
		}
	}
	return out, nil
}

// at returns the value at a path of field names, or nil.
func at(x any, path ...string) any {
	for _, name := range path {
		m, ok := x.(object)
		if !ok {
			return nil
		}
		x = m[name]
	}
	return x
}

// text returns the string at a path, or "".
func text(x any, path ...string) string {
	s, _ := at(x, path...).(string)
	return s
}

// list returns the list at a path, or nothing.
func list(x any, path ...string) []any {
	l, _ := at(x, path...).([]any)
	return l
}
