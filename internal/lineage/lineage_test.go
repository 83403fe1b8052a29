package lineage

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// house is a small graph: letters are written in rooms, doors lead from room to room, and
// a visitor reads what is in the rooms that can be reached from where it is told to begin.
type house struct {
	graph   Graph
	letters *Table[string, string]
	doors   *Table[string, []string]
	begin   *Table[string, string]

	rooms    *Derived[string, string]
	visitors *Derived[string, string]
}

func newHouse() *house {
	h := &house{}
	h.letters = NewTable[string](&h.graph, Same[string])
	h.doors = NewTable[string](&h.graph, slices.Equal[[]string])
	h.begin = NewTable[string](&h.graph, Same[string])
	// Case does not matter in a room, so that not every other letter is another room.
	h.rooms = NewDerived(&h.graph, func(room string) string {
		text := strings.ToLower(h.letters.Get(room))
		for _, next := range h.doors.Get(room) {
			text += "(" + h.rooms.Get(next) + ")"
		}
		return text
	})
	h.visitors = NewResults(&h.graph, func(visitor string) string {
		room := h.begin.Get(visitor)
		if h.letters.Get(room) == "" {
			return "nothing"
		}
		return h.rooms.Get(room)
	})
	return h
}

// facts are what is in the tables.
type facts struct {
	letters, begin map[string]string
	doors          map[string][]string
}

func (h *house) follow(f facts) {
	h.graph.Advance()
	h.letters.Replace(maps.Clone(f.letters))
	h.doors.Replace(maps.Clone(f.doors))
	h.begin.Replace(maps.Clone(f.begin))
	h.visitors.Keep(maps.Keys(f.begin))
}

func (h *house) read(f facts) map[string]string {
	out := map[string]string{}
	for visitor := range f.begin {
		out[visitor] = h.visitors.Get(visitor)
	}
	return out
}

func room(i int) string { return fmt.Sprint("room ", i) }

// draw changes some facts. Doors lead upwards, so that nobody walks in circles.
func (f *facts) draw(t *rapid.T) {
	const rooms = 5
	i := rapid.IntRange(0, rooms-1).Draw(t, "room")
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 0:
		f.letters[room(i)] = rapid.SampledFrom([]string{"", "a", "A", "b"}).Draw(t, "letter")
	case 1:
		var doors []string
		for next := i + 1; next < rooms; next++ {
			if rapid.Bool().Draw(t, "door") {
				doors = append(doors, room(next))
			}
		}
		f.doors[room(i)] = doors
	case 2:
		f.begin[rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "visitor")] = room(i)
	case 3:
		delete(f.begin, rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "visitor"))
	}
}

// TestWhatIsRememberedIsAsMadeFromNothing also looks for what nobody reads any more, and
// for values that were made though nothing in them could be another.
func TestWhatIsRememberedIsAsMadeFromNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, f := newHouse(), facts{letters: map[string]string{}, begin: map[string]string{}, doors: map[string][]string{}}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				f.draw(t)
			}
			h.follow(f)
			if rapid.IntRange(0, 3).Draw(t, "nobody asks") == 0 {
				continue
			}
			scratch := newHouse()
			scratch.follow(f)
			want, got := scratch.read(f), h.read(f)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("-from nothing +remembered:\n%s", diff)
			}
			if diff := cmp.Diff(scratch.size(), h.size()); diff != "" {
				t.Fatalf("what is remembered (-from nothing +by now):\n%s", diff)
			}
			made := h.rooms.Made() + h.visitors.Made()
			h.follow(f)
			h.read(f)
			if again := h.rooms.Made() + h.visitors.Made(); again != made {
				t.Fatalf("%d values were made though nothing differs", again-made)
			}
		}
	})
}

// size is all that is remembered, by name.
func (h *house) size() map[string][]string {
	return map[string][]string{
		"letters": slices.Sorted(maps.Keys(h.letters.entries)), "doors": slices.Sorted(maps.Keys(h.doors.entries)),
		"begin": slices.Sorted(maps.Keys(h.begin.entries)), "rooms": slices.Sorted(maps.Keys(h.rooms.values)),
	}
}

func TestOnlyWhatDependsIsMade(t *testing.T) {
	tests := map[string]struct {
		change   func(*facts)
		suspects []string
		rooms    int
		visitors int
	}{
		"nothing": {change: func(*facts) {}},
		"a room that nobody reaches": {
			change: func(f *facts) { f.letters[room(4)] = "z" },
		},
		"a room of one visitor": {
			change: func(f *facts) { f.letters[room(0)] = "z" }, suspects: []string{"x"}, rooms: 1, visitors: 1,
		},
		"a room of both": {
			change: func(f *facts) { f.letters[room(1)] = "z" }, suspects: []string{"x", "y"}, rooms: 2, visitors: 2,
		},
		"a letter that reads the same in the next room stops there": {
			change: func(f *facts) { f.letters[room(2)] = "C" }, suspects: []string{"x", "y"}, rooms: 1,
		},
		"a visitor more": {
			change: func(f *facts) { f.begin["z"] = room(2) }, suspects: []string{"z"}, visitors: 1,
		},
		"a visitor less": {
			change: func(f *facts) { delete(f.begin, "x") },
		},
		"the same facts in other maps": {
			change: func(f *facts) { f.doors = maps.Clone(f.doors) },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			// x: 0 -> 1 -> 2, y: 1 -> 2
			f := facts{
				letters: map[string]string{room(0): "a", room(1): "b", room(2): "c"}, begin: map[string]string{"x": room(0), "y": room(1)},
				doors: map[string][]string{room(0): {room(1)}, room(1): {room(2)}},
			}
			h := newHouse()
			h.follow(f)
			h.read(f)
			rooms, visitors := h.rooms.Made(), h.visitors.Made()
			tt.change(&f)
			h.follow(f)
			if diff := cmp.Diff(tt.suspects, slices.Sorted(h.visitors.Suspects())); diff != "" {
				t.Errorf("suspects (-want +got):\n%s", diff)
			}
			h.read(f)
			if n := h.rooms.Made() - rooms; n != tt.rooms {
				t.Errorf("%d rooms were made, want %d", n, tt.rooms)
			}
			if n := h.visitors.Made() - visitors; n != tt.visitors {
				t.Errorf("%d visitors were made, want %d", n, tt.visitors)
			}
		})
	}
}
