package registry

import (
	"slices"
	"strings"
)

// findCycles reports profiles that burst to each other in a circle. Each circle that a search in the order of the ids runs
// into is reported once, at the target that closes it.
func (l *linker) findCycles() {
	const (
		open = iota + 1
		done
	)
	state := map[string]int{}
	var trail []string
	var visit func(id string)
	visit = func(id string) {
		state[id] = open
		trail = append(trail, id)
		doc := l.profiles[id]
		if doc.profile.Burst != nil {
			for i, t := range doc.profile.Burst.To {
				if l.profiles[t.Profile] == nil || t.Profile == id {
					continue
				}
				switch state[t.Profile] {
				case 0:
					visit(t.Profile)
				case open:
					circle := append(slices.Clone(trail[slices.Index(trail, t.Profile):]), t.Profile)
					doc.add(path{"burst", "to", i}, "a burst cycle: %s", strings.Join(circle, " → "))
				}
			}
		}
		trail = trail[:len(trail)-1]
		state[id] = done
	}
	for _, id := range ids(l.profiles) {
		if state[id] == 0 {
			visit(id)
		}
	}
}
