package arch

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// layer is what one package may import. Paths of this module are written from its
// root; a path stands for the tree below it.
type layer struct {
	pkg string
	// pure packages compute: no client, clock, logger, network, context, randomness.
	pure bool
	// local lists the packages of this module that may be imported; nil sets no limit.
	local []string
	// external lists what may be imported from other modules; nil sets no limit.
	external []string
}

// none is a limit that lets nothing through.
func none() []string { return []string{} }

// layers is the architecture: the folder list of docs/architecture.md, with the
// direction of every arrow. Only direct imports of shipped code are looked at.
func layers() []layer {
	var (
		kubernetes = []string{"sigs.k8s.io/controller-runtime", "k8s.io", "sigs.k8s.io/gateway-api", "sigs.k8s.io/yaml", "github.com/go-logr/logr", "golang.org/x/sync"}
		kinds      = []string{"sigs.k8s.io/gateway-api/apis", "k8s.io/apimachinery"}
		envoy      = []string{"github.com/envoyproxy/go-control-plane/envoy", "github.com/envoyproxy/go-control-plane/pkg/wellknown", "github.com/cncf/xds/go", "google.golang.org/protobuf"}
		stream     = []string{"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto", "github.com/go-logr/logr", "github.com/prometheus/client_golang", "golang.org/x/sync"}
	)
	return []layer{
		// The control plane: watch -> mesh -> policy -> ir -> translate -> serve. Values of
		// package mesh hold identities, so that the one who makes them needs both.
		{pkg: "internal/watch", local: []string{"api", "internal/mesh", "internal/identity"}, external: kubernetes},
		{pkg: "internal/mesh", pure: true, local: []string{"api", "internal/identity"}, external: kinds},
		// The model holds the spec types of the policies, so that their compiler names them;
		// clusters have the names that dashboards know.
		{pkg: "internal/policy", pure: true, local: []string{"api", "internal/mesh", "internal/ir", "internal/identity", "internal/lineage", "internal/xds/name"}, external: kinds},
		{pkg: "internal/lineage", pure: true, local: none(), external: none()},
		{pkg: "internal/ir", pure: true, local: []string{"internal/identity"}, external: none()},
		{pkg: "internal/xds/name", pure: true, local: none(), external: none()},
		// What is sent holds the endpoint sets that it refers to, which the representation names.
		{pkg: "internal/xds/resource", pure: true, local: []string{"internal/ir", "internal/xds/name"}, external: envoy},
		{pkg: "internal/xds/translate", pure: true, local: []string{"internal/ir", "internal/identity", "internal/xds/name", "internal/xds/resource"}, external: envoy},
		{pkg: "internal/xds/endpoints", pure: true, local: []string{"internal/mesh", "internal/ir", "internal/identity", "internal/xds/name", "internal/xds/resource"}, external: envoy},
		{pkg: "internal/xds/bootstrap", pure: true, local: []string{"internal/xds/name"}, external: envoy},
		{pkg: "internal/xds/serve", local: []string{"internal/identity", "internal/xds/resource"}, external: append([]string{"github.com/envoyproxy/go-control-plane", "github.com/cncf/xds/go"}, stream...)},
		{pkg: "internal/report", local: []string{"internal/identity"}, external: stream},
		{pkg: "internal/issue", local: []string{"api", "internal/ca", "internal/identity"}, external: kubernetes},

		// The other front of issuing: pods that prove themselves with a token.
		{pkg: "internal/attest", local: []string{"internal/issue", "internal/identity"}, external: append(slices.Clone(kubernetes), stream...)},

		// The operator: observe -> plan -> apply -> gate -> status.
		{pkg: "internal/release", pure: true, local: none()},
		{pkg: "internal/programmed", pure: true, local: []string{"internal/policy", "internal/mesh"}, external: none()},
		{pkg: "internal/plan", pure: true},
		{pkg: "internal/gate", pure: true},
		{pkg: "internal/status", pure: true},

		// Trust and the sidecar.
		{pkg: "internal/identity", pure: true, local: none()},
		{pkg: "internal/ca/rotate", pure: true},
		{pkg: "internal/inject", pure: true},

		{pkg: "api", local: []string{"api"}},
	}
}

// confined is a part of the world that only some packages may touch.
type confined struct {
	what    string
	imports []string // import paths, each with the tree below it
	to      []string // packages of this module, each with the tree below it
}

// confinements lists the imports that stop at some border. Tests of the whole and
// the kit for them may import all of it.
func confinements() []confined {
	return []confined{
		{
			what:    "Kubernetes core types",
			imports: []string{"k8s.io/api", "k8s.io/client-go/applyconfigurations"},
			to: []string{
				"internal/watch", "internal/inject", "internal/plan/render", "internal/observe", "internal/apply",
				"internal/admission", "internal/issue", "internal/attest", "controllers",
				"api",          // the kinds refer to core types where their published shape does
				"internal/cmd", // the edge: it says which kinds the informers of a process hold
				"internal/cli", // the command line is an edge: it edits namespaces and reads pods
			},
		},
		{
			what:    "Envoy protos",
			imports: []string{"github.com/envoyproxy/go-control-plane", "github.com/cncf/xds/go"},
			to:      []string{"internal/xds"},
		},
		{
			what:    "the xDS server",
			imports: []string{"github.com/envoyproxy/go-control-plane/pkg/server", "github.com/envoyproxy/go-control-plane/pkg/cache"},
			to:      []string{"internal/xds/serve"},
		},
		{
			what:    "Vault's client",
			imports: []string{"github.com/hashicorp/vault"},
			to:      []string{"internal/ca/vault"},
		},
		{
			what:    "netlink",
			imports: []string{"github.com/google/nftables", "github.com/mdlayher/netlink", "github.com/vishvananda/netlink"},
			to:      []string{"internal/redirect"},
		},
		{
			what:    "the command line library",
			imports: []string{"github.com/spf13/cobra", "github.com/spf13/pflag"},
			to:      []string{"internal/cmd", "internal/cli"},
		},
		{
			what:    "package cmd",
			imports: []string{module + "/internal/cmd"},
			to:      []string{".", "internal/cmd"},
		},
		{
			what:    "the kit for tests",
			imports: []string{module + "/internal/testkit", module + "/test", module + "/hack"},
			to:      []string{"internal/testkit", "test", "hack"},
		},
	}
}

// free lists the trees that no confinement binds: tests of the whole and their kit.
func free() []string { return []string{"internal/testkit", "test", "hack"} }

// impureImports is what a pure package must not import: clients, loggers, the
// network, contexts, randomness, the operating system.
func impureImports() []string {
	return []string{
		"context", "crypto/rand", "crypto/tls", "expvar", "log", "math/rand", "net/http", "net/rpc", "net/smtp", "net/textproto",
		"os", "plugin", "runtime/pprof", "runtime/trace", "syscall", "testing", "unique",
		"github.com/go-logr", "github.com/google/nftables", "github.com/hashicorp", "github.com/mdlayher",
		"github.com/prometheus", "github.com/vishvananda", "go.opentelemetry.io", "go.uber.org", "golang.org/x/exp/rand", "golang.org/x/net",
		"google.golang.org/grpc", "k8s.io/client-go", "k8s.io/klog", "sigs.k8s.io/controller-runtime",
	}
}

// pureAllowed lists trees below impureImports that are plain values after all.
func pureAllowed() []string { return []string{"k8s.io/client-go/applyconfigurations"} }

// impureSelectors lists functions of allowed packages that a pure package must not
// call: time comes in as a value, and keys are made elsewhere.
func impureSelectors() map[string][]string {
	return map[string][]string{
		"time":                                 {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
		"k8s.io/apimachinery/pkg/apis/meta/v1": {"Now"},
		"k8s.io/apimachinery/pkg/util/uuid":    {"NewUUID"},
		"k8s.io/apimachinery/pkg/util/rand":    {"String", "Int", "Intn"},
		"fmt":                                  {"Print", "Printf", "Println"},
	}
}

// violations says what is wrong with a package of this module that imports these
// packages.
func violations(pkg string, imports []string) []string {
	var out []string
	for _, imported := range imports {
		for _, l := range layers() {
			if within(l.pkg, pkg) {
				out = append(out, l.violations(pkg, imported)...)
			}
		}
		for _, c := range confinements() {
			if withinAny(c.imports, imported) && !allowedIn(c.to, pkg) && !withinAny(free(), pkg) {
				out = append(out, fmt.Sprintf("%s imports %s: %s belong in %s only", pkg, imported, c.what, strings.Join(c.to, ", ")))
			}
		}
		if v := siblingController(pkg, imported); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// violations says what is wrong with one import of a package in this layer.
func (l layer) violations(pkg, imported string) []string {
	var out []string
	local, isLocal := strings.CutPrefix(imported, module+"/")
	own := isLocal && within(l.pkg, local)
	if l.pure && isImpure(imported) {
		out = append(out, fmt.Sprintf("%s imports %s: a pure package takes values and returns values", pkg, imported))
	}
	if isLocal && !own && l.local != nil && !withinAny(l.local, local) {
		out = append(out, fmt.Sprintf("%s imports %s: of this module it may import %s", pkg, local, listOrNone(l.local)))
	}
	if !isLocal && isExternal(imported) && l.external != nil && !withinAny(l.external, imported) {
		out = append(out, fmt.Sprintf("%s imports %s: of other modules it may import %s", pkg, imported, listOrNone(l.external)))
	}
	return out
}

// isImpure says whether an import touches the world. Package net itself does; net/netip
// and net/url are plain values.
func isImpure(imported string) bool {
	if withinAny(pureAllowed(), imported) {
		return false
	}
	return imported == "net" || withinAny(impureImports(), imported)
}

// isExternal says whether an import path is neither of the standard library nor local.
func isExternal(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return strings.Contains(first, ".")
}

// allowedIn says whether pkg is in one of the trees; "." is the root package alone.
func allowedIn(trees []string, pkg string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool {
		return pkg == tree || tree != "." && within(tree, pkg)
	})
}

// siblingController says what is wrong where one controller imports another.
func siblingController(pkg, imported string) string {
	const tree = "controllers/"
	from, ok := strings.CutPrefix(pkg, tree)
	if !ok {
		return ""
	}
	to, ok := strings.CutPrefix(imported, module+"/"+tree)
	if !ok {
		return ""
	}
	from, _, _ = strings.Cut(from, "/")
	to, _, _ = strings.Cut(to, "/")
	if from == to {
		return ""
	}
	return fmt.Sprintf("%s imports %s: controllers meet in the API only", pkg, path.Join("controllers", to))
}

// listOrNone joins names for a message.
func listOrNone(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// isPure says whether the package is declared pure.
func isPure(pkg string) bool {
	return slices.ContainsFunc(layers(), func(l layer) bool { return l.pure && within(l.pkg, pkg) })
}

func TestDirectImportsFollowTheArchitecture(t *testing.T) {
	t.Parallel()
	for _, f := range parseTree(t) {
		if f.test || f.nested {
			continue
		}
		for _, v := range violations(f.dir(), f.imports()) {
			t.Errorf("%s: %s", f.path, v)
		}
	}
}

func TestPurePackagesReadNoClock(t *testing.T) {
	t.Parallel()
	for _, f := range parseTree(t) {
		if f.test || f.nested || f.generated || !isPure(f.dir()) {
			continue
		}
		for _, use := range impureUses(f) {
			t.Errorf("%s: a pure package takes time, chance and output from its caller", use)
		}
	}
}

// impureUses lists where a file calls one of the impure selectors.
func impureUses(f file) []string {
	names := map[string][]string{} // the local name of a package to its impure functions
	for _, spec := range f.syntax.Imports {
		imported := strings.Trim(spec.Path.Value, `"`)
		selectors, ok := impureSelectors()[imported]
		if !ok {
			continue
		}
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = selectors
	}
	var out []string
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(names[x.Name], sel.Sel.Name) {
			out = append(out, fmt.Sprintf("%s uses %s.%s", f.fset.Position(sel.Pos()), x.Name, sel.Sel.Name))
		}
		return true
	})
	return out
}

func TestRulesCatchWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pkg      string
		imported string
		allowed  bool
	}{
		"a pure package may parse addresses":                       {"internal/mesh", "net/netip", true},
		"a pure package may not open sockets":                      {"internal/mesh", "net", false},
		"a pure package may not take a context":                    {"internal/policy", "context", false},
		"a pure package may not log":                               {"internal/xds/translate", "github.com/go-logr/logr", false},
		"a pure package below another is pure too":                 {"internal/plan/rollout", "sigs.k8s.io/controller-runtime/pkg/client", false},
		"a pure package may use apply configurations":              {"internal/plan/render", "k8s.io/client-go/applyconfigurations/core/v1", true},
		"a pure package makes no keys":                             {"internal/identity", "crypto/rand", false},
		"a pure package may parse certificates":                    {"internal/identity", "crypto/x509", true},
		"the intermediate representation knows no kinds":           {"internal/ir", module + "/api/smi/split/v1alpha4", false},
		"the intermediate representation knows identities":         {"internal/ir", module + "/internal/identity", true},
		"the model does not know the policy compiler":              {"internal/mesh", module + "/internal/policy", false},
		"the translator does not see the model":                    {"internal/xds/translate", module + "/internal/mesh", false},
		"the endpoints see what the representation asks for":       {"internal/xds/endpoints", module + "/internal/ir", true},
		"the endpoints do not see the policy compiler":             {"internal/xds/endpoints", module + "/internal/policy", false},
		"the server does not read Kubernetes":                      {"internal/xds/serve", "k8s.io/client-go/kubernetes", false},
		"the watcher reads Kubernetes":                             {"internal/watch", "sigs.k8s.io/controller-runtime/pkg/cache", true},
		"names of resources depend on nothing":                     {"internal/xds/name", module + "/internal/ir", false},
		"core types stop before the plan":                          {"internal/plan", "k8s.io/api/apps/v1", false},
		"core types are rendered":                                  {"internal/plan/render", "k8s.io/api/apps/v1", true},
		"core types do not reach the certificate authority":        {"internal/ca/builtin", "k8s.io/api/core/v1", false},
		"Envoy protos stay in xds":                                 {"internal/policy", "github.com/envoyproxy/go-control-plane/envoy/config/route/v3", false},
		"Envoy protos do not reach injection":                      {"internal/inject", "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3", false},
		"the xDS server library is for serve":                      {"internal/xds/endpoints", "github.com/envoyproxy/go-control-plane/pkg/cache/v3", false},
		"tests of the whole may speak xDS":                         {"test/bench", "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3", true},
		"Vault's client stays with its authority":                  {"internal/ca/builtin", "github.com/hashicorp/vault/api", false},
		"Vault's authority has its client":                         {"internal/ca/vault", "github.com/hashicorp/vault/api", true},
		"controllers never import one another":                     {"controllers/mesh", module + "/controllers/revision", false},
		"a controller imports its own parts":                       {"controllers/mesh", module + "/controllers/mesh/index", true},
		"shipped code does not import the kit for tests":           {"internal/controlplane", module + "/internal/testkit/envoy", false},
		"shipped code does not import tests":                       {"internal/cli", module + "/test/apps", false},
		"the kinds import no code":                                 {"api/operator/v1alpha1", module + "/internal/release", false},
		"only the binary imports the verbs":                        {"internal/cli", module + "/internal/cmd", false},
		"the binary imports the verbs":                             {".", module + "/internal/cmd", true},
		"controllers read no flags":                                {"controllers/mesh", "github.com/spf13/cobra", false},
		"a name that only starts like a forbidden one is not it":   {"internal/ir", "log2", true},
		"a package whose name starts like a layer's is not in it":  {"internal/mesher", "context", true},
		"the report stream knows nothing of the model":             {"internal/report", module + "/internal/mesh", false},
		"the catalogue of releases knows nothing of this module":   {"internal/release", module + "/api/operator/v1alpha1", false},
		"issuing goes through the front of the authorities":        {"internal/issue", module + "/internal/ca", true},
		"issuing does not know the mesh":                           {"internal/issue", module + "/internal/mesh", false},
		"the root package is not every package":                    {"controllers/mesh", module + "/internal/cmd", false},
		"redirection alone talks netlink":                          {"internal/inject", "github.com/google/nftables", false},
		"a gate decides from facts and does not look for them":     {"internal/gate", "k8s.io/client-go/kubernetes", false},
		"status is computed, not written":                          {"internal/status", "sigs.k8s.io/controller-runtime/pkg/client", false},
		"the rotation machine reads no files":                      {"internal/ca/rotate", "os", false},
		"structured logging of the standard library is a log also": {"internal/mesh", "log/slog", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := violations(tt.pkg, []string{tt.imported})
			if allowed := len(got) == 0; allowed != tt.allowed {
				t.Errorf("%s importing %s: allowed is %t, want %t: %v", tt.pkg, tt.imported, allowed, tt.allowed, got)
			}
		})
	}
}
