// Command testreport reads the output of go test -json and prints what a person wants
// to see of it: one line for each package, everything that a failing test wrote, each
// skipped test with its reason. It fails where a test fails, and where one is skipped
// for a reason that was not announced: a test that does not run proves nothing.
//
// It is used as in go test -json ./... | testreport -may-skip REGEXP -log FILE.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

func main() {
	maySkip := flag.String("may-skip", "", "tests that skip with a text that matches this are fine; empty means none")
	logFile := flag.String("log", "", "write everything that the tests print into this file")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *maySkip, *logFile); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
}

// event is one line of go test -json, as cmd/test2json documents it.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

// report collects what has been read so far.
type report struct {
	out     io.Writer
	log     io.Writer
	maySkip *regexp.Regexp
	// output holds what each running test has written, by package and test.
	output map[string]*strings.Builder

	passed, skipped, failed, unannounced int
}

// run reads events to the end and prints them to out.
func run(in io.Reader, out io.Writer, maySkip, logFile string) (err error) {
	r := &report{out: out, log: io.Discard, output: map[string]*strings.Builder{}}
	if maySkip != "" {
		re, err := regexp.Compile(maySkip)
		if err != nil {
			return err
		}
		r.maySkip = re
	}
	if logFile != "" {
		f, err := os.Create(logFile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		r.log = f
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text()) // the go command itself has something to say
			continue
		}
		r.handle(e)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return r.finish()
}

// handle takes one event in.
func (r *report) handle(e event) {
	key := e.Package + e.ImportPath + "\x00" + e.Test
	switch e.Action {
	case "output", "build-output":
		fmt.Fprint(r.log, e.Output)
		if r.output[key] == nil {
			r.output[key] = &strings.Builder{}
		}
		r.output[key].WriteString(e.Output)
	case "pass", "fail", "skip", "build-fail":
		text := ""
		if b := r.output[key]; b != nil {
			text = b.String()
		}
		delete(r.output, key)
		if e.Test == "" {
			r.packageDone(e, text)
			return
		}
		r.testDone(e, text)
	}
}

// packageDone prints the line of a package; what it wrote outside its tests only where
// it failed: a panic or a compiler's message.
func (r *report) packageDone(e event, text string) {
	switch e.Action {
	case "build-fail":
		r.failed++
		fmt.Fprintf(r.out, "FAIL  %s\n%s", e.ImportPath, text)
	case "fail":
		r.failed++
		fmt.Fprintf(r.out, "FAIL  %s %.1fs\n%s", e.Package, e.Elapsed, text)
	case "pass":
		cached := ""
		if strings.Contains(text, "(cached)") {
			cached = " (cached)"
		}
		fmt.Fprintf(r.out, "ok    %s %.1fs%s\n", e.Package, e.Elapsed, cached)
	}
}

// testDone counts a test and prints it where it failed or was skipped.
func (r *report) testDone(e event, text string) {
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Fprintf(r.out, "--- FAIL: %s %s\n%s", e.Package, e.Test, text)
	case "skip":
		r.skipped++
		if r.maySkip == nil || !r.maySkip.MatchString(text) {
			r.unannounced++
			fmt.Fprintf(r.out, "--- SKIP without leave: %s %s\n%s", e.Package, e.Test, text)
		}
	}
}

// finish prints the sum and says whether all is well.
func (r *report) finish() error {
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	switch {
	case r.failed > 0:
		return errors.New("tests failed")
	case r.unannounced > 0:
		return fmt.Errorf("%d tests were skipped that should have run", r.unannounced)
	case r.passed == 0:
		return errors.New("no test has run")
	}
	return nil
}
