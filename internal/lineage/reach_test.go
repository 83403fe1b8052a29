package lineage

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestReachIsWhatMakesADifference changes each letter in turn, and compares which visitors
// are suspect with those that were said to be made of it.
func TestReachIsWhatMakesADifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, f := newHouse(), facts{letters: map[string]string{}, begin: map[string]string{}, doors: map[string][]string{}}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			f.draw(t)
		}
		h.follow(f)
		h.read(f)
		reach := h.visitors.Reach()
		want := map[string][]string{}
		for i := range 5 {
			want[room(i)] = slices.Sorted(slices.Values(reach.From(h.letters.Place(room(i)))))
		}
		all := slices.Sorted(slices.Values(reach.From(h.letters.Place(room(0)), h.letters.Place(room(1)), Place{}, h.letters.Place(room(2)))))
		union := slices.Compact(slices.Sorted(slices.Values(slices.Concat(want[room(0)], want[room(1)], want[room(2)]))))
		if diff := cmp.Diff(union, all); diff != "" {
			t.Fatalf("of several (-want +got):\n%s", diff)
		}
		for i := range 5 {
			was := f.letters[room(i)]
			f.letters[room(i)] = was + "!"
			h.follow(f)
			if diff := cmp.Diff(want[room(i)], slices.Sorted(h.visitors.Suspects())); diff != "" {
				t.Fatalf("%s (-reached +suspect):\n%s", room(i), diff)
			}
			h.read(f)
			f.letters[room(i)] = was
			h.follow(f)
			h.read(f)
		}
	})
}
