package store

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// An idSet holds what a sorted slice would, whatever is done to it; short chunks let splits happen.
func TestIDSet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s idSet
		var want []string
		id := rapid.StringMatching(`[a-c]{1,6}`)
		for range rapid.IntRange(1, 40).Draw(t, "rounds") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				x := id.Draw(t, "remove")
				s.remove(x)
				want = slices.DeleteFunc(want, func(have string) bool { return have == x })
			default:
				for _, x := range rapid.SliceOfN(id, 1, 400).Draw(t, "insert") {
					s.insert(x)
					if i, found := slices.BinarySearch(want, x); !found {
						want = slices.Insert(want, i, x)
					}
				}
			}
			start := id.Draw(t, "start")
			var got []string
			s.ascend(start, func(id string) bool { got = append(got, id); return true })
			i, _ := slices.BinarySearch(want, start)
			if diff := cmp.Diff(append([]string{}, want[i:]...), append([]string{}, got...)); diff != "" {
				t.Fatalf("from %q (-want +got):\n%s", start, diff)
			}
			for _, c := range s.chunks {
				if len(c) == 0 || len(c) > chunkLen {
					t.Fatalf("a chunk of %d", len(c))
				}
			}
		}
	})
}
