package cmd

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/openservicemesh/osm-operator/internal/release"
)

func TestExecute(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args    []string
		code    int
		wantOut string
		wantErr string
	}{
		"no verb prints the help":                          {nil, 0, "Usage:", ""},
		"the version is that of the release":               {[]string{"version"}, 0, "osm " + release.Current, ""},
		"the wide version names the Envoy it goes with":    {[]string{"version", "-o", "wide"}, 0, release.EnvoyVersion, ""},
		"the version can be had as YAML":                   {[]string{"version", "-o", "yaml"}, 0, "version: " + release.Current, ""},
		"an unknown output format says which there are":    {[]string{"version", "-o", "toml"}, 1, "", "use json, yaml or wide"},
		"init prints its rules and needs no rights for it": {[]string{"init", "--print"}, 0, "table inet osm {", ""},
		"init prints or removes, not both":                 {[]string{"init", "--print", "--remove"}, 1, "", "none of the others can be"},
		"an unknown verb fails and is named":               {[]string{"fly"}, 1, "", "fly"},
		"completion for bash is offered":                   {[]string{"completion", "bash"}, 0, "bash completion", ""},
		"an unknown flag fails without printing the help":  {[]string{"version", "--nope"}, 1, "", "--nope"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, errOut bytes.Buffer
			code := Execute(tt.args, Streams{In: strings.NewReader(""), Out: &out, Err: &errOut})
			if code != tt.code {
				t.Errorf("exit code %d, want %d; stderr: %s", code, tt.code, errOut.String())
			}
			if !strings.Contains(out.String(), tt.wantOut) {
				t.Errorf("stdout lacks %q:\n%s", tt.wantOut, out.String())
			}
			if !strings.Contains(errOut.String(), tt.wantErr) {
				t.Errorf("stderr lacks %q:\n%s", tt.wantErr, errOut.String())
			}
			if code != 0 && strings.Contains(out.String()+errOut.String(), "Usage:") {
				t.Errorf("a failure prints the help:\n%s%s", out.String(), errOut.String())
			}
		})
	}
}

func TestVersionJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if code := Execute([]string{"version", "-o", "json"}, Streams{Out: &out, Err: &out}); code != 0 {
		t.Fatalf("exit code %d: %s", code, out.String())
	}
	var got buildInfo
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != release.Current || got.Go == "" || got.Platform == "" {
		t.Errorf("incomplete build information: %+v", got)
	}
}
