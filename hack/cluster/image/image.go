// Package image turns files into container images without a daemon. A
// description comes in; an archive goes out that containerd and docker both
// import, the same bytes for the same input.
package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image describes an image of one layer.
type Image struct {
	// Name is the full public name, registry and tag included.
	Name string
	// Architecture is Go's name of the processor.
	Architecture string
	// Files are the content; the folders above them are made as needed.
	Files []File
	// Entrypoint and Command start it.
	Entrypoint, Command []string
	// User runs it: a number, since Kubernetes cannot tell whether a name is root.
	User string
	// Env are its variables, as NAME=value.
	Env []string
}

// File is one file of an image: exactly one of From, Content, Link or Dir.
type File struct {
	// Path is where it is in the image, from the root.
	Path string
	// From is the host's file that it is a copy of.
	From string
	// Content is what it says.
	Content string
	// Link is what it points to.
	Link string
	// Dir makes it a folder.
	Dir bool
	// Mode is its permissions; 0 means 0644, or 0755 for a folder.
	Mode int64
	// UID and GID own it.
	UID, GID int
}

// build makes the image. The layer is not compressed: archives are for one
// machine, where unpacking costs more than the disk does.
func (i Image) build() (v1.Image, error) {
	layer, err := layerOf(i.Files)
	if err != nil {
		return nil, fmt.Errorf("packing %s: %w", i.Name, err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	withLayer, err := mutate.AppendLayers(base, static.NewLayer(layer, types.OCIUncompressedLayer))
	if err != nil {
		return nil, err
	}
	config, err := withLayer.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture = i.Architecture
	config.OS = "linux"
	config.Config = v1.Config{
		Entrypoint: i.Entrypoint,
		Cmd:        i.Command,
		Env:        append([]string{"PATH=/usr/local/bin:/usr/bin:/bin"}, i.Env...),
		User:       i.User,
		WorkingDir: "/",
	}
	return mutate.ConfigFile(withLayer, config)
}

// layerOf packs the files, folders first and in order of their paths, with no
// time and no owner of the host's.
func layerOf(files []File) ([]byte, error) {
	all, err := withFolders(files)
	if err != nil {
		return nil, err
	}
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, file := range all {
		if err := addFile(writer, file); err != nil {
			return nil, fmt.Errorf("adding %s: %w", file.Path, err)
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

// withFolders adds the folders that nobody named, and sorts.
func withFolders(files []File) ([]File, error) {
	byPath := map[string]File{}
	for _, file := range files {
		if !path.IsAbs(file.Path) || path.Clean(file.Path) != file.Path {
			return nil, fmt.Errorf("path %q is not clean and absolute", file.Path)
		}
		if _, twice := byPath[file.Path]; twice {
			return nil, fmt.Errorf("path %q is there twice", file.Path)
		}
		byPath[file.Path] = file
	}
	for _, file := range files {
		for dir := path.Dir(file.Path); dir != "/"; dir = path.Dir(dir) {
			if _, known := byPath[dir]; !known {
				byPath[dir] = File{Path: dir, Dir: true}
			}
		}
	}
	all := make([]File, 0, len(byPath))
	for _, file := range byPath {
		all = append(all, file)
	}
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

func addFile(writer *tar.Writer, file File) error {
	header := &tar.Header{
		Name: strings.TrimPrefix(file.Path, "/"), Mode: file.Mode, Uid: file.UID, Gid: file.GID, Format: tar.FormatPAX,
	}
	if header.Mode == 0 {
		header.Mode = 0o644
	}
	switch {
	case file.Dir:
		header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		if file.Mode == 0 {
			header.Mode = 0o755
		}
		return writer.WriteHeader(header)
	case file.Link != "":
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, file.Link, 0o777
		return writer.WriteHeader(header)
	case file.From != "":
		return addCopy(writer, header, file.From)
	}
	header.Typeflag, header.Size = tar.TypeReg, int64(len(file.Content))
	if err := writer.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.WriteString(writer, file.Content)
	return err
}

func addCopy(writer *tar.Writer, header *tar.Header, from string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := writer.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(writer, source)
	return err
}
