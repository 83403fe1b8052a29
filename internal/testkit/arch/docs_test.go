package arch

import (
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
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

// TestSecurityNamesTestsThatExist keeps docs/security.md true: each attack is in it once,
// and has a test that is there, or says that nothing holds it.
func TestSecurityNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(repositoryRoot(t), "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := testsOf(parseTree(t))
	seen := map[string]bool{}
	named := regexp.MustCompile("`([a-z0-9/]+\\.(?:Test|Fuzz)[A-Za-z0-9]+)`")
	for _, row := range regexp.MustCompile(`(?m)^\| *([AO]\d+)? *\|([^|\n]+)\|([^|\n]+)\|([^|\n]*)\|$`).FindAllStringSubmatch(string(text), -1) {
		id, held, column := row[1], row[3], row[4]
		if seen[id] && id != "" {
			t.Errorf("docs/security.md has two rows %s", id)
		}
		seen[id] = true
		found := named.FindAllStringSubmatch(column, -1)
		for _, n := range found {
			if !tests[n[1]] {
				t.Errorf("docs/security.md names the test %s for %s, which is not there", n[1], id)
			}
		}
		without := regexp.MustCompile(`not (held|there yet)`).MatchString(held)
		if len(found) == 0 && !without && id != "" {
			t.Errorf("docs/security.md: %s has no test, and does not say that nothing holds it", id)
		}
	}
	for kind, last := range map[string]int{"A": 57, "O": 10} {
		for n := 1; n <= last; n++ {
			if id := fmt.Sprint(kind, n); !seen[id] {
				t.Errorf("docs/security.md has no row %s", id)
			}
		}
	}
}

// testsOf are the tests of the code: folder.Name.
func testsOf(files []file) map[string]bool {
	tests := map[string]bool{}
	for _, f := range files {
		for _, d := range f.syntax.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && f.test && d.Recv == nil {
				tests[f.dir()+"."+d.Name.Name] = true
			}
		}
	}
	return tests
}

// TestCompatibilityNamesTestsThatExist keeps docs/compatibility.md true: what works has
// tests that are there, and every field of MeshConfig has one row.
func TestCompatibilityNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(repositoryRoot(t), "docs", "compatibility.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests, rows := testsOf(parseTree(t)), map[string]bool{}
	named := regexp.MustCompile("`([a-z0-9/]+\\.(?:Test|Fuzz)[A-Za-z0-9]+)`")
	for _, row := range regexp.MustCompile(`(?m)^\| (.+?) \| (.+?) \|(.*)\|(.*)\|$`).FindAllStringSubmatch(string(text), -1) {
		what, state, column := row[1], row[2], row[4]
		if what == "what" {
			continue
		}
		if rows[what] {
			t.Errorf("docs/compatibility.md has two rows %q", what)
		}
		rows[what] = true
		found := named.FindAllStringSubmatch(column, -1)
		for _, n := range found {
			if !tests[n[1]] {
				t.Errorf("docs/compatibility.md names the test %s for %q, which is not there", n[1], what)
			}
		}
		switch state {
		case "works", "works better":
			if len(found) == 0 {
				t.Errorf("docs/compatibility.md: no test says that %q %s", what, state)
			}
		case "no effect", "not there yet":
		default:
			t.Errorf("docs/compatibility.md says %q of %q, which is none of its words", state, what)
		}
	}
	if len(rows) < 80 {
		t.Errorf("docs/compatibility.md has %d rows: is the table still read?", len(rows))
	}
	for _, field := range fieldsOf(reflect.TypeFor[configv1alpha2.MeshConfigSpec](), "") {
		if !rows["`"+field+"`"] {
			t.Errorf("docs/compatibility.md has no row for the field %s of MeshConfig", field)
		}
	}
}

// TestPoliciesNameTestsThatExist keeps docs/policies.md true: each kind of policy has a row,
// and each row tests that are there.
func TestPoliciesNameTestsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(repositoryRoot(t), "docs", "policies.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests, rows := testsOf(parseTree(t)), map[string]bool{}
	named := regexp.MustCompile("`([a-zA-Z0-9/]+\\.(?:Test|Fuzz)[A-Za-z0-9]+)`")
	for _, row := range regexp.MustCompile(`(?m)^\| ([A-Z][A-Za-z]+) \|(.*)\|$`).FindAllStringSubmatch(string(text), -1) {
		found := named.FindAllStringSubmatch(row[2], -1)
		if rows[row[1]] || len(found) == 0 {
			t.Errorf("docs/policies.md has two rows for %s, or no test", row[1])
		}
		rows[row[1]] = true
		for _, n := range found {
			if !tests[n[1]] {
				t.Errorf("docs/policies.md names the test %s for %s, which is not there", n[1], row[1])
			}
		}
	}
	for _, kind := range []string{"TrafficTarget", "HTTPRouteGroup", "TCPRoute", "TrafficSplit", "Egress", "IngressBackend", "Retry", "UpstreamTrafficSetting", "Accepted", "ResolvedRefs", "Programmed"} {
		if !rows[kind] {
			t.Errorf("docs/policies.md has no row for %s", kind)
		}
	}
}

// fieldsOf lists the fields of a type of this project's API by their paths in JSON; a
// struct of another's is one field, as is what names a certificate.
func fieldsOf(of reflect.Type, path string) []string {
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	ours := of.Kind() == reflect.Struct && of.PkgPath() == reflect.TypeFor[configv1alpha2.MeshConfigSpec]().PkgPath()
	if !ours || of == reflect.TypeFor[configv1alpha2.IngressGatewayCertSpec]() {
		return []string{path}
	}
	var out []string
	for f := range of.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out = append(out, fieldsOf(f.Type, strings.TrimPrefix(path+"."+name, "."))...)
	}
	return out
}
