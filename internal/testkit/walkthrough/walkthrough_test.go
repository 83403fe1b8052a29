package walkthrough

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadTakesCommandsWithWhatTheyPrint(t *testing.T) {
	t.Parallel()
	document := strings.ReplaceAll(`# A tour

Not run:

~~~console
$ reboot
~~~

## First

~~~sh
echo one
echo two
~~~

which prints:

~~~text
one
two
~~~

~~~sh
true
~~~

This is about something else.

~~~text
nothing
~~~
`, "~~~", "```")
	got, err := Read(document)
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{
		{Heading: "First", Line: 12, Commands: "echo one\necho two\n", Prints: "one\ntwo\n", Told: true},
		{Heading: "First", Line: 24, Commands: "true\n"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Read("```sh\necho"); err == nil {
		t.Error("a block without an end is taken")
	}
}

func TestRunComparesWithTheDocument(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		commands, prints string
		ok               bool
	}{
		"the same":                               {"printf 'a  b\\n'", "a b", true},
		"another number":                         {"echo 200 x 19", "200 x 20", false},
		"any text within a line":                 {"echo pod-5f7 Running", "pod-... Running", true},
		"any text does not go on to other lines": {"echo a; echo b", "a...", false},
		"any number of lines":                    {"echo a; echo x; echo y; echo b", "a\n...\nb", true},
		"a line too much":                        {"echo a; echo b", "a", false},
		"a dot is a dot":                         {"echo axb", "a.b", false},
		"a command that fails":                   {"false; echo a", "a", false},
		"a variable that is not set":             {"echo $nobody_has_set_this", "", false},
		"what is given to it":                    {"echo $GIVEN", "value", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Step{Commands: tt.commands, Prints: tt.prints, Told: true}
			if err := s.Run(t.Context(), t.TempDir(), "GIVEN=value"); (err == nil) != tt.ok {
				t.Errorf("error %v, want none: %t", err, tt.ok)
			}
		})
	}
}
