package build

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// beat is how often a long build says how far it is.
const beat = 15 * time.Second

// compile runs go build for a part, counting packages as they are compiled.
func compile(ctx context.Context, out io.Writer, p Part, source, target string) error {
	fmt.Fprintf(out, "%s: downloading modules\n", p.Name)
	total, err := countPackages(ctx, p, source)
	if err != nil {
		return err
	}
	arguments := append([]string{"build", "-v", "-trimpath", "-o", outputOf(p, target)}, buildFlags(p)...)
	command := goCommand(ctx, p, source, append(arguments, p.Packages...)...)
	stderr, err := command.StderrPipe()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: compiling %d packages (those in the build cache are skipped)\n", p.Name, total)
	if err := command.Start(); err != nil {
		return err
	}
	tail := watch(out, p.Name, stderr)
	if err := command.Wait(); err != nil {
		return fmt.Errorf("%w\n%s", err, tail)
	}
	return nil
}

// watch counts the packages that go build names, and returns the last lines that
// were anything else: its complaints.
func watch(out io.Writer, name string, stderr io.Reader) string {
	var mu sync.Mutex
	compiled, started := 0, time.Now()
	stop := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		ticker := time.NewTicker(beat)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				mu.Lock()
				fmt.Fprintf(out, "%s: %d packages compiled after %s\n", name, compiled, time.Since(started).Round(time.Second))
				mu.Unlock()
			}
		}
	})
	var complaints []string
	scanner := bufio.NewScanner(stderr)
	for scanner.Scan() {
		line := scanner.Text()
		mu.Lock()
		if strings.ContainsAny(line, " \t") {
			complaints = append(complaints, line)
		} else {
			compiled++
		}
		mu.Unlock()
	}
	close(stop)
	ticking.Wait()
	return strings.Join(complaints[max(0, len(complaints)-20):], "\n")
}

func countPackages(ctx context.Context, p Part, source string) (int, error) {
	arguments := append([]string{"list", "-deps"}, tagFlags(p)...)
	command := goCommand(ctx, p, source, append(arguments, p.Packages...)...)
	var stderr strings.Builder
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		return 0, fmt.Errorf("listing packages: %w\n%s", err, stderr.String())
	}
	return strings.Count(string(output), "\n"), nil
}

// goCommand runs go in the part's module, out of reach of any workspace.
func goCommand(ctx context.Context, p Part, source string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "go", arguments...)
	command.Dir = source
	cgo := "CGO_ENABLED=0"
	if p.CGO {
		cgo = "CGO_ENABLED=1"
	}
	command.Env = append(os.Environ(), cgo, "GOWORK=off", "GOFLAGS=-buildvcs=false", "GOTOOLCHAIN=local")
	return command
}

func buildFlags(p Part) []string {
	ldflags := append([]string{"-s", "-w"}, p.LDFlags...)
	return append(tagFlags(p), "-ldflags", strings.Join(ldflags, " "))
}

func tagFlags(p Part) []string {
	if len(p.Tags) == 0 {
		return nil
	}
	return []string{"-tags", strings.Join(p.Tags, ",")}
}

// outputOf is a file for a part's own main, so that it gets the part's name, and
// a folder for everything else.
func outputOf(p Part, target string) string {
	if len(p.Packages) == 1 && p.Packages[0] == "." {
		return filepath.Join(target, p.Name)
	}
	return target + string(filepath.Separator)
}
