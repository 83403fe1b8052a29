package arch

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// role is a Role or a ClusterRole of config/rbac.
type role struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Rules []rbacv1.PolicyRule `json:"rules"`
}

// roles reads those that are shipped.
func roles(t *testing.T) []role {
	t.Helper()
	dir := filepath.Join(repositoryRoot(t), "config", "rbac")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []role
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for document := range bytes.SplitSeq(raw, []byte("\n---\n")) {
			var r role
			if err := yaml.Unmarshal(document, &r); err != nil {
				t.Fatalf("config/rbac/%s: %v", e.Name(), err)
			}
			if r.Kind == "Role" || r.Kind == "ClusterRole" {
				out = append(out, r)
			}
		}
	}
	if len(out) < 5 {
		t.Fatalf("only %d roles are in config/rbac", len(out))
	}
	return out
}

// TestRolesAreNarrow holds the rights of all processes to what their takeover may cost.
func TestRolesAreNarrow(t *testing.T) {
	t.Parallel()
	for _, r := range roles(t) {
		for _, rule := range r.Rules {
			for _, wrong := range tooWide(r, rule) {
				t.Errorf("config/rbac: %s %s: %s in %v", r.Kind, r.Metadata.Name, wrong, rule)
			}
		}
	}
}

// boundByRole are ClusterRoles that are bound by RoleBindings only, in the namespaces of
// meshes and in those that a spec names.
func boundByRole() []string {
	return []string{"osm-operator-namespace", "osm-controller-namespace", "osm-operator-workloads", "osm-operator-gateway"}
}

// tooWide says what a rule lets through that nobody may.
func tooWide(r role, rule rbacv1.PolicyRule) []string {
	var out []string
	inCluster := r.Kind == "ClusterRole" && !slices.Contains(boundByRole(), r.Metadata.Name)
	holds := func(list []string, some ...string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return slices.Contains(some, s) })
	}
	refuse := func(wrong bool, what string) {
		if wrong {
			out = append(out, what)
		}
	}
	writes := holds(rule.Verbs, "create", "update", "patch", "delete", "deletecollection")
	refuse(holds(slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs), "*"), "a wildcard")
	refuse(len(rule.NonResourceURLs) > 0, "paths without resources")
	refuse(holds(rule.Verbs, "escalate", "impersonate"), "another's rights")
	refuse(holds(rule.Verbs, "bind", "sign", "attest") && len(rule.ResourceNames) == 0, "bind, sign or attest without a name")
	refuse(holds(rule.Resources, "secrets") && inCluster, "Secrets of the whole cluster")
	refuse(holds(rule.Resources, "secrets") && holds(rule.Verbs, "list", "watch", "deletecollection"), "a list of Secrets")
	refuse(holds(rule.Resources, "secrets") && strings.HasPrefix(r.Metadata.Name, "osm-controller"), "Secrets for a control plane")
	refuse(holds(rule.Resources, "pods/exec", "pods/attach", "pods/portforward", "pods/ephemeralcontainers", "serviceaccounts/token", "nodes/proxy") && !ownToken(r, rule), "a way into pods")
	refuse(holds(rule.Resources, "clusterroles", "roles", "customresourcedefinitions") && writes, "roles or CRDs")
	refuse(holds(rule.Resources, "pods", "deployments", "daemonsets", "statefulsets", "jobs") && writes && inCluster, "workloads of the whole cluster")
	return out
}

// ownToken reports whether a rule lets a process make a token of its own ServiceAccount, and
// of no other: it proves itself to others than the API server with one.
func ownToken(r role, rule rbacv1.PolicyRule) bool {
	return r.Kind == "Role" && slices.Equal(rule.Resources, []string{"serviceaccounts/token"}) &&
		slices.Equal(rule.ResourceNames, []string{r.Metadata.Name})
}

func TestRolesThatAreTooWideAreFound(t *testing.T) {
	t.Parallel()
	rule := func(verbs, resources string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{""}, Verbs: strings.Fields(verbs), Resources: strings.Fields(resources)}
	}
	for name, tt := range map[string]struct {
		role string
		rule rbacv1.PolicyRule
		wide bool
	}{
		"reading pods":                         {"osm-controller", rule("get list watch", "pods"), false},
		"any verb":                             {"osm-controller", rule("*", "pods"), true},
		"reading Secrets everywhere":           {"osm-operator", rule("get", "secrets"), true},
		"reading a Secret in a mesh":           {"osm-operator-namespace", rule("get", "secrets"), false},
		"listing Secrets in a mesh":            {"osm-operator-namespace", rule("list", "secrets"), true},
		"a control plane that reads Secrets":   {"osm-controller-namespace", rule("get", "secrets"), true},
		"a command in a pod":                   {"osm-operator", rule("create", "pods/exec"), true},
		"another's name":                       {"osm-operator", rule("impersonate", "users"), true},
		"binding any role":                     {"osm-operator", rule("bind", "clusterroles"), true},
		"writing roles":                        {"osm-operator", rule("update", "clusterroles"), true},
		"writing Deployments everywhere":       {"osm-operator", rule("patch", "deployments"), true},
		"writing Deployments where a mesh is":  {"osm-operator-namespace", rule("patch", "deployments"), false},
		"asking for ServiceAccounts' tokens":   {"osm-operator-namespace", rule("create", "serviceaccounts/token"), true},
		"signing as whoever":                   {"osm-controller", rule("sign", "signers"), true},
		"writing definitions of kinds of mesh": {"osm-controller", rule("update", "customresourcedefinitions"), true},
	} {
		r := role{Kind: "ClusterRole"}
		r.Metadata.Name = tt.role
		if got := tooWide(r, tt.rule); (len(got) > 0) != tt.wide {
			t.Errorf("%s: %q, want it found too wide: %t", name, got, tt.wide)
		}
	}
	own := role{Kind: "Role"}
	own.Metadata.Name = "osm-operator"
	token := rule("create", "serviceaccounts/token")
	if len(tooWide(own, token)) == 0 {
		t.Error("tokens of every ServiceAccount of a namespace are not found")
	}
	token.ResourceNames = []string{"osm-operator"}
	if wrong := tooWide(own, token); len(wrong) > 0 {
		t.Errorf("a token of its own is refused: %v", wrong)
	}
}
