package fake

import (
	"cmp"
	"context"
	"slices"
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

// Kept is one snapshot that is stored, or was.
type Kept struct {
	ID, Extension, Host string
	From, To            time.Time // To is now while it is stored
	SizeBytes           int64
	Stored              bool
}

// Kept returns every snapshot that was ever stored at a metered extension, by when that began: what the records of what is
// stored have to cover.
func (b *Backend) Kept() []Kept {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	out := slices.Clone(b.kept)
	for k := range b.snapshots {
		if s := b.stored(k, now.UnixNano()); s != nil && b.metered(k.extension) {
			out = append(out, s.keptUntil(now.UTC(), true))
		}
	}
	slices.SortFunc(out, func(a, b Kept) int { return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.ID, b.ID)) })
	return out
}

func (s *snapshot) keptUntil(t time.Time, stored bool) Kept {
	return Kept{ID: s.ID, Extension: s.key.extension, Host: s.key.host, From: s.CreatedAt, To: t, SizeBytes: s.SizeBytes, Stored: stored}
}

// unstore deletes a snapshot that was there until t; b.mu is held.
func (b *Backend) unstore(k key, t time.Time) {
	if b.metered(k.extension) {
		b.kept = append(b.kept, b.snapshots[k].keptUntil(t, false))
	}
	delete(b.snapshots, k)
}

// SnapshotCost prices what is stored by its size and time.
func (e *extension) SnapshotCost(ctx context.Context, s sandboxer.Snapshot, from, to time.Time) ([]sandboxer.MeterLine, error) {
	var out []sandboxer.MeterLine
	err := e.call(ctx, sandboxer.Call{Op: sandboxer.OpSnapshotCost, ID: sandboxer.ID(s.ID), Consumer: s.Consumer}, func(hit) error {
		used := to.Sub(from)
		if e.b.broken(SnapshotPriceFalls) {
			used = max(0, 1000*time.Hour-used)
		}
		var err error
		out, err = prices.StoredLines(s.SizeBytes, used)
		return err
	})
	if err != nil {
		return nil, e.plain(seen(err))
	}
	return out, nil
}
