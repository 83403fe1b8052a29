// Package walkthrough runs the commands of a document as its reader would: it takes the
// text of a Markdown file and returns its steps, and runs a step with a shell and says
// whether the document tells the truth about what it prints. It judges nothing else.
package walkthrough

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// Step is one block of commands with what they print.
type Step struct {
	// Heading is the last heading before it, and Line the line of the document on which
	// the commands begin, both to be found again.
	Heading string
	Line    int
	// Commands are for a POSIX shell. They are run with -eu: the first that fails ends
	// the step.
	Commands string
	// Prints is what the document says that the commands print; Told says whether it says
	// anything. In it "..." stands for any text within a line, and a line of nothing but
	// "..." for any number of lines.
	Prints string
	Told   bool
}

// Read returns the steps of a document: its fenced blocks of the language sh, each with
// the block of the language text that follows it, if only prose that ends in a colon, or
// nothing, is between. Blocks of other languages are for reading.
func Read(document string) ([]Step, error) {
	var r reader
	for i, line := range strings.Split(document, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && r.block == nil:
			r.block, r.language, r.began = new(strings.Builder), fence, i+2
		case isFence:
			r.end()
		case r.block != nil:
			r.block.WriteString(line + "\n")
		default:
			r.prose(line)
		}
	}
	if r.block != nil {
		return nil, fmt.Errorf("the block that begins on line %d has no end", r.began)
	}
	return r.steps, nil
}

// reader is a document while it is read.
type reader struct {
	steps   []Step
	heading string
	// block is what was read of the block that is open, nil when none is; it is in this
	// language and began on this line.
	block    *strings.Builder
	language string
	began    int
	// tells says that a block of text, if it came now, would be what the last step prints.
	tells bool
}

// end takes the block that was open.
func (r *reader) end() {
	text := r.block.String()
	r.block = nil
	switch {
	case r.language == "sh":
		r.steps = append(r.steps, Step{Heading: r.heading, Line: r.began, Commands: text})
	case r.language == "text" && r.tells:
		last := &r.steps[len(r.steps)-1]
		last.Prints, last.Told = text, true
	}
	r.tells = r.language == "sh"
}

// prose takes a line outside of blocks.
func (r *reader) prose(line string) {
	switch {
	case strings.HasPrefix(line, "#"):
		r.heading, r.tells = strings.TrimLeft(line, "# "), false
	case strings.TrimSpace(line) != "" && !strings.HasSuffix(line, ":"):
		r.tells = false
	}
}

// Run runs the commands of a step in a folder, with these variables besides those of the
// process. The error says that a command failed, or that it did not print what the document
// says, and has what was printed on both outputs.
func (s Step) Run(ctx context.Context, folder string, env ...string) error {
	shell := exec.CommandContext(ctx, "/bin/sh", "-euc", s.Commands) //nolint:gosec // to run what the document says is what it is for
	shell.Dir = folder
	shell.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	shell.Stdout, shell.Stderr = &out, &out
	if err := shell.Run(); err != nil {
		return fmt.Errorf("line %d, under %q: %w: %s", s.Line, s.Heading, err, out.String())
	}
	if s.Told && !matches(s.Prints, out.String()) {
		return fmt.Errorf("line %d, under %q: prints\n%s\nwhere the document says\n%s", s.Line, s.Heading, out.String(), s.Prints)
	}
	return nil
}

// matches compares what was printed with what the document says. Spaces count as one,
// since the widths of columns follow from names.
func matches(says, printed string) bool {
	var b strings.Builder
	b.WriteString(`\A`)
	for line := range strings.Lines(oneSpace(says)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "..." {
			b.WriteString(`(?:[^\n]*\n)*`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), `\.\.\.`, `[^\n]*`) + `\n`)
	}
	b.WriteString(`\z`)
	return regexp.MustCompile(b.String()).MatchString(oneSpace(printed))
}

// oneSpace is a text with one space between words, and no empty lines around it.
func oneSpace(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(text)) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}
