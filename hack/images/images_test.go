package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseLibraries(t *testing.T) {
	output := `	linux-vdso.so.1 (0x00007fb06f905000)
	libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007fb068720000)
	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fb06853e000)
	/lib64/ld-linux-x86-64.so.2 (0x00007fb06f907000)
`
	got, err := parseLibraries(output)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/lib/x86_64-linux-gnu/libm.so.6", "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parseLibraries() (-want +got):\n%s", diff)
	}
	for name, bad := range map[string]string{
		"a library is missing":   "\tlibm.so.6 => not found\n",
		"the binary is a static": "\tnot a dynamic executable\n",
	} {
		if got, err := parseLibraries(bad); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestVersionsComeFromTheSource(t *testing.T) {
	root := t.TempDir()
	write := func(content string) {
		t.Helper()
		path := filepath.Join(root, releaseFile)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("package release\n\nconst Current = \"v1.2.3\"\n\nconst (\n\tEnvoyVersion = \"v4.5.6\"\n)\n")
	got, err := readRelease(root)
	if want := (release{version: "v1.2.3", envoy: "4.5.6"}); err != nil || got != want {
		t.Errorf("readRelease() = %v, %v, want %v", got, err, want)
	}
	write("package release\n\nconst Current = \"v1.2.3\"\n")
	if _, err := readRelease(root); err == nil {
		t.Error("a source without Envoy's version passed")
	}
}

func TestTheEnvoyOfTheSourceIsPinned(t *testing.T) {
	root, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	r, err := readRelease(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, processor := range []string{"amd64", "arm64"} {
		if wheelHashes()[r.envoy+"/"+processor] == "" {
			t.Errorf("no package of Envoy %s for %s is pinned", r.envoy, processor)
		}
	}
}
