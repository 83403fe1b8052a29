package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample(t *testing.T) Image {
	t.Helper()
	from := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(from, []byte("not really"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Image{
		Name: "docker.io/example/thing:v1", Architecture: "amd64", Entrypoint: []string{"/usr/bin/thing"}, User: "65532:65532",
		Files: []File{
			{Path: "/usr/bin/thing", From: from, Mode: 0o755},
			{Path: "/etc/words", Content: "hello\n"},
			{Path: "/etc/link", Link: "words"},
			{Path: "/tmp", Dir: true, Mode: 0o1777},
		},
	}
}

func TestTheSameInputGivesTheSameBytes(t *testing.T) {
	i := sample(t)
	var sums, digests []string
	for range 2 {
		built, err := Ensure(t.TempDir(), i)
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(built.Archive)
		if err != nil {
			t.Fatal(err)
		}
		sums, digests = append(sums, fmt.Sprintf("%x", sha256.Sum256(content))), append(digests, built.Digest)
	}
	if sums[0] != sums[1] || digests[0] != digests[1] {
		t.Errorf("two builds gave %v and %v", sums, digests)
	}
}

func TestOnlyWhatHasChangedIsWrittenAgain(t *testing.T) {
	i, dir := sample(t), t.TempDir()
	steps := []struct {
		name   string
		change func() error
		fresh  bool
	}{
		{"nothing is there", func() error { return nil }, true},
		{"nothing has changed", func() error { return nil }, false},
		{"a file has new content", func() error { return os.WriteFile(i.Files[0].From, []byte("other"), 0o600) }, true},
		{"the user is another", func() error { i.User = "1"; return nil }, true},
		{"the archive is gone", func() error { return os.Remove(filepath.Join(dir, "example_thing_v1.tar")) }, true},
		{"the note is broken", func() error {
			return os.WriteFile(filepath.Join(dir, "example_thing_v1.tar.json"), []byte("{"), 0o600)
		}, true},
	}
	for _, step := range steps {
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		built, err := Ensure(dir, i)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if built.Fresh != step.fresh {
			t.Errorf("%s: fresh is %t, want %t", step.name, built.Fresh, step.fresh)
		}
	}
}

func TestTheArchiveReadsAsOCIAndAsDocker(t *testing.T) {
	built, err := Ensure(t.TempDir(), sample(t))
	if err != nil {
		t.Fatal(err)
	}
	entries := read(t, built.Archive)
	for name, content := range entries {
		if hash, is := strings.CutPrefix(name, "blobs/sha256/"); is && hash != fmt.Sprintf("%x", sha256.Sum256(content)) {
			t.Errorf("blob %s has other content", hash)
		}
	}
	var index struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	decode(t, entries["index.json"], &index)
	if got := index.Manifests[0].Annotations["io.containerd.image.name"]; got != built.Name {
		t.Errorf("containerd would call the image %q, want %q", got, built.Name)
	}
	if index.Manifests[0].Digest != built.Digest {
		t.Errorf("the index says %s, the note %s", index.Manifests[0].Digest, built.Digest)
	}
	var docker []struct {
		Config           string
		RepoTags, Layers []string
	}
	decode(t, entries["manifest.json"], &docker)
	if diff := cmp.Diff([]string{built.Name}, docker[0].RepoTags); diff != "" {
		t.Errorf("docker's tags (-want +got):\n%s", diff)
	}
	var config struct {
		Config struct {
			User       string
			Entrypoint []string
		}
	}
	decode(t, entries[docker[0].Config], &config)
	if config.Config.User != "65532:65532" || len(config.Config.Entrypoint) != 1 {
		t.Errorf("the configuration is %+v", config)
	}
	checkLayer(t, entries[docker[0].Layers[0]])
}

func checkLayer(t *testing.T, layer []byte) {
	t.Helper()
	var got []string
	reader := tar.NewReader(bytes.NewReader(layer))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o %s", header.Name, header.Mode, header.Linkname))
	}
	want := []string{
		"etc/ 755 ", "etc/link 777 words", "etc/words 644 ", "tmp/ 1777 ", "usr/ 755 ", "usr/bin/ 755 ", "usr/bin/thing 755 ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the layer (-want +got):\n%s", diff)
	}
}

func TestPathsMustBeCleanAndSingle(t *testing.T) {
	for name, files := range map[string][]File{
		"a relative path":    {{Path: "etc/words"}},
		"a path that climbs": {{Path: "/etc/../words"}},
		"the same twice":     {{Path: "/words"}, {Path: "/words"}},
	} {
		if _, err := layerOf(files); err == nil {
			t.Errorf("%s was packed", name)
		}
	}
}

func read(t *testing.T, archive string) map[string][]byte {
	t.Helper()
	content, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string][]byte{}
	reader := tar.NewReader(bytes.NewReader(content))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		if entries[header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
}

func decode(t *testing.T, content []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatalf("%v in %s", err, content)
	}
}
