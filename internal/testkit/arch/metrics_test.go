package arch

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestMetricsAreDocumented compares the names of metrics in the code with those that
// docs/reference/metrics.md tells of.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(repositoryRoot(t), "docs", "reference", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(osm_[a-z0-9_]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		if documented[row[1]] {
			t.Errorf("docs/reference/metrics.md has two rows for %s", row[1])
		}
		documented[row[1]] = true
	}
	made := metricsOf(parseTree(t))
	for name, where := range made {
		if !documented[name] {
			t.Errorf("docs/reference/metrics.md does not tell of %s, which is made in %s", name, where)
		}
	}
	for name := range documented {
		if made[name] == "" {
			t.Errorf("docs/reference/metrics.md tells of %s, which nothing makes", name)
		}
	}
	if len(made) < 25 {
		t.Errorf("%d metrics were found in the code: are they still named there?", len(made))
	}
}

// metricsOf are the names of metrics in shipped code, and the file of each.
func metricsOf(files []file) map[string]string {
	// osm_request is the beginning of two names.
	name, beginning := regexp.MustCompile(`^osm_[a-z0-9_]+$`), "osm_request"
	out := map[string]string{}
	for _, f := range files {
		if f.test || f.generated || f.nested || !strings.HasPrefix(f.path, "internal/") && !strings.HasPrefix(f.path, "controllers/") {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			l, ok := n.(*ast.BasicLit)
			if !ok || l.Kind != token.STRING {
				return true
			}
			if s, err := strconv.Unquote(l.Value); err == nil && s != beginning && name.MatchString(s) {
				out[s] = f.path
			}
			return true
		})
	}
	return out
}
