package cmd

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/openservicemesh/osm-operator/internal/redirect"
	"github.com/openservicemesh/osm-operator/internal/testkit/netns"
)

func TestInitRedirectsAndSaysSo(t *testing.T) {
	t.Parallel()
	ns := netns.New(t)
	args := []string{"--outbound-exclude-ports=3306,5432", "--outbound-exclude-cidrs=10.0.0.0/8"}
	var out bytes.Buffer
	err := ns.Do(func() error {
		c := newInitCommand()
		c.SetArgs(args)
		c.SetOut(&out)
		c.SetErr(&out)
		return c.ExecuteContext(t.Context())
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	config, err := initFlags(t, args...).config()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := redirect.Rules(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Do(func() error { return redirect.Verify(rules) }); err != nil {
		t.Error(err)
	}
	var line struct {
		Msg                   string
		Rules, Sets, Elements int
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("not one line of JSON: %v\n%s", err, out.String())
	}
	if size := rules.Size(); line.Rules != size.Rules || line.Sets != size.Sets || line.Elements != size.Elements || line.Msg == "" {
		t.Errorf("logged %+v, want %+v", line, size)
	}
}
