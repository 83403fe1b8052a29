package build

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Need is something of the distribution that a build or a node uses.
type Need struct {
	// Package is its name in Debian.
	Package string
	// Present checks for it, by running this command.
	Present []string
}

func compiler() Need { return Need{Package: "gcc", Present: []string{"gcc", "--version"}} }

func libcDev() Need {
	return Need{Package: "libc6-dev", Present: []string{"test", "-e", "/usr/include/stdio.h"}}
}

func pkgConfig() Need {
	return Need{Package: "pkg-config", Present: []string{"pkg-config", "--version"}}
}

func libseccomp() Need {
	return Need{Package: "libseccomp-dev", Present: []string{"pkg-config", "--exists", "libseccomp"}}
}

// NodeNeeds are what a running node uses of the distribution: kube-proxy speaks
// to the kernel through nft, and volumes are mounted by mount.
func NodeNeeds() []Need {
	return []Need{
		{Package: "nftables", Present: []string{"nft", "--version"}},
		{Package: "mount", Present: []string{"mount", "--version"}},
		{Package: "util-linux", Present: []string{"nsenter", "--version"}},
	}
}

// Install adds what is missing by apt, and says what to do where there is none.
func Install(ctx context.Context, out io.Writer, needs []Need) error {
	var missing []string
	for _, need := range needs {
		if exec.CommandContext(ctx, need.Present[0], need.Present[1:]...).Run() != nil {
			missing = append(missing, need.Package)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(missing, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("this machine lacks %s (Debian's names) and has no apt-get: install them by hand", list)
	}
	fmt.Fprintf(out, "installing %s\n", list)
	if err := apt(ctx, "update"); err != nil {
		return err
	}
	return apt(ctx, append([]string{"install", "--yes", "--no-install-recommends"}, missing...)...)
}

func apt(ctx context.Context, arguments ...string) error {
	command := exec.CommandContext(ctx, "apt-get", append([]string{"-qq"}, arguments...)...)
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(arguments, " "), err, output)
	}
	return nil
}
