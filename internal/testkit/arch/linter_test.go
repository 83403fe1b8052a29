package arch

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// depguardRule is one rule of the linter about imports.
type depguardRule struct {
	Files []string `json:"files"`
	Allow []string `json:"allow"`
	Deny  []struct {
		Pkg string `json:"pkg"`
	} `json:"deny"`
}

// depguardRules reads the rules of .golangci.yml.
func depguardRules(t *testing.T) map[string]depguardRule {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repositoryRoot(t), ".golangci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Linters struct {
			Settings struct {
				Depguard struct {
					Rules map[string]depguardRule `json:"rules"`
				} `json:"depguard"`
			} `json:"settings"`
		} `json:"linters"`
	}
	if err := yaml.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}
	return config.Linters.Settings.Depguard.Rules
}

// files is how the linter's rules name the files of a package.
func files(pkg string) string { return "${config-path}/" + pkg + "/**" }

func TestLinterAgreesWithTheTable(t *testing.T) {
	t.Parallel()
	rules := depguardRules(t)
	for _, l := range layers() {
		if pure := slices.Contains(rules["pure"].Files, files(l.pkg)); pure != l.pure {
			t.Errorf(".golangci.yml: %s in rule pure is %t, the table says %t", l.pkg, pure, l.pure)
		}
		if l.local == nil {
			continue
		}
		want := []string{module + "/" + l.pkg}
		for _, local := range l.local {
			want = append(want, module+"/"+local)
		}
		slices.Sort(want)
		rule, ok := ruleOf(rules, l.pkg)
		if !ok {
			t.Errorf(".golangci.yml: no rule of depguard denies %s the rest of this module", l.pkg)
			continue
		}
		if diff := cmp.Diff(slices.Compact(want), rule.Allow); diff != "" {
			t.Errorf(".golangci.yml: depguard allows %s other imports than the table (-table +linter):\n%s", l.pkg, diff)
		}
	}
}

// ruleOf returns the rule that denies a package the rest of this module.
func ruleOf(rules map[string]depguardRule, pkg string) (depguardRule, bool) {
	for _, r := range rules {
		if slices.Contains(r.Files, files(pkg)) && len(r.Deny) == 1 && r.Deny[0].Pkg == module {
			return r, true
		}
	}
	return depguardRule{}, false
}
