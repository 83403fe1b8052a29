package arch

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

const (
	// maxFileLines is how long a file may be; most are under 400.
	maxFileLines = 700
	// maxFunctionLines is how long a function may be; most are under 60.
	maxFunctionLines = 100
)

// bannedNames are names that say nothing about what a package does.
func bannedNames() []string {
	return []string{"common", "constants", "core", "helper", "helpers", "misc", "models", "shared", "types", "util", "utils"}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	type folder struct {
		name     string
		comments []string
	}
	folders := map[string]*folder{}
	for _, f := range parseTree(t) {
		if f.generated || strings.HasSuffix(f.syntax.Name.Name, "_test") {
			continue
		}
		d, ok := folders[f.dir()]
		if !ok {
			d = &folder{name: f.syntax.Name.Name}
			folders[f.dir()] = d
		}
		if f.syntax.Doc != nil {
			d.comments = append(d.comments, f.syntax.Doc.Text())
		}
	}
	for dir, d := range folders {
		switch {
		case len(d.comments) == 0:
			t.Errorf("%s has no package comment", dir)
		case len(d.comments) > 1:
			t.Errorf("%s has %d package comments, want one", dir, len(d.comments))
		case d.name == "main" && strings.HasPrefix(d.comments[0], "Command "):
		case !strings.HasPrefix(d.comments[0], "Package "+d.name+" "):
			t.Errorf("the package comment of %s does not start with %q", dir, "Package "+d.name)
		}
	}
}

func TestPackageNamesSayWhatIsInside(t *testing.T) {
	t.Parallel()
	for _, f := range parseTree(t) {
		name := strings.TrimSuffix(f.syntax.Name.Name, "_test")
		if slices.Contains(bannedNames(), name) || slices.Contains(bannedNames(), path.Base(f.dir())) {
			t.Errorf("%s: a package named %s says nothing about what it does", f.path, name)
		}
		if strings.ToLower(name) != name || strings.Contains(name, "_") {
			t.Errorf("%s: package name %s is not one lower-case word", f.path, name)
		}
	}
}

func TestFilesAreShortEnoughToRead(t *testing.T) {
	t.Parallel()
	for _, f := range parseTree(t) {
		if !f.generated && f.lines > maxFileLines {
			t.Errorf("%s has %d lines, at most %d are allowed: split it by concept", f.path, f.lines, maxFileLines)
		}
	}
}

func TestFunctionsAreShortEnoughToRead(t *testing.T) {
	t.Parallel()
	for _, f := range parseTree(t) {
		if f.generated || f.test { // a table of cases is as long as it has to be
			continue
		}
		for _, decl := range f.syntax.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
			if lines > maxFunctionLines {
				t.Errorf("%s: %s has %d lines, at most %d are allowed", f.fset.Position(fn.Pos()), fn.Name.Name, lines, maxFunctionLines)
			}
		}
	}
}

func TestGeneratedFilesAreRecognised(t *testing.T) {
	t.Parallel()
	for _, f := range parseTree(t) {
		base := path.Base(f.path)
		named := strings.HasPrefix(base, "zz_generated.") || strings.HasSuffix(base, ".gen.go") || strings.HasSuffix(base, ".pb.go")
		if named != f.generated {
			t.Errorf("%s: the name says generated %t, the DO NOT EDIT line says %t", f.path, named, f.generated)
		}
	}
}
