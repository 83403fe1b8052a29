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

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// format names how archives are laid out; another layout takes another name, so
// that no old archive passes for a new one.
const format = "layout-1"

// Built is an archive and what it holds.
type Built struct {
	// Name is the image's public name.
	Name string `json:"name"`
	// Archive is the file.
	Archive string `json:"archive"`
	// Digest is the manifest's, by which a cluster knows whether it has the image.
	Digest string `json:"digest"`
	// Inputs is the hash of what it was made from.
	Inputs string `json:"inputs"`
	// Fresh is set when this run wrote the archive.
	Fresh bool `json:"-"`
}

// Ensure writes the image's archive into dir, unless the one there was made from
// the same input.
func Ensure(dir string, i Image) (Built, error) {
	inputs, err := i.inputs()
	if err != nil {
		return Built{}, fmt.Errorf("hashing what %s is made of: %w", i.Name, err)
	}
	built := Built{Name: i.Name, Archive: filepath.Join(dir, fileName(i.Name)), Inputs: inputs}
	note := built.Archive + ".json"
	if previous, err := readNote(note); err == nil && previous.Inputs == inputs && previous.Archive == built.Archive {
		if _, err := os.Stat(built.Archive); err == nil {
			return previous, nil
		}
	}
	made, err := i.build()
	if err != nil {
		return Built{}, err
	}
	digest, err := made.Digest()
	if err != nil {
		return Built{}, err
	}
	built.Digest, built.Fresh = digest.String(), true
	if err := errors.Join(os.MkdirAll(dir, 0o755), writeArchive(built.Archive, i.Name, made)); err != nil {
		return Built{}, fmt.Errorf("writing %s: %w", built.Archive, err)
	}
	content, err := json.MarshalIndent(built, "", "  ")
	if err != nil {
		return Built{}, err
	}
	return built, os.WriteFile(note, append(content, '\n'), 0o644)
}

func readNote(path string) (Built, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Built{}, err
	}
	var built Built
	err = json.Unmarshal(content, &built)
	return built, err
}

// inputs hashes the description and every file that it copies.
func (i Image) inputs() (string, error) {
	hash := sha256.New()
	description, err := json.Marshal(i)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(hash, "%s %s %s\n", format, i.Architecture, description)
	for _, file := range i.Files {
		if file.From == "" {
			continue
		}
		source, err := os.Open(file.From)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(hash, source)
		if err := errors.Join(err, source.Close()); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}

// fileName is the archive's name: the image's without its registry.
func fileName(image string) string {
	_, rest, found := strings.Cut(image, "/")
	if !found {
		rest = image
	}
	return strings.NewReplacer("/", "_", ":", "_").Replace(rest) + ".tar"
}

// writeArchive writes an OCI layout with docker's manifest.json beside it, so
// that both worlds read it, under a new name until it is whole.
func writeArchive(path, name string, i v1.Image) error {
	scratch := path + ".new"
	file, err := os.Create(scratch)
	if err != nil {
		return err
	}
	err = errors.Join(writeLayout(file, name, i), file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(scratch))
	}
	return os.Rename(scratch, path)
}

func writeLayout(out io.Writer, name string, i v1.Image) error {
	writer := tar.NewWriter(out)
	blobs, err := blobsOf(i)
	if err != nil {
		return err
	}
	index, docker, err := indexes(name, i)
	if err != nil {
		return err
	}
	entries := append([]entry{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", index},
		{"manifest.json", docker},
	}, blobs...)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(e.content)), Format: tar.FormatPAX}
		if err := writer.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(writer, bytes.NewReader(e.content)); err != nil {
			return err
		}
	}
	return writer.Close()
}

type entry struct {
	name    string
	content []byte
}

// blobsOf are the manifest, the configuration and the layers, by their hashes.
func blobsOf(i v1.Image) ([]entry, error) {
	manifest, err := i.RawManifest()
	if err != nil {
		return nil, err
	}
	config, err := i.RawConfigFile()
	if err != nil {
		return nil, err
	}
	blobs := []entry{blob(manifest), blob(config)}
	layers, err := i.Layers()
	if err != nil {
		return nil, err
	}
	for _, layer := range layers {
		reader, err := layer.Compressed()
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(reader)
		if err := errors.Join(err, reader.Close()); err != nil {
			return nil, err
		}
		blobs = append(blobs, blob(content))
	}
	return blobs, nil
}

func blob(content []byte) entry {
	return entry{name: fmt.Sprintf("blobs/sha256/%x", sha256.Sum256(content)), content: content}
}

// indexes are the two tables of contents: OCI's and docker's.
func indexes(name string, i v1.Image) (oci, docker []byte, err error) {
	manifest, err := i.Manifest()
	if err != nil {
		return nil, nil, err
	}
	digest, err := i.Digest()
	if err != nil {
		return nil, nil, err
	}
	size, err := i.Size()
	if err != nil {
		return nil, nil, err
	}
	_, tag, _ := strings.Cut(name[strings.LastIndex(name, "/")+1:], ":")
	oci, err = json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{{
		MediaType: manifest.MediaType, Digest: digest, Size: size,
		Annotations: map[string]string{
			"io.containerd.image.name":          name,
			"org.opencontainers.image.ref.name": tag,
		},
	}}})
	if err != nil {
		return nil, nil, err
	}
	layers := make([]string, 0, len(manifest.Layers))
	for _, layer := range manifest.Layers {
		layers = append(layers, "blobs/sha256/"+layer.Digest.Hex)
	}
	docker, err = json.Marshal([]map[string]any{{
		"Config": "blobs/sha256/" + manifest.Config.Digest.Hex, "RepoTags": []string{name}, "Layers": layers,
	}})
	return oci, docker, err
}
