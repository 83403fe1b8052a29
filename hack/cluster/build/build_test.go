package build

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEveryPartHasItsModule(t *testing.T) {
	for _, p := range Parts() {
		for _, file := range []string{"go.mod"} {
			if _, err := os.Stat(filepath.Join("..", "parts", p.Name, file)); err != nil {
				t.Errorf("part %s: %v", p.Name, err)
			}
		}
	}
	entries, err := os.ReadDir("../parts")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !slices.ContainsFunc(Parts(), func(p Part) bool { return p.Name == entry.Name() }) {
			t.Errorf("parts/%s is built by nobody", entry.Name())
		}
	}
}

func TestKubernetesIsOfTheVersionItSaysItIs(t *testing.T) {
	content, err := os.ReadFile("../parts/kube/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	flags := strings.Join(Parts()[0].LDFlags, " ")
	_, after, found := strings.Cut(flags, "gitVersion=")
	version := strings.Fields(after)[0]
	if !found || !strings.Contains(string(content), "k8s.io/kubernetes "+version+"\n") {
		t.Errorf("the binary says it is %q, the module file says otherwise", version)
	}
}

func TestSelectNamesWhatItDoesNotKnow(t *testing.T) {
	all, err := Select(nil)
	if err != nil || len(all) == 0 || slices.ContainsFunc(all, func(p Part) bool { return p.Aside }) {
		t.Errorf("Select(nil) = %v, %v, want what a cluster consists of", all, err)
	}
	if some, err := Select([]string{"vault"}); err != nil || len(some) != 1 {
		t.Errorf("Select(vault) = %v, %v, want what was named", some, err)
	}
	_, err = Select([]string{"kube", "docker"})
	unknown := new(UnknownPartError)
	if !errors.As(err, &unknown) || unknown.Name != "docker" {
		t.Errorf("Select(docker) = %v, want an UnknownPartError", err)
	}
}

func TestAPartsKeyFollowsWhatDecidesIt(t *testing.T) {
	source := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(source, "parts", "thing", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	cache := &Cache{Root: "/cache", Source: source, Out: io.Discard}
	key := func(p Part) string {
		t.Helper()
		dir, err := cache.Dir(p)
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	part := Part{Name: "thing", Packages: []string{"."}}
	write("go.mod", "module thing")
	write("main.go", "package main")
	first := key(part)

	write("README.md", "words")
	write("main_test.go", "package main")
	if key(part) != first {
		t.Error("words and tests changed the key")
	}
	write("go.sum", "a hash")
	second := key(part)
	if second == first {
		t.Error("another go.sum did not change the key")
	}
	part.Tags = []string{"small"}
	if key(part) == second {
		t.Error("another tag did not change the key")
	}
}

func TestALockIsHeldByOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sub", "lock")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	release, err := Lock(ctx, file, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	impatient, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	var said strings.Builder
	if _, err := Lock(impatient, file, &said); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock gave %v, want it to wait in vain", err)
	}
	if said.Len() == 0 {
		t.Error("waiting for a lock is silent")
	}
	release()
	again, err := Lock(ctx, file, io.Discard)
	if err != nil {
		t.Fatalf("a released lock: %v", err)
	}
	again()
}

func TestComplaintsAreToldFromProgress(t *testing.T) {
	output := "k8s.io/api/core/v1\nk8s.io/client-go/rest\n# example.org/broken\nmain.go:3:1: syntax error\n"
	got := watch(io.Discard, "thing", strings.NewReader(output))
	want := "# example.org/broken\nmain.go:3:1: syntax error"
	if got != want {
		t.Errorf("watch() = %q, want %q", got, want)
	}
}
