package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	t.Parallel()
	const (
		pass = `{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
`
		fail = `{"Action":"output","Package":"p","Test":"TestB","Output":"the reason\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p","Elapsed":1}
`
		skip = `{"Action":"output","Package":"p","Test":"TestC","Output":"OSM_E2E is not set\n"}
{"Action":"skip","Package":"p","Test":"TestC"}
`
		broken = `{"ImportPath":"q","Action":"build-output","Output":"undefined: x\n"}
{"ImportPath":"q","Action":"build-fail"}
`
	)
	tests := map[string]struct {
		in      string
		maySkip string
		ok      bool
		want    string
		lacks   string
	}{
		"passing tests are silent":                      {pass, "", true, "1 passed", "noise"},
		"a failing test is printed":                     {pass + fail, "", false, "the reason", "noise"},
		"a skip fails the run":                          {pass + skip, "", false, "SKIP without leave", ""},
		"a skip that was announced does not":            {pass + skip, "OSM_E2E", true, "1 skipped", "without leave"},
		"a skip for another reason than announced does": {pass + skip, "KUBEBUILDER_ASSETS", false, "OSM_E2E is not set", ""},
		"a package that does not build fails the run":   {pass + broken, "", false, "undefined: x", ""},
		"a run without tests fails":                     {"", "", false, "0 passed", ""},
		"what the go command says is printed":           {pass + "go: no such module\n", "", true, "go: no such module", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := run(strings.NewReader(tt.in), &out, tt.maySkip, "")
			if (err == nil) != tt.ok {
				t.Errorf("error %v, want none: %t", err, tt.ok)
			}
			if !strings.Contains(out.String(), tt.want) {
				t.Errorf("output lacks %q:\n%s", tt.want, out.String())
			}
			if tt.lacks != "" && strings.Contains(out.String(), tt.lacks) {
				t.Errorf("output has %q:\n%s", tt.lacks, out.String())
			}
		})
	}
}
