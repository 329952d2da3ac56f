package fake

import (
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Costs returns what every sandbox that ever existed at a metered extension has cost so far, by name: what a bill has to
// add up to. Of several sandboxes of one name it knows the latest.
func (b *Backend) Costs() map[string]sandboxer.Money {
	out := map[string]sandboxer.Money{}
	put := func(k key, r reading) {
		if !b.metered(k.extension) {
			return
		}
		if _, total, err := r.lines(); err == nil {
			out[k.name] = total
		}
	}
	b.mu.Lock()
	for k, r := range b.meters {
		put(k, r)
	}
	b.mu.Unlock()
	now := time.Now().UnixNano()
	b.each(now, func(s *sandbox) { put(s.key, s.reading(now)) })
	return out
}
