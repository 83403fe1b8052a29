package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// operatorName is the name of the operator's Deployment, service account and roles.
const operatorName = "osm-operator"

// release is the version of the mesh and the images that go with it.
type release struct{ version, osm, envoy string }

// readRelease reads the constants of internal/release, without building the project.
func readRelease(name string) (release, error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	if err != nil {
		return release{}, err
	}
	constants := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 {
			return true
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok && literal.Kind == token.STRING {
			constants[spec.Names[0].Name], _ = strconv.Unquote(literal.Value)
		}
		return true
	})
	r := release{
		version: constants["Current"],
		osm:     "docker.io/openservicemesh/osm:" + constants["Current"],
		envoy:   "docker.io/envoyproxy/envoy:distroless-" + constants["EnvoyVersion"],
	}
	if r.version == "" || constants["EnvoyVersion"] == "" {
		return release{}, fmt.Errorf("%s does not say Current and EnvoyVersion", name)
	}
	return r, nil
}

// makeCSV fills the base with what the manifests know.
func makeCSV(base object, objects, samples []object, r release) (object, error) {
	deployment := find(objects, "Deployment")
	clusterRole, role := find(objects, "ClusterRole"), find(objects, "Role")
	if deployment == nil || clusterRole == nil || role == nil {
		return nil, fmt.Errorf("no Deployment, ClusterRole or Role of the name %s", operatorName)
	}
	if err := setImages(deployment, r); err != nil {
		return nil, err
	}
	examples, err := json.MarshalIndent(samples, "", "  ")
	if err != nil {
		return nil, err
	}
	meta, spec := at(base, "metadata").(object), at(base, "spec").(object)
	meta["name"] = operatorName + "." + r.version
	meta["annotations"].(object)["alm-examples"] = string(examples)
	meta["annotations"].(object)["containerImage"] = r.osm
	spec["version"] = strings.TrimPrefix(r.version, "v")
	spec["relatedImages"] = []any{object{"name": "osm", "image": r.osm}, object{"name": "envoy", "image": r.envoy}}
	spec["customresourcedefinitions"] = object{"owned": owned(objects)}
	spec["install"] = object{
		"strategy": "deployment",
		"spec": object{
			"deployments":        []any{object{"name": operatorName, "label": at(deployment, "metadata", "labels"), "spec": deployment["spec"]}},
			"clusterPermissions": []any{object{"serviceAccountName": operatorName, "rules": clusterRole["rules"]}},
			"permissions":        []any{object{"serviceAccountName": operatorName, "rules": role["rules"]}},
		},
	}
	return base, nil
}

// find returns the operator's object of a kind, or nil.
func find(objects []object, kind string) object {
	for _, x := range objects {
		if text(x, "kind") == kind && text(x, "metadata", "name") == operatorName {
			return x
		}
	}
	return nil
}

// setImages tells the operator which images its meshes run: a mirror of a catalogue
// rewrites these variables.
func setImages(deployment object, r release) error {
	containers := list(deployment, "spec", "template", "spec", "containers")
	if len(containers) != 1 {
		return fmt.Errorf("the operator has %d containers, want 1", len(containers))
	}
	container, ok := containers[0].(object)
	if !ok {
		return errors.New("the operator's container is no object")
	}
	if image := text(container, "image"); image != r.osm {
		return fmt.Errorf("the operator runs %s, the release has %s", image, r.osm)
	}
	container["env"] = append(list(container, "env"),
		object{"name": "RELATED_IMAGE_OSM", "value": r.osm}, object{"name": "RELATED_IMAGE_ENVOY", "value": r.envoy})
	return nil
}

// owned lists every version of every kind that the bundle brings.
func owned(objects []object) []any {
	var out []any
	for _, x := range objects {
		if text(x, "kind") != "CustomResourceDefinition" {
			continue
		}
		for _, version := range list(x, "spec", "versions") {
			out = append(out, object{
				"name":        text(x, "metadata", "name"),
				"kind":        text(x, "spec", "names", "kind"),
				"version":     text(version, "name"),
				"displayName": text(x, "spec", "names", "kind"),
				"description": firstSentence(text(version, "schema", "openAPIV3Schema", "description")),
			})
		}
	}
	slices.SortFunc(out, func(a, b any) int {
		return cmp.Or(strings.Compare(text(a, "name"), text(b, "name")), strings.Compare(text(a, "version"), text(b, "version")))
	})
	return out
}

// firstSentence returns the start of a description, on one line.
func firstSentence(description string) string {
	line := strings.Join(strings.Fields(description), " ")
	if i := strings.Index(line, ". "); i >= 0 {
		return line[:i+1]
	}
	return line
}
