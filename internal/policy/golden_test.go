package policy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/mesh/meshtest"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/testkit/golden"
)

// bundle stands for a trust bundle.
func bundle() []byte { return []byte("roots") }

// TestGolden compiles testdata/<case>/model.yaml into want.yaml: what the proxies of
// each class must do, and what is said of each object.
func TestGolden(t *testing.T) {
	t.Parallel()
	cases, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if !c.IsDir() || c.Name() == "rapid" || c.Name() == "fuzz" {
			continue
		}
		dir := filepath.Join("testdata", c.Name())
		data, err := os.ReadFile(filepath.Join(dir, "model.yaml"))
		if os.IsNotExist(err) && golden.Updating() {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			continue
		}
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			if err != nil {
				t.Fatal(err)
			}
			facts, err := meshtest.Read(data)
			if err != nil {
				t.Fatal(err)
			}
			golden.Compare(t, filepath.Join(dir, "want.yaml"), write(t, facts.Model()))
		})
	}
}

// write compiles a Model into the form of the golden files: names as they are spoken,
// each cluster once, and what classes have alike written down for the first.
func write(t *testing.T, m *mesh.Model) []byte {
	t.Helper()
	c := policy.New(m, nil, nil)
	proxies, clusters, outbound := map[string]any{}, map[string]any{}, map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(m.Classes)) {
		p := *c.Proxy(m.Classes[id])
		p.Class, p.Shared, p.Identity = "", nil, identity.ID{}
		document, _ := spoken(plain(t, p), clusters).(map[string]any)
		proxies[id] = document
		if document == nil || document["Outbound"] == nil {
			continue
		}
		text := fmt.Sprint(document["Outbound"])
		if first, ok := outbound[text]; ok {
			document["Outbound"] = "as " + first
			continue
		}
		outbound[text] = id
	}
	var report []string
	for _, r := range c.Report() {
		report = append(report, strings.TrimSpace(fmt.Sprintf("%s %s %s/%d", r.Kind, r.Key, r.UID, r.Generation)))
		for _, v := range []policy.Verdict{r.Accepted, r.Resolved} {
			if !v.OK || v.Reason != policy.ReasonAccepted && v.Reason != policy.ReasonResolved {
				report[len(report)-1] += fmt.Sprintf("\n%t %s %s: %s", v.OK, v.Reason, v.Code, v.Message)
			}
		}
	}
	out, err := yaml.Marshal(map[string]any{"proxies": proxies, "clusters": clusters, "report": report})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// spoken writes names of objects as they are spoken, and moves clusters to where each
// is described once.
func spoken(value any, clusters map[string]any) any {
	switch v := value.(type) {
	case []any:
		for i := range v {
			v[i] = spoken(v[i], clusters)
		}
	case map[string]any:
		for k, inner := range v {
			v[k] = spoken(inner, clusters)
		}
		if v["Namespace"] != nil && v["Name"] != nil {
			text := fmt.Sprintf("%s/%s", v["Namespace"], v["Name"])
			if v["Port"] != nil {
				text += fmt.Sprintf(":%v", v["Port"])
			}
			return text
		}
		if c, ok := v["Cluster"].(map[string]any); ok {
			v["Cluster"] = refer(c, clusters)
		}
	}
	return value
}

// refer returns the name of a cluster; others of that name get a number.
func refer(c, clusters map[string]any) string {
	n, _ := c["Name"].(string)
	delete(c, "Name")
	for i := 1; ; i++ {
		numbered := n
		if i > 1 {
			numbered += fmt.Sprintf(" (%d)", i)
		}
		if known, ok := clusters[numbered]; !ok || reflect.DeepEqual(known, any(c)) {
			clusters[numbered] = c
			return numbered
		}
	}
}

// plain turns a value into maps and lists, without what is zero.
func plain(t *testing.T, value any) any {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return dense(out)
}

// dense leaves out what is zero; of a list it leaves out nothing.
func dense(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for k, inner := range v {
			if v[k] = dense(inner); v[k] == nil {
				delete(v, k)
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		for i := range v {
			v[i] = dense(v[i])
		}
		if len(v) == 0 {
			return nil
		}
	case string, float64, bool:
		if reflect.ValueOf(v).IsZero() {
			return nil
		}
	}
	return value
}
