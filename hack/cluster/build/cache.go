package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// keyLength is how much of a part's hash names its folder.
const keyLength = 12

// Cache is a folder of built parts.
type Cache struct {
	// Root is the folder.
	Root string
	// Source is the folder that holds parts/.
	Source string
	// Out receives progress.
	Out io.Writer
}

// Dir is the folder of a built part. It exists only when the part is built.
func (c *Cache) Dir(p Part) (string, error) {
	key, err := c.key(p)
	if err != nil {
		return "", err
	}
	return filepath.Join(c.Root, p.Name+"-"+key), nil
}

// Ensure builds those of the parts that the cache does not hold, and returns the
// folder of each by name.
func (c *Cache) Ensure(ctx context.Context, parts []Part) (map[string]string, error) {
	dirs := map[string]string{}
	var missing []Part
	for _, p := range parts {
		dir, err := c.Dir(p)
		if err != nil {
			return nil, err
		}
		dirs[p.Name] = dir
		if _, err := os.Stat(dir); err != nil {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return dirs, nil
	}
	unlock, err := Lock(ctx, filepath.Join(c.Root, "build.lock"), c.Out)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := Install(ctx, c.Out, needsOf(missing)); err != nil {
		return nil, err
	}
	for _, p := range missing {
		if err := c.build(ctx, p, dirs[p.Name]); err != nil {
			return nil, fmt.Errorf("building %s: %w", p.Name, err)
		}
	}
	return dirs, nil
}

// build makes one part beside its final place and moves it there when it is
// whole. Older builds of the part go.
func (c *Cache) build(ctx context.Context, p Part, dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	started := time.Now()
	scratch := dir + ".new"
	if err := errors.Join(os.RemoveAll(scratch), os.MkdirAll(scratch, 0o755)); err != nil {
		return err
	}
	if err := compile(ctx, c.Out, p, filepath.Join(c.Source, "parts", p.Name), scratch); err != nil {
		return err
	}
	for _, link := range p.Links {
		if err := os.Symlink(p.Name, filepath.Join(scratch, link)); err != nil {
			return err
		}
	}
	if err := os.Rename(scratch, dir); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "%s: built in %s\n", p.Name, time.Since(started).Round(time.Second))
	return c.dropOlder(p, dir)
}

// dropOlder removes earlier builds of a part, but spares those of the last month,
// which a cluster may be running on.
func (c *Cache) dropOlder(p Part, keep string) error {
	older, err := filepath.Glob(filepath.Join(c.Root, p.Name+"-*"))
	if err != nil {
		return err
	}
	for _, dir := range older {
		info, err := os.Stat(dir)
		if err != nil || dir == keep || time.Since(info.ModTime()) < 30*24*time.Hour {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// key hashes all that decides a part's binaries: its files, how it is built, and
// by which compiler.
func (c *Cache) key(p Part) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOARCH, p.Packages, p.Links, p.Tags, p.LDFlags, p.CGO)
	root := os.DirFS(filepath.Join(c.Source, "parts", p.Name))
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !decides(name) {
			return err
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(hash, "%s %x\n", name, sha256.Sum256(content))
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("hashing part %s: %w", p.Name, err)
	}
	return hex.EncodeToString(hash.Sum(nil))[:keyLength], nil
}

func decides(name string) bool {
	base := path.Base(name)
	if base == "go.mod" || base == "go.sum" {
		return true
	}
	return strings.HasSuffix(base, ".go") && !strings.HasSuffix(base, "_test.go")
}

func needsOf(parts []Part) []Need {
	var needs []Need
	for _, p := range parts {
		for _, n := range p.Needs {
			if !slices.ContainsFunc(needs, func(other Need) bool { return other.Package == n.Package }) {
				needs = append(needs, n)
			}
		}
	}
	return needs
}
