package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
)

// releaseFile is where the repository says which versions belong together.
const releaseFile = "internal/release/release.go"

// release is what the source says.
type release struct {
	// version is the mesh's, envoy the sidecar's; both without the leading v for
	// Envoy's package, with it for tags.
	version, envoy string
}

// readRelease reads the versions from the source, so that they are written in one
// place only.
func readRelease(root string) (release, error) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, releaseFile), nil, parser.SkipObjectResolution)
	if err != nil {
		return release{}, err
	}
	constants := stringConstants(file)
	r := release{version: constants["Current"], envoy: strings.TrimPrefix(constants["EnvoyVersion"], "v")}
	if r.version == "" || r.envoy == "" {
		return release{}, fmt.Errorf("%s does not say Current and EnvoyVersion", releaseFile)
	}
	return r, nil
}

func stringConstants(file *ast.File) map[string]string {
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		value, ok := n.(*ast.ValueSpec)
		if !ok || len(value.Names) != len(value.Values) {
			return true
		}
		for i, name := range value.Names {
			literal, ok := value.Values[i].(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				continue
			}
			if text, err := strconv.Unquote(literal.Value); err == nil {
				found[name.Name] = text
			}
		}
		return true
	})
	return found
}
