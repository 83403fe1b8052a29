// Package manifests holds the Kubernetes objects of the bookstore, so that the demo
// and the tests run the same ones.
package manifests

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed bookstore/*.yaml
var files embed.FS

// Bookstore returns the manifests of the bookstore, in the order of their names but
// the namespaces first.
func Bookstore() ([]string, error) {
	names, err := fs.Glob(files, "bookstore/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing the bookstore's manifests: %w", err)
	}
	var out []string
	for _, name := range names {
		raw, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading the bookstore's manifests: %w", err)
		}
		if name == "bookstore/namespaces.yaml" {
			out = append([]string{string(raw)}, out...)
			continue
		}
		out = append(out, string(raw))
	}
	return out, nil
}
