package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxMainLines is how long main.go may be: it only calls the verbs.
const maxMainLines = 30

// rootEntries is what the root of the repository may hold beside hidden files and
// what builds leave there.
func rootEntries() []string {
	return []string{
		"CONTRIBUTING.md", "Dockerfile", "LICENSE", "Makefile", "PROJECT", "README.md", "go.mod", "go.sum", "main.go",
		"api", "bundle", "config", "controllers", "docs", "hack", "internal", "test",
		"bin", "dist", "cover.html",
	}
}

func TestRootHoldsOnlyWhatItShould(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(repositoryRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		left := strings.HasSuffix(name, ".test") || strings.HasSuffix(name, ".out")
		if !strings.HasPrefix(name, ".") && !left && !slices.Contains(rootEntries(), name) {
			t.Errorf("%s does not belong in the root of the repository", name)
		}
	}
}

func TestMainOnlyCallsTheVerbs(t *testing.T) {
	t.Parallel()
	for _, f := range parseTree(t) {
		if f.path == "main.go" && f.lines >= maxMainLines {
			t.Errorf("main.go has %d lines, it must stay under %d", f.lines, maxMainLines)
		}
	}
}

func TestModuleReplacesNothing(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(repositoryRoot(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(strings.TrimSpace(line), "replace") {
			t.Errorf("go.mod replaces a module, so that the module cannot be required: %s", strings.TrimSpace(line))
		}
		if strings.HasPrefix(strings.TrimSpace(line), "tool") {
			t.Errorf("go.mod has a tool, which belongs in hack/tools/go.mod: %s", strings.TrimSpace(line))
		}
	}
}

// TestDecisionRecords checks the form of docs/decisions/NNNN-title.md: a number of its
// own, a title with that number, and a status.
func TestDecisionRecords(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(repositoryRoot(t), "docs", "decisions")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^(\d{4})-[a-z0-9]+(-[a-z0-9]+)*\.md$`)
	seen := map[string]string{}
	for _, e := range entries {
		m := name.FindStringSubmatch(e.Name())
		if m == nil {
			t.Errorf("docs/decisions/%s is not named NNNN-title.md", e.Name())
			continue
		}
		if other, ok := seen[m[1]]; ok {
			t.Errorf("docs/decisions: %s and %s have the same number", other, e.Name())
		}
		seen[m[1]] = e.Name()
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		checkRecord(t, e.Name(), strings.TrimLeft(m[1], "0"), string(data))
	}
}

// checkRecord checks the title and the status of a decision record.
func checkRecord(t *testing.T, name, number, text string) {
	t.Helper()
	if !regexp.MustCompile(`^# 0*` + number + `\b`).MatchString(text) {
		t.Errorf("docs/decisions/%s does not start with a title of the form %q", name, "# "+number+". Title")
	}
	status := regexp.MustCompile(`(?m)^Status: (proposed|accepted|rejected|superseded by \d{4})\b`)
	if n := len(status.FindAllString(text, -1)); n != 1 {
		t.Errorf("docs/decisions/%s has %d lines of the form %q, want one", name, n, "Status: accepted")
	}
}
