package arch

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestArchitectureNamesWhatExists keeps docs/architecture.md true: each function, method,
// type or value that it names by package exists, and so does each folder.
func TestArchitectureNamesWhatExists(t *testing.T) {
	t.Parallel()
	root := repositoryRoot(t)
	text, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	declared := declarations(parseTree(t))
	named := regexp.MustCompile("`((?:api|controllers|internal|test|hack|config)(?:/[a-z0-9]+)+)((?:\\.[A-Za-z]+)*)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 50 {
		t.Fatalf("docs/architecture.md names %d things of the code: is it still about the code?", len(named))
	}
	for _, n := range named {
		folder, symbol := n[1], n[2]
		if symbol == "" {
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(folder))); err != nil {
				t.Errorf("docs/architecture.md names the folder %s, which is not there", folder)
			}
			continue
		}
		if !declared[folder+symbol] {
			t.Errorf("docs/architecture.md names %s%s, which is not declared", folder, symbol)
		}
	}
}

// declarations are what the code declares outside of tests: folder.Name, or
// folder.Receiver.Name for methods.
func declarations(files []file) map[string]bool {
	out := map[string]bool{}
	for _, f := range files {
		if f.test {
			continue
		}
		for _, d := range f.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				out[f.dir()+"."+receiver(d)+d.Name.Name] = true
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok {
						out[f.dir()+"."+s.Name.Name] = true
					}
				}
			}
		}
	}
	return out
}

// receiver is the type of a method with a dot, empty for a function.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return ""
	}
	for e := d.Recv.List[0].Type; ; {
		switch t := e.(type) {
		case *ast.StarExpr:
			e = t.X
		case *ast.IndexExpr:
			e = t.X
		case *ast.IndexListExpr:
			e = t.X
		case *ast.Ident:
			return t.Name + "."
		default:
			return ""
		}
	}
}
