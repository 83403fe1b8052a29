package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the path of the project's Go module.
const module = "github.com/openservicemesh/osm-operator"

// file is one parsed Go file of the repository.
type file struct {
	path      string // slash-separated, from the root
	syntax    *ast.File
	fset      *token.FileSet
	lines     int
	test      bool
	generated bool
	nested    bool // belongs to another module, such as hack/cluster
}

// dir is the folder of the file, from the root.
func (f file) dir() string { return path.Dir(f.path) }

// imports lists the import paths of the file.
func (f file) imports() []string {
	out := make([]string, 0, len(f.syntax.Imports))
	for _, spec := range f.syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has refused such a file already
		}
		out = append(out, p)
	}
	return out
}

// repositoryRoot is the folder of the project's go.mod, above this package.
func repositoryRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatalf("no go.mod at the root: %v", err)
	}
	if !strings.HasPrefix(string(data), "module "+module+"\n") {
		t.Fatalf("%s is not the root of %s", root, module)
	}
	return root
}

// parseTree parses every Go file of the repository, those of nested modules too.
func parseTree(t *testing.T) []file {
	t.Helper()
	root := repositoryRoot(t)
	var (
		files  []file
		nested []string // folders of nested modules
	)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if skipFolder(rel, d.Name()) {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil && rel != "." {
				nested = append(nested, rel)
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		f, err := parseFile(p, rel)
		if err != nil {
			return err
		}
		f.nested = slices.ContainsFunc(nested, func(m string) bool { return within(m, f.dir()) })
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no Go files found")
	}
	return files
}

// skipFolder says whether a folder holds no source of the project.
func skipFolder(rel, name string) bool {
	if rel == "." {
		return false
	}
	return strings.HasPrefix(name, ".") || name == "testdata" || rel == "bin" || rel == "dist"
}

// parseFile parses the file at name, whose path from the root is rel.
func parseFile(name, rel string) (file, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return file{}, err
	}
	fset := token.NewFileSet()
	syntax, err := parser.ParseFile(fset, rel, data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	return file{
		path:      rel,
		syntax:    syntax,
		fset:      fset,
		lines:     strings.Count(string(data), "\n"),
		test:      strings.HasSuffix(rel, "_test.go"),
		generated: ast.IsGenerated(syntax),
	}, nil
}

// within says whether name is tree or lies below it.
func within(tree, name string) bool {
	return name == tree || strings.HasPrefix(name, tree+"/")
}

// withinAny says whether name is one of trees or lies below one.
func withinAny(trees []string, name string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool { return within(tree, name) })
}
