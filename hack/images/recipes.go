package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/openservicemesh/osm-operator/hack/cluster/image"
)

const (
	// nonroot is the user of this project's images and of the official Envoy image.
	nonroot = "65532:65532"
	// authorities is where Go programs and Envoy look for public authorities.
	authorities = "/etc/ssl/certs/ca-certificates.crt"
)

// errNothingToBuild says that the source of an image is not there.
var errNothingToBuild = errors.New("its source is not there")

// recipe is one image.
type recipe struct {
	name     string
	describe func(context.Context, *app, io.Writer) (image.Image, error)
}

func recipes() []recipe {
	return []recipe{
		{"osm", describeOSM},
		{"envoy", describeEnvoy},
		{"bookstore-demo", describeBookstore},
	}
}

// describeOSM is what the Dockerfile builds too.
func describeOSM(ctx context.Context, a *app, out io.Writer) (image.Image, error) {
	binary, err := a.compile(ctx, out, "osm", ".")
	if err != nil {
		return image.Image{}, err
	}
	return image.Image{
		Name:       "docker.io/openservicemesh/osm:" + a.version,
		Files:      append(hostAuthorities(), image.File{Path: "/osm", From: binary, Mode: 0o755}),
		Entrypoint: []string{"/osm"},
		User:       nonroot,
	}, nil
}

func describeBookstore(ctx context.Context, a *app, out io.Writer) (image.Image, error) {
	const pkg = "./test/apps"
	name, err := a.goOutput(ctx, "list", "-f", "{{.Name}}", pkg)
	if err != nil || strings.TrimSpace(name) != "main" {
		return image.Image{}, fmt.Errorf("%w: %s is not a program", errNothingToBuild, pkg)
	}
	binary, err := a.compile(ctx, out, "bookstore-demo", pkg)
	if err != nil {
		return image.Image{}, err
	}
	return image.Image{
		Name:       "docker.io/openservicemesh/bookstore-demo:" + a.version,
		Files:      []image.File{{Path: "/bookstore-demo", From: binary, Mode: 0o755}},
		Entrypoint: []string{"/bookstore-demo"},
		User:       nonroot,
	}, nil
}

// compile builds a static binary. It leaves out the commit: the same source must
// give the same image, committed or not.
func (a *app) compile(ctx context.Context, out io.Writer, name, pkg string) (string, error) {
	binary := filepath.Join(a.out, "bin", name)
	fmt.Fprintf(out, "%s: compiling\n", name)
	_, err := a.goOutput(ctx, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", binary, pkg)
	return binary, err
}

func (a *app) goOutput(ctx context.Context, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, "go", arguments...)
	command.Dir = a.root
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	var stderr strings.Builder
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", arguments[0], err, stderr.String())
	}
	return string(output), nil
}

// hostAuthorities is the host's list of public authorities, where it has one.
func hostAuthorities() []image.File {
	if _, err := os.Stat(authorities); err != nil {
		return nil
	}
	return []image.File{{Path: authorities, From: authorities}}
}
