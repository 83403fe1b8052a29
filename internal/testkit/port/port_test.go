package port_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/openservicemesh/osm-operator/internal/testkit/port"
)

// tellVariable makes the test's program tell the ports that it was given, and keep them until
// its input ends.
const tellVariable = "OSM_TEST_PORTS"

// each is so many that the numbers of neighbours meet.
const each = 2500

func TestNoPortIsGivenTwice(t *testing.T) {
	t.Parallel()
	if os.Getenv(tellVariable) != "" {
		for range each {
			fmt.Println("port", port.Free(t))
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	owner := map[int]int{}
	for process := range 4 { // their places to begin at are close to each other: so are their numbers
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "-test.run", "^TestNoPortIsGivenTwice$")
		cmd.Env = append(os.Environ(), tellVariable+"=1")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = in.Close()
			if err := cmd.Wait(); err != nil {
				t.Errorf("process %d: %v", process, err)
			}
		})
		lines := bufio.NewScanner(out)
		for n := 0; n < each && lines.Scan(); {
			var number int
			if _, err := fmt.Sscanf(lines.Text(), "port %d", &number); err != nil {
				continue
			}
			n++
			if other, taken := owner[number]; taken {
				t.Errorf("processes %d and %d were both given port %d", other, process, number)
			}
			owner[number] = process
		}
	}
	if want := 4 * each; len(owner) != want && !t.Failed() {
		t.Errorf("%d ports were given, want %d", len(owner), want)
	}
}
