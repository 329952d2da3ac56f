package store

import (
	"context"
	"crypto/rand"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/sand-boxer/sandboxer"
)

// Memory returns an empty store in memory. What is in it ends with the process, so a crash leaks what was running: it is
// for tests, and for programs whose sandboxes die with them.
func Memory() Store {
	return &memory{
		id:      strings.ToLower(rand.Text()[:16]),
		records: make(map[Key]Record),
		ids:     make(map[indexKey]*idSet),
	}
}

type memory struct {
	Exclusive

	id string

	mu      sync.RWMutex
	rev     int64
	records map[Key]Record // their Tags and Bodies are never written to
	ids     map[indexKey]*idSet
}

// indexKey names a sorted set of IDs: those of a kind, with a tag or, for the empty one, all.
type indexKey struct{ kind, tag string }

func (s *memory) Commit(ctx context.Context, ms ...Mutation) (int64, error) {
	if err := Validate(ms); err != nil {
		return 0, err
	}
	if err := done(ctx); err != nil {
		return 0, err
	}
	ms = slices.Clone(ms)
	for i := range ms {
		ms[i].Tags, ms[i].Body = copied(ms[i].Tags), copied(ms[i].Body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	changes, err := Evaluate(s.rev+1, ms, func(k Key) (Record, error) { return s.records[k], nil })
	if err != nil {
		return 0, err
	}
	if len(changes) > 0 {
		s.rev++
	}
	for i := range changes {
		s.apply(&changes[i])
	}
	return s.rev, nil
}

func (s *memory) apply(c *Change) {
	k := c.After.Key
	if c.After.Rev == 0 {
		delete(s.records, k)
	} else {
		s.records[k] = c.After
	}
	if (c.Before.Rev == 0) != (c.After.Rev == 0) {
		s.index(indexKey{kind: k.Kind}, k.ID, c.After.Rev != 0)
	}
	if slices.Equal(c.Before.Tags, c.After.Tags) {
		return
	}
	for _, tag := range c.Before.Tags {
		s.index(indexKey{k.Kind, tag}, k.ID, false)
	}
	for _, tag := range c.After.Tags {
		s.index(indexKey{k.Kind, tag}, k.ID, true)
	}
}

func (s *memory) index(at indexKey, id string, in bool) {
	set := s.ids[at]
	switch {
	case in && set == nil:
		s.ids[at] = &idSet{chunks: [][]string{{id}}}
	case in:
		set.insert(id)
	case set != nil:
		if set.remove(id); len(set.chunks) == 0 {
			delete(s.ids, at)
		}
	}
}

func (s *memory) Get(ctx context.Context, keys ...Key) ([]Record, error) {
	if err := done(ctx); err != nil {
		return nil, err
	}
	out := make([]Record, len(keys))
	s.mu.RLock()
	for i, k := range keys {
		out[i] = s.records[k]
		out[i].Key = k
	}
	s.mu.RUnlock()
	for i := range out {
		out[i] = out[i].copied()
	}
	return out, nil
}

// scanPage is how many records a scan reads at a time.
const scanPage = 128

func (s *memory) Scan(ctx context.Context, q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := q.Validate(); err != nil {
			yield(Record{}, err)
			return
		}
		left := q.Limit
		for {
			n := scanPage
			if q.Limit > 0 {
				n = min(n, left)
			}
			if err := done(ctx); err != nil {
				yield(Record{}, err)
				return
			}
			page := s.page(q, n)
			for _, r := range page {
				if !yield(r.copied(), nil) {
					return
				}
				q.After = r.Key.ID
			}
			if left -= len(page); len(page) < n || left == 0 {
				return
			}
		}
	}
}

// page returns the first n records of q.
func (s *memory) page(q Query, n int) []Record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	page := make([]Record, 0, n)
	s.ids[indexKey{q.Kind, q.Tag}].ascend(max(q.Prefix, q.After), func(id string) bool {
		if id == q.After {
			return true
		}
		if !strings.HasPrefix(id, q.Prefix) {
			return false
		}
		page = append(page, s.records[Key{q.Kind, id}])
		return len(page) < n
	})
	return page
}

func (s *memory) Info(ctx context.Context) (Info, error) {
	if err := done(ctx); err != nil {
		return Info{}, err
	}
	return Info{ID: s.id}, nil
}

// copied returns a record that shares nothing with r.
func (r Record) copied() Record {
	r.Tags, r.Body = copied(r.Tags), copied(r.Body)
	return r
}

// copied returns nil for what is empty, so that every store answers alike.
func copied[S ~[]E, E any](s S) S {
	if len(s) == 0 {
		return nil
	}
	return slices.Clone(s)
}

// done reports a context that ended before anything began.
func done(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return sandboxer.Refused(sandboxer.CodeOf(err), context.Cause(ctx))
	}
	return nil
}
